"""Weights by name in an HDF5 file: no pickle, so a file from a stranger can hold no code.

    attributes       format="sparsenet-weights", version=1
    weights/NAME     one array per parameter

A training's checkpoint keeps its weights in a group of the same name, so it can be read here too.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sparsenet.backend import to_device

FORMAT, VERSION = "sparsenet-weights", 1
READABLE = (FORMAT, "sparsenet-checkpoint")


def write_weights(path: str | os.PathLike, weights: Mapping[str, Any]) -> None:
    """Write arrays by name; the file is written beside, synced and renamed, so `path` is always whole.

    Raises OSError where the folder does not exist or is not writable.
    """
    import h5py

    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with h5py.File(beside, "w") as file:
            file.attrs.update({"format": FORMAT, "version": VERSION})
            group = file.create_group("weights", track_order=True)
            for name, array in weights.items():
                group[name] = to_device(array, "cpu")
        with open(beside, "rb") as written:
            os.fsync(written.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def read_weights(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Arrays by name, from a file of `write_weights` or a training's checkpoint.

    Raises
    ------
    FileNotFoundError : no such file.
    ValueError : the file is no HDF5, damaged, or of another kind.
    """
    import h5py

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"load_weights: {path}: no such file")
    try:
        with h5py.File(path, "r") as file:
            kind = file.attrs.get("format")
            if kind not in READABLE:
                raise ValueError(f"load_weights: {path}: its format is {kind!r}, expected one of {READABLE}")
            return {name: dataset[()] for name, dataset in file["weights"].items()}
    except (OSError, KeyError, RuntimeError) as error:
        raise ValueError(f"load_weights: {path}: not a whole weights file ({error})") from error
