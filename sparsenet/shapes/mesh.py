"""A triangle mesh: two validated arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparsenet.wording import counted


class MeshError(ValueError):
    """A mesh or a mesh file cannot be used; the message is one line and says why."""


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles with shared vertices, validated by the constructor.

    Parameters
    ----------
    vertices : (V, 3) float64, finite, in any unit (other dtypes are converted)
    faces : (F, 3) int32, F >= 1, indices into `vertices` (other integer dtypes are converted)
    face_labels : (F,) int32, the part of the shape that each face is of, at least 0, or -1 if it is unknown (other
        integer dtypes are converted); None: the parts are unknown

    Raises
    ------
    MeshError : no face, a shape other than (n, 3), an index or label out of range, NaN or infinity.
    """

    vertices: np.ndarray
    faces: np.ndarray
    face_labels: np.ndarray | None = None

    def __post_init__(self) -> None:
        vertices = np.ascontiguousarray(self.vertices, dtype=np.float64)
        faces = np.asarray(self.faces)
        if vertices.ndim != 2 or vertices.shape[1] != 3:
            raise MeshError(f"vertices have shape {vertices.shape}, expected (V, 3)")
        if not faces.size:
            raise MeshError(f"it has {counted(len(vertices), 'vertex', 'vertices')} and no face: only a surface can be "
                            "voxelized")
        if faces.ndim != 2 or faces.shape[1] != 3:
            raise MeshError(f"faces have shape {faces.shape}, expected (F, 3): triangulate them first")
        if faces.dtype.kind not in "iu":
            raise MeshError(f"faces are {faces.dtype}, expected integers")
        low, high = int(faces.min()), int(faces.max())
        if low < 0 or high >= len(vertices):
            raise MeshError(f"a face refers to vertex {low if low < 0 else high}, "
                            f"there are {len(vertices)} (counted from 0)")
        if not np.isfinite(vertices).all():
            row = int(np.flatnonzero(~np.isfinite(vertices).all(axis=1))[0])
            raise MeshError(f"vertex {row} is {vertices[row].tolist()}: every vertex must be finite")
        object.__setattr__(self, "vertices", vertices)
        object.__setattr__(self, "faces", np.ascontiguousarray(faces, dtype=np.int32))
        if self.face_labels is not None:
            object.__setattr__(self, "face_labels", self._checked_labels(np.asarray(self.face_labels)))

    def _checked_labels(self, labels: np.ndarray) -> np.ndarray:
        if labels.shape != (len(self.faces),) or labels.dtype.kind not in "iu":
            raise MeshError(f"face_labels are {labels.dtype} of shape {labels.shape}, expected ({len(self.faces)},) "
                            "integers, one for each face")
        low, high = int(labels.min()), int(labels.max())
        if low < -1 or high >= 2**31:
            raise MeshError(f"a face has the label {low if low < -1 else high}, expected 0 or more, or -1")
        return np.ascontiguousarray(labels, dtype=np.int32)

    def without_unused_vertices(self) -> Mesh:
        """The mesh without the vertices that no face uses; itself if all are used."""
        used = np.zeros(len(self.vertices), dtype=bool)
        used[self.faces.ravel()] = True
        if used.all():
            return self
        new_row = np.cumsum(used, dtype=np.int32) - np.int32(1)
        return Mesh(self.vertices[used], new_row[self.faces], self.face_labels)

    def upright(self, up_axis: str) -> Mesh:
        """The mesh rotated so that z is up, as in ModelNet and the Princeton Shape Benchmark.

        Parameters
        ----------
        up_axis : "y" (exact rotation by 90 degrees about x: y becomes z and z becomes -y) or "z" (itself)

        Raises
        ------
        ValueError : another axis.
        """
        if up_axis not in ("y", "z"):
            raise ValueError(f"Mesh.upright: up_axis is {up_axis!r}, expected 'y' or 'z'")
        if up_axis == "z":
            return self
        x, y, z = self.vertices.T
        return Mesh(np.stack([x, 0.0 - z, y], axis=1), self.faces, self.face_labels)  # 0 - z avoids negative zeros


def points_as_mesh(points: np.ndarray) -> Mesh:
    """A point cloud (V, 3) as a mesh: one degenerate triangle for each point, which marks its cell.

    Raises
    ------
    MeshError : no point, or see `Mesh`.
    """
    if not len(points):
        raise MeshError("it has no face and no point")
    return Mesh(points, np.repeat(np.arange(len(points)), 3).reshape(-1, 3))


def merge(meshes: list[Mesh]) -> Mesh:
    """One mesh with the triangles of all, in order; with face labels if all have them."""
    if len(meshes) == 1:
        return meshes[0]
    starts = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes[:-1]])
    return Mesh(np.concatenate([mesh.vertices for mesh in meshes]),
                np.concatenate([mesh.faces + start for mesh, start in zip(meshes, starts, strict=True)]),
                None if any(mesh.face_labels is None for mesh in meshes)
                else np.concatenate([mesh.face_labels for mesh in meshes]))
