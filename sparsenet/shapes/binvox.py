"""binvox: a run-length encoded voxel grid, read as the surface of its solid.

    #binvox 1
    dim 32 32 32            cells along x, z and y
    translate -1 -1 -1      position and size of the grid; optional, ignored: the side of a cell is 1 here,
    scale 2                 since integers are placed in other grids exactly
    data
    pairs of a value and a count (one byte each), y fastest, then z, then x; 0 is empty

Source: P. Min, 'binvox', https://www.patrickmin.com/binvox/binvox.html
"""

from __future__ import annotations

import re

import numpy as np

from sparsenet.shapes.mesh import Mesh, MeshError
from sparsenet.shapes.text import excerpt, is_count

MAX_SIDE = 512
MAX_SQUARES = 2**22  # a smooth solid that fills 512^3 has less than half as many
_HEADER = re.compile(rb"#binvox [12][ \t\r]*\n(.*?)^data[ \t\r]*\n", re.DOTALL | re.MULTILINE)
# For each axis, the corners of a cell's square facing along the axis, counter-clockwise seen from there
_SQUARES = np.array([[[1, 0, 0], [1, 1, 0], [1, 1, 1], [1, 0, 1]], [[0, 1, 0], [0, 1, 1], [1, 1, 1], [1, 1, 0]],
                     [[0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]]])


def parse_binvox(data: bytes) -> Mesh:
    """The squares between full and empty cells, as two triangles each.

    Voxelized with the number of cells along its longest side, and filled, a convex solid gives the same
    cells again; in concavities the surface may touch one more layer of cells.

    Raises
    ------
    MeshError : an unknown header, sides that differ or exceed 512, runs that do not fill the grid, no full
        cell, or more than 2^22 squares.
    """
    header = _HEADER.match(data)
    if header is None:
        raise MeshError("it does not start with '#binvox 1' and have a line 'data' after the sides of the grid")
    side = _side(header[1])
    runs = np.frombuffer(data, np.uint8, (len(data) - header.end()) // 2 * 2, header.end()).reshape(-1, 2)
    cells = int(runs[:, 1].sum(dtype=np.int64))
    if cells != side**3:
        raise MeshError(f"its runs have {cells} cells, expected {side**3} for {side} along each side")
    full = np.repeat(runs[:, 0] > 0, runs[:, 1]).reshape(side, side, side).transpose(0, 2, 1)
    if not full.any():
        raise MeshError("all its cells are empty")
    squares = _surface(full)
    keys, faces = np.unique(squares @ ((side + 1)**np.arange(3)), return_inverse=True)
    faces = faces.reshape(-1, 4)
    vertices = np.stack([keys // (side + 1)**axis % (side + 1) for axis in range(3)], axis=1)
    return Mesh(vertices, np.concatenate([faces[:, [0, 1, 2]], faces[:, [0, 2, 3]]]))


def _side(header: bytes) -> int:
    """The number of cells along each side of the grid."""
    words = next((words[1:] for line in header.splitlines() if (words := line.split())[:1] == [b"dim"]), [])
    if len(words) != 3 or not all(map(is_count, words)) or len({int(word) for word in words}) != 1 \
            or not 1 <= int(words[0]) <= MAX_SIDE:
        raise MeshError(f"its line 'dim' says {excerpt(words)}, expected three equal sides of 1 to {MAX_SIDE}")
    return int(words[0])


def _surface(full: np.ndarray) -> np.ndarray:
    """(4 n, 3) corners of the squares between full and empty cells, counter-clockwise seen from outside."""
    padded = np.pad(full, 1)
    steps = [np.diff(padded.view(np.int8), axis=axis) for axis in range(3)]  # 1: the full cell is the later one
    count = sum(int(np.count_nonzero(step)) for step in steps)
    if count > MAX_SQUARES:
        raise MeshError(f"its surface has {count} squares, expected at most {MAX_SQUARES}: use fewer cells")
    corners = []
    for axis, step in enumerate(steps):
        for sign, order in ((-1, [0, 1, 2, 3]), (1, [3, 2, 1, 0])):
            cells = np.argwhere(step == sign) - 1  # minus the padding; along `axis` squares lie between cells
            corners.append((cells[:, None] + _SQUARES[axis][order]).reshape(-1, 3))
    return np.concatenate(corners)
