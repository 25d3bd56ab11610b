"""MeshBatch: packing, selecting, and sites that are those of each mesh alone."""

from __future__ import annotations

import numpy as np
import pytest

from sparsenet.random import keyed_rng
from sparsenet.shapes import CLASSES, Augmentation, Mesh, MeshBatch, parametric_mesh, voxelize

MESHES = [parametric_mesh(name, keyed_rng(number)) for number, name in enumerate(CLASSES[:3])]


def test_sites_are_those_of_each_mesh_alone(rng):
    placements = [Augmentation("so3").draw(rng, 20), None, (None, None, [25, 0, 0])]
    sites, dropped = MeshBatch(MESHES).voxelize(30, 20, placements)
    assert sites.batch_size == 3 and sites.spatial_size == (30, 30, 30)
    for number, (mesh, placement) in enumerate(zip(MESHES, placements, strict=True)):
        voxels = voxelize(mesh, 30, 20, *(placement or ()))
        rows = slice(*sites.batch_splits[number:number + 2])
        np.testing.assert_array_equal(sites.coordinates[rows, 1:], voxels.coordinates)
        assert dropped[number] == voxels.dropped


def test_fill_and_no_placements():
    batch = MeshBatch(MESHES)
    for fill in (False, True):
        sites, _ = batch.voxelize((20, 21, 22), 18, fill=fill)
        counts = [len(voxelize(mesh, (20, 21, 22), 18, fill=fill).coordinates) for mesh in MESHES]
        assert np.diff(sites.batch_splits).tolist() == counts


def test_select_takes_meshes_in_any_order_and_again():
    chosen = MeshBatch(MESHES).select([2, 0, 2])
    direct = MeshBatch([MESHES[2], MESHES[0], MESHES[2]])
    assert len(chosen) == 3 and len(MeshBatch(MESHES).select([])) == 0
    for name in ("vertices", "faces", "vertex_splits", "face_splits"):
        np.testing.assert_array_equal(getattr(chosen, name), getattr(direct, name))


def test_vertices_that_no_face_uses_are_left_out():
    strayed = Mesh([[1e6, 0, 0], [0, 0, 0], [1, 0, 0], [0, 1, 1]], [[1, 2, 3]])
    assert len(MeshBatch([strayed, strayed]).vertices) == 6


def test_an_empty_batch():
    sites, dropped = MeshBatch([]).voxelize(8, 4)
    assert len(sites) == 0 and sites.batch_size == 0 and dropped.shape == (0,)


def test_one_placement_for_each_mesh():
    with pytest.raises(ValueError, match=r"placements have shape \(1, 21\), expected \(3, 21\)"):
        MeshBatch(MESHES).voxelize(8, 4, [None])
