"""SparseBatch: several samples as one SparseTensor; and ShardedBatch: the parts of a batch that one process takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from sparsenet.sparse.tensor import SparseTensor


@dataclass(eq=False)
class SparseBatch:
    """A batch of B samples.

    input : SparseTensor of B grids, float32, background zeros
    labels : (B,) int64, index into the dataset's classes, -1 if unknown
    sample_ids : (B,) int64, grid b holds `dataset[sample_ids[b]]`
    dropped : (B,) int64, number of cells of each sample that were outside the grid
    seconds : time taken by "loading" (reading, voxelizing) and "rulebooks"
    site_labels : (N,) int64 on the host, the part that each site of the input is of, in their order, an index into the
        dataset's part classes, -1 if it is unknown; None if the dataset has none
    """

    input: SparseTensor
    labels: np.ndarray
    sample_ids: np.ndarray
    dropped: np.ndarray
    seconds: dict[str, float] = field(default_factory=dict)
    site_labels: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"SparseBatch({len(self)} samples, {self.input!r})"


@dataclass(eq=False)
class ShardedBatch:
    """A batch of B samples that is cut into shards, of which one process has some.

    shards : number of a shard -> its samples; a shard without a sample is left out
    labels : (B,) int64, those of all samples of the batch, also of other processes' shards
    """

    shards: dict[int, SparseBatch]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def dropped(self) -> np.ndarray:
        """The numbers of dropped cells of the samples here, int64."""
        return np.concatenate([np.zeros(0, np.int64), *(batch.dropped for batch in self.shards.values())])

    @property
    def seconds(self) -> dict[str, float]:
        """The time taken by the shards here."""
        parts = [batch.seconds for batch in self.shards.values()]
        return {name: sum(part[name] for part in parts) for name in ("loading", "rulebooks")}


def shard_rows(number: int, shards: int, count: int) -> range:
    """Which of `count` samples shard `number` has: each `shards`-th one, so that each shard has its part of the
    classes of a batch that is ordered by class."""
    return range(number, count, shards)


def join(cells: Sequence[np.ndarray], features: Sequence[np.ndarray], spatial_size: Sequence[int],
         channels: int) -> SparseTensor:
    """One SparseTensor of B grids.

    cells : B arrays (n, D) int32;  features : B arrays (n, channels) float32
    """
    from sparsenet.sparse import SparseTensor

    total = sum(map(len, cells))
    coordinates = np.empty((total, 1 + len(spatial_size)), np.int32)
    values = np.empty((total, channels), np.float32)
    stop = 0
    for number, (part, rows) in enumerate(zip(cells, features, strict=True)):
        start, stop = stop, stop + len(part)
        coordinates[start:stop, 0] = number
        coordinates[start:stop, 1:] = part
        values[start:stop] = rows
    return SparseTensor(values, coordinates, spatial_size, len(cells))
