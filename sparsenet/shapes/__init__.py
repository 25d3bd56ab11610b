"""Shapes: mesh files, voxelization, augmentation, and ten parametric classes."""

from sparsenet.shapes.augment import Augmentation, rotation_matrix
from sparsenet.shapes.batch import MeshBatch
from sparsenet.shapes.mesh import Mesh, MeshError
from sparsenet.shapes.parametric import CLASSES, parametric_mesh
from sparsenet.shapes.picture import Off3DPicture
from sparsenet.shapes.reading import read_mesh, read_points
from sparsenet.shapes.treatment import Voxelization
from sparsenet.shapes.voxelization import Voxels, voxelize

__all__ = ["CLASSES", "Augmentation", "Mesh", "MeshBatch", "MeshError", "Off3DPicture", "Voxelization", "Voxels",
           "parametric_mesh", "read_mesh", "read_points", "rotation_matrix", "voxelize"]
