"""The faces that are drawn are the ones that can be seen."""

from __future__ import annotations

import numpy as np
import pytest

from sparsenet.inspect.voxels import draw_voxels, exposed_faces


def areas(corners, normals):
    """Signed area of each quad along its normal."""
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 1])
    return np.einsum("fc,fc->f", across, normals)


def test_one_cell_has_its_six_faces():
    corners, normals = exposed_faces([[4, 5, 6]])
    assert corners.shape == (6, 4, 3) and normals.shape == (6, 3)
    assert corners.min(axis=(0, 1)).tolist() == [4, 5, 6] and corners.max(axis=(0, 1)).tolist() == [5, 6, 7]
    centre = np.array([4.5, 5.5, 6.5])
    np.testing.assert_array_equal(corners.mean(axis=1), centre + normals / 2)
    assert np.abs(areas(corners, normals)).tolist() == [1] * 6


def test_the_face_between_two_cells_is_left_out():
    assert len(exposed_faces([[0, 0, 0], [0, 1, 0]])[0]) == 10


def test_a_solid_shows_its_surface_alone():
    block = np.argwhere(np.ones((3, 4, 5)))
    assert len(exposed_faces(block)[0]) == 2 * (3 * 4 + 4 * 5 + 3 * 5)


def test_a_random_shape_against_brute_force():
    cells = np.argwhere(np.random.default_rng(0).random((5, 4, 6)) < 0.4) - 2  # negative ones too
    held = set(map(tuple, cells.tolist()))
    expected = set()
    for cell in held:
        for axis in range(3):
            for side in (-1, 1):
                step = [0, 0, 0]
                step[axis] = side
                if tuple(np.add(cell, step)) not in held:
                    expected.add(tuple(np.add(cell, 0.5) + np.multiply(step, 0.5)) + tuple(step))
    corners, normals = exposed_faces(np.random.default_rng(1).permutation(cells))
    found = [tuple(row) for row in np.concatenate([corners.mean(axis=1), normals], axis=1)]
    assert len(found) == len(set(found)) and set(found) == expected


def test_no_cells_have_no_faces():
    corners, normals = exposed_faces(np.empty((0, 3), int))
    assert corners.shape == (0, 4, 3) and normals.shape == (0, 3)


def test_flat_cells_are_refused():
    with pytest.raises(ValueError, match=r"coordinates have shape \(4, 2\), expected \(n, 3\)"):
        exposed_faces(np.zeros((4, 2), int))


def test_drawn_with_equal_aspect():
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    axes = Figure().add_subplot(projection="3d")
    draw_voxels(axes, np.argwhere(np.ones((2, 3, 10))))
    sides = {round(high - low, 9) for low, high in (axes.get_xlim(), axes.get_ylim(), axes.get_zlim())}
    assert sides == {10}
    assert len(axes.collections) == 1


def test_each_cell_can_have_its_own_colour():
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    cells = np.array([[3, 0, 1], [0, 2, 1], [1, 2, 1]])
    colours = np.eye(3)
    axes = Figure().add_subplot(projection="3d")
    draw_voxels(axes, cells, colours)
    corners, normals = exposed_faces(cells)
    axes.figure.draw_without_rendering()
    shown = axes.collections[0]._facecolor3d[:, :3]  # in the order of the faces
    for corner, normal, colour in zip(corners, normals, shown, strict=True):
        (row,) = np.flatnonzero((cells + 0.5 == corner.mean(axis=0) - normal / 2).all(axis=1))
        assert ((colour > 0) == (colours[row] > 0)).all()
