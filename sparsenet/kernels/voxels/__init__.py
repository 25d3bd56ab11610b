"""Meshes to active cells.

    placement.py   the place of vertices in the grid
    cpu.py         the cells that a mesh meets, and those inside it
    meshes.py      a batch of meshes
    cuda.py        on a GPU, through placement.cu, voxelize.cu and cells.cu
"""

from sparsenet.kernels.voxels.contract import LATTICE, MeshFault
from sparsenet.kernels.voxels.placement import place

__all__ = ["LATTICE", "MeshFault", "place"]
