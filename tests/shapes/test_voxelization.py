"""Meshes to cells: where the mesh lies, what snapping keeps, and exactness on random and real meshes."""

from __future__ import annotations

import numpy as np
import pytest

from sparsenet.random import keyed_rng
from sparsenet.shapes import CLASSES, Augmentation, Mesh, parametric_mesh, read_mesh, rotation_matrix, voxelize
from sparsenet.shapes.voxelization import place

STEPS = 2048
TRIANGLE = np.array([[0, 1, 2]])


def brute_force(mesh, spatial_size, render_size, **placement):
    """Cells met by the placed mesh inside the grid: the 13 separating axes, in float64, over all cells."""
    mesh = mesh.without_unused_vertices()
    vertices = place(mesh.vertices, spatial_size, render_size, **placement).astype(np.float64)
    cells = np.stack(np.meshgrid(*map(np.arange, spatial_size), indexing="ij"), axis=-1).reshape(-1, 3)
    centres = cells * STEPS + STEPS / 2.0
    met = np.zeros(len(cells), bool)
    for triangle in vertices[mesh.faces]:
        near = ((centres + STEPS / 2 >= triangle.min(axis=0)) & (centres - STEPS / 2 <= triangle.max(axis=0))
                & ~met[:, None]).all(axis=1)
        edges = np.roll(triangle, -1, axis=0) - triangle
        axes = np.concatenate([np.cross(edges[:1], edges[1:2]), *(np.cross(edges, axis) for axis in np.eye(3))])
        shadow, centre = triangle @ axes.T, centres[near] @ axes.T
        reach = STEPS / 2 * np.abs(axes).sum(axis=1)
        apart = (centre + reach < shadow.min(axis=0)) | (centre - reach > shadow.max(axis=0))
        met[np.flatnonzero(near)[~apart.any(axis=1)]] = True
    return cells[met]


def span(coordinates: np.ndarray) -> np.ndarray:
    return np.ptp(coordinates, axis=0) + 1


def random_mesh(rng, faces: int = 20) -> Mesh:
    return Mesh(rng.normal(size=(15, 3)), rng.integers(0, 15, (faces, 3)))


@pytest.mark.parametrize("render_size", [1, 3, 10, 24])
def test_random_meshes_against_brute_force(rng, render_size):
    for _ in range(5):
        mesh, size = random_mesh(rng), (24, 20, 22)
        placement = dict(zip(("rotation", "affine", "shift"),
                             Augmentation("so3").draw(rng, render_size), strict=True))
        voxels = voxelize(mesh, size, render_size, **placement)
        np.testing.assert_array_equal(voxels.coordinates, brute_force(mesh, size, render_size, **placement))


def test_real_meshes_against_brute_force(data_root):
    for name in ("m100.off", "m1000.off"):
        mesh = read_mesh(data_root / "psb" / "meshes" / name)
        mesh = Mesh(mesh.vertices, mesh.faces[::3])
        voxels = voxelize(mesh, 24, 24)
        np.testing.assert_array_equal(voxels.coordinates,
                                      brute_force(mesh, (24, 24, 24), 24))


def test_the_result_unpacks_to_sorted_coordinates_and_features_of_one(rng):
    voxels = voxelize(random_mesh(rng), 40, 30)
    coordinates, features = voxels
    assert coordinates is voxels.coordinates and features is voxels.features
    assert coordinates.dtype == np.int32 and features.dtype == np.float32
    assert features.shape == (len(coordinates), 1) and (features == 1).all()
    keys = coordinates.astype(np.int64) @ (1600, 40, 1)
    assert (np.diff(keys) > 0).all() and voxels.dropped == 0


@pytest.mark.parametrize("spatial_size", [40, 41, 63, 126])
@pytest.mark.parametrize("render_size", [1, 2, 39, 40])
def test_a_mesh_spans_exactly_its_render_size(rng, spatial_size, render_size):
    for seed, name in enumerate(CLASSES):
        mesh = parametric_mesh(name, keyed_rng(seed))
        voxels = voxelize(mesh, spatial_size, render_size, rotation=rotation_matrix("so3", rng))
        assert span(voxels.coordinates).max() == render_size
        assert voxels.dropped == 0


