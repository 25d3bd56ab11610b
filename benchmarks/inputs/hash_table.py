"""The hash table of a scene's sites."""

from __future__ import annotations

import numpy as np

from benchmarks.inputs import Inputs, Scene


def hash_insert(scene: Scene) -> Inputs:
    """Where a key lies depends on the order of insertion, so rows are compared in the order of the keys."""
    return Inputs((scene.sites.keys, False), comparable=_in_order)


def hash_lookup(scene: Scene) -> Inputs:
    """One query in two finds its key."""
    keys = scene.sites.keys
    return Inputs((*scene.sites.hash_table, scene.rng.permutation(np.concatenate([keys, keys + keys.max() + 1]))))


def _in_order(table: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    keys, rows = table
    order = np.argsort(keys, kind="stable")
    return keys[order], rows[order]
