"""Conversions of dtype and device, differentiable: the gradient is converted back."""

from __future__ import annotations

from typing import Any, overload

import numpy as np

from sparsenet.autograd import Function, Tensor
from sparsenet.backend import check_float_dtype, to_device
from sparsenet.destination import device_and_dtype
from sparsenet.sparse import SparseTensor


class Cast(Function):
    def __init__(self, dtype: np.dtype):
        super().__init__()
        self.dtype = dtype

    def forward(self, x: Any) -> Any:
        self.save(x.dtype)
        return x.astype(self.dtype)

    def backward(self, gradient: Any) -> Any:
        (dtype,) = self.saved
        return gradient.astype(dtype)


class Move(Function):
    def __init__(self, device: str, source: str):
        super().__init__()
        self.device, self.source = device, source

    def forward(self, x: Any) -> Any:
        return to_device(x, self.device)

    def backward(self, gradient: Any) -> Any:
        return to_device(gradient, self.source)


@overload
def cast(x: SparseTensor, dtype: Any) -> SparseTensor: ...
@overload
def cast(x: Tensor, dtype: Any) -> Tensor: ...
def cast(x: Tensor | SparseTensor, dtype: Any) -> Tensor | SparseTensor:
    """x converted to float32, float64 or, on a GPU, float16; x itself if it has that dtype.

    Also the method `astype` of Tensor and SparseTensor (features and background).  Numbers above 65504 become
    infinite in float16, those below 3e-8 zero; so do gradients on their way back.

    Raises
    ------
    TypeError : another dtype, or float16 on a CPU.
    """
    wanted = np.dtype(dtype)
    check_float_dtype("cast: dtype is", wanted, x.device)
    if x.dtype == wanted:
        return x
    if isinstance(x, SparseTensor):
        background = None if x.background is None else cast(x.background, wanted)
        return x.with_features(Cast(wanted).apply(x.features), background)
    return Cast(wanted).apply(x)


def to(x: Any, device: Any = None, dtype: Any = None) -> Tensor:
    """The Tensor on a device and in a dtype: the method `Tensor.to`; x itself if nothing changes.

    device : "cpu", "cuda" or "cuda:0"; or a dtype, as in x.to(numpy.float64)
    dtype : see `cast`

    Raises
    ------
    TypeError : the dtype is not one of `cast`'s, or the first argument is neither a device nor a dtype.
    ValueError : the device is another GPU than the current one.
    RuntimeError : CuPy is not installed, or finds no GPU.
    """
    device, wanted = device_and_dtype("Tensor.to", device, dtype)
    device = x.device if device is None else device
    wanted = x.dtype if wanted is None else wanted
    if device == "cuda" and x.device != device:  # converted on the GPU, on the way back too
        x = Move(device, x.device).apply(x)
    if wanted != x.dtype:
        check_float_dtype("Tensor.to: dtype is", wanted, device)
        x = Cast(wanted).apply(x)
    return x if device == x.device else Move(device, x.device).apply(x)


SparseTensor.astype = cast
