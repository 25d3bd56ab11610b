"""Grouped convolutions: submanifold, 3^3, 32 to 64 channels in four groups."""

from __future__ import annotations

from benchmarks.inputs import Inputs, Scene
from benchmarks.inputs.scene import CHANNELS, OUT_CHANNELS, SUBMANIFOLD

GROUPS = 4


def grouped_convolution_forward(scene: Scene) -> Inputs:
    return _of(scene, scene.features(), _weights(scene), scene.rulebook(SUBMANIFOLD), scene.normal(OUT_CHANNELS))


def grouped_convolution_forward_by_row(scene: Scene) -> Inputs:
    return grouped_convolution_forward(scene)


def grouped_convolution_input_gradient(scene: Scene) -> Inputs:
    return _of(scene, scene.features(OUT_CHANNELS), _weights(scene), scene.rulebook(SUBMANIFOLD))


def grouped_convolution_weight_gradient(scene: Scene) -> Inputs:
    return _of(scene, scene.features(), scene.features(OUT_CHANNELS), scene.rulebook(SUBMANIFOLD))


def _weights(scene: Scene):
    return scene.weights(SUBMANIFOLD.volume, CHANNELS // GROUPS, OUT_CHANNELS)


def _of(scene: Scene, *arguments) -> Inputs:
    return Inputs((*arguments, GROUPS), scene.rulebook(SUBMANIFOLD).pair_count * CHANNELS * OUT_CHANNELS // GROUPS)
