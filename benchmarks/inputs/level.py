"""Levels: backgrounds through two, whose weights are as many numbers as a scene's features; the gradient behind a
pooling."""

from __future__ import annotations

from math import isqrt

from benchmarks.inputs import Inputs, Scene
from benchmarks.inputs.pooling import argmax_of
from benchmarks.inputs.scene import CHANNELS, POOLING, SUBMANIFOLD

SLOPE, LEVELS = 0.33, 2


def level_backgrounds(scene: Scene) -> Inputs:
    side = max(1, isqrt(scene.size * CHANNELS // (LEVELS * SUBMANIFOLD.volume)))
    weights = [scene.weights(SUBMANIFOLD.volume, side, side) for _ in range(LEVELS)]
    biases = [scene.normal(side) for _ in range(LEVELS)]
    return Inputs((weights, biases, scene.normal(side), [SLOPE] * LEVELS, [True] * LEVELS, True))


def level_gradient(scene: Scene) -> Inputs:
    rulebook = scene.rulebook(POOLING)
    return Inputs((scene.normal(len(rulebook.output_sites), CHANNELS), argmax_of(scene), rulebook.transposed_neighbours,
                   scene.features(), scene.normal(CHANNELS), scene.normal(CHANNELS), SLOPE,
                   scene.normal(CHANNELS, CHANNELS)))
