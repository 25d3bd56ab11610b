"""Which cells of a grid a set of triangles meets, and the inside of a closed surface: in integers.

A vertex is a point of a lattice of 2048 steps to a cell.  Its coordinates are odd, so it never lies
on the border of a cell (borders are at multiples of 2048).  A triangle and a closed cell share no
point if, and only if, their shadows are disjoint on one of 13 axes (the separating-axis theorem, which
holds for triangles that are segments or points too): the 3 of the grid, the triangle's normal, and the
9 cross products of an edge and an axis of the grid.  All products fit int64, so nothing is rounded:

    the 3 axes of the grid      the cells between the triangle's lowest and highest corner
    edge x (x, y or z axis)     in the planes yz, xz and xy: each row of cells keeps an interval
    the triangle's normal       in each column (x, y): an interval of z

So the cells of one column (x, y) that a triangle meets are one interval of z: the intersection of the intervals
of row x of plane xz, of row y of plane yz and of the normal.

On a CPU one thread takes triangle after triangle; on a GPU (cuda.py) every column of every
triangle's box has a thread.
"""

from __future__ import annotations

import numpy as np

from sparsenet.kernels.cpu.numba_cache import compiled
from sparsenet.kernels.voxels import meshes  # noqa: F401  (registers its kernels)
from sparsenet.kernels.voxels.contract import FILL_SOLID as FILL
from sparsenet.kernels.voxels.contract import LATTICE as STEPS
from sparsenet.kernels.voxels.contract import VOXELIZE_TRIANGLES as VOXELIZE

HALF = STEPS // 2


@VOXELIZE.implementation("cpu")
def _voxelize_cpu(vertices, faces, spatial_size):
    """Cells that the triangles meet: (n, 3) int32 sorted row-major, and how many lie outside the grid.

    vertices : odd coordinates on the lattice; the cell (0, 0, 0) is [0, 2048]^3.
    """
    if not len(faces):
        return np.zeros((0, 3), np.int32), 0
    corners = vertices[faces.ravel()].reshape(-1, 9)
    low = corners.min(axis=0).reshape(3, 3).min(axis=0)
    high = corners.max(axis=0).reshape(3, 3).max(axis=0)
    first = low // STEPS
    cells = high // STEPS - first + 1
    occupied = np.zeros(tuple(int(n) for n in cells), bool)
    total = _mark(corners - np.tile(first * STEPS, 3), occupied)
    grid = np.array(spatial_size, np.int64)
    start = np.clip(-first, 0, cells)
    stop = np.clip(grid - first, start, cells)
    inside = occupied[start[0]:stop[0], start[1]:stop[1], start[2]:stop[2]]
    coordinates = _coordinates(inside, first + start)
    return coordinates, int(total) - len(coordinates)


@FILL.implementation("cpu")
def _fill_cpu(coordinates, spatial_size):
    """The cells and those they enclose, (n, 3) int32 sorted row-major.

    Enclosed is an inactive cell from which no path over faces of inactive cells leads to the border
    of the grid.  Nothing outside the box of the given cells can be enclosed, so only this box, with a
    margin of one cell if the grid has it, is searched.
    """
    if not len(coordinates):
        return np.zeros((0, 3), np.int32)
    size = np.array(spatial_size, np.int64)
    low, high = coordinates.min(axis=0).astype(np.int64), coordinates.max(axis=0).astype(np.int64)
    low, high = np.maximum(low - 1, 0), np.minimum(high + 1, size - 1)
    state = np.zeros(tuple(int(n) for n in high - low + 1), np.uint8)
    row = (coordinates - low).T
    state[row[0], row[1], row[2]] = 1
    _flood(state)
    return _coordinates(state != 2, low)  # given or enclosed: the flood did not come here


