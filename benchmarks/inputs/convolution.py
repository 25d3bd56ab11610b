"""Convolutions: submanifold, 3^3, 32 to 64 channels."""

from __future__ import annotations

from benchmarks.inputs import Inputs, Scene
from benchmarks.inputs.scene import CHANNELS, OUT_CHANNELS, SUBMANIFOLD

SLOPE = 0.33


def convolution_forward(scene: Scene) -> Inputs:
    return _of(scene, scene.features(), _weights(scene), scene.rulebook(SUBMANIFOLD), scene.normal(OUT_CHANNELS), SLOPE)


def convolution_forward_by_row(scene: Scene) -> Inputs:
    return _of(scene, scene.features(), _weights(scene), scene.rulebook(SUBMANIFOLD), scene.normal(OUT_CHANNELS), None)


def convolution_input_gradient(scene: Scene) -> Inputs:
    return _of(scene, scene.features(OUT_CHANNELS), _weights(scene), scene.rulebook(SUBMANIFOLD))


def convolution_weight_gradient(scene: Scene) -> Inputs:
    return _of(scene, scene.features(), scene.features(OUT_CHANNELS), scene.rulebook(SUBMANIFOLD))


def _weights(scene: Scene):
    return scene.weights(SUBMANIFOLD.volume, CHANNELS, OUT_CHANNELS)


def _of(scene: Scene, *arguments) -> Inputs:
    return Inputs(arguments, scene.rulebook(SUBMANIFOLD).pair_count * CHANNELS * OUT_CHANNELS)
