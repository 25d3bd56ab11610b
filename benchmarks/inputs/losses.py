"""Losses: 40 classes; triplets of descriptors of 192 numbers."""

from __future__ import annotations

import numpy as np

from benchmarks.inputs import Inputs, Scene
from benchmarks.inputs.scene import CHANNELS

CLASSES, DESCRIPTOR = 40, 192
COSINE = 0


def softmax_cross_entropy(scene: Scene) -> Inputs:
    return Inputs((scene.normal(scene.size, CLASSES), scene.rng.integers(0, CLASSES, scene.size), True))


def triplet_loss(scene: Scene) -> Inputs:
    return Inputs((*(scene.normal(scene.size, DESCRIPTOR) for _ in range(3)), 1.0, COSINE, True))


def scale_gradient(scene: Scene) -> Inputs:
    return Inputs((scene.normal(scene.size * CHANNELS), np.array(0.999, np.float32)))
