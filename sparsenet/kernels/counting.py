"""Counts what a piece of code asks of a GPU: kernels launched, and how often the host waited.

    with counting() as counts:
        net(batch).backward()
    counts.launches["convolution_forward"], counts.launched, counts.waits

Counted is what the calling thread does.  Launches are those of this package's kernels; CuPy's own (fills, sums,
sorts, cuBLAS) pass by no place that could count them.  Waits are numbers that `fetch` brings and arrays that
`.to("cpu")` or `.numpy()` bring; a condition on an array (`if x.any():`) waits unseen.  What is not seen here is
counted on a stand-in for CuPy, in tests/cuda/test_launches.py.
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
    """What was counted.

    launches : by kernel name;  waits : of the host for the GPU
    """

    launches: Counter[str] = field(default_factory=Counter)
    waits: int = 0

    @property
    def launched(self) -> int:
        """Of all kernels."""
        return sum(self.launches.values())


@contextmanager
def counting() -> Iterator[Counts]:
    """Count within it; may be nested.  The waits are there when it ends."""
    counts, before = Counts(), waits()
    within = _within()
    within.append(counts)
    try:
        yield counts
    finally:
        within.remove(counts)
        counts.waits = waits() - before


def launched(kernel: str) -> None:
    """Told of each launch."""
    for counts in _within():
        counts.launches[kernel] += 1


def _within() -> list[Counts]:
    """The counts that are open on this thread."""
    try:
        return _local.counts
    except AttributeError:  # the first time
        _local.counts = []
        return _local.counts
