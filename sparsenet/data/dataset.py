"""SparseDataset: labelled sparse shapes in one HDF5 file, and views of subsets of it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from sparsenet.data.holdout import SplitColumn
from sparsenet.data.import_report import counts_text
from sparsenet.data.reader import DatasetReader
from sparsenet.data.sample import Sample
from sparsenet.data.several_files import SeveralReaders, opened
from sparsenet.data.writer import write_dataset
from sparsenet.wording import counted

if TYPE_CHECKING:
    from sparsenet.data.loader import BatchLoader
    from sparsenet.data.preparation import AnyAugmentation
    from sparsenet.data.samplers import Sampler
    from sparsenet.shapes import Mesh, MeshBatch
    from sparsenet.sparse.plan import Step


class SparseDataset:
    """S samples of a dataset file, or a view of some of them.  Returned by `create`, `open`, `subset`,
    `select`, `only_classes` and `split`.

    Several samples may be poses of one object.  An epoch iterates over objects: see `batches`.

    Attributes
    ----------
    labels : (S,) int64, index into `classes`, -1 if unknown
    classes : the class names
    split, names : (S,) text; split(share, seed) holds out part of the samples, see `SplitColumn`
    object, pose : (S,) int64, numbers of the sample's object and pose
    rows : (S,) int64, the sample's row in the file
    object_samples : list of O arrays of int64, the samples of each object by pose, in order of first sample
    object_labels : (O,) int64, the label of each object's first sample
    spatial_size : (D,), the stored grid;  render_size : in cells;  fill : whether the cells are solids
    up_axis : up axis from which mesh files were rotated to z, as queries should be: "y", "z" (no rotation), or
        "auto", by format (`read_upright`)
    channels : C;  has_features : whether features are stored (otherwise one channel of ones)
    has_meshes : whether meshes are stored, so that `batches` can voxelize them again
    has_site_labels : whether the part that each cell is of is stored;  part_classes : the names of the parts
    has_face_labels : whether the meshes say it for each face, so that cells voxelized again are labelled, too
    """

    def __init__(self, reader: DatasetReader | SeveralReaders, rows: np.ndarray, classes: Sequence[str],
                 labels: np.ndarray):
        self._reader = reader
        self.rows = rows
        self.classes = list(classes)
        self.labels = labels
        self.object = reader.object[rows]
        self.pose = reader.pose[rows]
        self.spatial_size = reader.spatial_size
        self.render_size = reader.render_size
        self.fill = reader.fill
        self.up_axis = reader.up_axis
        self.channels = reader.channels
        self.has_features = reader.has_features
        self.has_meshes = reader.has_meshes
        self.part_classes = list(reader.part_classes)
        self.has_site_labels, self.has_face_labels = reader.has_site_labels, reader.has_face_labels
        self.path = reader.path

    @classmethod
    def create(cls, path: str | os.PathLike, samples: Iterable[Sample], spatial_size: Sequence[int],
               render_size: int, classes: Sequence[str], fill: bool = False,
               up_axis: str | None = None, part_classes: Sequence[str] = ()) -> SparseDataset:
        """Write samples to a file one by one, and open it.

        A temporary file is written and renamed once complete: a crash or Ctrl-C leaves the old
        file unchanged.  Only a chunk of cells and the labels are held in memory.

        Parameters
        ----------
        samples : `Sample`s, with cells in any order; either all or none have features, and likewise meshes
        spatial_size : (D,) int, the grid of the cells, D from 1 to 4
        render_size : int, cells along the longest side of a shape
        classes : names that labels index, at most 4000
        fill : whether the cells are solids, so that meshes are later voxelized in the same way
        up_axis : "y", "z" or "auto", if the shapes come from mesh files; see `SparseDataset.up_axis`
        part_classes : names that site labels index, at most 4000; all samples have site labels then, otherwise none

        Raises
        ------
        ValueError, TypeError : a sample is invalid; the message gives its number and name.
        OSError : the folder does not exist or is not writable.
        """
        write_dataset(path, samples, spatial_size, render_size, classes, fill, up_axis, part_classes=part_classes)
        return cls.open(path)

    @classmethod
    def open(cls, path: str | os.PathLike | Sequence[str | os.PathLike]) -> SparseDataset:
        """All samples of a dataset file, or of several files, one after the other.

        path : a file; or a list of files that agree in everything but their samples, or such a list as one text,
            separated as in the variable PATH, for configs: "a.h5:b.h5"

        Raises
        ------
        FileNotFoundError, ValueError : no such file; not HDF5, of another format, newer or damaged; files that do not
            fit together.
        """
        reader = opened(path)
        return cls(reader, np.arange(len(reader.labels)), reader.classes, reader.labels)

    def close(self) -> None:
        """Close the file for all its views."""
        self._reader.close()

    def __enter__(self) -> SparseDataset:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return (f"SparseDataset({str(self.path)!r}: {counted(len(self), 'sample')} of "
                f"{counted(len(self.object_samples), 'object')}, {counted(len(self.classes), 'class', 'classes')}, "
                f"spatial_size={self.spatial_size}, render_size={self.render_size}"
                f"{', with meshes' if self.has_meshes else ''})")

    def summary(self) -> str:
        """The dataset in one line, followed by sample counts by class and split."""
        names = [self.classes[label] if label >= 0 else None for label in self.labels]
        return f"{self!r}\n{counts_text(Counter(zip(names, self.split.tolist(), strict=True)), self.classes)}"

    def __getitem__(self, index: int) -> Sample:
        """Sample `index` as stored; its features are never None, its mesh is None if meshes are not stored.

        Raises IndexError outside -S to S-1, TypeError for anything but an integer.
        """
        if not isinstance(index, int | np.integer):
            raise TypeError(f"SparseDataset: index is {index!r}, expected an integer: dataset.select(indices) gives "
                            "several samples as a view")
        if not -len(self) <= index < len(self):
            raise IndexError(f"SparseDataset: index is {index}, there are {len(self)} samples")
        row = int(self.rows[index])
        coordinates, features = self.voxels(index)
        return Sample(coordinates, int(self.labels[index]), str(self._reader.names[row]),
                      str(self._reader.split[row]), int(self.object[index]), int(self.pose[index]), features,
                      self._reader.mesh(row), self._reader.site_labels(row))

    def voxels(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Stored cells (n, D) int32, sorted, and features (n, C) float32 of one sample."""
        row = int(self.rows[index])
        coordinates = self._reader.coordinates(row)
        features = self._reader.features(row)
        return coordinates, np.ones((len(coordinates), 1), np.float32) if features is None else features

    def site_labels(self, index: int) -> np.ndarray | None:
        """(n,) int64, the part that each stored cell of one sample is of, an index into `part_classes`, -1 if it is
        unknown; None if none are stored."""
        return self._reader.site_labels(int(self.rows[index]))

    def mesh(self, index: int) -> Mesh | None:
        """The mesh of one sample, or None if meshes are not stored."""
        return self._reader.mesh(int(self.rows[index]))

    def kept_mesh(self, index: int) -> Mesh:
        """The mesh of one sample, cached in memory (up to 256 MB per file); do not write to its arrays."""
        return self._reader.kept_meshes[int(self.rows[index])]

    def mesh_on_gpu(self, index: int) -> MeshBatch:
        """The mesh of one sample as a batch of one on the GPU, cached there (up to 1 GiB per file); do not write
        to its arrays."""
        return self._reader.kept_on_gpu[int(self.rows[index])]

    @property
    def digest(self) -> str:
        """sha256 that identifies the dataset file: over names, labels, classes, splits, poses and cell counts of
        the whole file, but not over the cells."""
        return self._reader.digest

    @property
    def names(self) -> np.ndarray:
        return self._reader.names[self.rows]

    @property
    def split(self) -> SplitColumn:
        """(S,) text, the split of each sample; callable: `split(share, seed)` holds out part of the dataset."""
        return SplitColumn(self)

    @cached_property
    def object_samples(self) -> list[np.ndarray]:
        _, first, inverse = np.unique(self.object, return_index=True, return_inverse=True)
        rank = np.empty(len(first), np.int64)
        rank[np.argsort(first)] = np.arange(len(first))  # objects in order of their first sample
        number = rank[inverse]
        order = np.lexsort((self.pose, number))
        return np.split(order, np.cumsum(np.bincount(number))[:-1]) if len(order) else []

    @cached_property
    def object_labels(self) -> np.ndarray:
        return self.labels[self.first_poses]

    @cached_property
    def first_poses(self) -> np.ndarray:
        """(O,) int64: the sample of each object with the lowest pose."""
        return np.array([samples[0] for samples in self.object_samples], np.int64)

    def subset(self, which: str | Sequence[int] | np.ndarray) -> SparseDataset:
        """A view of the samples of a split, given its name, or of those selected by indices or a mask.

        Raises
        ------
        ValueError : the split has no sample; the message lists the existing splits.
        """
        if not isinstance(which, str):
            return self.select(which)
        chosen = np.flatnonzero(self.split == which)
        if not chosen.size:
            there = ", ".join(map(repr, sorted(set(self.split.tolist())))) or "none"
            raise ValueError(f"SparseDataset.subset: split {which!r} has no sample in {self.path}: there is {there}")
        return self.select(chosen)

    def select(self, indices: Sequence[int] | np.ndarray) -> SparseDataset:
        """A view of the samples at `indices` (k,) int, in that order, or of those where a mask (S,) bool is true.

        Raises
        ------
        IndexError, TypeError : an index outside 0 to S-1, a mask of another length, or not integers.
        ValueError : an index occurs twice.
        """
        indices = np.asarray(indices)
        if indices.dtype == bool:
            if indices.shape != (len(self),):
                raise IndexError(f"SparseDataset.select: the mask has shape {indices.shape}, expected ({len(self)},)")
            indices = np.flatnonzero(indices)
        if not indices.size:
            indices = np.zeros(0, np.int64)
        if indices.ndim != 1 or indices.dtype.kind not in "iu":
            raise TypeError(f"SparseDataset.select: indices are {indices.dtype} {indices.shape}, expected (k,) "
                            "integers")
        if indices.size and not (0 <= indices.min() and indices.max() < len(self)):
            raise IndexError(f"SparseDataset.select: indices go from {indices.min()} to {indices.max()}, expected "
                             f"0 to {len(self) - 1}")
        if len(np.unique(indices)) != len(indices):
            raise ValueError("SparseDataset.select: an index occurs twice: give each once")
        return SparseDataset(self._reader, self.rows[indices], self.classes, self.labels[indices])

    def only_classes(self, names: Sequence[str]) -> SparseDataset:
        """A view of the samples of these classes, labelled 0, 1, ... in the order of `names`.

        Raises ValueError if a name is not a class or occurs twice.
        """
        unknown = [name for name in names if name not in self.classes]
        if unknown or len(set(names)) != len(names):
            raise ValueError(f"SparseDataset.only_classes: {unknown or list(names)}: expected distinct names "
                             "from .classes")
        new_label = np.full(len(self.classes) + 1, -1)  # label -1 indexes the last entry
        new_label[[self.classes.index(name) for name in names]] = np.arange(len(names))
        labels = new_label[self.labels]
        chosen = np.flatnonzero(labels >= 0)
        return SparseDataset(self._reader, self.rows[chosen], names, labels[chosen])

    def shared_classes(self, *splits: str) -> list[str]:
        """Names of the classes that have samples in every one of the splits, in the order of `classes`."""
        held = [set(self.subset(split).labels.tolist()) for split in splits]
        return [name for label, name in enumerate(self.classes) if all(label in labels for labels in held)]

    def batches(self, batch_size: int | None = None, shuffle: bool = False,
                augment: AnyAugmentation | None = None, seed: int = 0, workers: int = 0, epoch: int = 0,
                field: int | Sequence[int] | None = None, geometries: Iterable[Step] = (),
                render_size: int | None = None, start: int = 0, sampler: Sampler | None = None,
                device: str = "cpu", poses: str | None = None, fill: bool | None = None,
                backward: bool = False, shards: tuple[int, Sequence[int]] | None = None) -> BatchLoader:
        """One epoch: an iterator of `SparseBatch` with a length.  Its bits do not depend on `workers`.

        If site labels are stored, a batch has those of its cells, moved and dropped with them; see `SparseBatch`.

        Close the iterator (`.close()`, or `with dataset.batches(...) as batches:`) to stop early;
        garbage collection also stops it.

        Parameters
        ----------
        batch_size : objects in a batch; the last batch may be smaller.  None with a `sampler`
        shuffle : use an order drawn by (seed, epoch) instead of the order of the samples
        augment : `Augmentation` (voxelizes the stored meshes again; without meshes it may
            only shift, by whole cells, turn by quarters and mirror) or `VoxelAugmentation`; drawn by (seed, epoch,
            sample)
        workers : threads that prepare the next batches; 0: the calling thread prepares them.  Where a GPU voxelizes,
            one thread prepares that many batches in advance
        field : side or sides (D,) of the grid in which each sample is centred; cells outside
            it are dropped and counted (`SparseBatch.dropped`).  Default: as stored
        geometries : `net.geometries()`; their rulebooks are built in advance
        backward : also build the parts of the rulebooks that the backward pass needs
        render_size : voxelize the stored meshes at this size
        start : index of the first batch, to resume within an epoch
        sampler : chooses the objects of each batch, such as `TripletSampler`; excludes
            `batch_size` and `shuffle`
        device : device of the batches.  On "cuda" meshes are voxelized there, one batch at a time, to the same
            cells; with workers, batches are prepared on a side stream while the stream that is current when the
            iteration begins trains
        poses : "random": one pose per object, drawn by (seed, epoch, object); "first": its lowest
            pose; "all": every sample is an item.  Default: "random" if shuffled or sampled, else
            "first"
        fill : voxelize the stored meshes as solids (or as surfaces); default: as stored
        shards : how many shards each batch is cut into, and the numbers of those to prepare: then each batch is a
            `ShardedBatch`, whose shard i has the samples i, i + shards, i + 2 * shards, ... of the batch, prepared as
            without shards

        Raises
        ------
        ValueError : the dataset does not support the request, such as a rotation without meshes.
        RuntimeError : while iterating, a sample could not be prepared; the message names it.
        """
        from sparsenet.data.loader import BatchLoader
        from sparsenet.data.preparation import Preparation

        self._reader.check_open()
        preparation = Preparation(self, augment=augment, field=field, render_size=render_size, fill=fill,
                                  seed=seed, epoch=epoch)
        return BatchLoader(self, preparation, batch_size=batch_size, shuffle=shuffle, sampler=sampler, poses=poses,
                           seed=seed, epoch=epoch, start=start, workers=workers, geometries=tuple(geometries),
                           backward=backward, device=device, shards=shards)

    def __reduce__(self) -> Any:
        return _reopen, (self.path, self.digest, self.rows, self.classes, self.labels)


def _reopen(path: Any, digest: str, rows: np.ndarray, classes: Sequence[str], labels: np.ndarray) -> SparseDataset:
    """Restore a pickled or copied dataset: the same view of the file, which is opened again."""
    reader = opened(path)
    if reader.digest != digest:
        reader.close()
        raise ValueError(f"SparseDataset: {path} is not the dataset that was pickled or copied: its sha256 differs")
    return SparseDataset(reader, rows, classes, labels)