def test_psb_meshes_span_40_cells_and_fill_a_few_percent_of_the_cube(data_root):
    files = sorted((data_root / "psb" / "meshes").glob("*.off"))[::40]
    shapes = [voxelize(read_mesh(path), 126, 40).coordinates for path in files]
    assert {span(coordinates).max() for coordinates in shapes} == {40}
    assert 0.03 < np.mean([len(coordinates) for coordinates in shapes]) / 40**3 < 0.06


def test_the_cube_of_the_render_size_lies_in_the_middle_on_whole_cells():
    cube = Mesh([[x, y, z] for x in (3, 9) for y in (3, 9) for z in (3, 9)], [[0, 3, 5], [0, 6, 3], [7, 1, 2]])
    for side, render_size, first in ((10, 4, 3), (11, 4, 3), (10, 5, 2), (4, 4, 0)):
        coordinates, _ = voxelize(cube, side, render_size)
        assert coordinates.min(axis=0).tolist() == [first] * 3
        assert coordinates.max(axis=0).tolist() == [first + render_size - 1] * 3


def test_the_result_does_not_depend_on_size_or_place_of_the_mesh(rng):
    mesh = random_mesh(rng)
    expected = voxelize(mesh, 32, 24).coordinates
    for scale, offset in ((2.0**-60, 0), (2.0**300, 0), (1024, 0)):
        moved = Mesh(mesh.vertices * scale + offset, mesh.faces)
        np.testing.assert_array_equal(voxelize(moved, 32, 24).coordinates, expected)


def test_the_result_does_not_depend_on_the_order_of_vertices_corners_or_faces(rng):
    for _ in range(5):
        mesh = random_mesh(rng, faces=30)
        expected = voxelize(mesh, 40, 40).coordinates
        order = rng.permutation(len(mesh.vertices))
        shuffled = Mesh(mesh.vertices[order], np.argsort(order)[mesh.faces])
        corners = np.stack([rng.permutation(face) for face in shuffled.faces])
        np.testing.assert_array_equal(voxelize(shuffled, 40, 40).coordinates, expected)
        np.testing.assert_array_equal(
            voxelize(Mesh(shuffled.vertices, rng.permutation(corners)), 40, 40).coordinates, expected)


def test_vertices_that_no_face_uses_do_not_count(rng):
    mesh = random_mesh(rng)
    strayed = Mesh(np.concatenate([[[1e6, 0, 0]], mesh.vertices]), mesh.faces + 1)
    np.testing.assert_array_equal(voxelize(strayed, 30, 24).coordinates, voxelize(mesh, 30, 24).coordinates)


def test_subdivision_at_representable_vertices_changes_nothing(rng):
    # Coordinates in steps of the lattice; the box of the whole is 40 cells with odd corners at the middle.
    frame = np.array([[-20, -20, -20], [20, 20, 20]]) * 1024.0
    for _ in range(20):
        start = 2 * rng.integers(-5000, 5000, 3) + 1.0
        first, second = 4 * rng.integers(-2500, 2500, (2, 3))
        corners = np.array([start, start + first, start + second]) / 2  # edges of an even number of pairs
        middles = (corners + np.roll(corners, -1, axis=0)) / 2
        whole = Mesh(np.concatenate([frame, corners]), [[0, 0, 0], [1, 1, 1], [2, 3, 4]])
        parts = Mesh(np.concatenate([frame, corners, middles]),
                     [[0, 0, 0], [1, 1, 1], [2, 5, 7], [5, 3, 6], [7, 6, 4], [5, 6, 7]])
        lattice = place(parts.vertices, (40, 40, 40), 40)
        np.testing.assert_array_equal(2 * lattice[5:], lattice[2:5] + np.roll(lattice[2:5], -1, axis=0))
        np.testing.assert_array_equal(voxelize(whole, 40, 40).coordinates, voxelize(parts, 40, 40).coordinates)


