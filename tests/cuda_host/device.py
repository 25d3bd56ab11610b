"""Kernels on a GPU for tests that hold NumPy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from convolution_cases import Table

from sparsenet import backend, kernels
from sparsenet.kernels.table import find


def missing() -> str:
    """The reason why nothing can run on a GPU here; "" if it can."""
    try:
        backend.cupy()
    except RuntimeError as error:
        return str(error)
    return ""


def launch(name: str, *values: Any) -> Any:
    """Launch on copies on the GPU; arrays that the kernel wrote to are copied back."""
    words = [*find(name).arguments.values(), *[None] * len(values)][:len(values)]
    stay = [isinstance(one, str) and "on the host" in one for one in words]  # so the contract says of some
    moved = [value if there else _to_device(value) for value, there in zip(values, stay, strict=True)]
    result = kernels.launch(name, *moved)
    for value, copy, there in zip(values, moved, stay, strict=True):
        if not there:
            _fetch(copy, value)
    return to_host(result)


def _to_device(value: Any) -> Any:
    if isinstance(value, list):
        return [_to_device(one) for one in value]
    if hasattr(type(value), "pair_count"):  # a rulebook
        return Table(backend.to_device(value.neighbours, "cuda"), value.shape[0], value.submanifold)
    return backend.to_device(value, "cuda") if isinstance(value, np.ndarray) else value


def _fetch(copy: Any, value: Any) -> None:
    if isinstance(value, list):
        for one_copy, one in zip(copy, value, strict=True):
            _fetch(one_copy, one)
    elif isinstance(value, np.ndarray) and value.flags.writeable:
        value[...] = copy.get()


def to_host(result: Any) -> Any:
    """NumPy arrays in place of CuPy's, in tuples too."""
    if isinstance(result, tuple):
        return tuple(map(to_host, result))
    return result.get() if hasattr(result, "get") else result
