"""Levels: the background through weights of as many numbers as a scene's features, the gradient behind a pooling."""

from __future__ import annotations

from math import isqrt

from benchmarks.inputs import Inputs, Scene
from benchmarks.inputs.pooling import argmax_of
from benchmarks.inputs.scene import CHANNELS, POOLING, SUBMANIFOLD

SLOPE = 0.33


def level_background(scene: Scene) -> Inputs:
    side = max(1, isqrt(scene.size * CHANNELS // SUBMANIFOLD.volume))
    return Inputs((scene.weights(SUBMANIFOLD.volume, side, side), scene.normal(side), scene.normal(side), SLOPE, True,
                   True))


def level_gradient(scene: Scene) -> Inputs:
    rulebook = scene.rulebook(POOLING)
    return Inputs((scene.normal(len(rulebook.output_sites), CHANNELS), argmax_of(scene), rulebook.transposed_neighbours,
                   scene.features(), scene.normal(CHANNELS), scene.normal(CHANNELS), SLOPE,
                   scene.normal(CHANNELS, CHANNELS)))
