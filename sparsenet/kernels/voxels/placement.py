"""The place of a mesh's vertices in a grid: the arithmetic that both backends share bit for bit."""

from __future__ import annotations

import operator

import numpy as np

from sparsenet.backend import array_module
from sparsenet.kernels.voxels.contract import LATTICE

_FARTHEST = 2.0**30  # cells from the centre: beyond, the lattice leaves the range of exact integers


@np.errstate(over="ignore", invalid="ignore")  # overflows are reported by name below
def place(vertices: np.ndarray, spatial_size: tuple[int, int, int], render_size: int,
          rotation: np.ndarray | None = None, affine: np.ndarray | None = None,
          shift: np.ndarray | None = None) -> np.ndarray:
    """Vertices (V, 3) float64 in any unit -> (V, 3) int64 on the lattice of 2048 steps to a cell.

    In the paper's order: rotate; centre by the bounding box and scale its longest side to
    `render_size` cells; then affine and shift, about the same centre.  The cube of render_size cells
    begins at cell floor((side - render_size) / 2) of each side of the grid, so that it is made of
    whole cells for any two sizes.  Finally each coordinate snaps to the odd multiple of 1/2048 of a cell
    that is nearest, ties towards the (shifted) centre: the surface of a mesh that fills the cube
    stays in the cube, and a shift by whole cells shifts the result.

    Every step is one operation of float64 on whole arrays, none is fused with another: the bits are
    the same on every backend.
    """
    cells = operator.index(render_size)
    if cells < 1:
        raise ValueError(f"voxelize: render_size is {render_size}, expected at least 1 cell")
    xp = array_module(vertices)
    axes = [xp.ascontiguousarray(vertices[:, axis]) for axis in range(3)]
    if rotation is not None:
        axes = _multiply(_numbers("rotation", rotation, (3, 3)), axes)
    bounds = [(float(axis.min()), float(axis.max())) for axis in axes]
    extents = [high - low for low, high in bounds]
    if not np.isfinite(extents).all():
        raise ValueError(f"voxelize: the mesh extends over {extents}, which float64 cannot hold: "
                         "scale it down")
    longest, half = max(extents), cells / 2
    if longest > 0:
        axes = [xp.clip((axis - (low / 2 + high / 2)) / longest * cells, -half, half)
                for axis, (low, high) in zip(axes, bounds, strict=True)]
    else:  # a single point
        axes = [xp.zeros_like(axis) for axis in axes]
    if affine is not None:
        axes = _multiply(_numbers("affine", affine, (3, 3)), axes)
    by = [0.0, 0.0, 0.0] if shift is None else _numbers("shift", shift, (3,)).tolist()
    farthest = max(float(xp.abs(axis + step).max()) for axis, step in zip(axes, by, strict=True))
    if not farthest < _FARTHEST:  # NaN comes here too
        raise ValueError(f"voxelize: a vertex comes to lie {farthest:g} cells from the centre, expected less "
                         f"than {_FARTHEST:g}: rotation, affine, shift or the mesh itself is too large")
    lattice = xp.empty((len(axes[0]), 3), np.int64)
    for axis, side in enumerate(spatial_size):
        centre = LATTICE * ((side - cells) // 2) + LATTICE // 2 * cells
        pairs = (axes[axis] + by[axis]) * (LATTICE / 2)
        steps = xp.where(axes[axis] > 0, 2 * xp.ceil(pairs) - 1, 2 * xp.floor(pairs) + 1)
        lattice[:, axis] = steps.astype(np.int64) + centre
    return lattice


def _multiply(matrix: np.ndarray, axes: list) -> list:
    return [a * axes[0] + b * axes[1] + c * axes[2] for a, b, c in matrix.tolist()]


def _numbers(name: str, values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    values = np.asarray(values, np.float64)
    if values.shape != shape:
        raise ValueError(f"voxelize: {name} has shape {values.shape}, expected {shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"voxelize: {name} is {values.tolist()}, expected finite numbers")
    return values
