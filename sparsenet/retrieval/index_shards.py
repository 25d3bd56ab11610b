"""Several indices that are searched as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from sparsenet.retrieval.index import Index


class Searchable(Protocol):
    """The common part of all indices, `Index` too."""

    metric: str

    @property
    def width(self) -> int: ...

    def __len__(self) -> int: ...

    def search(self, queries: Any, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Distances (Q, k), ascending, and ids (Q, k)."""


class IndexShards:
    """Several indices that are searched as one: the ids of each continue those of the one before.

    The results are merged exactly: the k nearest of all that the shards find, at equal distances by id.

    shards : of one metric, `Index` or FaissIndex; the ids of each must be its rows

    Raises ValueError if there are none, their metrics differ, or an `Index` has other ids.
    """

    def __init__(self, shards: Sequence[Searchable]):
        if not shards or len({shard.metric for shard in shards}) > 1:
            raise ValueError(f"IndexShards: the metrics of the shards are {[shard.metric for shard in shards]}, "
                             "expected one or more shards of one metric")
        odd = next((number for number, shard in enumerate(shards)
                    if isinstance(shard, Index) and not np.array_equal(shard.ids, np.arange(len(shard)))), None)
        if odd is not None:
            raise ValueError(f"IndexShards: the ids of shard {odd} are not its rows: vectors were removed from it, or "
                             "added with other ids")
        self.shards, self.metric = list(shards), shards[0].metric

    @property
    def width(self) -> int:
        """The numbers of a vector."""
        return self.shards[0].width

    def __len__(self) -> int:
        return sum(map(len, self.shards))

    def search(self, queries: Any, k: int) -> tuple[np.ndarray, np.ndarray]:
        """See `Index.search`."""
        if not 1 <= k <= len(self):
            raise ValueError(f"IndexShards.search: k is {k}, expected 1 to {len(self)}, the number of vectors")
        distances, ids, start = [], [], 0
        for shard in self.shards:
            if len(shard):
                near, own = shard.search(queries, min(k, len(shard)))
                distances.append(near)
                ids.append(np.where(own < 0, own, own + start))
            start += len(shard)
        return _merged(np.hstack(distances), np.hstack(ids), k)


def _merged(distances: np.ndarray, ids: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k least of each row, at equal distances by id; ids of -1 come last."""
    order = np.lexsort((np.where(ids < 0, np.iinfo(np.int64).max, ids), distances))[:, :k]
    return np.take_along_axis(distances, order, 1), np.take_along_axis(ids, order, 1)