@compiled
def _mark(corners, occupied):
    """Set the cells that the triangles (F, 9) meet; return how many there are."""
    size_x, size_y, size_z = occupied.shape
    y_range = np.empty((2, size_x), np.int64)  # of plane xy, for every x
    z_range_x = np.empty((2, size_x), np.int64)  # of plane xz, for every x
    z_range_y = np.empty((2, size_y), np.int64)  # of plane yz, for every y
    x, y, z = np.empty(3, np.int64), np.empty(3, np.int64), np.empty(3, np.int64)
    total = 0
    for face in range(len(corners)):
        for corner in range(3):
            x[corner] = corners[face, 3 * corner]
            y[corner] = corners[face, 3 * corner + 1]
            z[corner] = corners[face, 3 * corner + 2]
        first_x, cells_x = _to_own_cell(x)
        first_y, cells_y = _to_own_cell(y)
        first_z, cells_z = _to_own_cell(z)
        # A triangle within one row of cells meets each of them, one that spreads is tested.
        spreads = (cells_x > 1) + (cells_y > 1) + (cells_z > 1) >= 2
        if spreads:
            _rows(x, y, cells_x, cells_y, y_range)
            _rows(x, z, cells_x, cells_z, z_range_x)
            _rows(y, z, cells_y, cells_z, z_range_y)
        normal_x = (y[1] - y[0]) * (z[2] - z[0]) - (z[1] - z[0]) * (y[2] - y[0])
        normal_y = (z[1] - z[0]) * (x[2] - x[0]) - (x[1] - x[0]) * (z[2] - z[0])
        normal_z = (x[1] - x[0]) * (y[2] - y[0]) - (y[1] - y[0]) * (x[2] - x[0])
        if normal_z < 0:
            normal_x, normal_y, normal_z = -normal_x, -normal_y, -normal_z
        extent = HALF * (abs(normal_x) + abs(normal_y) + normal_z)
        for i in range(cells_x):
            low_y, high_y = (y_range[0, i], y_range[1, i]) if spreads else (0, cells_y - 1)
            for j in range(low_y, high_y + 1):
                low, high = 0, cells_z - 1
                if spreads:
                    low = max(z_range_x[0, i], z_range_y[0, j])
                    high = min(z_range_x[1, i], z_range_y[1, j])
                    at_bottom = (normal_x * (STEPS * i + HALF - x[0]) + normal_y * (STEPS * j + HALF - y[0])
                                 + normal_z * (HALF - z[0]))
                    if normal_z > 0:
                        low = max(low, -((extent + at_bottom) // (STEPS * normal_z)))
                        high = min(high, (extent - at_bottom) // (STEPS * normal_z))
                    elif abs(at_bottom) > extent:
                        continue
                for k in range(low, high + 1):
                    if not occupied[first_x + i, first_y + j, first_z + k]:
                        occupied[first_x + i, first_y + j, first_z + k] = True
                        total += 1
    return total


@compiled
def _to_own_cell(values):
    """Measure a triangle's three coordinates from its first cell: returns that cell and how many it spans."""
    first = min(values[0], values[1], values[2]) // STEPS
    cells = max(values[0], values[1], values[2]) // STEPS - first + 1
    for corner in range(3):
        values[corner] -= STEPS * first
    return first, cells


@compiled
def _rows(a, b, cells_a, cells_b, interval):
    """For each row of cells along a, the interval of cells along b that the flat triangle (a, b) meets.

    An edge (da, db) has the normal (-db, da).  With da made positive, the cell at (i, k) stays if
    lowest - extent <= -db * centre(i) + da * centre(k) <= highest + extent.
    """
    interval[0, :cells_a] = 0
    interval[1, :cells_a] = cells_b - 1
    for edge in range(3):
        start, end, other = edge, (edge + 1) % 3, (edge + 2) % 3
        da, db = a[end] - a[start], b[end] - b[start]
        if da == 0:  # the normal is the axis a, on which every row meets the triangle
            continue
        if da < 0:
            da, db = -da, -db
        on_edge = da * b[start] - db * a[start]
        opposite = da * b[other] - db * a[other]
        extent = HALF * (da + abs(db))
        lowest = min(on_edge, opposite) - extent - da * HALF
        highest = max(on_edge, opposite) + extent - da * HALF
        for i in range(cells_a):
            at = db * (STEPS * i + HALF)
            interval[0, i] = max(interval[0, i], -((-lowest - at) // (STEPS * da)))
            interval[1, i] = min(interval[1, i], (highest + at) // (STEPS * da))


def _coordinates(chosen, origin):
    """The true cells of an array that begins at cell `origin` of the grid, row-major, as (n, 3) int32."""
    chosen = np.ascontiguousarray(chosen)
    coordinates = np.empty((np.count_nonzero(chosen), 3), np.int32)
    _list_cells(chosen, origin, coordinates)
    return coordinates


@compiled
def _list_cells(chosen, origin, coordinates):
    size_x, size_y, size_z = chosen.shape
    row = 0
    for i in range(size_x):
        for j in range(size_y):
            for k in range(size_z):
                if chosen[i, j, k]:
                    coordinates[row, 0] = origin[0] + i
                    coordinates[row, 1] = origin[1] + j
                    coordinates[row, 2] = origin[2] + k
                    row += 1


@compiled
def _flood(state):
    """Set to 2 the cells of state 0 that are connected, over faces, to the border of the array."""
    size_x, size_y, size_z = state.shape
    cells = state.reshape(-1)
    step_x, step_y = size_y * size_z, size_z
    stack = np.empty(len(cells), np.int64)
    depth = 0
    for i in range(size_x):
        for j in range(size_y):
            inner = 0 < i < size_x - 1 and 0 < j < size_y - 1
            for k in range(0, size_z, max(size_z - 1, 1) if inner else 1):
                if state[i, j, k] == 0:
                    state[i, j, k] = 2
                    stack[depth] = i * step_x + j * step_y + k
                    depth += 1
    while depth > 0:
        depth -= 1
        cell = stack[depth]
        i, j, k = cell // step_x, cell // step_y % size_y, cell % size_z
        for inside, neighbour in ((i > 0, cell - step_x), (i < size_x - 1, cell + step_x),
                                  (j > 0, cell - step_y), (j < size_y - 1, cell + step_y),
                                  (k > 0, cell - 1), (k < size_z - 1, cell + 1)):
            if inside and cells[neighbour] == 0:
                cells[neighbour] = 2
                stack[depth] = neighbour
                depth += 1
