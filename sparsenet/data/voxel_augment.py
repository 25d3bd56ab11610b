"""Augmentation by moving whole cells, for datasets without meshes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class VoxelAugmentation:
    """Augmentation without resampling: each transformation maps cells to cells.

    shift : whole cells along each axis, drawn uniformly from -shift ... shift
    quarter_turns : rotate by a uniform multiple of 90 degrees about the up axis (3 dimensions)
    mirror : flip with probability 1/2 along the first axis other than the up axis
    up_axis : 0, 1 or 2

    Raises ValueError for a negative or fractional shift, or another axis.
    """

    shift: int = 0
    quarter_turns: bool = False
    mirror: bool = False
    up_axis: int = 2

    def __post_init__(self) -> None:
        if not isinstance(self.shift, int | np.integer) or not 0 <= self.shift < 2**31:
            raise ValueError(f"VoxelAugmentation: shift is {self.shift!r}, expected whole cells, 0 to {2**31 - 1}")
        if self.up_axis not in (0, 1, 2):
            raise ValueError(f"VoxelAugmentation: up_axis is {self.up_axis!r}, expected 0, 1 or 2")

    def apply(self, cells: np.ndarray, sides: tuple[int, ...], rng: np.random.Generator
              ) -> tuple[np.ndarray, tuple[int, ...], np.ndarray]:
        """Transform the cells (n, D) int32 of a grid with these sides.

        Returns
        -------
        cells (n, D) int32 in the same row order, inside the new grid; its sides (swapped by an odd
        number of quarter turns); and the shift (D,) int64 to add to the cells.
        """
        cells = cells.copy()
        shift = rng.integers(-self.shift, self.shift + 1, len(sides))
        turns = int(rng.integers(4))
        flipped = bool(rng.integers(2))
        first, *others = [axis for axis in range(len(sides)) if axis != self.up_axis]
        if self.quarter_turns:
            second = others[0]
            for _ in range(turns):  # (x, y) -> (-y, x) about the centre
                cells[:, [first, second]] = cells[:, [second, first]]
                sides = _swapped(sides, first, second)
                cells[:, first] = sides[first] - 1 - cells[:, first]
        if self.mirror and flipped:
            cells[:, first] = sides[first] - 1 - cells[:, first]
        return cells, sides, shift


def _swapped(sides: tuple[int, ...], first: int, second: int) -> tuple[int, ...]:
    result = list(sides)
    result[first], result[second] = sides[second], sides[first]
    return tuple(result)
