"""A stand-in for MPI: the ranks of a training as threads of one process."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import Queue
from typing import Any

import numpy as np

from sparsenet.training.ranks import Ranks

PATIENCE = 60.0  # seconds after which a message that never comes fails the test


class ThreadLink:
    """Sends copies of arrays through queues, one for each ordered pair of ranks."""

    def __init__(self, rank: int, queues: dict[tuple[int, int], Queue]):
        self.rank, self.queues, self.sent = rank, queues, 0

    def send(self, array: Any, to: int) -> None:
        self.sent += 1
        self.queues[self.rank, to].put(np.array(array))

    def receive(self, array: Any, source: int) -> None:
        arrived = self.queues[source, self.rank].get(timeout=PATIENCE)
        assert (arrived.shape, arrived.dtype) == (array.shape, array.dtype)
        array[...] = arrived


def as_ranks(size: int, shards: int, function: Callable[[Ranks], Any]) -> list[Any]:
    """The results of the function on each of `size` ranks, in their order."""
    queues: dict[tuple[int, int], Queue] = {(a, b): Queue() for a in range(size) for b in range(size)}
    ranks = [Ranks(rank, size, shards, ThreadLink(rank, queues)) for rank in range(size)]
    with ThreadPoolExecutor(size) as pool:
        found = [pool.submit(function, one) for one in ranks]
        return [one.result() for one in found]
