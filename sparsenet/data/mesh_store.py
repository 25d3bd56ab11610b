"""A cache of the meshes of a dataset file, kept between epochs within a memory limit.

Decompressing a mesh takes about as long as voxelizing it on a CPU, and uploading it to a GPU takes longer than
voxelizing it there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import numpy as np

MAX_BYTES = {"cpu": 1 << 28, "cuda": 1 << 30}  # cached per device; the rest is read on each use


class _Arrays(Protocol):
    vertices: np.ndarray
    faces: np.ndarray


T = TypeVar("T", bound=_Arrays)  # Mesh on a CPU, MeshBatch of one on a GPU


class MeshStore(Generic[T]):
    """The meshes of a file by row, each read once if it fits in the cache.  Thread-safe.

    The first meshes stay and are never replaced: an epoch uses every mesh once, in random order, so none is
    worth more than another.

    read : row -> its mesh
    share : a mesh just read -> a function that returns it to any thread, on a GPU to any stream
    """

    def __init__(self, read: Callable[[int], T], max_bytes: int,
                 share: Callable[[T], Callable[[], T]] = lambda mesh: lambda: mesh):
        self.read, self.max_bytes, self.share = read, max_bytes, share
        self.kept_bytes = 0
        self._kept: dict[int, Callable[[], T]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, row: int) -> T:
        kept = self._kept.get(row)
        if kept is not None:
            return kept()
        mesh = self.read(row)
        size = mesh.vertices.nbytes + mesh.faces.nbytes
        with self._lock:
            if row not in self._kept and self.kept_bytes + size <= self.max_bytes:
                self._kept[row] = self.share(mesh)
                self.kept_bytes += size
        return mesh
