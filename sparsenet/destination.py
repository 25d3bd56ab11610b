"""The arguments of methods `to`: a device, a dtype, or both."""

from __future__ import annotations

from typing import Any

import numpy as np

from sparsenet.backend import DEVICES, cupy


def device_and_dtype(operation: str, device: Any, dtype: Any) -> tuple[str | None, np.dtype | None]:
    """The arguments of a method `to` as (device, dtype), None for what was not given.

    device : "cpu", "cuda", or "cuda:0" for the current GPU; or a dtype, as in x.to(numpy.float64)

    Raises
    ------
    TypeError : the first argument is neither a device nor a dtype, the second is not a dtype, or both are dtypes.
    ValueError : the name of the device is unknown, or that of another GPU than the current one.
    RuntimeError : "cuda:0", and CuPy is not installed or finds no GPU.
    """
    if isinstance(device, str) and device.startswith("cuda:"):
        current = f"cuda:{cupy().cuda.runtime.getDevice()}"
        if device != current:
            raise ValueError(f"{operation}: device is {device!r}, the current GPU is {current!r}: choose another with "
                             "cupy.cuda.Device(number).use(), or CUDA_VISIBLE_DEVICES")
        device = "cuda"
    if device is not None and device not in DEVICES:
        if dtype is None and (found := _dtype(device)) is not None:
            return None, found
        raise (ValueError if isinstance(device, str) else TypeError)(
            f"{operation}: device is 'cpu' or 'cuda', got {device!r}, which is not a dtype either (such as "
            "numpy.float64 or 'float32')")
    found = _dtype(dtype)
    if dtype is not None and found is None:
        raise TypeError(f"{operation}: dtype is {dtype!r}, expected one such as numpy.float64 or 'float32'")
    return device, found


def _dtype(value: Any) -> np.dtype | None:
    try:
        return np.dtype(value) if isinstance(value, str | type | np.dtype) else None  # not of None, tuples, dicts
    except TypeError:
        return None
