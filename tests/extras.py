"""Tests that need an extra which `pip install ".[plot,test]"` does not bring: @pytest.mark.extra("inspect").

`pytest -m extra` runs these tests alone.  They are skipped, in words that name the extra, if it is not installed;
with SPARSENET_REQUIRE_EXTRAS set that is an error, for machines on which a skip would go unseen.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

import pytest
from cuda_host import nvrtc


def mpirun() -> str | None:
    """The launcher of the environment's MPI, else of the system's."""
    own = Path(sys.executable).parent / "mpirun"
    return str(own) if own.exists() else shutil.which("mpirun")


INSTALLED = {
    "inspect": ("plotly", lambda: find_spec("plotly") is not None),
    "serve": ("waitress", lambda: find_spec("waitress") is not None),
    "page-test": ("axe-playwright-python", lambda: find_spec("axe_playwright_python") is not None),
    "docs": ("Markdown", lambda: find_spec("markdown") is not None),
    "mpi": ("mpi4py with mpirun", lambda: find_spec("mpi4py") is not None and mpirun() is not None),
    "faiss": ("faiss", lambda: find_spec("faiss") is not None),
    "kernel-test": ("NVRTC", lambda: bool(nvrtc.libraries())),
    "onnx-test": ("onnxruntime", lambda: find_spec("onnx") is not None and find_spec("onnxruntime") is not None),
    "release": ("twine", lambda: find_spec("twine") is not None),
    "dev": ("mypy", lambda: find_spec("mypy") is not None),
}


def skip_without_extras(items: Iterable[pytest.Item]) -> None:
    """Skip each test whose extra is not installed.

    Raises pytest.UsageError if SPARSENET_REQUIRE_EXTRAS is set and one is missing.
    """
    marked = [(item, marker.args[0]) for item in items for marker in item.iter_markers("extra")]
    for extra in sorted({extra for _, extra in marked}):
        library, is_installed = INSTALLED[extra]
        if is_installed():
            continue
        more = " mpich" if extra == "mpi" else ""
        words = f"{library} is not installed: pip install 'sparsenet[{extra}]'{more}"
        if os.environ.get("SPARSENET_REQUIRE_EXTRAS"):
            raise pytest.UsageError(f"SPARSENET_REQUIRE_EXTRAS is set, but {words}")
        for item, own in marked:
            if own == extra:
                item.add_marker(pytest.mark.skip(reason=words))
