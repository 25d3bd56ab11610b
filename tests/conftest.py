"""Fixtures that any test may ask for."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers, the same in each run of each test."""
    return np.random.default_rng(20160518)


@pytest.fixture(params=["float32", "float64"])
def dtype(request) -> np.dtype:
    """Each of the dtypes that features are stored in."""
    return np.dtype(request.param)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data that SPARSENET_DATA names."""
    folder = os.environ.get("SPARSENET_DATA")
    if not folder:
        pytest.skip("SPARSENET_DATA is not set: no real data to test on")
    if not Path(folder).is_dir():
        pytest.fail(f"SPARSENET_DATA is {folder!r}, which is no folder")
    return Path(folder)


settings.register_profile("sparsenet", deadline=None)  # the first example of a test may compile a kernel
settings.load_profile("sparsenet")
