"""Makes the batches of an epoch, ahead of their use where there are workers."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from sparsenet.data.batch import SparseBatch, join
from sparsenet.data.preparation import Preparation
from sparsenet.data.samplers import BatchSampler, Sampler
from sparsenet.kernels import threads

if TYPE_CHECKING:
    from sparsenet.data.dataset import SparseDataset
    from sparsenet.sparse.geometry import Geometry

POSES = ("random", "first", "all")


class BatchLoader:
    """Iterator over the batches of one epoch; see `SparseDataset.batches`.

    With workers, so many threads prepare the batches to come, one more than there are workers, and
    the batches still arrive in order.  `len` is the number of batches from `start` on.
    """

    def __init__(self, dataset: SparseDataset, preparation: Preparation, *, batch_size: int | None, shuffle: bool,
                 sampler: Sampler | None, poses: str | None, seed: int, epoch: int, start: int, workers: int,
                 geometries: tuple[Geometry, ...], device: str):
        if poses is None:
            poses = "random" if shuffle or sampler is not None else "first"
        if poses not in POSES:
            raise ValueError(f"batches: poses is {poses!r}, expected one of {', '.join(POSES)}")
        if not isinstance(workers, int | np.integer) or workers < 0:
            raise ValueError(f"batches: workers is {workers!r}, expected a whole number, 0 or more")
        items = len(dataset) if poses == "all" else len(dataset.object_samples)
        if sampler is None:
            if batch_size is None:
                raise ValueError("batches: batch_size is missing: give it, or a sampler")
            sampler = BatchSampler(items, batch_size, shuffle)
        elif batch_size is not None or shuffle:
            raise ValueError("batches: a sampler decides on size and order: leave batch_size and shuffle out")
        if not 0 <= start <= len(sampler):
            raise ValueError(f"batches: start is {start}, expected 0 to {len(sampler)}, the batches of an epoch")
        self._length = len(sampler) - start
        maker = _BatchMaker(dataset, preparation, sampler, poses, items, seed, epoch, geometries, device)
        self._batches = _generate(maker, range(start, len(sampler)), int(workers))

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> BatchLoader:
        return self

    def __next__(self) -> SparseBatch:
        return next(self._batches)

    def close(self) -> None:
        """Stop: no further batch, and no worker left."""
        self._batches.close()

    def __enter__(self) -> BatchLoader:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class _Stopped(RuntimeError):
    """The consumer is gone; nobody sees this."""


class _BatchMaker:
    def __init__(self, dataset: SparseDataset, preparation: Preparation, sampler: Sampler, poses: str, items: int,
                 seed: int, epoch: int, geometries: tuple[Geometry, ...], device: str):
        self.dataset = dataset
        self.preparation = preparation
        self.sampler = sampler
        self.poses = poses
        self.items = items
        self.seed = seed
        self.epoch = epoch
        self.geometries = geometries
        self.device = device

    def make(self, index: int, stop: threading.Event) -> SparseBatch:
        """Batch `index` on the CPU, its rulebooks built unless it goes to another device."""
        begun = time.perf_counter()
        items = np.asarray(self.sampler.batch(index, self.seed, self.epoch))
        if items.size and not (0 <= items.min() and items.max() < self.items):
            raise ValueError(f"batches: the sampler gives items {items.min()} to {items.max()}, there are "
                             f"{self.items}: make it from this dataset's object_labels")
        samples, cells, features, dropped = [], [], [], []
        for place, item in enumerate(items.tolist()):
            if stop.is_set():
                raise _Stopped
            showing = (index, place) if self.sampler.repeats else ()
            sample = self._sample(item, showing)
            part, rows, lost = self._prepare(sample, showing)
            samples.append(sample)
            cells.append(part)
            features.append(rows)
            dropped.append(lost)
        sample_ids = np.array(samples, np.int64)
        tensor = join(cells, features, self.preparation.field, self.dataset.channels)
        batch = SparseBatch(tensor, self.dataset.labels[sample_ids], sample_ids, np.array(dropped, np.int64))
        batch.seconds["loading"] = time.perf_counter() - begun
        if self.device == "cpu":
            _build_rulebooks(batch, self.geometries)
        return batch

    def deliver(self, batch: SparseBatch) -> SparseBatch:
        """The batch on its device: rulebooks are built where they are used."""
        if self.device != "cpu":
            batch.input = batch.input.to(self.device)
            _build_rulebooks(batch, self.geometries)
        return batch

    def _sample(self, item: int, showing: tuple[int, ...]) -> int:
        if self.poses == "all":
            return item
        if self.poses == "first":
            return int(self.dataset.first_poses[item])
        return self.preparation.pose(self.dataset.object_samples[item], showing)

    def _prepare(self, sample: int, showing: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, int]:
        try:
            return self.preparation(sample, showing)
        except (ValueError, TypeError, OSError, RuntimeError, MemoryError) as error:
            name, row = str(self.dataset.names[sample]), self.dataset.rows[sample]
            raise RuntimeError(f"batches: sample {sample} ({name!r}, row {row} of "
                               f"{self.dataset.path}): {error}") from error


def _build_rulebooks(batch: SparseBatch, geometries: tuple[Geometry, ...]) -> None:
    from sparsenet.sparse import prepare

    begun = time.perf_counter()
    prepare(batch.input.sites, geometries)
    batch.seconds["rulebooks"] = time.perf_counter() - begun


def _generate(maker: _BatchMaker, indices: range, workers: int) -> Iterator[SparseBatch]:
    """The batches in order.  A function apart from BatchLoader: a loader that is dropped takes this
    generator with it, whose `finally` ends the workers."""
    stop = threading.Event()
    if not workers:
        for index in indices:
            yield maker.deliver(maker.make(index, stop))
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="sparsenet-loader")
    waiting: deque[Future[SparseBatch]] = deque()
    unmade = iter(indices)

    def task(index: int) -> SparseBatch:
        with threads.serial():
            return maker.make(index, stop)

    def submit(count: int) -> None:
        for _ in range(count):
            index = next(unmade, None)
            if index is not None:
                waiting.append(pool.submit(task, index))

    try:
        submit(workers + 1)
        while waiting:
            batches = [waiting.popleft().result()]
            submit(1)
            yield maker.deliver(batches.pop())  # no reference stays here: the consumer's is the last
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)
