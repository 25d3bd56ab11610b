"""Poolings of windows 3^3, stride 2, of 32 channels."""

from __future__ import annotations

import numpy as np

from benchmarks.inputs import Inputs, Scene
from benchmarks.inputs.scene import CHANNELS, PADDED_POOLING, POOLING
from sparsenet.kernels import launch


def max_pool_forward(scene: Scene) -> Inputs:
    rulebook = scene.rulebook(POOLING)
    return Inputs((scene.features(), scene.background(), rulebook.windows, rulebook.output_sites.coordinates, False))


def max_pool_backward(scene: Scene) -> Inputs:
    rulebook = scene.rulebook(POOLING)
    outputs = rulebook.output_sites
    return Inputs((scene.normal(len(outputs), CHANNELS), argmax_of(scene), rulebook, outputs.batch_splits))


def sum_pool_forward(scene: Scene) -> Inputs:
    rulebook = scene.rulebook(PADDED_POOLING)
    return Inputs((scene.features(), scene.background(), rulebook.windows, rulebook.output_sites.coordinates, True))


def sum_pool_backward(scene: Scene) -> Inputs:
    rulebook = scene.rulebook(PADDED_POOLING)
    return Inputs((scene.normal(len(rulebook.output_sites), CHANNELS), rulebook, None, True, True, True))


def argmax_of(scene: Scene) -> np.ndarray:
    """(M, C) int16: what a max-pooling of the scene's features keeps for its backward pass."""
    return launch("max_pool_forward", *max_pool_forward(scene).arguments)[1]
