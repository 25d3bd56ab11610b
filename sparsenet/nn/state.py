"""Arrays to be loaded into parameters and buffers."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sparsenet.autograd import Tensor, rectangular
from sparsenet.backend import array_module, to_device


class UnmatchedNames(NamedTuple):
    """The result of `Module.load_state_dict`: names that only the module has, and names that only the state has."""

    missing: list[str]
    unexpected: list[str]


def fitting_array(name: str, value: Any, tensor: Tensor, problems: list[str]) -> Any:
    """A copy of an array in the dtype and on the device of the tensor that it is to be loaded into.

    If it does not fit, a description of the problem is appended to `problems`.
    """
    value = value.array if isinstance(value, Tensor) else value
    value = value if hasattr(value, "dtype") else rectangular(f"load_state_dict: {name}", value)
    if value.shape != tensor.shape:
        problems.append(f"shape of {name} is {value.shape}, expected {tensor.shape}")
        return None
    if value.dtype.kind not in ("f" if tensor.dtype.kind == "f" else "biu"):
        problems.append(f"dtype of {name} is {value.dtype}, expected {tensor.dtype}")
        return None
    with np.errstate(over="ignore"):  # values that become infinite are reported below
        array = to_device(value, tensor.device).astype(tensor.dtype, order="C", copy=True)
    xp = array_module(array)
    if not bool(xp.isfinite(array).all()):
        row = tuple(int(i) for i in xp.argwhere(~xp.isfinite(array))[0])
        problems.append(f"{name} holds {float(array[row])} at {row}, expected finite numbers")
    if array.dtype.kind != "f" and not bool((array == to_device(value, tensor.device)).all()):
        problems.append(f"{name} holds numbers beyond the range of {tensor.dtype}")
    return array
