"""Meshes to active cells.

    placement.py   where vertices come to lie in the grid; placement.cu does the same on a GPU
    cpu.py         the cells of one mesh, and those inside it
    meshes.py      a batch of meshes
    cuda.py        on a GPU, through voxelize.cu and cells.cu
"""
