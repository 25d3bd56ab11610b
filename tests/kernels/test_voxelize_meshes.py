"""A batch of meshes against each mesh alone on a CPU: the same cells, bit for bit, on every backend."""

from __future__ import annotations

import numpy as np
import pytest

from sparsenet.kernels.fetch import fetches
from sparsenet.random import keyed_rng
from sparsenet.shapes import CLASSES, Augmentation, Mesh, MeshBatch, parametric_mesh, read_mesh, voxelize
from sparsenet.shapes.batch import pack_placements
from sparsenet.shapes.voxelization import place


def run(launch, meshes, placements, spatial_size, render_size, fill=False):
    """Sites (n, 4) [mesh, x, y, z] and dropped (S,) of the kernel under test."""
    batch = MeshBatch(meshes)
    keys, dropped = launch("voxelize_meshes", batch.vertices, batch.vertex_splits, batch.faces, batch.face_splits,
                           pack_placements(placements), spatial_size, render_size, fill)
    assert keys.dtype == dropped.dtype == np.int64
    return np.stack(np.unravel_index(keys, (max(len(meshes), 1), *spatial_size)), axis=1), dropped


def alone(meshes, placements, spatial_size, render_size, fill=False):
    """The same by `voxelize`, mesh by mesh, on a CPU."""
    sites, dropped = [np.zeros((0, 4), int)], []
    for number, (mesh, placement) in enumerate(zip(meshes, placements, strict=True)):
        voxels = voxelize(mesh, spatial_size, render_size, *(placement or ()), fill=fill)
        sites.append(np.pad(voxels.coordinates, ((0, 0), (1, 0)), constant_values=number))
        dropped.append(voxels.dropped)
    return np.concatenate(sites), np.array(dropped, np.int64)


def check(launch, *arguments, **options):
    for found, expected in zip(run(launch, *arguments, **options), alone(*arguments, **options), strict=True):
        np.testing.assert_array_equal(found, expected)
    return found


def random_mesh(rng, faces: int = 20) -> Mesh:
    return Mesh(rng.normal(size=(15, 3)), rng.integers(0, 15, (faces, 3)))


@pytest.mark.parametrize("fill", [False, True])
@pytest.mark.parametrize("render_size", [1, 7, 20])
def test_turned_stretched_and_shifted_meshes(launch, rng, render_size, fill):
    meshes = [parametric_mesh(name, keyed_rng(number)) for number, name in enumerate(CLASSES[:4])]
    placements = [Augmentation("so3").draw(rng, render_size) for _ in meshes]
    check(launch, meshes, placements, (24, 26, 28), render_size, fill=fill)


def test_random_triangles_partly_outside_a_small_grid(launch, rng):
    meshes = [random_mesh(rng) for _ in range(6)]
    placements = [Augmentation("so3", affine=0.5, shift=0.7).draw(rng, 12) for _ in meshes]
    dropped = check(launch, meshes, placements, (11, 9, 14), 12)
    assert (dropped > 0).any()
    check(launch, meshes, placements, (11, 9, 14), 12, fill=True)


def test_places_that_are_ties_or_borders(launch):
    """Coordinates in steps of the lattice, of half a step, and of a cell, with nothing turned."""
    units = np.array([-2, -1, -1 - 1 / 2048, -1 / 1024, -1e-9, 0, 1e-9, 1 / 1024, 1, 1 + 1 / 2048, 2])
    vertices = np.stack([units, units[::-1], np.roll(units, 3)], axis=1)
    mesh = Mesh(vertices, np.arange(33).reshape(-1, 3) % 11)
    placements = [None, (None, None, [0.5, -1, 1 / 2048]), (None, np.diag([1, -1, 0.5]), None)]
    check(launch, [mesh] * 3, placements, (8, 7, 6), 4)


def points(places) -> Mesh:
    """A mesh of triangles that are points."""
    return Mesh(places, np.repeat(np.arange(len(places)), 3).reshape(-1, 3))


