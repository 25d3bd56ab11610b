"""Triangulates polygons: fans for convex ones, ear clipping for the others.

Each polygon is projected to the plane orthogonal to its vector area (Newell's normal).  There it is convex
if it turns left at every corner and winds once.  Ears are clipped from all other polygons in parallel, one
per step (G. H. Meisters, 'Polygons have ears', 1975: a simple polygon always has an ear; if a
self-intersecting one has none, its most convex corner is clipped, so that every polygon takes n - 2 steps).
"""

from __future__ import annotations

import numpy as np

from sparsenet.shapes.mesh import Mesh, MeshError

# Relative to the squared size of a polygon: a corner that turns by less is straight.
STRAIGHT = 1e-12
# Limit of the sum of squared corner counts over all clipped polygons: a few seconds of work.
MAX_CLIPPING = 2**26
_BLOCK = 2**16  # corners processed in parallel


def mesh_of_polygons(vertices: np.ndarray, corners: np.ndarray, sizes: np.ndarray) -> Mesh:
    """The mesh of polygons, n - 2 triangles for each with n corners, in order; those with n < 3 are left out.

    Parameters
    ----------
    vertices : (V, 3) float64
    corners : (C,) integers, indices into `vertices`: the corners of the first polygon, of the second, ...
    sizes : (P,) integers, the number of corners of each polygon; they sum to C

    Raises
    ------
    MeshError : no triangle, concave polygons with too many corners, or see `Mesh`.
    """
    corners, sizes = np.asarray(corners, np.int64), np.asarray(sizes, np.int64)
    starts = np.cumsum(sizes) - sizes
    if not (sizes == 3).all():
        starts, sizes = starts[sizes >= 3], sizes[sizes >= 3]
    polygon = np.repeat(np.arange(len(sizes)), np.maximum(sizes - 2, 0))
    first = np.cumsum(sizes - 2) - (sizes - 2)  # the first triangle of each polygon
    step = np.arange(len(polygon)) - first[polygon]
    places = starts[polygon][:, None] + np.stack([np.zeros_like(step), step + 1, step + 2], axis=1)
    fans = Mesh(vertices, corners[places])
    rows = np.flatnonzero(sizes > 3)
    blocks = _blocks(rows, sizes, equal=True)
    concave = [block[~_convex(_flat(fans.vertices, corners, starts[block], sizes[block[0]]))] for block in blocks]
    rows = np.concatenate([np.zeros(0, np.int64), *concave])
    if not len(rows):
        return fans
    if (sizes[rows]**2).sum() > MAX_CLIPPING:
        raise MeshError(f"{len(rows)} concave faces have up to {sizes[rows].max()} corners, too many to "
                        "triangulate here: triangulate them when exporting the mesh")
    faces = fans.faces.copy()
    for polygons in _blocks(rows, sizes):
        triangles = _clip(fans.vertices, corners, starts[polygons], sizes[polygons])
        for number, row in enumerate(polygons):
            faces[first[row]:first[row] + sizes[row] - 2] = triangles[number, :sizes[row] - 2]
    return Mesh(fans.vertices, faces)


