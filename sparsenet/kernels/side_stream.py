"""The stream on which a loader makes batches: concurrent with the consumer's on a GPU, the same on a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sparsenet.kernels.work import Work

if TYPE_CHECKING:
    from sparsenet.kernels.cuda.streams import SideStream


class SameStream:
    """Replaces a side stream on a CPU, or if the consumer makes its own batches."""

    @contextmanager
    def work(self) -> Iterator[Work]:
        yield Work()

    def deliver(self, work: Work) -> None:
        """Nothing to wait for."""

    def meet(self) -> None:
        """Nothing to wait for."""


def side_stream(device: str) -> SideStream | SameStream:
    """The side stream of the current stream; the same each time, so that an epoch reuses the memory of the last."""
    if device == "cpu":
        return SameStream()
    from sparsenet.kernels.cuda.streams import stream_beside

    return stream_beside()
