"""Readers with a fault each, which the campaign of damaged meshes must find."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np

from sparsenet.shapes import Mesh, MeshError

TRIANGLE = Mesh(np.eye(3), [[0, 1, 2]])


def crashes(path: Path) -> Mesh:
    os.abort()


def raises(path: Path) -> Mesh:
    raise IndexError("list index out of range")


def warns(path: Path) -> Mesh:
    warnings.warn("overflow", RuntimeWarning, stacklevel=1)
    return TRIANGLE


def takes_three_gigabytes(path: Path) -> Mesh:
    bytearray(3 * 2**30)
    return TRIANGLE


def hangs(path: Path) -> Mesh:
    while True:
        pass


def talks_in_two_lines(path: Path) -> Mesh:
    raise MeshError(f"{path}: it is wrong\nin two ways")


def names_no_file(path: Path) -> Mesh:
    raise MeshError("it is wrong")


def gives_what_is_not_finite(path: Path) -> Mesh:
    mesh = Mesh(np.eye(3), [[0, 1, 2]])
    mesh.vertices[0, 0] = np.nan
    return mesh
