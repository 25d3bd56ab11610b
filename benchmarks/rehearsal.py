"""A campaign without a GPU: with `SPARSENET_DRIVER=host` the tests' CuPy stand-in runs kernels on the host."""

from __future__ import annotations

import os
import sys
from pathlib import Path

VARIABLE = "SPARSENET_DRIVER"
DRIVERS = ("gpu", "host")


def choose_driver(root: Path) -> str:
    """The driver selected by the environment, "gpu" or "host"; for "host" this process and its children import the
    stand-in instead of CuPy.

    root : folder of a checkout with tests

    Raises ValueError for any other driver.
    """
    driver = os.environ.get(VARIABLE) or "gpu"
    if driver not in DRIVERS:
        raise ValueError(f"{VARIABLE} is {driver!r}, expected {' or '.join(DRIVERS)}")
    if driver == "host":
        stand_in = str(root / "tests" / "cuda_host" / "stand_in")
        given = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path not in ("", stand_in)]
        os.environ["PYTHONPATH"] = os.pathsep.join([stand_in, *given])
        if stand_in not in sys.path:
            sys.path.insert(0, stand_in)
    return driver
