"""Counts the kernels that a piece of code launches on a GPU, and how often the host waits for the GPU.

    with counting() as counts:
        net(batch).backward()
    counts.launches["convolution_forward"], counts.launched, counts.waits

Only the calling thread is counted.  Launches are those of this package's kernels, not CuPy's own (fills, sums, sorts,
cuBLAS).  Waits are calls of `fetch` and arrays copied by `.to("cpu")` or `.numpy()`; a condition on an array
(`if x.any():`) waits, too, but is not counted.  tests/cuda/test_launches.py counts everything, on a stand-in for CuPy.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from sparsenet.backend import waits

_local = threading.local()


@dataclass(eq=False)
class Counts:
    """The counts: launches by kernel name, and waits of the host for the GPU."""

    launches: Counter[str] = field(default_factory=Counter)
    waits: int = 0

    @property
    def launched(self) -> int:
        """Launches of all kernels."""
        return sum(self.launches.values())


@contextmanager
def counting() -> Iterator[Counts]:
    """Context in which launches and waits are counted; may be nested.  The number of waits is set at its end."""
    counts, before = Counts(), waits()
    within = _within()
    within.append(counts)
    try:
        yield counts
    finally:
        within.remove(counts)
        counts.waits = waits() - before


def launched(kernel: str) -> None:
    """Called once per kernel launch."""
    for counts in _within():
        counts.launches[kernel] += 1


def _within() -> list[Counts]:
    """The open counts of this thread."""
    try:
        return _local.counts
    except AttributeError:  # the first time
        _local.counts = []
        return _local.counts
