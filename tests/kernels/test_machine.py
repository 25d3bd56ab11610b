"""The description of the machine is the same at any time in a process."""

from __future__ import annotations

import importlib
import importlib.util

import pytest

from sparsenet import backend
from sparsenet.kernels.cpu.machine import blas_type, processor_type


def test_the_processor_is_the_one_that_numba_compiles_for():
    assert processor_type().isprintable() and " " not in processor_type() and processor_type()


def test_on_the_reference_backend_another_result_is_promised(monkeypatch):
    monkeypatch.setattr(backend, "_chosen", ["reference"])
    assert processor_type().startswith("reference, ")


def test_the_blas_is_numpy_s_whatever_else_has_been_loaded():
    before = blas_type()
    if importlib.util.find_spec("scipy") is None:
        pytest.skip("scipy is not installed: no second BLAS to load")
    importlib.import_module("scipy.linalg")
    assert blas_type() == before and before
