"""Draws the voxels of one shape on 3-D axes of matplotlib, only the faces visible from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from mpl_toolkits.mplot3d import Axes3D

# Corners of a cell's face towards +axis and -axis, as steps along (axis, axis+1, axis+2).
_QUAD = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
_LIGHT = np.array([0.25, -0.45, 0.86])  # direction of the light: front, left, above


def exposed_faces(coordinates: Any) -> tuple[np.ndarray, np.ndarray]:
    """The faces of cells not covered by a neighbouring cell.

    Parameters
    ----------
    coordinates : (n, 3) int, cells in any order

    Returns
    -------
    corners : (F, 4, 3) float64, in cells; cell c fills c to c+1
    normals : (F, 3) float64, outward unit vectors
    """
    cells = np.asarray(coordinates)
    if cells.ndim != 2 or cells.shape[1] != 3:
        raise ValueError(f"exposed_faces: coordinates have shape {cells.shape}, expected (n, 3)")
    if not len(cells):
        return np.empty((0, 4, 3)), np.empty((0, 3))
    origin = cells.min(axis=0) - 1  # a margin of one empty cell
    grid = np.zeros(cells.max(axis=0) - origin + 2, bool)
    grid[tuple((cells - origin).T)] = True
    corners, normals = [], []
    for axis in range(3):
        for side in (-1, 1):
            bare = np.argwhere(grid & ~np.roll(grid, -side, axis)) + origin
            face = np.zeros((4, 3))
            face[:, axis] = side > 0
            face[:, [(axis + 1) % 3, (axis + 2) % 3]] = _QUAD
            corners.append(bare[:, None, :] + face)
            normal = np.zeros(3)
            normal[axis] = side
            normals.append(np.broadcast_to(normal, bare.shape))
    return np.concatenate(corners), np.concatenate(normals)


def _cells_of(coordinates: Any, corners: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """(F,): the row of each face's cell."""
    cells, low = np.asarray(coordinates), np.min(coordinates, axis=0)
    shape = np.max(coordinates, axis=0) - low + 1
    rows = np.zeros(shape, np.int64)
    rows[tuple((cells - low).T)] = np.arange(len(cells))
    inside = np.floor(corners.mean(axis=1) - normals / 2).astype(np.int64) - low
    return rows[tuple(inside.T)]


def draw_voxels(axes: Axes3D, coordinates: Any, colour: Any = "#6f93b8", elevation: float = 22.0,
                azimuth: float = -55.0) -> None:
    """Draw cells (n, 3) on 3-D axes: shaded, equal aspect, no frame; axis 2 is up.

    colour : one matplotlib colour for all, or (n, 3) float, red, green and blue of each cell
    elevation, azimuth : degrees, the viewpoint
    """
    from matplotlib.colors import to_rgb
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection

    corners, normals = exposed_faces(coordinates)
    axes.set_axis_off()
    axes.view_init(elev=elevation, azim=azimuth)
    axes.set_box_aspect((1, 1, 1), zoom=1.25)
    if not len(corners):
        axes.text2D(0.5, 0.5, "no voxels", transform=axes.transAxes, ha="center", va="center", color="0.5")
        return
    turn = np.radians(azimuth + 90)  # the light rotates with the viewpoint
    light = np.array([_LIGHT[0] * np.cos(turn) - _LIGHT[1] * np.sin(turn),
                      _LIGHT[0] * np.sin(turn) + _LIGHT[1] * np.cos(turn), _LIGHT[2]])
    shade = 0.74 + 0.36 * (normals @ light)
    each = np.ndim(colour) == 2
    base = np.asarray(colour)[_cells_of(coordinates, corners, normals)] if each else np.array(to_rgb(colour))
    faces = np.clip(shade[:, None] * base, 0, 1)
    axes.add_collection3d(Poly3DCollection(corners, facecolors=faces, edgecolors=0.8 * faces, linewidths=0.25))
    low, high = corners.min(axis=(0, 1)), corners.max(axis=(0, 1))
    centre, half = (low + high) / 2, (high - low).max() / 2
    axes.set(xlim=(centre[0] - half, centre[0] + half), ylim=(centre[1] - half, centre[1] + half),
             zlim=(centre[2] - half, centre[2] + half))
