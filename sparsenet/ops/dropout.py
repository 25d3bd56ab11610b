"""Dropout of whole channels (Srivastava et al. 2014; by channel as in Tompson et al. 2015).

One mask (B, C) is drawn for a batch: a channel of a sample is either 0 everywhere or scaled by
1 / (1 - p), on all its sites and on its background.  The background then differs by sample: its
shape goes from (C,) to (B, C).
"""

from __future__ import annotations

from typing import Any, overload

import numpy as np

from sparsenet.autograd import Function, Tensor
from sparsenet.backend import array_module, check_float_dtype, to_device
from sparsenet.kernels import launch
from sparsenet.ops.arguments import check_tensor
from sparsenet.random import RowStreams
from sparsenet.sparse import SparseTensor


class MaskRows(Function):
    """features (N, C), each row times the mask (B, C) of its site's sample."""

    def __init__(self, mask: Any, coordinates: Any):
        super().__init__()
        self.mask, self.coordinates = mask, coordinates

    def forward(self, features: Any) -> Any:
        features = array_module(features).ascontiguousarray(features)
        return launch("multiply_sample_rows", features, self.mask, self.coordinates)

    def backward(self, gradient: Any) -> Any:
        return launch("multiply_sample_rows", gradient, self.mask, self.coordinates)


class MaskChannels(Function):
    """x (B, C, ...) times mask (B, C); a vector x (C,) times each row of it gives (B, C)."""

    def __init__(self, mask: Any):
        super().__init__()
        self.mask = mask

    def forward(self, x: Any) -> Any:
        self.save(x.ndim)
        return x * self._fitted(x)

    def backward(self, gradient: Any) -> Any:
        (ndim,) = self.saved
        result = gradient * self._fitted(gradient)
        if ndim > 1:
            return result
        return launch("segment_sum", result)[0]

    def _fitted(self, x: Any) -> Any:
        return self.mask.reshape(self.mask.shape + (1,) * (x.ndim - 2))


def dropout_mask(batch_size: int, channels: int, p: float, rng: np.random.Generator | RowStreams,
                 dtype: Any) -> np.ndarray:
    """(B, C) of `dtype`: 0 with probability `p`, else 1 / (1 - p).

    Raises
    ------
    ValueError : p is not in [0, 1).
    """
    if not 0 <= p < 1:
        raise ValueError(f"Dropout: p is {p}, expected at least 0 and below 1")
    kept = rng.random((batch_size, channels)) >= p
    return (kept / (1 - p)).astype(dtype)


@overload
def dropout(x: SparseTensor, p: float, rng: np.random.Generator | RowStreams) -> SparseTensor: ...
@overload
def dropout(x: Tensor, p: float, rng: np.random.Generator | RowStreams) -> Tensor: ...
def dropout(x: Tensor | SparseTensor, p: float, rng: np.random.Generator | RowStreams) -> Tensor | SparseTensor:
    """x with channels set to 0 at random, for each sample on its own, the others scaled by 1 / (1 - p).

    x : Tensor (B, C) or (B, C, ...), or SparseTensor, whose background becomes (B, C) unless it is None
        or zero without a gradient
    p : probability that a channel is dropped, in [0, 1)
    rng : generator of the mask, which is drawn on the host for a GPU too, so that backends agree; RowStreams: each
        sample has one of its own

    Raises
    ------
    ValueError : p is out of range, or a Tensor has fewer than two axes.
    TypeError : x is neither, or its elements are not floats.
    """
    if not isinstance(x, SparseTensor):
        check_tensor("Dropout", "the input", x, "a Tensor or SparseTensor")
        if x.ndim < 2:
            raise ValueError(f"Dropout: x has shape {x.shape}, expected (B, C) or (B, C, ...)")
    check_float_dtype("Dropout: the input is", x.dtype, x.device)
    batch_size, channels = (x.batch_size, x.channels) if isinstance(x, SparseTensor) else x.shape[:2]
    mask = to_device(dropout_mask(batch_size, channels, p, rng, x.dtype), x.device)
    if not isinstance(x, SparseTensor):
        return MaskChannels(mask).apply(x)
    features = MaskRows(mask, x.coordinates).apply(x.features)
    background = x.background
    if background is not None and (background.requires_grad or background.array.any()):
        background = MaskChannels(mask).apply(background)
    return x.with_features(features, background)
