"""Point clouds: text with one point a line (XYZ), or an array of NumPy (NPY)."""

from __future__ import annotations

import io

import numpy as np

from sparsenet.shapes.mesh import Mesh, MeshError, points_as_mesh
from sparsenet.shapes.npy import read_header
from sparsenet.shapes.text import excerpt, is_count, numbers


def parse_xyz(data: bytes) -> Mesh:
    """The points of an XYZ file, x y z at the start of each line, each as a degenerate triangle.

    The numbers are separated by blanks, commas or semicolons; anything after the third (normals, colours)
    is ignored, and so are comments (#) and a first line with the number of points.

    Raises
    ------
    MeshError : a line does not start with three numbers, or there is no point.
    """
    rows = [words for line in data.replace(b",", b" ").replace(b";", b" ").splitlines()
            if (words := line.split(b"#", 1)[0].split())]
    if rows and len(rows[0]) == 1 and is_count(rows[0][0]) and int(rows[0][0]) == len(rows) - 1:
        del rows[0]
    short = next((words for words in rows if len(words) < 3), None)
    if short is not None:
        raise MeshError(f"a line is {excerpt(short)}, expected x y z")
    return points_as_mesh(numbers([word for words in rows for word in words[:3]]).reshape(-1, 3))


def parse_npy(data: bytes) -> Mesh:
    """The points of an array (n, 3) or wider, x y z in the first three columns, each as a degenerate triangle.

    Raises
    ------
    MeshError : another shape, no real numbers, or fewer bytes than the header declares.
    """
    file = io.BytesIO(data)
    shape, fortran, dtype = read_header(file)
    if len(shape) != 2 or shape[1] < 3:
        raise MeshError(f"it is an array of shape {shape}, expected (n, 3): a row x y z for each point")
    size = shape[0] * shape[1]
    if size * dtype.itemsize > len(data) - file.tell():
        raise MeshError(f"its header declares an array of shape {shape}, more than its {len(data)} bytes can hold")
    rows = np.frombuffer(data, dtype, size, file.tell()).reshape(shape, order="F" if fortran else "C")
    return points_as_mesh(rows[:, :3].astype(np.float64))
