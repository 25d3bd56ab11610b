"""Other dtypes, differentiably: the gradient is converted back."""

from __future__ import annotations

from typing import Any, overload

import numpy as np

from sparsenet.autograd import Function, Tensor
from sparsenet.backend import check_float_dtype
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


@overload
def cast(x: SparseTensor, dtype: Any) -> SparseTensor: ...
@overload
def cast(x: Tensor, dtype: Any) -> Tensor: ...
def cast(x: Tensor | SparseTensor, dtype: Any) -> Tensor | SparseTensor:
    """x with its numbers converted to float32, float64 or, on a GPU, float16; x itself where they are that.

    Also the method `astype` of Tensor and SparseTensor (features and background).  Numbers above 65504 become
    infinite in float16, those below 3e-8 zero, gradients on their way back too.

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


Tensor.astype = cast
SparseTensor.astype = cast
