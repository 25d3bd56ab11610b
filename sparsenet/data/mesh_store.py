"""Meshes of a dataset file that are kept from epoch to epoch, as far as they fit.

Reading is worth saving twice: unpacking a mesh from the file takes about as long as voxelizing it on a CPU, and
sending it to a GPU longer than voxelizing it there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import numpy as np

MOST_BYTES = {"cpu": 1 << 28, "cuda": 1 << 30}  # kept, by device; the rest is read each time it is asked for


class _Arrays(Protocol):
    vertices: np.ndarray
    faces: np.ndarray


T = TypeVar("T", bound=_Arrays)  # Mesh on a CPU, MeshBatch of one on a GPU


class MeshStore(Generic[T]):
    """The meshes of the rows of a file, each read once if there is room to keep it.

    What came first is kept and never replaced: an epoch asks for every mesh once, in an order of its own, so
    that none is a better guess than another.  Any thread may ask.

    read : row -> its mesh
    share : mesh that was just read -> a function that returns it to any thread, on a GPU to any stream
    """

    def __init__(self, read: Callable[[int], T], most_bytes: int,
                 share: Callable[[T], Callable[[], T]] = lambda mesh: lambda: mesh):
        self.read, self.most_bytes, self.share = read, most_bytes, share
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
            if row not in self._kept and self.kept_bytes + size <= self.most_bytes:
                self._kept[row] = self.share(mesh)
                self.kept_bytes += size
        return mesh
