"""Small dataset files for the tests of this folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sparsenet.data import Sample, SparseDataset
from sparsenet.shapes import Mesh

CUBE = np.array([[x, y, z] for x in (0.0, 1) for y in (0.0, 1) for z in (0.0, 1)])
CUBE_FACES = np.array([[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1],
                       [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]])


def box(*sides: float) -> Mesh:
    return Mesh(CUBE * sides, CUBE_FACES)


def random_cells(rng: np.random.Generator, sides: tuple[int, ...], count: int) -> np.ndarray:
    keys = rng.choice(int(np.prod(sides)), count, replace=False)
    return np.stack(np.unravel_index(keys, sides), axis=1)


@pytest.fixture
def voxels(tmp_path: Path, rng: np.random.Generator):
    """12 objects of 3 classes in 3 poses each, in an 8 x 9 x 7 grid; every fourth object is test.
    Object 5 has no cell in pose 1."""
    sides = (8, 9, 7)

    def samples():
        for number in range(12):
            for pose in range(3):
                cells = random_cells(rng, sides, 0 if (number, pose) == (5, 1) else 5 + number + pose)
                yield Sample(cells, number % 3, f"class{number % 3}/object{number:02d}",
                             "test" if number % 4 == 3 else "train", number, pose)

    with SparseDataset.create(tmp_path / "voxels.h5", samples(), sides, 7, ["a", "b", "c"]) as dataset:
        yield dataset


@pytest.fixture
def corners(tmp_path: Path):
    """One tetrahedron at render size 10 with its mesh: none of its symmetries maps it to itself, and one of its corners
    lies in the middle planes of its bounding box across x and y."""
    from sparsenet.shapes import Off3DPicture

    mesh = Mesh(np.array([[0.0, 0, 0], [10, 2, 0], [3, 10, 2], [5, 5, 9]]),
                np.array([[0, 1, 2], [0, 1, 3], [0, 2, 3], [1, 2, 3]]))
    cells, _ = Off3DPicture(mesh, 10).voxelize(10)
    samples = [Sample(cells, 0, "corner", "train", mesh=mesh)]
    with SparseDataset.create(tmp_path / "corners.h5", samples, (10,) * 3, 10, ["corner"]) as dataset:
        yield dataset


@pytest.fixture
def meshes(tmp_path: Path):
    """Six boxes of different proportions at render size 10, with their meshes."""
    from sparsenet.shapes import Off3DPicture

    def samples():
        for number in range(6):
            mesh = box(1, 0.3 + 0.1 * number, 0.7)
            cells, _ = Off3DPicture(mesh, 10).voxelize(10)
            yield Sample(cells, number % 2, f"box{number}", "train", mesh=mesh)

    with SparseDataset.create(tmp_path / "meshes.h5", samples(), (10,) * 3, 10, ["thin", "thick"]) as dataset:
        yield dataset
