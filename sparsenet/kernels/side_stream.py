"""Where a loader makes batches: beside the consumer's work on a GPU, in the same order on a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sparsenet.kernels.work import Work

if TYPE_CHECKING:
    from sparsenet.kernels.cuda.streams import SideStream


class SameStream:
    """Stands in for a side stream where there is none: on a CPU, or where the consumer makes its own batches."""

    @contextmanager
    def work(self) -> Iterator[Work]:
        yield Work()

    def deliver(self, work: Work) -> None:
        """Nothing to wait for."""

    def meet(self) -> None:
        """Nothing to wait for."""


def side_stream(device: str) -> SideStream | SameStream:
    """The stream beside the current one; the same each time, so that one epoch's memory serves the next."""
    if device == "cpu":
        return SameStream()
    from sparsenet.kernels.cuda.streams import stream_beside

    return stream_beside()
