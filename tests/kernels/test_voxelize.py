"""The voxelization kernels against brute force: 13 axes for every triangle and cell, and a flood in Python."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

STEPS = 2048


def cross(a, b):
    """The cross product of two vectors of 3, of any dtype: `numpy.cross` refuses Python integers before NumPy 2.1."""
    return np.array([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]], a.dtype)


def meets(triangle: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Whether the triangle (3, 3) meets each closed cell of `cells` (n, 3): all 13 axes, in the dtype given.

    float64 is exact up to about 60 cells (products below 2^53), an array of Python integers always.
    """
    edges = [triangle[(k + 1) % 3] - triangle[k] for k in range(3)]
    axes = [np.eye(3, dtype=int)[k].astype(triangle.dtype) for k in range(3)]
    axes += [cross(edges[0], edges[1])] + [cross(edge, axis) for edge in edges for axis in axes[:3]]
    result = np.ones(len(cells), bool)
    for axis in axes:
        shadow = triangle @ axis
        centre = (cells * STEPS + STEPS // 2).astype(triangle.dtype) @ axis
        reach = (STEPS // 2) * sum(abs(a) for a in axis)
        result &= ((shadow.min() - reach <= centre) & (centre <= shadow.max() + reach)).astype(bool)
    return result


def cells_between(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return np.stack(np.meshgrid(*(np.arange(a, b + 1) for a, b in zip(low, high, strict=True)), indexing="ij"),
                    axis=-1).reshape(-1, 3)


def brute_force(vertices, faces, spatial_size):
    """Cells inside the grid, sorted, and how many lie outside."""
    met = set()
    for face in faces:
        triangle = vertices[face]
        cells = cells_between(triangle.min(axis=0) // STEPS, triangle.max(axis=0) // STEPS)
        met.update(map(tuple, cells[meets(triangle.astype(np.float64), cells)].tolist()))
    inside = [cell for cell in sorted(met) if all(0 <= c < s for c, s in zip(cell, spatial_size, strict=True))]
    return np.array(inside, np.int32).reshape(-1, 3), len(met) - len(inside)


def cells_where(mask: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.argwhere(mask), np.int32)


def odd(values) -> np.ndarray:
    return 2 * np.asarray(values, np.int64) + 1


def random_triangles(rng, count: int, cells: float, around=(0, 0, 0)) -> tuple[np.ndarray, np.ndarray]:
    vertices = odd(rng.uniform(-cells / 2, cells / 2, (3 * count, 3)) * 1024 + np.multiply(around, 1024))
    return vertices, np.arange(3 * count, dtype=np.int32).reshape(-1, 3)


def check(launch, vertices, faces, spatial_size):
    coordinates, dropped = launch("voxelize_triangles", vertices, faces, spatial_size)
    expected, outside = brute_force(vertices, faces, spatial_size)
    assert coordinates.dtype == np.int32
    np.testing.assert_array_equal(coordinates, expected)
    assert dropped == outside


@pytest.mark.parametrize("cells", [0.3, 1, 2, 5, 12, 40])
def test_each_random_triangle_alone_meets_the_cells_of_brute_force(launch, rng, cells):
    vertices, faces = random_triangles(rng, 40 if cells < 40 else 8, cells, around=(10, 10, 10))
    for face in faces:
        check(launch, vertices, face[None], (20, 21, 22))


def test_many_triangles_together(launch, rng):
    check(launch, *random_triangles(rng, 60, 8, around=(5, 6, 7)), (10, 12, 14))


@pytest.mark.parametrize("axis", range(3))
def test_triangles_in_planes_of_the_grid(launch, rng, axis):
    vertices, faces = random_triangles(rng, 20, 9, around=(6, 6, 6))
    vertices[:, axis] = vertices[0, axis]
    check(launch, vertices, faces, (12, 12, 12))


def test_triangles_that_are_segments_or_points(launch, rng):
    starts, steps = odd(rng.integers(0, 8000, (30, 3))), 2 * rng.integers(-3000, 3000, (30, 3))
    steps[:6] *= np.eye(3, dtype=np.int64)[[0, 1, 2, 0, 1, 2]]  # along the axes
    segments = np.stack([starts, starts + steps, starts + 2 * steps], axis=1)
    vertices = np.concatenate([segments.reshape(-1, 3), np.repeat(starts, 3, axis=0)])
    faces = np.arange(len(vertices), dtype=np.int32).reshape(-1, 3)
    for face in faces:
        check(launch, vertices, face[None], (12, 12, 12))


def test_a_touched_edge_or_corner_of_a_cell_counts_on_both_sides(launch):
    diagonal = np.array([[1, 1, 1], [4095, 4095, 1], [1, 1, 1]])  # passes through the edge x = y = 2048
    coordinates, _ = launch("voxelize_triangles", diagonal, np.array([[0, 1, 2]], np.int32), (4, 4, 4))
    assert coordinates[:, :2].tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]


def test_points_of_a_triangle_lie_in_its_cells(launch, rng):
    vertices, faces = random_triangles(rng, 5, 30, around=(15, 15, 15))
    weights = rng.dirichlet((1, 1, 1), 20000)
    for face in faces:
        coordinates, _ = launch("voxelize_triangles", vertices, face[None], (64, 64, 64))
        points = np.unique(np.floor(weights @ vertices[face] / STEPS).astype(int), axis=0)
        points = points[((points >= 0) & (points < 64)).all(axis=1)]
        assert {tuple(p) for p in points.tolist()} <= {tuple(c) for c in coordinates.tolist()}


def test_the_largest_extent_is_exact_against_unbounded_integers(launch, rng):
    far = 700 * STEPS - 2
    vertices = np.array([[1, 1, 1], [1 + far, 1 + far, 3], [5, 1 + far, 1 + far],
                         [1 + far, 1, 1 + far], [1, 1, 1 + far], [1 + far, 1 + far, 1 + far]], np.int64)
    faces = np.array([[0, 1, 2], [3, 4, 5]], np.int32)
    for face in faces:
        coordinates, dropped = launch("voxelize_triangles", vertices, face[None], (700, 700, 700))
        assert dropped == 0
        sample = rng.choice(len(coordinates), 60)
        near = np.clip(coordinates[sample] + rng.integers(-2, 3, (60, 3)), 0, 699)
        found = np.isin(near @ (490000, 700, 1), coordinates @ (490000, 700, 1))
        np.testing.assert_array_equal(found, meets(vertices[face].astype(object), near.astype(object)))
        assert meets(vertices[face].astype(object), coordinates[sample].astype(object)).all()


def test_beyond_the_largest_extent_it_raises(launch):
    vertices = np.array([[1, 1, 1], [701 * STEPS + 1, 1, 1], [1, 3, 1]], np.int64)
    with pytest.raises(ValueError, match=r"triangles extend over 701\.0 cells, expected at most 700"):
        launch("voxelize_triangles", vertices, np.array([[0, 1, 2]], np.int32), (8, 8, 8))


def test_a_mesh_beside_the_grid_is_dropped_whole(launch, rng):
    for around in ((-50, 5, 5), (5, 90, 5), (5, 5, 10**6)):
        vertices, faces = random_triangles(rng, 4, 5, around)
        coordinates, dropped = launch("voxelize_triangles", vertices, faces, (10, 10, 10))
        assert coordinates.shape == (0, 3) and dropped > 0


def test_no_triangle_gives_no_cell(launch):
    coordinates, dropped = launch("voxelize_triangles", odd(np.zeros((0, 3))), np.zeros((0, 3), np.int32), (4, 4, 4))
    assert coordinates.shape == (0, 3) and coordinates.dtype == np.int32 and dropped == 0


def test_wrong_input_is_refused(launch):
    vertices = odd(np.zeros((3, 3)))
    with pytest.raises(ValueError, match="refer to vertices 0 to 3, there are 3"):
        launch("voxelize_triangles", vertices, np.array([[0, 1, 3]], np.int32), (4, 4, 4))
    with pytest.raises(ValueError, match="even coordinates"):
        launch("voxelize_triangles", vertices + 1, np.array([[0, 1, 2]], np.int32), (4, 4, 4))
    with pytest.raises(TypeError, match="vertices is float64, expected int64"):
        launch("voxelize_triangles", vertices.astype(float), np.array([[0, 1, 2]], np.int32), (4, 4, 4))


@pytest.mark.parametrize("backend", ["cpu"], indirect=True)
def test_threads_that_voxelize_at_once_do_not_disturb_each_other(launch, rng):
    jobs = [random_triangles(rng, 50, 20, around=(10, 10, 10)) for _ in range(12)]
    alone = [launch("voxelize_triangles", *job, (20, 20, 20)) for job in jobs]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda job: launch("voxelize_triangles", *job, (20, 20, 20)), jobs))
    for (a, dropped_a), (b, dropped_b) in zip(alone, together, strict=True):
        np.testing.assert_array_equal(a, b)
        assert dropped_a == dropped_b


def filled_by_brute_force(coordinates, spatial_size):
    outside = np.zeros(np.add(spatial_size, 2), bool)
    solid = np.zeros_like(outside)
    solid[tuple((coordinates + 1).T)] = True
    outside[0, 0, 0] = True
    while True:  # grow the outside, through a margin around the grid, until it grows no more
        grown = outside.copy()
        for axis in range(3):
            forward, backward = [slice(None)] * 3, [slice(None)] * 3
            forward[axis], backward[axis] = slice(1, None), slice(None, -1)
            grown[tuple(forward)] |= outside[tuple(backward)]
            grown[tuple(backward)] |= outside[tuple(forward)]
        grown &= ~solid
        if (grown == outside).all():
            return np.argwhere(~outside[1:-1, 1:-1, 1:-1]).astype(np.int32)
        outside = grown


@pytest.mark.parametrize("density", [0.05, 0.3, 0.6, 0.9, 1.0])
@pytest.mark.parametrize("size", [(1, 1, 1), (5, 6, 7), (1, 8, 8), (12, 9, 2)])
def test_fill_adds_what_is_not_connected_to_the_border(launch, rng, density, size):
    coordinates = cells_where(rng.random(size) < density)
    filled = launch("fill_solid", coordinates, size)
    assert filled.dtype == np.int32
    np.testing.assert_array_equal(filled, filled_by_brute_force(coordinates, size).reshape(-1, 3))


def winding_tunnel(rng, size: tuple[int, int, int], turns: float) -> np.ndarray:
    """A solid block with a tunnel that begins in the middle, one cell above the floor, and climbs."""
    block = np.ones(size, bool)
    cell = np.array([size[0] // 2, size[1] // 2, 1])
    block[tuple(cell)] = False
    while cell[2] < size[2] - 2:
        axis = rng.integers(2) if rng.random() < turns else 2
        cell[axis] = np.clip(cell[axis] + (1 if axis == 2 else rng.choice((-1, 1))), 1, size[axis] - 2)
        block[tuple(cell)] = False
    return block


@pytest.mark.parametrize("turns", [0, 0.5, 0.9])
def test_fill_follows_a_tunnel_through_all_its_turns(launch, rng, turns):
    closed = winding_tunnel(rng, (9, 10, 80), turns)
    opened = closed.copy()
    opened[4, 5, 0] = False
    for block in (closed, opened, np.ascontiguousarray(opened[:, :, ::-1])):
        filled = launch("fill_solid", cells_where(block), block.shape)
        np.testing.assert_array_equal(filled, cells_where(block if block is not closed else np.ones_like(block)))


def test_fill_of_a_shell_inside_a_larger_grid_is_the_ball(launch):
    distance = np.linalg.norm(np.indices((30, 30, 30)) - 14.5, axis=0)
    shell = cells_where((distance < 9) & (distance > 7))
    np.testing.assert_array_equal(launch("fill_solid", shell, (30, 30, 30)), np.argwhere(distance < 9))


def test_an_open_box_and_a_leak_over_edges_only(launch):
    walls = np.ones((5, 5, 5), bool)
    walls[1:4, 1:4, 1:4] = False
    box = cells_where(walls)
    assert len(launch("fill_solid", box, (9, 9, 9))) == 125
    opened = box[~(box == (2, 2, 4)).all(axis=1)]
    assert len(launch("fill_solid", opened, (9, 9, 9))) == len(opened)
    edge_gone = box[~(box == (0, 0, 2)).all(axis=1)]  # cells of an edge touch the inside over edges alone
    assert len(launch("fill_solid", edge_gone, (9, 9, 9))) == 124


def test_fill_of_nothing_is_nothing_and_cells_outside_are_refused(launch):
    assert launch("fill_solid", np.zeros((0, 3), np.int32), (4, 4, 4)).shape == (0, 3)
    with pytest.raises(ValueError, match="outside the grid"):
        launch("fill_solid", np.array([[0, 0, 4]], np.int32), (4, 4, 4))
