"""Shapes as the page draws them."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from sparsenet.serve.drawing import packed_cells, packed_mesh, simplified
from sparsenet.shapes import Mesh


def unpacked(packed):
    """The cells of `packed_cells`, from the first cell of their box, one at a time."""
    bits = base64.b64decode(packed["bits"])
    sx, sy, sz = packed["size"]
    return [[x, y, z] for x in range(sx) for y in range(sy) for z in range(sz)
            for cell in [(x * sy + y) * sz + z] if bits[cell // 8] >> (7 - cell % 8) & 1]


@pytest.mark.parametrize("size", [(1, 1, 1), (3, 5, 7), (8, 2, 9)])
def test_cells_are_packed(rng, size):
    cells = np.argwhere(rng.random(size) < 0.4) if size != (1, 1, 1) else np.zeros((1, 3), int)
    packed = packed_cells(cells + 11)
    assert unpacked(packed) == (cells - cells.min(axis=0)).tolist() and packed["count"] == len(cells)


def test_no_cell_is_packed_too():
    assert packed_cells(np.zeros((0, 3), np.int32)) == {"size": [0, 0, 0], "bits": "", "count": 0}


def test_a_mesh_lies_where_its_voxels_lie():
    mesh = Mesh([[5, 6, 7], [6, 6, 7], [5, 7.5, 7]], [[0, 1, 2]])
    packed = packed_mesh(mesh, np.array([[5, 6, 7], [5, 7, 7]]))
    vertices = np.frombuffer(base64.b64decode(packed["vertices"]), "<f4").reshape(-1, 3)
    assert vertices.tolist() == [[0, 0, 0], [1, 0, 0], [0, 1.5, 0]] and not packed["simplified"]
    assert np.frombuffer(base64.b64decode(packed["faces"]), "<u4").tolist() == [0, 1, 2]


def test_a_large_mesh_is_drawn_with_fewer_triangles(rng):
    few = Mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]])
    assert simplified(few) is few
    angles = np.linspace(0, np.pi, 100), np.linspace(0, 2 * np.pi, 200, endpoint=False)
    height, around = (part.ravel() for part in np.meshgrid(*angles, indexing="ij"))
    points = np.stack([np.sin(height) * np.cos(around), np.sin(height) * np.sin(around), np.cos(height)], 1)
    row, column = (part.ravel() for part in np.meshgrid(np.arange(99), np.arange(200), indexing="ij"))
    here, right = row * 200 + column, row * 200 + (column + 1) % 200
    faces = np.concatenate([np.stack([here, here + 200, right], 1), np.stack([here + 200, right + 200, right], 1)])
    ball = Mesh(points, faces)
    small = simplified(ball, 5000)
    assert 500 < len(small.faces) <= 5000
    edges = np.sort(np.concatenate([small.faces[:, [0, 1]], small.faces[:, [1, 2]], small.faces[:, [2, 0]]]), axis=1)
    _, counts = np.unique(edges, axis=0, return_counts=True)
    assert (counts >= 2).mean() > 0.99  # it is closed, as the ball was
    np.testing.assert_allclose(np.linalg.norm(small.vertices, axis=1), 1)
    soup = Mesh(rng.random((3000, 3)), np.arange(3000).reshape(-1, 3))
    assert 0 < len(simplified(soup, 10).faces) <= 10
    flat = Mesh(np.zeros((3, 3)), np.zeros((20, 3), int))
    assert 0 < len(simplified(flat, 10).faces) <= 10
