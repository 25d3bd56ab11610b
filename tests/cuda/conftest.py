"""The device "cuda", and the resources of the compiled kernels, printed at the end of the tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import pytest
from cuda_host import cupy_of_numpy, device


@pytest.fixture(params=["host", *([] if device.missing() else [pytest.param("gpu", marks=pytest.mark.gpu)])])
def cuda(request) -> Iterator[str]:
    """The name of the device: the host, with NumPy arrays in place of CuPy's, or a GPU."""
    on_gpu = request.param == "gpu"
    with nullcontext() if on_gpu else cupy_of_numpy.installed(request.getfixturevalue("host_driver")):
        yield "cuda"


RESOURCES = pytest.StashKey[dict]()


@pytest.fixture(scope="session")
def resources(request) -> dict[tuple[str, str, int], object]:
    """Resources by (kernel, variant, architecture): tests put them here."""
    return request.config.stash.setdefault(RESOURCES, {})


def pytest_terminal_summary(terminalreporter, config) -> None:
    found = config.stash.get(RESOURCES, {})
    if not found:
        return
    architectures = sorted({architecture for _, _, architecture in found})
    terminalreporter.section("registers a thread / bytes of static shared memory / of stack / spilled, by architecture")
    width = max(len(kernel) for kernel, _, _ in found)
    terminalreporter.write_line(" " * width + "".join(f"{f'sm_{a}':>16}" for a in architectures))
    for kernel, variant in sorted({(kernel, variant) for kernel, variant, _ in found}):
        cells = []
        for architecture in architectures:
            r = found.get((kernel, variant, architecture))
            cells.append(f"{r.registers}/{r.shared}/{r.stack}/{r.spill_stores + r.spill_loads}" if r else "-")
        terminalreporter.write_line(f"{kernel:<{width}}" + "".join(f"{cell:>16}" for cell in cells) + f"  {variant}")
