"""The dtypes of features on each backend, for tests of kernels that accept all of them."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_host import device

HALF, FLOAT, DOUBLE = (np.dtype(name) for name in ("float16", "float32", "float64"))
ON_CPU = [(backend, dtype) for backend in ("reference", "cpu") for dtype in (FLOAT, DOUBLE)]
ON_CUDA = [("cuda", dtype) for dtype in (HALF, FLOAT, DOUBLE)]  # the CUDA source, on the host
ON_GPU = [] if device.missing() else [pytest.param("gpu", dtype, marks=pytest.mark.gpu)
                                      for dtype in (HALF, FLOAT, DOUBLE)]


def _each(cases: list) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("backend", "dtype"), cases, indirect=["backend"])


each_storage = _each(ON_CPU + ON_CUDA + ON_GPU)
in_half = _each([case for case in ON_CUDA if case[1] == HALF] + ON_GPU[:1])


def precise(*arrays: np.ndarray | None) -> list[np.ndarray | None]:
    """The same numbers in float64, for a reference that does not round."""
    return [None if array is None else array.astype(np.float64) for array in arrays]
