"""The report of `sparsenet info`: versions, devices, threads, caches and missing packages."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import suppress
from fnmatch import fnmatch
from importlib import metadata
from pathlib import Path

from sparsenet.files import size_text

# Distribution -> its purpose; those in OPTIONAL may be missing.
NEEDED = {"numpy": "arrays", "numba": "kernels on the CPU", "h5py": "files",
          "tqdm": "progress bars", "threadpoolctl": "BLAS threads"}
OPTIONAL = {"matplotlib": ("pictures", "plot"), "plotly": ("the inspector page", "inspect"),
            "waitress": ("sparsenet serve", "serve"),
            "onnx": ("sparsenet export", "onnx"), "faiss-cpu": ("Descriptors.to_faiss", "faiss")}
_INDENT = " " * 14


def info() -> str:
    """A report with one `name  value` per line; if something is missing, it says how to install it."""
    sections = [("sparsenet", _own_version()), ("Python", f"{platform.python_version()}, {sys.executable}"),
                ("system", f"{platform.system()} {platform.release()}, {platform.machine()}")]
    sections += [("", ""), *_libraries(), ("", ""), *_processor(), ("", ""), *_gpu(), ("", ""), *_caches()]
    return "\n".join(f"{name:<{len(_INDENT)}}{text}".rstrip() for name, text in sections)


def _own_version() -> str:
    from sparsenet import __version__

    return f"{__version__}, {Path(__file__).parent}"


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _libraries() -> list[tuple[str, str]]:
    rows = []
    for name, purpose in NEEDED.items():
        version = _version(name)
        rows.append((name, version or f"missing, needed for {purpose}: pip install {name}"))
    for name, (purpose, extra) in OPTIONAL.items():
        version = _version(name)
        rows.append((name, version or f"not installed, needed for {purpose}: pip install 'sparsenet[{extra}]'"))
    return rows


def processor_name() -> str:
    """The name of the processor as reported by the system."""
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        for line in listing.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _processor() -> list[tuple[str, str]]:
    import numpy as np  # noqa: F401  (loads its BLAS, so that it can be queried)
    from threadpoolctl import threadpool_info

    from sparsenet.kernels import get_num_threads

    set_by = "SPARSENET_NUM_THREADS" if os.environ.get("SPARSENET_NUM_THREADS") else "the cores this process may use"
    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    blas = ", ".join(f"{pool['internal_api']} {pool.get('version') or ''} ({pool.get('architecture', '?')})".strip()
                     for pool in pools)
    return [("cpu", f"{processor_name()}, {os.cpu_count()} cores"),
            ("threads", f"{get_num_threads()}, from {set_by}; sn.set_num_threads(n) changes it, results do not"),
            ("BLAS", blas or "not recognised: matrix products may use more threads than they should")]


def _gpu() -> list[tuple[str, str]]:
    """CuPy and each GPU, or how to enable them."""
    from sparsenet.backend import cupy

    try:
        module = cupy()
    except RuntimeError as error:
        return [("cuda", f"not available; everything runs on the CPU.\n{_INDENT}{error}")]
    runtime = module.cuda.runtime
    rows = [("cupy", f"{module.__version__}, CUDA {_cuda_version(runtime.runtimeGetVersion())}, driver for CUDA "
                     f"{_cuda_version(runtime.driverGetVersion())}")]
    for number in range(runtime.getDeviceCount()):
        properties = runtime.getDeviceProperties(number)
        rows.append((f"cuda {number}", f"{properties['name'].decode()}, compute capability {properties['major']}."
                                       f"{properties['minor']}, {properties['totalGlobalMem'] / 2**30:.0f} GiB"))
    return rows


def _cuda_version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def _caches() -> list[tuple[str, str]]:
    from sparsenet.kernels.cpu.numba_cache import cache_folders

    return [("CPU kernels", _folders(cache_folders(), ("*.nbi", "*.nbc"), "NUMBA_CACHE_DIR")),
            ("GPU kernels", _folders([cupy_cache()], ("*",), "CUPY_CACHE_DIR"))]


def cupy_cache() -> Path:
    """The cache of compiled GPU kernels: CUPY_CACHE_DIR, or ~/.cupy/kernel_cache."""
    return Path(os.environ.get("CUPY_CACHE_DIR") or os.path.expanduser("~/.cupy/kernel_cache"))  # there may be no home


def _folders(paths: list[Path], patterns: tuple[str, ...], variable: str) -> str:
    if not paths:
        return f"in memory, compiled again in each process; {variable} names a folder to keep them in"
    path = os.path.commonpath(paths)
    sizes = [size for one in paths for size in _sizes(one, patterns)]
    held = f"files: {len(sizes)}, {size_text(sum(sizes))}" if sizes else "empty so far"
    return f"{path} ({held}); {variable} moves it"


def _sizes(path: Path, patterns: tuple[str, ...]) -> Iterator[int]:
    """Yield the size of each file; unreadable and vanished files are skipped."""
    for folder, _, names in os.walk(path):
        for name in names:
            if any(fnmatch(name, pattern) for pattern in patterns):
                with suppress(OSError):
                    yield os.path.getsize(os.path.join(folder, name))