def _blocks(rows: np.ndarray, sizes: np.ndarray, equal: bool = False) -> list[np.ndarray]:
    """Groups of polygons of equal or similar size, with at most _BLOCK corners each."""
    rows = rows[np.argsort(sizes[rows], kind="stable")]
    widths = sizes[rows] if equal else 2**np.ceil(np.log2(sizes[rows])).astype(np.int64)
    blocks = []
    for run in np.split(rows, np.flatnonzero(np.diff(widths)) + 1):
        per_block = max(1, _BLOCK // int(sizes[run].max(initial=1)))
        blocks += [run[start:start + per_block] for start in range(0, len(run), per_block)]
    return blocks


def _flat(vertices: np.ndarray, corners: np.ndarray, starts: np.ndarray, size: int) -> np.ndarray:
    """(m, size, 2) polygons in their planes, counter-clockwise, scaled to size 1 and relative to the first corner.

    A polygon without a vector area (collinear, or two lobes of opposite orientation) gives zeros.
    """
    points = vertices[corners[starts[:, None] + np.arange(size)]]
    largest = np.abs(points).max(axis=(1, 2), keepdims=True)
    points = points / np.where(largest > 0, largest, 1)  # avoids overflow
    points = points - points[:, :1]
    extent = np.abs(points).max(axis=(1, 2), keepdims=True)
    points = points / np.where(extent > 0, extent, 1)
    normal = np.cross(points, np.roll(points, -1, axis=1)).sum(axis=1)
    length = np.sqrt((normal**2).sum(axis=1, keepdims=True))
    normal = np.where(length > STRAIGHT, normal / np.where(length > STRAIGHT, length, 1), 0)
    axis = np.eye(3)[np.abs(normal).argmin(axis=1)]  # a plane along two coordinate axes gets these axes
    right = np.cross(axis, normal)
    norm = np.sqrt((right**2).sum(axis=1, keepdims=True))
    right /= np.where(norm > 0, norm, 1)
    up = np.cross(normal, right)
    return np.stack([(points * right[:, None]).sum(axis=2), (points * up[:, None]).sum(axis=2)], axis=2)


def _convex(points: np.ndarray) -> np.ndarray:
    """(m,) bool: whether polygons (m, n, 2) turn left at all corners and wind once; True without an area."""
    edges = np.roll(points, -1, axis=1) - points
    following = np.roll(edges, -1, axis=1)
    turn = _cross(edges, following)
    along = (edges * following).sum(axis=2)
    angles = np.where(np.abs(turn) > STRAIGHT, np.arctan2(turn, along), 0)
    back = (np.abs(turn) <= STRAIGHT) & (along < 0)  # a spike
    flat = np.abs(points).max(axis=(1, 2)) == 0
    return ((turn >= -STRAIGHT) & ~back).all(axis=1) & (angles.sum(axis=1) < 3 * np.pi) | flat


def _clip(vertices: np.ndarray, corners: np.ndarray, starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """(m, max(sizes) - 2, 3) indices into `vertices`: the triangles of m polygons, padded."""
    count, longest = len(sizes), int(sizes.max())
    flat = np.full((count, longest, 2), np.nan)
    for size in np.unique(sizes):
        same = sizes == size
        flat[same, :size] = _flat(vertices, corners, starts[same], int(size))
    clipping = _Clipping(flat, sizes)
    triangles = np.stack([clipping.next_ear() for _ in range(longest - 2)], axis=1)
    return corners[starts[:, None, None] + triangles]


class _Clipping:
    """Ear clipping of polygons in parallel: the corners are a linked ring, from which clipped ones are removed."""

    def __init__(self, points: np.ndarray, sizes: np.ndarray):
        self.points, self.left = points, sizes.copy()
        self.x, self.y = np.ascontiguousarray(points[:, :, 0]), np.ascontiguousarray(points[:, :, 1])
        self.rows = np.arange(len(sizes))
        places = np.arange(points.shape[1])
        self.alive = places < sizes[:, None]
        self.after = np.where(self.alive, (places + 1) % sizes[:, None], places)
        self.before = np.where(self.alive, (places - 1) % sizes[:, None], places)
        self.turn = np.full(points.shape[:2], -np.inf)
        self.ear = np.zeros(points.shape[:2], bool)
        for place in places:
            self._measure(np.full(len(sizes), place), turn_only=True)
        for place in places:
            self._measure(np.full(len(sizes), place))

    def next_ear(self) -> np.ndarray:
        """Clip an ear of each polygon.  Returns the positions of its corners (m, 3), zeros if none is left."""
        straight = self.alive & (np.abs(self.turn) <= STRAIGHT)
        # straight corners first, then ears, else the most convex corner; ties go to the first
        worth = np.where(straight, 3.0, np.where(self.ear, 2.0, np.tanh(self.turn)))
        tip = np.where(self.alive, worth, -2.0).argmax(axis=1)
        rows, before, after = self.rows, self.before[self.rows, tip], self.after[self.rows, tip]
        triangles = np.where(self.left[:, None] > 2, np.stack([before, tip, after], axis=1), 0)
        self.after[rows, before], self.before[rows, after] = after, before
        self.alive[rows, tip] = False
        self.left -= 1
        for place in (before, after):
            self._measure(place, turn_only=True)
        for place in (before, after):
            self._measure(place)
        return triangles

    def _measure(self, place: np.ndarray, turn_only: bool = False) -> None:
        """Find whether the corner at `place` of each polygon is convex, and an ear, with no other corner inside."""
        rows = self.rows
        triangle = [self.points[rows, corner] for corner in (self.before[rows, place], place, self.after[rows, place])]
        first, tip, last = triangle
        turn = np.where(self.alive[rows, place], _cross(tip - first, last - tip), -np.inf)
        self.turn[rows, place] = turn
        if turn_only:
            return
        inside = self.alive & (self.turn < -STRAIGHT)  # an ear that contains corners contains one that turns right
        for start, stop in ((first, tip), (tip, last), (last, first)):
            edge = (stop - start)[:, :, None]
            inside &= edge[:, 0] * (self.y - start[:, 1:]) - edge[:, 1] * (self.x - start[:, :1]) >= -STRAIGHT
        polygons, within = inside.nonzero()
        points = self.points[polygons, within]  # corners that coincide with the ear's, as at a slit, do not count
        distinct = np.all([(points != corner[polygons]).any(axis=1) for corner in triangle], axis=0)
        self.ear[rows, place] = turn > STRAIGHT
        self.ear[polygons[distinct], place[polygons[distinct]]] = False


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
