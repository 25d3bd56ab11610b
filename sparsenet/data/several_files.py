"""Several dataset files that are read as one."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sparsenet.data.reader import DatasetReader
from sparsenet.files import arrays_digest

SHARED = ("spatial_size", "render_size", "fill", "up_axis", "classes", "part_classes", "has_features", "has_meshes",
          "has_site_labels", "has_face_labels", "channels")


def dataset_paths(path: str | os.PathLike | Sequence[str | os.PathLike]) -> list[Path]:
    """The files that a path stands for: itself, or, if there is no such file, those that are separated in it as in
    the variable PATH (by ":", on Windows by ";"); or those of a list."""
    if isinstance(path, str | os.PathLike):
        whole = os.fspath(path)
        several = [] if os.path.exists(whole) else [name for name in whole.split(os.pathsep) if name]
        return list(map(Path, several if len(several) > 1 else [whole]))
    return list(map(Path, path))


def opened(path: str | os.PathLike | Sequence[str | os.PathLike]) -> Any:
    """The reader of a dataset file, or of several."""
    paths = dataset_paths(path)
    if not paths:
        raise ValueError("SparseDataset.open: the list of files is empty: name one or more")
    return DatasetReader(paths[0]) if len(paths) == 1 else SeveralReaders(paths)


class SeveralReaders:
    """The samples of several files, one file after the other; the interface of DatasetReader.

    The objects of the files are different ones.  All of `SHARED` must be equal.

    Raises ValueError, FileNotFoundError as DatasetReader does, and if the files do not fit together.
    """

    spatial_size: tuple[int, ...]
    render_size: int
    fill: bool
    up_axis: str
    classes: list[str]
    part_classes: list[str]
    has_features: bool
    has_meshes: bool
    has_site_labels: bool
    has_face_labels: bool
    channels: int
    labels: np.ndarray
    split: np.ndarray
    names: np.ndarray
    pose: np.ndarray

    def __init__(self, paths: Sequence[Path]):
        self.path = Path(os.pathsep.join(map(str, paths)))
        self._readers: list[DatasetReader] = []
        try:
            for path in paths:
                self._readers.append(DatasetReader(path))
            self._check()
        except BaseException:
            self.close()
            raise
        first = self._readers[0]
        for name in SHARED:
            setattr(self, name, getattr(first, name))
        for name in ("labels", "split", "names", "pose"):
            setattr(self, name, np.concatenate([getattr(reader, name) for reader in self._readers]))
        objects, number = [], 0
        for reader in self._readers:
            objects.append(reader.object + number)
            number += int(reader.object.max(initial=-1)) + 1
        self.object = np.concatenate(objects)
        self._starts = np.cumsum([0, *(len(reader.labels) for reader in self._readers)]).tolist()

    def _check(self) -> None:
        first = self._readers[0]
        for place, reader in enumerate(self._readers):
            if any(reader.path.samefile(other.path) for other in self._readers[:place]):
                raise ValueError(f"SparseDataset.open: {reader.path} is named twice: name each file once")
            for name in SHARED:
                own, other = getattr(reader, name), getattr(first, name)
                if own != other:
                    raise ValueError(f"SparseDataset.open: the {name} of {reader.path} is {own}, that of {first.path} "
                                     f"{other}: files that are opened as one must agree: make them with the same "
                                     "settings and classes")

    def _of(self, row: int) -> tuple[DatasetReader, int]:
        """The file that a row is in, and its row there."""
        place = bisect_right(self._starts, row) - 1
        return self._readers[place], row - self._starts[place]

    @cached_property
    def digest(self) -> str:
        """sha256 over those of the files, in their order."""
        return arrays_digest({str(place): np.array(reader.digest) for place, reader in enumerate(self._readers)})

    def coordinates(self, row: int) -> np.ndarray:
        reader, own = self._of(row)
        return reader.coordinates(own)

    def features(self, row: int) -> np.ndarray | None:
        reader, own = self._of(row)
        return reader.features(own)

    def site_labels(self, row: int) -> np.ndarray | None:
        reader, own = self._of(row)
        return reader.site_labels(own)

    def mesh(self, row: int) -> Any:
        reader, own = self._of(row)
        return reader.mesh(own)

    @property
    def kept_meshes(self) -> _Kept:
        return _Kept(self, "kept_meshes")

    @property
    def kept_on_gpu(self) -> _Kept:
        return _Kept(self, "kept_on_gpu")

    def check_open(self) -> None:
        for reader in self._readers:
            reader.check_open()

    def close(self) -> None:
        for reader in self._readers:
            reader.close()


class _Kept:
    """The meshes that the readers keep, by row of all files together."""

    def __init__(self, readers: SeveralReaders, name: str):
        self._readers, self._name = readers, name

    def __getitem__(self, row: int) -> Any:
        reader, own = self._readers._of(row)
        return getattr(reader, self._name)[own]
