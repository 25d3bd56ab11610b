"""Steps of an optimizer, of one parameter with as many numbers as a scene's features."""

from __future__ import annotations

from benchmarks.inputs import Inputs, Scene
from benchmarks.inputs.scene import CHANNELS


def sgd_step(scene: Scene) -> Inputs:
    parameter, gradient, velocity = ([scene.normal(scene.size * CHANNELS)] for _ in range(3))
    return Inputs((parameter, gradient, velocity, None, 1e-3, 0.9, 0.9, True, 1e-4, 1.0))


def adam_step(scene: Scene) -> Inputs:
    parameter, gradient, mean, square = ([scene.normal(scene.size * CHANNELS)] for _ in range(4))
    return Inputs((parameter, gradient, mean, [square[0] ** 2], None, None, 1e-3, 0.9, 0.999, 1e-8, 1e-2, True, 10,
                   1.0))
