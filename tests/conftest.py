"""Fixtures that any test may ask for."""

from __future__ import annotations

import gc
import importlib.util
import os
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cuda_host import device
from extras import skip_without_extras
from threadpoolctl import threadpool_limits

from sparsenet import kernels
from sparsenet.kernels.cuda.source import use_driver
from sparsenet.teach.cuda_host.host_driver import HostDriver, poisoned_empty

sys.path.append(str(Path(__file__).resolve().parents[1]))  # benchmarks/; last, so that an installed sparsenet is tested


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """The whole suite runs on two processes if pytest-xdist is there, a part of it in this one."""
    whole = config.args_source is config.ArgsSource.TESTPATHS and not hasattr(config, "workerinput")
    if whole and config.pluginmanager.hasplugin("xdist") and not config.option.usepdb:
        if config.option.numprocesses is None:
            config.option.numprocesses, config.option.dist = 2, "worksteal"


def pytest_configure(config: pytest.Config) -> None:
    """Each of several processes multiplies on one thread: those of BLAS wait for each other without sleeping."""
    if hasattr(config, "workerinput"):
        threadpool_limits(1, user_api="blas")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    skip_without_extras(items)


def pytest_collection_finish() -> None:
    """Thousands of tests stay to the end: the garbage collector need not look at them again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers, the same in each run of each test."""
    return np.random.default_rng(20160518)


@pytest.fixture(params=["float32", "float64"])
def dtype(request) -> np.dtype:
    """Each of the dtypes that features are stored in."""
    return np.dtype(request.param)


@pytest.fixture(scope="session")
def host_driver() -> Iterator[HostDriver]:
    """Runs CUDA kernels on the host, under sanitizers."""
    try:
        driver = HostDriver()
    except RuntimeError as error:
        pytest.skip(str(error))
    yield driver
    driver.close()


# Without a GPU one test says so (tests/cuda/test_device.py), not every kernel's.
ON_GPU = [] if device.missing() else [pytest.param("gpu", marks=pytest.mark.gpu)]


@pytest.fixture(params=["reference", "cpu", "cuda", *ON_GPU])
def backend(request) -> str:
    """Where a kernel runs: "reference" its formula; "cpu" its Numba half; "cuda" its CUDA source on the host, in
    three orders of threads and blocks; "gpu" its CUDA source on a GPU."""
    return request.param


@pytest.fixture
def launch(backend, request) -> Callable:
    """`sparsenet.kernels.launch` on each backend: NumPy arrays in and out, arguments that the kernel
    writes to are written to."""
    if backend == "cpu":
        return kernels.launch
    if backend == "reference":
        return partial(kernels.launch, backend="reference")
    if backend == "gpu":
        return device.launch
    driver = request.getfixturevalue("host_driver")

    def on_host(name: str, *values: Any) -> Any:
        with use_driver(driver), poisoned_empty():
            return kernels.launch(name, *values, backend="cuda")

    return on_host


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data that SPARSENET_DATA names."""
    folder = os.environ.get("SPARSENET_DATA")
    if not folder:
        pytest.skip("SPARSENET_DATA is not set: no real data to test on")
    if not Path(folder).is_dir():
        pytest.fail(f"SPARSENET_DATA is {folder!r}, which is not a folder")
    return Path(folder)


if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as a shell leaves it for what it runs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)

if importlib.util.find_spec("hypothesis") is not None:  # a machine with a GPU may lack it: not all tests need it
    from hypothesis import settings

    settings.register_profile("sparsenet", deadline=None)  # the first example of a test may compile a kernel
    settings.load_profile("sparsenet")
