"""Prepares the batches of an epoch, in advance if there are workers.

    worker threads     poses, augmentation, reading | on a GPU: upload, voxelize | rulebooks     all on the side stream
    the consumer       waits for a batch to be ready, not for the GPU            | its step      on its own stream

Threads that ask a GPU for work need the interpreter for everything but the waiting, as the consumer's step does.
Several of them would slow down each other and the step, so there is one, and `workers` is how far ahead it is.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from sparsenet.backend import array_module
from sparsenet.data.batch import ShardedBatch, SparseBatch, join, shard_rows
from sparsenet.data.preparation import Preparation
from sparsenet.data.sample import SampleError
from sparsenet.data.samplers import BatchSampler, Sampler
from sparsenet.kernels.cpu import threads
from sparsenet.kernels.side_stream import side_stream
from sparsenet.kernels.work import Work

if TYPE_CHECKING:
    from sparsenet.data.dataset import SparseDataset
    from sparsenet.sparse import SparseTensor
    from sparsenet.sparse.plan import Step

POSES = ("random", "first", "all")


class BatchLoader:
    """Iterator over the batches of one epoch; see `SparseDataset.batches`.

    `workers` threads prepare up to workers + 1 batches in advance, which still arrive in order.  `len` is the
    number of batches from `start` on.
    """

    def __init__(self, dataset: SparseDataset, preparation: Preparation, *, batch_size: int | None, shuffle: bool,
                 sampler: Sampler | None, poses: str | None, seed: int, epoch: int, start: int, workers: int,
                 geometries: tuple[Step, ...], backward: bool, device: str,
                 shards: tuple[int, Sequence[int]] | None = None):
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
            raise ValueError("batches: a sampler sets the size and order of batches: omit batch_size and shuffle")
        if not 0 <= start <= len(sampler):
            raise ValueError(f"batches: start is {start}, expected 0 to {len(sampler)}, the batches of an epoch")
        self._length = len(sampler) - start
        if shards is not None and not all(0 <= number < shards[0] for number in shards[1]):
            raise ValueError(f"batches: shards is {shards}, expected their number and some of 0 to {shards[0] - 1}")
        maker = _BatchMaker(dataset, preparation, sampler, poses, items, seed, epoch, geometries, backward,
                            device, shards)
        self._batches = _generate(maker, range(start, len(sampler)), int(workers))

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> BatchLoader:
        return self

    def __next__(self) -> Any:
        return next(self._batches)

    def close(self) -> None:
        """Stop the workers; no further batch is returned."""
        self._batches.close()

    def __enter__(self) -> BatchLoader:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("BatchLoader: a running iteration can be neither pickled nor copied: pickle the dataset "
                        "and call its batches(...) there, with start= to continue")


class _Stopped(RuntimeError):
    """Raised inside a worker after the consumer closed the loader; never reaches the user."""


class _BatchMaker:
    def __init__(self, dataset: SparseDataset, preparation: Preparation, sampler: Sampler, poses: str, items: int,
                 seed: int, epoch: int, geometries: tuple[Step, ...], backward: bool, device: str,
                 shards: tuple[int, Sequence[int]] | None):
        self.dataset = dataset
        self.preparation = preparation
        self.sampler = sampler
        self.poses = poses
        self.items = items
        self.seed = seed
        self.epoch = epoch
        self.geometries = geometries
        self.backward = backward
        self.device = device
        self.shards = shards

    @property
    def voxelizes_there(self) -> bool:
        """Whether a GPU voxelizes all samples of a batch at once."""
        labelled = self.dataset.has_site_labels
        return self.device != "cpu" and self.preparation.from_meshes_alone and not labelled

    def make(self, index: int, stop: threading.Event) -> SparseBatch | ShardedBatch:
        """Batch `index` on its device, with its rulebooks built; only some shards of it, if there are shards."""
        begun = time.perf_counter()
        items = np.asarray(self.sampler.batch(index, self.seed, self.epoch))
        if items.size and not (0 <= items.min() and items.max() < self.items):
            raise ValueError(f"batches: the sampler returns items {items.min()} to {items.max()}, there are "
                             f"{self.items}: make it from this dataset's object_labels")
        repeats = self.sampler.repeats
        showings: list[tuple[int, ...]] = [(index, place) if repeats else () for place in range(len(items))]
        samples = [self._sample(item, showing) for item, showing in zip(items.tolist(), showings, strict=True)]
        if self.shards is None:
            return self._made(index, samples, showings, begun, stop)
        parts = {}
        for number in self.shards[1]:
            rows = shard_rows(number, self.shards[0], len(samples))
            if rows:
                own = slice(rows.start, rows.stop, rows.step)
                parts[number] = self._made(index, samples[own], showings[own], begun, stop)
            begun = time.perf_counter()
        return ShardedBatch(parts, self.dataset.labels[np.array(samples, np.int64)])

    def _made(self, index: int, samples: list[int], showings: list[tuple[int, ...]], begun: float,
              stop: threading.Event) -> SparseBatch:
        """The batch of these samples.  begun : the time at which loading began"""
        try:
            made = self._voxelized if self.voxelizes_there else self._joined
            tensor, dropped, site_labels = made(samples, showings, stop)
            sample_ids = np.array(samples, np.int64)
            batch = SparseBatch(tensor, self.dataset.labels[sample_ids], sample_ids, dropped, site_labels=site_labels)
            batch.seconds["loading"] = time.perf_counter() - begun
            _build_rulebooks(batch, self.geometries, self.backward)
        except MemoryError as error:  # CuPy's message gives the number of bytes requested
            error.add_note(f"in the loader, making batch {index} of {len(samples)} samples on {self.device}")
            raise
        return batch

    def _joined(self, samples: list[int], showings: list[tuple[int, ...]], stop: threading.Event
                ) -> tuple[SparseTensor, np.ndarray, np.ndarray | None]:
        """The input, the numbers of dropped cells (B,) and the site labels or None, prepared sample by sample."""
        cells, features, labels, dropped = [], [], [], []
        for sample, showing in zip(samples, showings, strict=True):
            if stop.is_set():
                raise _Stopped
            part, rows, own, lost = self._named(sample, self.preparation, sample, showing)
            cells.append(part)
            features.append(rows)
            labels.append(own)
            dropped.append(lost)
        tensor = join(cells, features, self.preparation.field, self.dataset.channels)
        site_labels = None
        if self.dataset.has_site_labels:
            site_labels = np.concatenate([np.zeros(0, np.int64), *labels]).astype(np.int64)[tensor.permutation]
        return tensor.to(self.device), np.array(dropped, np.int64), site_labels

    def _voxelized(self, samples: list[int], showings: list[tuple[int, ...]], stop: threading.Event
                   ) -> tuple[SparseTensor, np.ndarray, None]:
        """The same, voxelized on the GPU, all samples at once."""
        from sparsenet.kernels.voxels import MeshFault
        from sparsenet.shapes import MeshBatch
        from sparsenet.sparse import SparseTensor

        meshes = []
        for sample in samples:
            if stop.is_set():
                raise _Stopped
            meshes.append(self._named(sample, self.dataset.mesh_on_gpu, sample))
        to = self.preparation
        placements = [to.placement(sample, showing) for sample, showing in zip(samples, showings, strict=True)]
        try:
            sites, dropped = MeshBatch.joined(meshes).voxelize(to.field, to.render_size, placements, to.fill)
        except MeshFault as error:
            raise self._failed(samples[error.mesh], error.reason) from error
        ones = array_module(sites.keys).ones((len(sites), 1), np.float32)
        return SparseTensor.from_sites(ones, sites), dropped, None

    def _sample(self, item: int, showing: tuple[int, ...]) -> int:
        if self.poses == "all":
            return item
        if self.poses == "first":
            return int(self.dataset.first_poses[item])
        return self.preparation.pose(self.dataset.object_samples[item], showing)

    def _named(self, sample: int, function: Callable, *arguments: Any) -> Any:
        """The result of the function; an error that it raises is re-raised with the sample's name."""
        try:
            return function(*arguments)
        except (ValueError, TypeError, OSError, RuntimeError) as error:
            raise self._failed(sample, error) from error

    def _failed(self, sample: int, reason: object) -> RuntimeError:
        if isinstance(reason, SampleError):
            return RuntimeError(f"batches: sample {sample}: {reason}")
        name, row = str(self.dataset.names[sample]), self.dataset.rows[sample]
        return RuntimeError(f"batches: sample {sample} ({name!r}, row {row} of {self.dataset.path}): {reason}")


