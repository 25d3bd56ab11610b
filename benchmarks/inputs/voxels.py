"""Voxelization of balls at render size 40 in a grid of 60^3; filling of the spheres of a scene."""

from __future__ import annotations

import numpy as np

from benchmarks.inputs import Inputs, Scene
from benchmarks.inputs.scene import BATCH, sphere
from sparsenet.kernels.voxels import place
from sparsenet.shapes import MeshBatch
from sparsenet.shapes.batch import pack_placements

RENDER_SIZE, GRID = 40, (60, 60, 60)


def voxelize_triangles(scene: Scene) -> Inputs:
    mesh = scene.mesh()
    return Inputs((place(mesh.vertices, GRID, RENDER_SIZE), mesh.faces, GRID))


def fill_solid(scene: Scene) -> Inputs:
    cells, side = sphere(scene.size)
    return Inputs((cells, (side,) * 3))


def voxelize_meshes(scene: Scene) -> Inputs:
    turns = [np.linalg.qr(scene.rng.standard_normal((3, 3)))[0] for _ in range(BATCH)]
    batch = MeshBatch([Scene(max(BATCH, scene.size // BATCH)).mesh() for _ in turns])
    placements = pack_placements([(turn, None, None) for turn in turns])
    return Inputs((batch.vertices, batch.vertex_splits, batch.faces, batch.face_splits, placements, GRID, RENDER_SIZE,
                   False))
