"""Weights by name in an HDF5 file: nothing is pickled, so an untrusted file cannot contain code.

    attributes       format="sparsenet-weights", version=1, digest (sha256 of the weights)
    weights/NAME     one array per parameter and buffer

A checkpoint has its weights in a group of the same name, so it can be read as well.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from sparsenet.backend import to_device
from sparsenet.files import Contents, arrays_digest, read_hdf5, write_hdf5

FORMAT, VERSION = "sparsenet-weights", 1
CHECKPOINT_FORMAT, CHECKPOINT_VERSION = "sparsenet-checkpoint", 3


def write_weights(path: str | os.PathLike, weights: Mapping[str, Any]) -> None:
    """Write arrays by name to a temporary file, sync it and rename it, so that `path` is always complete.

    Raises
    ------
    OSError : the folder does not exist or is not writable.
    TypeError : an array does not hold numbers.
    """
    arrays = {name: np.asarray(to_device(array, "cpu")) for name, array in weights.items()}
    wrong = [name for name, array in arrays.items() if array.dtype.kind not in "biuf"]
    if wrong:
        raise TypeError(f"save_weights: {wrong[0]} is {arrays[wrong[0]].dtype}, expected an array of numbers")
    write_hdf5(path, FORMAT, VERSION, {"digest": arrays_digest(arrays)},
               {f"weights/{name}": array for name, array in arrays.items()})


def read_weights(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Arrays by name, from a file of `write_weights` or a checkpoint.

    Raises
    ------
    FileNotFoundError : there is no such file.
    ValueError : the file is not HDF5, damaged or of another kind, or contains NaN or infinity.
    """
    try:
        return weights_of(read_hdf5(path, {FORMAT: VERSION, CHECKPOINT_FORMAT: CHECKPOINT_VERSION},
                                    unsealed=[(CHECKPOINT_FORMAT, 1)]))
    except (FileNotFoundError, ValueError) as error:
        raise type(error)(f"load_weights: {error}") from error


def weights_of(contents: Contents) -> dict[str, np.ndarray]:
    """The weights in a file's contents.  Raises ValueError if they do not match their digest, or one is not finite."""
    weights = contents.finite_group("weights")
    if arrays_digest(weights) != contents.attribute("digest", str):
        raise ValueError(f"{contents.path}: the weights are damaged (their sha256 is not the one that the file "
                         "states): make it again")
    return weights
