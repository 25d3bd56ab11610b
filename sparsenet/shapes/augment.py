"""Augmentation of a shape: random rotation, then affine map and shift, as in the paper; quarter turns and mirror."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ROTATIONS = ("none", "upright", "so3")


def rotation_matrix(kind: str, rng: np.random.Generator, up_axis: int = 2) -> np.ndarray:
    """A random rotation matrix, (3, 3) float64, for column vectors.

    Parameters
    ----------
    kind : "none" (the identity), "upright" (a uniform angle about the up axis), or "so3" (uniform over
        all rotations: the direction of a 4-vector of normals is a uniform unit quaternion)
    rng : random generator (see `sparsenet.random.keyed_rng`)
    up_axis : 0, 1 or 2; in PSB and ModelNet z is up (2), in GLB files y (1)

    Raises
    ------
    ValueError : an unknown kind or axis.
    """
    _check(kind, up_axis)
    if kind == "none":
        return np.eye(3)
    if kind == "upright":
        return rotation_about(up_axis, rng.uniform(0, 2 * np.pi))
    quaternion = rng.standard_normal(4)
    while not np.linalg.norm(quaternion) > 1e-6:  # too short to have a direction
        quaternion = rng.standard_normal(4)
    w, x, y, z = quaternion / np.linalg.norm(quaternion)
    return np.array([[1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
                     [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
                     [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]])


def rotation_about(axis: int, angle: float) -> np.ndarray:
    """The (3, 3) rotation by an angle, in radians, about a coordinate axis."""
    matrix = np.eye(3)
    first, second = (axis + 1) % 3, (axis + 2) % 3
    matrix[first, first] = matrix[second, second] = np.cos(angle)
    matrix[second, first], matrix[first, second] = np.sin(angle), -np.sin(angle)
    return matrix


@dataclass(frozen=True)
class Augmentation:
    """Random placement of shapes.  The paper trains with affine and shift of 0.2, and tests with
    rotations only (both 0).

    Quarter turns and mirror alone move whole cells, stored or voxelized, as `VoxelAugmentation` does.

    Parameters
    ----------
    rotation : "none", "upright" or "so3" (see `rotation_matrix`)
    affine : the matrix is I plus U(-affine, affine) in each entry
    shift : the shift is render_size * U(-shift, shift) cells along each axis
    up_axis : the axis of "upright" rotations and of the quarter turns: 0, 1 or 2
    quarter_turns : at last turn by a uniform multiple of 90 degrees about the up axis
    mirror : then flip with probability 1/2 along the first axis other than the up axis

    Raises
    ------
    ValueError : an unknown rotation or axis, a negative or infinite amount.

    Example
    -------
    >>> from sparsenet.random import keyed_rng
    >>> rotation, affine, shift = Augmentation("upright").draw(keyed_rng(0, "epoch", 3, "sample", 17), render_size=40)
    >>> rotation.shape, affine.shape, bool(abs(shift).max() <= 8)
    ((3, 3), (3, 3), True)
    """

    rotation: str
    affine: float = 0.2
    shift: float = 0.2
    up_axis: int = 2
    quarter_turns: bool = False
    mirror: bool = False

    def __post_init__(self) -> None:
        _check(self.rotation, self.up_axis)
        for name in ("affine", "shift"):
            amount = getattr(self, name)
            if not 0 <= amount < np.inf:
                raise ValueError(f"Augmentation: {name} is {amount}, expected 0 or a positive number")

    def draw(self, rng: np.random.Generator, render_size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """One placement: rotation (3, 3), affine (3, 3) and shift (3,) in cells, all float64.

        Quarter turn and mirror come after the shift, so they are part of the last two.
        """
        rotation = rotation_matrix(self.rotation, rng, self.up_axis)
        affine = np.eye(3) + rng.uniform(-self.affine, self.affine, (3, 3))
        shift = render_size * rng.uniform(-self.shift, self.shift, 3)
        if self.quarter_turns or self.mirror:  # drawn last: without them the other draws stay as they are
            turns, flipped = int(rng.integers(4)), bool(rng.integers(2))
            move = symmetry_matrix(turns if self.quarter_turns else 0, flipped and self.mirror, self.up_axis)
            affine, shift = move @ affine, move @ shift
        return rotation, affine, shift


def symmetry_matrix(quarter_turns: int, mirrored: bool, up_axis: int = 2) -> np.ndarray:
    """(3, 3) float64 of 0, 1 and -1: quarter turns about the up axis, then a flip of the first other axis.

    A quarter turn maps the two axes other than the up axis, in ascending order, as (x, y) -> (-y, x).
    """
    first, second = (axis for axis in range(3) if axis != up_axis)
    turn, flip = np.eye(3), np.eye(3)
    turn[[first, second], [first, second]] = 0.0
    turn[first, second], turn[second, first] = -1.0, 1.0
    flip[first, first] = -1.0 if mirrored else 1.0
    return flip @ np.linalg.matrix_power(turn, quarter_turns % 4) + 0.0  # no -0.0


def _check(kind: str, up_axis: int) -> None:
    if kind not in ROTATIONS:
        raise ValueError(f"rotation is {kind!r}, expected one of {', '.join(ROTATIONS)}")
    if up_axis not in (0, 1, 2):
        raise ValueError(f"up_axis is {up_axis!r}, expected 0, 1 or 2")
