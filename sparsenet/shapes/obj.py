"""OBJ, the text format of Wavefront: its vertices and faces; everything else is ignored.

    v x y z             a vertex; a weight or a colour may follow
    f i j k ...         a face: vertices counted from 1, or backwards from the latest, -1; each may be followed
                        by a texture coordinate and a normal, i/t/n
"""

from __future__ import annotations

import re

import numpy as np

from sparsenet.shapes.mesh import Mesh, MeshError
from sparsenet.shapes.polygons import mesh_of_polygons
from sparsenet.shapes.text import excerpt, indices, numbers

_CONTINUED = re.compile(rb"\\[ \t]*(?:\r\n|\r|\n)")
_TEXTURE_AND_NORMAL = re.compile(rb"(?<=\d)/\S*")


def parse_obj(data: bytes) -> Mesh:
    """The mesh of an OBJ file, with all its objects and groups.

    Raises
    ------
    MeshError : no face, a vertex that is not three numbers, a face with an unknown vertex, or see
        `mesh_of_polygons`.
    """
    vertices, faces, seen = [], [], []  # seen: number of vertices before each face
    for line in _CONTINUED.sub(b" ", data).splitlines():
        words = line.split(b"#", 1)[0].split()
        if not words:
            continue
        if words[0] == b"v":
            if len(words) < 4:
                raise MeshError(f"a vertex is {excerpt(words)}, expected v and three numbers")
            vertices += words[1:4]
        elif words[0] == b"f":
            faces.append(words[1:])
            seen.append(len(vertices) // 3)
    coordinates = numbers(vertices).reshape(-1, 3)
    sizes = np.array(list(map(len, faces)), np.int64)
    return mesh_of_polygons(coordinates, _corners(faces, np.repeat(seen, sizes), len(coordinates)), sizes)


def _corners(faces: list[list[bytes]], seen: np.ndarray, vertex_count: int) -> np.ndarray:
    """(C,) vertex indices, from 0, of the corners of all faces."""
    words = [word for face in faces for word in face]
    given = indices(numbers(_TEXTURE_AND_NORMAL.sub(b"", b" ".join(words)).split()))
    rows = np.where(given < 0, seen.astype(np.int64) + given, given - 1)
    wrong = np.flatnonzero((given == 0) | (rows < 0) | (rows >= vertex_count))
    if len(wrong):
        row = wrong[0]
        there = f"there are {vertex_count}" if given[row] > 0 else f"{seen[row]} are before it"
        raise MeshError(f"a face refers to vertex {given[row]}, {there} (OBJ counts from 1, or back from -1)")
    return rows
