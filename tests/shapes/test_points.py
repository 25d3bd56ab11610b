"""Points and voxels: XYZ and binvox."""

from __future__ import annotations

import numpy as np
import pytest

from sparsenet.shapes import voxelize
from sparsenet.shapes.binvox import parse_binvox
from sparsenet.shapes.mesh import MeshError
from sparsenet.shapes.points import parse_xyz


@pytest.mark.parametrize("text", [
    "0 0 0\n1 2 3.5\n", "2\n0 0 0\n1 2 3.5\n", "0,0,0\r\n1,2,3.5", "0;0;0\n1; 2; 3.5\n",
    "# a scan\n0 0 0 # first\n\n1 2 3.5 9 9 9\n"])
def test_points_of_xyz_mark_their_cells(text):
    mesh = parse_xyz(text.encode())
    assert mesh.vertices.tolist() == [[0, 0, 0], [1, 2, 3.5]] and mesh.faces.tolist() == [[0, 0, 0], [1, 1, 1]]
    assert len(voxelize(mesh, 40, 35).coordinates) == 2


@pytest.mark.parametrize(("text", "message"), [
    ("2\nwater\nO 0 0 0\nH 1 0 0\n", "a line is '2', expected x y z"),
    ("O 0 0 0\nH 1 0 0\n", "expected a number, got 'O'"), ("1 2\n", "a line is '1 2'"),
    ("# nothing\n", "no face and no point"),
    ("0 0 nan\n", "must be finite")])
def test_what_is_wrong_in_xyz_is_said(text, message):
    with pytest.raises(MeshError, match=message):
        parse_xyz(text.encode())


def binvox(cells: np.ndarray, lines: str = "translate 1 2 3\nscale 4\n") -> bytes:
    """A file of cells (n, n, n), x y z."""
    flat = cells.transpose(0, 2, 1).ravel().astype(np.uint8)
    starts = np.flatnonzero(np.diff(flat, prepend=flat[0] ^ 1))
    runs = [(int(flat[start]), int(min(255, stop - at))) for start, stop in
            zip(starts, [*starts[1:], len(flat)], strict=True) for at in range(start, stop, 255)]
    head = f"#binvox 1\ndim {len(cells)} {len(cells)} {len(cells)}\n{lines}data\n"
    return head.encode() + bytes(np.array(runs, np.uint8))


def blob() -> np.ndarray:
    """Cells that fill 6 along x, fewer along y and z, without a cavity, and differ under any exchange of axes."""
    cells = np.zeros((12, 12, 12), bool)
    cells[1:7, 3:7, 2:4] = True
    cells[2, 3, 4] = cells[5, 6, 4:6] = True
    return cells


def test_voxels_are_read_as_the_surface_of_their_solid():
    cells = blob()
    mesh = parse_binvox(binvox(cells))
    low, high = np.argwhere(cells).min(axis=0), np.argwhere(cells).max(axis=0) + 1
    assert mesh.vertices.min(axis=0).tolist() == low.tolist() and mesh.vertices.max(axis=0).tolist() == high.tolist()
    corners = mesh.vertices[mesh.faces]
    volume = np.linalg.det(corners).sum() / 6  # positive: all squares are seen from outside
    np.testing.assert_allclose(volume, cells.sum())


def test_voxelizing_a_convex_solid_again_gives_the_same_cells():
    cells = np.square(np.indices((12, 12, 12)) - 5.5).sum(axis=0) < 25
    voxels = voxelize(parse_binvox(binvox(cells, "")), 12, 10, fill=True).coordinates
    np.testing.assert_array_equal(voxels, np.argwhere(cells))


def test_a_grid_that_is_full_to_its_border():
    assert len(parse_binvox(binvox(np.ones((3, 3, 3), bool))).faces) == 6 * 9 * 2


GRID = binvox(np.ones((8, 8, 8), bool))


@pytest.mark.parametrize(("data", "message"), [
    (b"#binvax 1\n", "does not start with '#binvox 1'"),
    (GRID.replace(b"data", b"date"), "a line 'data'"),
    (GRID.replace(b"8 8 8", b"8 8 9"), "'dim' says '8 8 9', expected three equal sides of 1 to 512"),
    (GRID.replace(b"8 8 8", b"900 900 900"), "three equal sides of 1 to 512"),
    (GRID.replace(b"8 8 8", b"500 500 500"), "runs have 512 cells, expected 125000000"),
    (GRID.replace(b"dim", b"dam"), "'dim' says ''"),
    (GRID[:-2], "runs have 510 cells, expected 512"),
    (binvox(np.zeros((2, 2, 2), bool)), "all its cells are empty"),
])
def test_what_is_wrong_in_binvox_is_said(data, message):
    with pytest.raises(MeshError, match=message):
        parse_binvox(data)


def test_a_small_file_of_very_many_squares_is_refused():
    side = 512
    rows = b"".join(bytes([value, 255, value, 255, value, 2]) for value in (1, 0)) * (side // 2)
    other = rows[6:] + rows[:6]
    data = f"#binvox 1\ndim {side} {side} {side}\ndata\n".encode() + (rows + other) * (side // 2)
    with pytest.raises(MeshError, match="squares, expected at most 4194304"):
        parse_binvox(data)
