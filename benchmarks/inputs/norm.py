"""Norms of 32 channels, with statistics of whole grids."""

from __future__ import annotations

import numpy as np

from benchmarks.inputs import Inputs, Scene
from benchmarks.inputs.scene import BATCH, CHANNELS

EPS, GROUPS = 1e-5, 8


def batch_norm_statistics(scene: Scene) -> Inputs:
    running = np.zeros(CHANNELS, np.float32), np.ones(CHANNELS, np.float32)
    return Inputs((scene.features(), scene.background(), scene.sites.batch_splits, scene.sites.cells, *running, 0.1))


def batch_norm_forward(scene: Scene) -> Inputs:
    return Inputs((scene.features(), scene.background(), _moments(scene, CHANNELS), scene.normal(CHANNELS),
                   scene.normal(CHANNELS), EPS))


def batch_norm_backward(scene: Scene) -> Inputs:
    return Inputs((scene.features(), scene.background(), scene.features(), scene.background(), scene.sites.batch_splits,
                   scene.sites.cells, _moments(scene, CHANNELS), scene.normal(CHANNELS), EPS, True))


def sample_norm_forward(scene: Scene) -> Inputs:
    return Inputs((scene.features(), scene.background(), scene.sites.batch_splits, scene.sites.cells,
                   scene.normal(CHANNELS), scene.normal(CHANNELS), GROUPS, EPS))


def sample_norm_backward(scene: Scene) -> Inputs:
    return Inputs((scene.features(), scene.background(), scene.features(), scene.normal(BATCH, CHANNELS),
                   scene.sites.batch_splits, scene.sites.cells, _moments(scene, BATCH, GROUPS), scene.normal(CHANNELS),
                   EPS))


def row_norm_forward(scene: Scene) -> Inputs:
    return Inputs((scene.features(), scene.normal(CHANNELS), scene.normal(CHANNELS), 1, EPS, True))


def row_norm_backward(scene: Scene) -> Inputs:
    return Inputs((scene.features(), scene.features(), _moments(scene, 1, len(scene.sites)), scene.normal(CHANNELS)))


def _moments(scene: Scene, *shape: int) -> np.ndarray:
    """(2, ...) float64: a mean and a variance for each."""
    return np.stack([scene.rng.normal(0, 0.1, shape), scene.rng.uniform(0.8, 1.2, shape)])