def test_vertices_snap_to_odd_steps_and_ties_go_towards_the_centre():
    # a render size of 4 on a box of 4: one unit is one cell, the centre is 0
    units = np.array([-2, -1, -1 - 1 / STEPS, -1 / 1024, -1e-9, 0, 1e-9, 1 / 1024, 1, 1 + 1 / STEPS, 2])
    vertices = np.zeros((len(units), 3))
    vertices[:, 0] = units
    steps = place(vertices, (8, 8, 8), 4)[:, 0] - 4 * STEPS
    assert steps.tolist() == [-4095, -2047, -2049, -1, -1, 1, 1, 1, 2047, 2049, 4095]
    assert (place(vertices, (9, 7, 8), 4) % 2 == 1).all()


def test_rotation_comes_first_then_scale_then_affine_and_shift(rng):
    mesh = random_mesh(rng)
    rotation, affine, shift = Augmentation("so3").draw(rng, 20)
    turned = mesh.vertices @ rotation.T
    low, high = turned.min(axis=0), turned.max(axis=0)
    cells = (turned - (low + high) / 2) * 20 / (high - low).max() @ affine.T + shift + 16
    placed = place(mesh.vertices, (32, 32, 32), 20, rotation, affine, shift) / STEPS
    assert np.abs(placed - cells).max() < 1.01 / STEPS


def test_cells_outside_the_grid_are_dropped_and_counted(rng):
    mesh = random_mesh(rng)
    whole = voxelize(mesh, 60, 30, shift=[0, 0, 0]).coordinates
    voxels = voxelize(mesh, 60, 30, shift=[20, 0, 0])
    inside = whole[whole[:, 0] + 20 < 60] + (20, 0, 0)  # a shift by whole cells shifts the result
    np.testing.assert_array_equal(voxels.coordinates, inside)
    assert voxels.dropped == len(whole) - len(inside) > 0


def test_points_segments_and_flat_meshes():
    point = Mesh([[5.0, 6, 7]], [[0, 0, 0]])
    assert voxelize(point, 10, 6).coordinates.tolist() == [[5, 5, 5]]
    segment = Mesh([[0.0, 0, 0], [0, 0, 9]], [[0, 1, 0]])
    assert voxelize(segment, 10, 6).coordinates.tolist() == [[5, 5, z] for z in range(2, 8)]
    flat = Mesh([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], [[0, 1, 2], [0, 2, 3]])
    assert span(voxelize(flat, 10, 6).coordinates).tolist() == [6, 6, 1]


def test_fill_makes_a_cube_solid():
    cube = Mesh([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)],
                [[0, 1, 3], [0, 3, 2], [4, 7, 5], [4, 6, 7], [0, 5, 1], [0, 4, 5],
                 [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]])
    assert len(voxelize(cube, 20, 10).coordinates) == 10**3 - 8**3
    coordinates, features = voxelize(cube, 20, 10, fill=True)
    assert len(coordinates) == len(features) == 10**3


def test_repeated_runs_and_read_only_arrays_give_the_same(rng):
    mesh = random_mesh(rng)
    expected = voxelize(mesh, 30, 24).coordinates
    mesh.vertices.flags.writeable = mesh.faces.flags.writeable = False
    np.testing.assert_array_equal(voxelize(mesh, (30, 30, 30), 24).coordinates, expected)
    np.testing.assert_array_equal(voxelize(mesh, np.array([30, 30, 30]), np.int64(24)).coordinates, expected)


