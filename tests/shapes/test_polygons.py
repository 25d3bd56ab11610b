"""Polygons to triangles: none is filled across its notch, and none hangs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsenet.shapes.mesh import Mesh, MeshError
from sparsenet.shapes.polygons import mesh_of_polygons

U = [(0, 0), (3, 0), (3, 3), (2, 3), (2, 1), (1, 1), (1, 3), (0, 3)]
ARROW = [(0, 0), (2, 0), (0.5, 0.5), (0, 2)]
PENTAGON = [(0, 0), (2, 0), (3, 1), (1, 2), (-1, 1)]
SLIT = [(0, 0), (4, 0), (4, 4), (0, 4), (0, 0), (1, 1), (1, 3), (3, 3), (3, 1), (1, 1)]  # a frame with its bridge


def areas(mesh: Mesh) -> np.ndarray:
    corners = mesh.vertices[mesh.faces]
    return np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2


def polygon(points: np.ndarray | list, turn: np.ndarray | None = None) -> Mesh:
    """One polygon, given in a plane, which `turn` (3, 3) moves into space."""
    points = np.asarray(points, float)
    vertices = np.column_stack([points, np.zeros(len(points))]) @ (np.eye(3) if turn is None else turn)
    return mesh_of_polygons(vertices, np.arange(len(points)), np.array([len(points)]))


def enclosed(points: np.ndarray | list) -> float:
    x, y = np.asarray(points, float).T
    return abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum()) / 2


@pytest.mark.parametrize("points", [U, ARROW, PENTAGON, SLIT, U[::-1], ARROW[2:] + ARROW[:2]])
def test_a_simple_polygon_is_covered_exactly_in_any_plane(rng, points):
    for turn in (np.eye(3), np.eye(3)[[2, 0, 1]], np.linalg.qr(rng.normal(size=(3, 3)))[0]):
        mesh = polygon(points, turn)
        assert len(mesh.faces) == len(points) - 2
        np.testing.assert_allclose(areas(mesh).sum(), enclosed(points), rtol=1e-12)


def test_triangles_have_the_orientation_of_their_polygon():
    for points in (U, U[::-1]):
        mesh = polygon(points)
        corners = mesh.vertices[mesh.faces]
        turns = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])[:, 2]
        assert (turns > 0).all() if points is U else (turns < 0).all()


def test_a_convex_polygon_is_a_fan_about_its_first_corner():
    assert polygon(PENTAGON).faces.tolist() == [[0, 1, 2], [0, 2, 3], [0, 3, 4]]
    warped = mesh_of_polygons(np.array([[0, 0, 0], [1, 0, 0.2], [1, 1, 0], [0, 1, 0.2]]), np.arange(4), np.array([4]))
    assert warped.faces.tolist() == [[0, 1, 2], [0, 2, 3]]


def test_polygons_stay_in_order_and_those_of_two_corners_are_left_out():
    vertices = np.column_stack([np.array(ARROW + PENTAGON), np.zeros(9)])
    mesh = mesh_of_polygons(vertices, np.array([5, 6, 7, 0, 1, 0, 1, 2, 3, 4, 5, 6, 7]), np.array([3, 2, 4, 4]))
    assert mesh.faces[0].tolist() == [5, 6, 7] and len(mesh.faces) == 5
    assert set(mesh.faces[1:3].ravel()) == {0, 1, 2, 3} and set(mesh.faces[3:].ravel()) == {4, 5, 6, 7}
    np.testing.assert_allclose(areas(mesh)[1:3].sum(), enclosed(ARROW))


@given(st.integers(4, 40), st.integers(0, 2**32 - 1))
def test_random_stars_are_covered_exactly(corners, seed):
    rng = np.random.default_rng(seed)
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    points = (rng.uniform(0.2, 1, corners) * [np.cos(angle), np.sin(angle)]).T
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    scale = 10.0**rng.integers(-9, 9)
    np.testing.assert_allclose(areas(polygon(points * scale, turn)).sum(), enclosed(points) * scale**2, rtol=1e-9)


@pytest.mark.parametrize("points", [
    [(np.cos(k * 4 * np.pi / 5), np.sin(k * 4 * np.pi / 5)) for k in range(5)],  # a star that crosses itself
    [(0, 0), (1, 1), (1, 0), (0, 1)],  # a bow tie, of no area
    [(0, 0)] * 6, [(k, k) for k in range(7)],  # a point, a line
    [(0, 0), (1, 0), (1, 1), (0, 1)] * 50,  # around fifty times
    np.random.default_rng(0).normal(size=(200, 2)),
    np.random.default_rng(1).normal(size=(9, 2)).clip(-1, 1) * 1.7e308,
    np.random.default_rng(2).normal(size=(9, 2)) * 1e-320,
])
def test_a_polygon_that_is_none_gives_as_many_triangles_and_ends(points):
    with np.errstate(all="raise", under="ignore"):
        assert len(polygon(points).faces) == len(points) - 2


def test_a_polygon_too_large_to_clip_is_refused_and_a_large_convex_one_is_not():
    angle = np.linspace(0, 2 * np.pi, 20_000, endpoint=False)
    circle = np.column_stack([np.cos(angle), np.sin(angle)])
    assert len(polygon(circle).faces) == 19_998
    circle[::2] *= 0.9
    with pytest.raises(MeshError, match="1 concave faces have up to 20000 corners, too many"):
        polygon(circle)


@pytest.mark.parametrize(("vertices", "corners", "message"), [
    (np.eye(3), [0, 1, 2, 3], "refers to vertex 3, there are 3"),
    (np.diag([1, np.nan, 1]), [0, 1, 2, 1], "must be finite"),
    (np.eye(3), [], "3 vertices and no face"),
])
def test_what_a_mesh_refuses_is_refused(vertices, corners, message):
    with pytest.raises(MeshError, match=message):
        mesh_of_polygons(vertices, np.array(corners, int), np.array([len(corners)] if corners else [], int))
