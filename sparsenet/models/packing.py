"""Packs a checkpoint into a model for the package: weights in halves, nothing that only training needs."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np

from sparsenet.random import keyed_rng


def pack_model(checkpoint: str | os.PathLike, destination: str | os.PathLike, turns: int = 1) -> str:
    """Write a checkpoint's network, with weights in float16 and without the state of its training.

    turns : the number of poses about the vertical over which a mesh's outputs are averaged; more than 1 only for a
        network that was trained on such poses

    The file holds the descriptor of a parametric shape, which `sparsenet selfcheck` recomputes.

    Returns the sha256 of the weights, for the card.

    Raises
    ------
    CheckpointError : it is damaged.
    ValueError : a weight does not fit into float16, the checkpoint does not tell how meshes were voxelized, or turns is
        below 1.
    """
    from sparsenet.retrieval import embed
    from sparsenet.shapes import Voxelization, parametric_mesh
    from sparsenet.sparse import SparseTensor
    from sparsenet.training import load_network
    from sparsenet.training.checkpoint import save_checkpoint

    net, state = load_network(checkpoint)
    if not state.voxelization:
        raise ValueError(f"{checkpoint} does not tell how meshes were voxelized: train it again")
    voxelization = Voxelization(**{**state.voxelization, "turns": turns})
    weights = {}
    for name, array in state.weights.items():
        weights[name] = array.astype(np.float16) if array.dtype.kind == "f" and np.ndim(array) > 1 else array
        if not np.isfinite(weights[name]).all():
            raise ValueError(f"{checkpoint}: {name} has numbers beyond {np.finfo(np.float16).max}, the largest of "
                             "float16")
    net.load_state_dict(weights)
    mesh = parametric_mesh("chair", keyed_rng(0, "check"))
    cells = voxelization.voxelize(mesh, net.field).coordinates
    x = SparseTensor(np.ones((len(cells), 1), np.float32), np.insert(cells, 0, 0, axis=1), net.field, 1)
    packed = replace(state, weights=weights, momentum={}, latest={}, loss={}, running={}, updates=0,
                     voxelization=vars(voxelization).copy(),
                     check={"cells": cells.astype(np.int16), "descriptor": embed(net, x)[0]})
    save_checkpoint(destination, packed)
    return packed.digest