def test_vertices_on_borders_of_cells_up_to_the_last_bit(launch, rng):
    """A scaled coordinate is on a border, or the next number to it, by how each operation rounds."""
    meshes = []
    for longest in rng.uniform(0.1, 10, 40):
        steps = np.concatenate([[[0, 0, 0], [20, 20, 20]], rng.integers(0, 21, (60, 3))])
        meshes.append(points(steps * (longest / 20)))
    check(launch, meshes, [None] * 40, (22, 22, 22), 20)
    rows = np.array([[0.1, 0.2, 0.3], [0.3, 0.1, 0.2], [0.7, 0.1, 0.2]])
    grid = points(np.stack(np.meshgrid(*[np.arange(-10.0, 11)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)[::7])
    corners = points(np.concatenate([grid.vertices, [[-10, -10, -10], [10, 10, 10]]]))
    placements = [(None, rows, None), (None, rows[:, ::-1], [0.1, 0.2, -0.3]), (rows, rows.T, None)]
    check(launch, [corners] * 3, placements, (40, 40, 40), 20)


def test_a_mesh_far_from_zero_and_one_as_large_as_float64_allows(launch):
    far = points(1.2e308 + 1e306 * np.arange(30.0).reshape(-1, 3))
    large = points([[-8e307, 0, 0], [8e307, 1, -4e307], [1, 2, 3]])
    check(launch, [far, large], [None, None], (12, 12, 12), 10)


def test_points_flat_meshes_and_segments(launch):
    meshes = [Mesh([[5.0, 6, 7]], [[0, 0, 0]]), Mesh([[0.0, 0, 0], [0, 0, 9]], [[0, 1, 0]]),
              Mesh([[0.0, 0, 0], [1, 0, 0], [1, 1, 0]], [[0, 1, 2]])]
    check(launch, meshes, [None] * 3, (10, 10, 10), 6)


def test_a_mesh_beside_its_grid_and_a_rotation_that_needs_rounding(launch, rng):
    mesh = random_mesh(rng)
    far = Augmentation("so3").draw(rng, 9)[:2]
    placements = [(*far, [90, 0, 0]), (*far, [0, -1e6, 3.25]), (*far, [0, 0, 0.1])]
    dropped = check(launch, [mesh] * 3, placements, (9, 9, 9), 9)
    assert dropped[0] > 0 and dropped[1] > 0


def test_a_hollow_cube_is_filled_where_the_grid_ends_too(launch):
    cube = Mesh([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)],
                [[0, 1, 3], [0, 3, 2], [4, 7, 5], [4, 6, 7], [0, 5, 1], [0, 4, 5],
                 [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]])
    shifts = [[0, 0, 0], *(sign * np.array(shift) for sign in (6, -6) for shift in np.eye(3)), [-40, 0, 0]]
    placements = [(None, None, shift) for shift in shifts]
    sites, _ = run(launch, [cube] * 8, placements, (36, 36, 36), 34, fill=True)
    one_side_open = 34 * 34 + 4 * 33 * 28  # a floor and walls
    assert np.bincount(sites[:, 0], minlength=8).tolist() == [34**3, *[one_side_open] * 6, 0]
    check(launch, [cube] * 8, placements, (36, 36, 36), 34, fill=True)


def test_real_meshes(launch, rng, data_root):
    meshes = [read_mesh(data_root / "psb" / "meshes" / f"m{number}.off") for number in (100, 1000)]
    placements = [Augmentation("upright").draw(rng, 40) for _ in meshes]
    check(launch, meshes, placements, (126, 126, 126), 40)


def test_no_meshes(launch):
    sites, dropped = run(launch, [], [], (4, 4, 4), 3)
    assert sites.shape == (0, 4) and dropped.shape == (0,)


@pytest.mark.parametrize(("mesh", "placement", "render_size", "message"), [
    (Mesh([[-1.5e308, 0, 0], [1.5e308, 0, 0], [0, 1, 1]], [[0, 1, 2]]), None, 8, "mesh 1.*float64 can"),
    (Mesh([[1e308, 0, 0], [0, 1e308, 0], [0, 1, 1]], [[0, 1, 2]]), (np.ones((3, 3)) * 3, None, None), 8,
     "mesh 1.*float64 can"),
    (Mesh([[0.0, 0, 0], [1, 0, 0], [0, 1, 1]], [[0, 1, 2]]), (None, None, [0, 2.0**31, 0]), 8, "mesh 1.*cells from"),
    (Mesh([[0.0, 0, 0], [1, 0, 0], [0, 1, 1]], [[0, 1, 2]]), (None, np.diag([100, 0.1, 0.1]), None), 8, "mesh 1.*700"),
    (Mesh([[0.0, 0, 0], [1, 0, 0], [0, 1, 1]], [[0, 1, 2]]), (None, None, [np.nan, 0, 0]), 8, "expected finite"),
])
def test_the_mesh_that_cannot_be_placed_is_named(launch, mesh, placement, render_size, message):
    good = Mesh([[0.0, 0, 0], [1, 0, 0], [0, 1, 1]], [[0, 1, 2]])
    with pytest.raises(ValueError, match=message):
        run(launch, [good, mesh], [None, placement], (8, 8, 8), render_size)


def test_faces_that_name_no_vertex(launch):
    batch = MeshBatch([Mesh([[0.0, 0, 0], [1, 0, 0], [0, 1, 1]], [[0, 1, 2]])] * 2)
    for wrong in (3, -1):
        batch.faces[1, 2] = wrong
        with pytest.raises(ValueError, match="mesh 1: .*refer to vertices"):
            launch("voxelize_meshes", batch.vertices, batch.vertex_splits, batch.faces, batch.face_splits,
                   pack_placements([None, None]), (4, 4, 4), 4, False)


@pytest.mark.parametrize("backend", ["cuda"], indirect=True)
def test_one_wait_for_the_device(launch, rng):
    before = fetches()
    run(launch, [random_mesh(rng)] * 3, [None] * 3, (9, 9, 9), 6, fill=True)
    assert fetches() == before + 1


def test_the_identity_changes_no_bit(rng):
    """`None` and the identity are the same placement: so a batch may hold both."""
    vertices = np.concatenate([rng.normal(size=(50, 3)), [[0.0, -0.0, 1], [-0.0, 0, -1]]])
    with_none = place(vertices, (9, 9, 9), 7)
    np.testing.assert_array_equal(place(vertices, (9, 9, 9), 7, np.eye(3), np.eye(3), np.zeros(3)), with_none)