@pytest.mark.parametrize(("arguments", "message"), [
    ({"render_size": 0}, "render_size is 0, expected at least 1"),
    ({"spatial_size": 0}, "spatial_size is 0, expected one or three positive numbers"),
    ({"spatial_size": (8, 8)}, r"spatial_size is \(8, 8\)"),
    ({"rotation": np.eye(2)}, r"rotation has shape \(2, 2\), expected \(3, 3\)"),
    ({"affine": np.full((3, 3), np.nan)}, "affine is .* expected finite"),
    ({"shift": np.zeros((3, 1))}, r"shift has shape \(3, 1\), expected \(3,\)"),
    ({"shift": [1e10, 0, 0]}, "cells from the centre, expected less"),
    ({"render_size": 701, "spatial_size": 800}, "expected at most 700"),
])
def test_bounds_and_shapes_are_checked(arguments, message):
    mesh = Mesh([[0.0, 0, 0], [1, 0, 0], [0, 1, 1]], TRIANGLE)
    with pytest.raises(ValueError, match=message):
        voxelize(**{"mesh": mesh, "spatial_size": 8, "render_size": 8, **arguments})


def test_a_mesh_too_large_for_float64_is_refused():
    mesh = Mesh([[-1.5e308, 0, 0], [1.5e308, 0, 0], [0, 1, 1]], TRIANGLE)
    for rotation in (None, np.ones((3, 3))):
        with pytest.raises(ValueError, match="which float64 cannot hold"):
            voxelize(mesh, 8, 8, rotation)


def test_a_fraction_of_a_cell_is_no_render_size():
    with pytest.raises(TypeError):
        voxelize(Mesh([[0.0, 0, 0], [1, 0, 0], [0, 1, 1]], TRIANGLE), 8, 7.5)


def test_a_cell_is_of_the_part_with_the_lowest_label_that_meets_it(rng):
    for labels in (rng.integers(-1, 4, 20), np.full(20, -1), np.full(20, 7)):
        mesh, size = Mesh(rng.normal(size=(15, 3)), rng.integers(0, 15, (20, 3)), labels), (14, 12, 13)
        placement = dict(zip(("rotation", "affine", "shift"), Augmentation("so3").draw(rng, 12), strict=True))
        voxels = voxelize(mesh, size, 12, **placement)
        expected = np.full(size, 99)
        for face, label in zip(mesh.faces, labels, strict=True):
            if label >= 0:  # one face at a time, placed as the whole is
                cells = brute_force_of(mesh, face, size, placement)
                expected[tuple(cells.T)] = np.minimum(expected[tuple(cells.T)], label)
        found = expected[tuple(voxels.coordinates.T)]
        np.testing.assert_array_equal(voxels.labels, np.where(found == 99, -1, found))
        plain = voxelize(Mesh(mesh.vertices, mesh.faces), size, 12, **placement)
        np.testing.assert_array_equal(voxels.coordinates, plain.coordinates)
        assert plain.labels is None and voxels.labels.dtype == np.int32


def brute_force_of(mesh, face, size, placement):
    """The cells that one face of the placed mesh meets."""
    from sparsenet.kernels import launch

    lattice = place(mesh.without_unused_vertices().vertices, size, 12, **placement)
    used = np.unique(mesh.faces)
    return launch("voxelize_triangles", lattice, np.searchsorted(used, face)[None].astype(np.int32), size)[0]


def test_what_fill_adds_is_of_no_part():
    mesh = parametric_mesh("bed", keyed_rng(1), parts=True)
    surface, solid = (voxelize(mesh, 16, 16, fill=fill) for fill in (False, True))
    assert len(solid.coordinates) > len(surface.coordinates) and (surface.labels >= 0).all()
    assert np.array_equal(solid.labels[solid.labels >= 0], surface.labels)
    assert np.array_equal(solid.coordinates[solid.labels >= 0], surface.coordinates)


def test_a_labelled_mesh_outside_its_grid_has_no_cells():
    voxels = voxelize(Mesh(np.eye(3), TRIANGLE, [0]), 4, 3, shift=np.array([40.0, 0, 0]))
    assert len(voxels.coordinates) == len(voxels.labels) == 0 and voxels.dropped
