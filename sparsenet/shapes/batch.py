"""MeshBatch: several meshes in two arrays, on any device, voxelized together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sparsenet.backend import array_module, device_of, to_device
from sparsenet.kernels import launch
from sparsenet.shapes.mesh import Mesh
from sparsenet.shapes.voxelization import grid_of
from sparsenet.sparse import ActiveSites


class MeshBatch:
    """Concatenated meshes.

    vertices (V, 3) float64     mesh 0 ... | mesh 1 ... |     split at vertex_splits (S+1,) int64
    faces (F, 3) int32          mesh 0 ... | mesh 1 ... |     split at face_splits, indices within their mesh

    The meshes of a whole data set may stay on a GPU, and batches are `select`ed from them.

    Parameters
    ----------
    meshes : S meshes; unused vertices are removed
    """

    def __init__(self, meshes: Sequence[Mesh]):
        meshes = [mesh.without_unused_vertices() for mesh in meshes]
        self.vertices = np.concatenate([np.zeros((0, 3)), *(mesh.vertices for mesh in meshes)])
        self.faces = np.concatenate([np.zeros((0, 3), np.int32), *(mesh.faces for mesh in meshes)])
        self.vertex_splits = _splits([len(mesh.vertices) for mesh in meshes])
        self.face_splits = _splits([len(mesh.faces) for mesh in meshes])

    @classmethod
    def joined(cls, batches: Sequence[MeshBatch]) -> MeshBatch:
        """One or more batches, concatenated; all must be on one device."""
        xp = array_module(*(batch.vertices for batch in batches))
        return cls._of(xp.concatenate([batch.vertices for batch in batches]),
                       _splits([n for batch in batches for n in np.diff(batch.vertex_splits)]),
                       xp.concatenate([batch.faces for batch in batches]),
                       _splits([n for batch in batches for n in np.diff(batch.face_splits)]))

    @property
    def nbytes(self) -> int:
        return self.vertices.nbytes + self.faces.nbytes

    @classmethod
    def _of(cls, vertices: Any, vertex_splits: np.ndarray, faces: Any, face_splits: np.ndarray) -> MeshBatch:
        batch = cls.__new__(cls)
        batch.vertices, batch.faces = vertices, faces
        batch.vertex_splits, batch.face_splits = vertex_splits, face_splits  # small, so on the host
        return batch

    def __len__(self) -> int:
        return len(self.vertex_splits) - 1

    @property
    def device(self) -> str:
        return device_of(self.vertices)

    def to(self, device: str) -> MeshBatch:
        """The batch on `device` ("cpu" or "cuda"); itself if it is already there."""
        if device == self.device:
            return self
        return MeshBatch._of(to_device(self.vertices, device), self.vertex_splits, to_device(self.faces, device),
                             self.face_splits)

    def select(self, rows: Sequence[int]) -> MeshBatch:
        """The meshes with these numbers, in that order, repetitions included; on the same device."""
        xp = array_module(self.vertices)
        parts = []
        for array, splits in ((self.vertices, self.vertex_splits), (self.faces, self.face_splits)):
            runs = [(splits[row], splits[row + 1]) for row in rows]
            parts += [xp.concatenate([array[start:stop] for start, stop in runs] or [array[:0]]),
                      _splits([stop - start for start, stop in runs])]
        return MeshBatch._of(*parts)

    def voxelize(self, spatial_size: int | Sequence[int], render_size: int,
                 placements: Sequence[tuple | None] | None = None, fill: bool = False) -> tuple[ActiveSites, Any]:
        """The cells that the meshes intersect, mesh s in grid s, equal to `voxelize` of each mesh.

        A GPU does all the work; the host waits for it once, for the numbers of cells.

        Parameters
        ----------
        spatial_size : the grid's sides in cells, one number or three
        render_size : cells along the longest side of each mesh's bounding box
        placements : for each mesh (rotation, affine, shift) as returned by `Augmentation.draw`; each of the
            three, or the tuple, may be None
        fill : add the cells enclosed by each surface

        Returns
        -------
        ActiveSites of S grids, and the number of cells of each mesh outside its grid: (S,) int64, NumPy

        Raises
        ------
        MeshFault : a ValueError that names the mesh; see `voxelize`.  On a GPU also for an affine map that could
            stretch a mesh over more than 2800 cells.
        """
        size = grid_of(spatial_size)
        numbers = pack_placements([None] * len(self) if placements is None else placements)
        splits = [to_device(array, self.device) for array in (self.vertex_splits, self.face_splits)]
        keys, dropped = launch("voxelize_meshes", self.vertices, splits[0], self.faces, splits[1], numbers, size,
                               render_size, fill)
        return ActiveSites.from_keys(keys, size, len(self)), dropped

    def __repr__(self) -> str:
        return f"MeshBatch({len(self)} meshes, {len(self.vertices)} vertices, {len(self.faces)} faces, {self.device})"


def pack_placements(placements: Sequence[tuple | None]) -> np.ndarray:
    """(S, 21) float64: rotation and affine map in row-major order, and shift; None is the identity or zero."""
    rows = np.empty((len(placements), 21))
    for row, placement in zip(rows, placements, strict=True):
        rotation, affine, shift = placement or (None, None, None)
        row[:9] = np.eye(3).ravel() if rotation is None else np.asarray(rotation, np.float64).reshape(9)
        row[9:18] = np.eye(3).ravel() if affine is None else np.asarray(affine, np.float64).reshape(9)
        row[18:] = 0 if shift is None else np.asarray(shift, np.float64).reshape(3)
    return rows


def _splits(lengths: list[int]) -> np.ndarray:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
