"""Ranks: the processes of one training, and how they add gradients to the same bits however many they are.

A batch is cut into shards, whose number the config fixes.  A rank owns some of them; which one it is changes nothing,
because the gradients of the shards are summed along one binary tree over the numbers of the shards:

    shard      0   1   2   3   4         sum    ((0 + 1) + (2 + 3)) + 4
    owner      0   0   0   1   1         messages: 3 goes to rank 0 (the owner of 2), 4 goes to rank 0
                \\ /     \\ /    |
                  \\     /     /
                    \\ /     /
                      \\  /

A node belongs to the owner of its leftmost shard.  If its two parts have different owners, one sends its array and the
other adds it: additions are the same, in the same order, on any number of ranks.  An all-reduce of MPI or NCCL adds in
an order that depends on the number of ranks, and is therefore not used.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np

from sparsenet.backend import array_module, device_of
from sparsenet.training.config import ConfigError

Value = TypeVar("Value")


class Stopped(KeyboardInterrupt):
    """Ctrl-C or SIGTERM, noted by all ranks after the same step."""


class Link(Protocol):
    """How a rank reaches the others.  Both calls return when the array may be used again; between two ranks messages
    arrive in the order in which they were sent."""

    def send(self, array: Any, to: int) -> None:
        """Send a contiguous array to rank `to`."""

    def receive(self, array: Any, source: int) -> None:
        """Fill a contiguous array with what rank `source` sends."""


@dataclass(frozen=True)
class Ranks:
    """This process among those of a training; by default the only one.

    rank, size : its number, and how many there are; rank 0 writes files
    shards : the number of shards of a batch, at least `size`
    link : for arrays on the host; None if there is one rank
    device_link : for arrays on a GPU; None if there are none
    """

    rank: int = 0
    size: int = 1
    shards: int = 1
    link: Link | None = None
    device_link: Link | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.size:
            raise ValueError(f"Ranks: rank is {self.rank}, expected 0 to {self.size - 1}")
        if self.size > self.shards:
            raise ConfigError(f"config: training.shards is {self.shards}, and {self.size} processes would share them: "
                              f"start at most {self.shards}, or set training.shards to {self.size} or more (a multiple "
                              "divides the work evenly; the number changes results, as the batch size does)")

    @property
    def first(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    @property
    def own(self) -> list[int]:
        """The numbers of the shards of this rank."""
        return [shard for shard in range(self.shards) if self.owner(shard) == self.rank]

    def owner(self, shard: int) -> int:
        """The rank that computes a shard: neighbouring shards have the same owner or neighbouring ones."""
        return shard * self.size // self.shards

    def tree_sum(self, leaf: Callable[[int], Any], count: int) -> Any:
        """The sum of the arrays of shards 0 to count - 1 on rank 0; on the others an array of no meaning, or None.

        leaf : called with each own shard, in ascending order, when its array is needed; the array may be changed.  At
            most about log2(count) + 1 arrays exist at once
        """
        width = 1
        while width < count:
            width *= 2
        return self._node(leaf, count, 0, width)

    def _node(self, leaf: Callable[[int], Any], count: int, first: int, width: int) -> Any:
        """The sum over the shards from `first` on, at most `width` of them, on the owner of the first."""
        if not self.owner(first) <= self.rank <= self.owner(min(first + width, count) - 1):
            return None
        if width == 1:
            return leaf(first)
        second = first + width // 2
        left = self._node(leaf, count, first, width // 2)
        if second >= count:
            return left
        right = self._node(leaf, count, second, width // 2)
        mine, other = self.owner(first), self.owner(second)
        if mine == other == self.rank:
            left += right
        elif self.rank == mine:
            right = array_module(left).empty_like(left)
            self._link(right).receive(right, other)
            left += right
        elif self.rank == other:
            self._link(right).send(right, mine)
        return left

    def broadcast(self, array: Any) -> None:
        """Fill the array of each rank with that of rank 0, along a binary tree over the ranks."""
        distance = 1
        while distance < self.size:
            distance *= 2
        while distance > 1:
            distance //= 2
            if self.rank % (2 * distance) == distance:
                self._link(array).receive(array, self.rank - distance)
            elif self.rank % (2 * distance) == 0 and self.rank + distance < self.size:
                self._link(array).send(array, self.rank + distance)

    def _link(self, array: Any) -> Link:
        link = self.link if device_of(array) == "cpu" else self.device_link
        if link is None:
            raise RuntimeError(f"Ranks: no link for arrays on {device_of(array)}: start the training with "
                               "`sparsenet train` under mpirun")
        return link

    # ---- objects, which are pickled: small ones ----

    def from_first(self, make: Callable[[], Value]) -> Value:
        """The result of `make` on rank 0, which alone calls it; the others wait for it."""
        value = make() if self.first else None
        if self.size == 1:
            return value  # type: ignore[return-value]
        data = np.frombuffer(pickle.dumps(value), np.uint8).copy() if self.first else np.zeros(0, np.uint8)
        length = np.array([len(data)], np.int64)
        self.broadcast(length)
        data = data if self.first else np.empty(int(length[0]), np.uint8)
        self.broadcast(data)
        return value if self.first else pickle.loads(data.tobytes())  # type: ignore[return-value]

    def merged(self, own: Mapping[int, Value]) -> dict[int, Value]:
        """The entries of all ranks, the same on each, by ascending number."""
        if self.size == 1:
            return dict(sorted(own.items()))
        if not self.first:
            self._send_object(dict(own), 0)
        entries = dict(own)
        for source in range(1, self.size) if self.first else ():
            entries |= self._receive_object(source)
        return self.from_first(lambda: dict(sorted(entries.items())))

    def totals(self, *numbers: int) -> list[int]:
        """The sum of each number over the ranks."""
        if self.size == 1:
            return list(numbers)
        return [sum(column) for column in zip(*self.merged({self.rank: numbers}).values(), strict=True)]

    def wait(self) -> None:
        """Return when all ranks have come here."""
        self.totals(0)

    def check_alike(self, digest: str, what: str) -> None:
        """Raise RuntimeError on each rank unless the digest is the same on all of them."""
        found = self.merged({self.rank: digest})
        odd = [rank for rank, other in found.items() if other != found[0]]
        if odd:
            raise RuntimeError(f"training: {what} of rank {odd[0]} differ from those of rank 0: ranks must run on "
                               "processors of one type, with the same versions of all libraries")

    def _send_object(self, value: Any, to: int) -> None:
        assert self.link is not None
        data = np.frombuffer(pickle.dumps(value), np.uint8).copy()
        self.link.send(np.array([len(data)], np.int64), to)
        self.link.send(data, to)

    def _receive_object(self, source: int) -> Any:
        assert self.link is not None
        length = np.empty(1, np.int64)
        self.link.receive(length, source)
        data = np.empty(int(length[0]), np.uint8)
        self.link.receive(data, source)
        return pickle.loads(data.tobytes())
