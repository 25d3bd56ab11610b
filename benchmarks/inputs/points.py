"""Points in the cells of a scene, one a site."""

from __future__ import annotations

import numpy as np

from benchmarks.inputs import Inputs, Scene
from benchmarks.inputs.scene import BATCH


def point_keys(scene: Scene) -> Inputs:
    return Inputs(_points(scene))


def point_rows(scene: Scene) -> Inputs:
    return Inputs((*_points(scene), scene.sites.keys, *scene.sites.hash_table, True))


def sort_keys(scene: Scene) -> Inputs:
    keys = scene.rng.permutation(scene.sites.keys)
    return Inputs((keys, int(keys.max())))


def interpolate_rows(scene: Scene) -> Inputs:
    """Eight rows for each point, one in four of them the background's."""
    count = len(scene.sites)
    rows = scene.rng.integers(0, count, (count, 8), dtype=np.int32)
    rows[scene.rng.random(rows.shape) < 0.25] = -1
    return Inputs((scene.features(), rows, scene.rng.dirichlet(np.ones(8), count), scene.background(), None))


def group_sum(scene: Scene) -> Inputs:
    return Inputs((scene.features(), *_groups(scene), None, True))


def group_max(scene: Scene) -> Inputs:
    return Inputs((scene.features(), *_groups(scene)))


def _points(scene: Scene) -> tuple:
    coordinates = scene.sites.coordinates
    points = (coordinates[:, 1:] + scene.rng.random((len(coordinates), 3))).astype(np.float32)
    return points, coordinates[:, 0].astype(np.int64), np.zeros(3), np.ones(3), scene.sites.spatial_size, BATCH


def _groups(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Members in any order, four a group on average, none without a member."""
    count = len(scene.sites)
    inner = 1 + np.sort(scene.rng.choice(count - 1, count // 4 - 1, replace=False))
    return scene.rng.permutation(count), np.concatenate([[0], inner, [count]])