def _build_rulebooks(batch: SparseBatch, geometries: tuple[Step, ...], backward: bool) -> None:
    from sparsenet.sparse import prepare

    begun = time.perf_counter()
    prepare(batch.input.sites, geometries, backward)
    batch.seconds["rulebooks"] = time.perf_counter() - begun


def _generate(maker: _BatchMaker, indices: range, workers: int) -> Iterator[Any]:
    """Yield the batches in order.  A generator outside BatchLoader, so that garbage collection of a loader
    also closes this generator, whose `finally` stops the workers."""
    stop = threading.Event()
    if not workers:
        for index in indices:
            yield maker.make(index, stop)
        return
    side = side_stream(maker.device)
    side.meet()  # wait for the stream that uploaded the meshes already on the device
    pool = ThreadPoolExecutor(1 if maker.voxelizes_there else workers, thread_name_prefix="sparsenet-loader")
    waiting: deque[Future[tuple[Any, Work]]] = deque()
    unmade = iter(indices)

    def task(index: int) -> tuple[Any, Work]:
        with threads.serial(), side.work() as work:
            return maker.make(index, stop), work

    def submit(count: int) -> None:
        for _ in range(count):
            index = next(unmade, None)
            if index is not None:
                waiting.append(pool.submit(task, index))

    try:
        submit(workers + 1)
        while waiting:
            batch, work = waiting.popleft().result()
            side.deliver(work)
            submit(1)
            batches = [batch]
            del batch
            yield batches.pop()  # keep no reference here: the consumer holds the last one
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)
        side.meet()  # wait for the unused work of the workers before going on
