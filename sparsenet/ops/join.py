"""Samples joined into one batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from sparsenet.autograd import Tensor
from sparsenet.backend import array_module
from sparsenet.ops.shaping import concatenate
from sparsenet.sparse.sites import ActiveSites, checked_batch
from sparsenet.sparse.tensor import SparseTensor
from sparsenet.sparse.union import check_agreement


def join(samples: Iterable[Any], spatial_size: Sequence[int] | None = None) -> SparseTensor:
    """The samples as one batch, in their order; also `sn.join`.  Differentiable in features and backgrounds.

    Parameters
    ----------
    samples : each a SparseTensor, whose B samples follow one another; or one sample: a pair of coordinates (n, D)
        integer and features (n, C), such as the Voxels of `Off3DPicture.voxelize`, or an object with these two
        attributes, such as a Sample of a dataset; features None: a channel of ones, float32
    spatial_size : (D,) int, the grid of all samples; default: that of the first SparseTensor

    Returns
    -------
    SparseTensor of all samples.  Its background is None if theirs is, zeros if all were created with zeros, (C,) if
    all share one Tensor, else (B, C).  A single SparseTensor is returned as it is.

    Raises
    ------
    TypeError : a sample of another kind; devices or dtypes differ.
    ValueError : there is no sample; spatial sizes or channels differ; only some have a background; see `SparseTensor`.
    OverflowError : see `ActiveSites`.

    Example
    -------
    >>> one = (np.array([[0, 1], [2, 2]]), np.array([[1.0], [2.0]]))
    >>> x = join([one, one, (np.zeros((0, 2), int), np.zeros((0, 1)))], (3, 3))
    >>> x.batch_size, x.coordinates.tolist()
    (3, [[0, 0, 1], [0, 2, 2], [1, 0, 1], [1, 2, 2]])
    """
    if isinstance(samples, SparseTensor):
        raise TypeError("join: samples are a SparseTensor, expected a list of samples: join([x1, x2])")
    given = list(samples)
    if not given:
        raise ValueError("join: there is no sample, expected at least one")
    if spatial_size is None:
        spatial_size = next((one.spatial_size for one in given if isinstance(one, SparseTensor)), None)
    tensors = [one if isinstance(one, SparseTensor) else _tensor_of(number, one, spatial_size)
               for number, one in enumerate(given)]
    if spatial_size is not None and tensors[0].spatial_size != tuple(spatial_size):
        raise ValueError(f"join: tensor 0 has spatial_size {tensors[0].spatial_size}, expected {tuple(spatial_size)}")
    if len(tensors) == 1:
        return tensors[0]
    for number, tensor in enumerate(tensors):
        if tensor.device != tensors[0].device:
            raise TypeError(f"join: tensor {number} is on {tensor.device}, tensor 0 on {tensors[0].device}: move one "
                            "of them with .to(device)")
    check_agreement("join", tensors, "spatial_size", "channels")
    sites = _joined_sites([tensor.sites for tensor in tensors])
    return SparseTensor.from_sites(concatenate([tensor.features for tensor in tensors], axis=0), sites,
                                   _joined_background(tensors))


def _tensor_of(number: int, sample: Any, spatial_size: Sequence[int] | None) -> SparseTensor:
    """A SparseTensor of one sample."""
    if isinstance(sample, tuple | list) and len(sample) == 2:
        coordinates, features = sample
    elif hasattr(sample, "coordinates") and hasattr(sample, "features"):
        coordinates, features = sample.coordinates, sample.features
    else:
        raise TypeError(f"join: sample {number} is {type(sample).__name__}, expected a SparseTensor, a pair of "
                        "coordinates and features, or an object with both")
    if spatial_size is None:
        raise ValueError("join: spatial_size is None, expected the grid of the samples: coordinates alone do not tell")
    coordinates = coordinates if hasattr(coordinates, "dtype") else np.asarray(coordinates)
    width = len(tuple(spatial_size))
    if coordinates.ndim != 2 or coordinates.shape[1] != width:
        raise ValueError(f"join: coordinates of sample {number} have shape {coordinates.shape}, expected (n, {width}), "
                         "without a column for the batch")
    xp = array_module(coordinates)
    rows = xp.zeros((len(coordinates), 1 + width), coordinates.dtype)
    rows[:, 1:] = coordinates
    return SparseTensor(xp.ones((len(rows), 1), np.float32) if features is None else features, rows, spatial_size, 1)


def _joined_sites(parts: Sequence[ActiveSites]) -> ActiveSites:
    """Keys remain in order if each part's follow those of the parts before it."""
    first = parts[0]
    before = list(accumulate((part.batch_size for part in parts), initial=0))
    batch_size = checked_batch(before[-1], first.spatial_size)
    keys = array_module(first.keys).concatenate([part.keys + start * first.cells
                                                 for part, start in zip(parts, before, strict=False)])
    return ActiveSites.from_keys(keys, first.spatial_size, batch_size)


def _joined_background(tensors: Sequence[SparseTensor]) -> Tensor | str | None:
    first = tensors[0].background
    if first is None:
        return None
    if all(tensor.zero_background for tensor in tensors):
        return "zeros"
    if first.ndim == 1 and all(tensor.background is first for tensor in tensors):
        return first
    return concatenate([_background_rows(tensor) for tensor in tensors], axis=0)


def _background_rows(tensor: SparseTensor) -> Tensor:
    """(B, C)"""
    background: Any = tensor.background
    if background.ndim == 2 or tensor.batch_size == 1:
        return background.reshape(-1, tensor.channels)
    return background.reshape(1, -1)[array_module(background.array).zeros(tensor.batch_size, np.int64)]
