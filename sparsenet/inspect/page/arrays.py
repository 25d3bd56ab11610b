"""Arrays for a browser: quantised, concatenated in one block of bytes, compressed."""

from __future__ import annotations

import base64
import gzip
from typing import Any

import numpy as np

_ALIGNMENT = 8  # a typed array of JavaScript starts at a multiple of its element size
_WIDE = {"i": np.int32, "u": np.uint32, "f": np.float32}


class Arrays:
    """Named arrays, read by `model.js`.

    places : name -> [dtype, offset in bytes, shape], little-endian and row-major
    """

    def __init__(self) -> None:
        self.places: dict[str, list[Any]] = {}
        self._parts: list[bytes] = []
        self._end = 0

    def add(self, name: str, array: np.ndarray) -> None:
        """Add an array of integers or floats; elements of more than 32 bits are reduced to 32."""
        array = np.ascontiguousarray(array)
        if array.dtype.itemsize > 4:
            array = array.astype(_WIDE[array.dtype.kind])
        self.places[name] = [array.dtype.name, self._end, list(array.shape)]
        raw = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        raw += bytes(-len(raw) % _ALIGNMENT)
        self._parts.append(raw)
        self._end += len(raw)

    def add_quantised(self, name: str, values: np.ndarray, bits: int) -> None:
        """Add values (N, C), quantised to integer steps between the minimum and maximum of each channel: as
        `name` (C, N) uint8 or uint16, and `name.range` (2, C) float32."""
        values = np.asarray(values, np.float64)
        given = values if len(values) else np.zeros((1, values.shape[1]))
        low, high = given.min(axis=0), given.max(axis=0)
        span = np.where(high > low, high - low, 1)
        steps = np.rint((values - low) / span * (2**bits - 1)).astype(f"uint{bits}")
        self.add(name, steps.T)
        self.add(f"{name}.range", np.stack([low, high]).astype(np.float32))

    def content(self) -> bytes:
        """The bytes of all arrays, each at its offset."""
        return b"".join(self._parts)


def smallest_unsigned(array: np.ndarray) -> np.ndarray:
    """Non-negative integers in the smallest unsigned dtype that holds the largest."""
    return array.astype(np.min_scalar_type(int(array.max(initial=0))))


def packed_bits(cells: np.ndarray) -> tuple[np.ndarray, tuple[int, ...], np.ndarray]:
    """Cells (n, 3), at least one, as the bits of their bounding box, row-major, the first cell in the highest bit.

    Returns
    -------
    low : (3,), the first cell of the box;  size : its sides;  bits : uint8
    """
    low = cells.min(axis=0)
    grid = np.zeros(cells.max(axis=0) - low + 1, bool)
    grid[tuple((cells - low).T)] = True
    return low, grid.shape, np.packbits(grid)


def base64_gzip(content: bytes) -> str:
    """The content as base64 text of gzip data, which the page decompresses; deterministic."""
    return base64.b64encode(gzip.compress(content, 9, mtime=0)).decode("ascii")
