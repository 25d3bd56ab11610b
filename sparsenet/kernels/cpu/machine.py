"""The machine on which a result has its bits: they are the same for equal processors and BLAS libraries."""

from __future__ import annotations

import platform

from sparsenet.backend import cupy, get_backend


def processor_type(device: str = "cpu") -> str:
    """The type that kernels are compiled for, such as "skylake-avx512"; on "cuda" with the GPU's name.

    On the reference backend, which compiles nothing: its name and the machine's architecture.
    """
    if get_backend() is not None:
        return f"{get_backend()}, {platform.machine()}"
    from llvmlite.binding import get_host_cpu_name
    from numba.core import config

    name = config.CPU_NAME or get_host_cpu_name()
    if device == "cpu":
        return name
    runtime = cupy().cuda.runtime
    return f"{name}, {runtime.getDeviceProperties(runtime.getDevice())['name'].decode()}"


def blas_type() -> str:
    """NumPy's library of matrix products, its version and the processor it chose; "" if it is not recognised.

    A BLAS of another package (SciPy's wheel has one) is not used by any kernel.
    """
    import numpy as np  # noqa: F401  (so that its BLAS is loaded, and can be asked)
    from threadpoolctl import threadpool_info

    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    own = [pool for pool in pools if "numpy" in pool["filepath"].lower()] or pools
    found = {f"{pool['internal_api']} {pool.get('version') or ''} {pool.get('architecture') or ''}".strip()
             for pool in own}
    return ", ".join(sorted(found))
