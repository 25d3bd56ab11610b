"""Numbers for a browser: quantised, one after the other in one block of bytes, compressed."""

from __future__ import annotations

import base64
import gzip
from typing import Any

import numpy as np

_ALIGNMENT = 8  # a typed array of JavaScript begins at a multiple of its element's size
_WIDE = {"i": np.int32, "u": np.uint32, "f": np.float32}


class Arrays:
    """Named arrays, for `model.js` to take apart.

    places : name -> [dtype, offset in bytes, shape], little-endian and row-major
    """

    def __init__(self) -> None:
        self.places: dict[str, list[Any]] = {}
        self._parts: list[bytes] = []
        self._end = 0

    def add(self, name: str, array: np.ndarray) -> None:
        """Keep an array of integers or floats; more than 32 bits an element are cut to 32."""
        array = np.ascontiguousarray(array)
        if array.dtype.itemsize > 4:
            array = array.astype(_WIDE[array.dtype.kind])
        self.places[name] = [array.dtype.name, self._end, list(array.shape)]
        raw = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        raw += bytes(-len(raw) % _ALIGNMENT)
        self._parts.append(raw)
        self._end += len(raw)

    def add_quantised(self, name: str, values: np.ndarray, bits: int) -> None:
        """Keep values (N, C) as whole steps between each channel's lowest and highest: as `name`
        (C, N) uint8 or uint16, and `name.range` (2, C) float32."""
        values = np.asarray(values, np.float64)
        given = values if len(values) else np.zeros((1, values.shape[1]))
        low, high = given.min(axis=0), given.max(axis=0)
        span = np.where(high > low, high - low, 1)
        steps = np.rint((values - low) / span * (2**bits - 1)).astype(f"uint{bits}")
        self.add(name, steps.T)
        self.add(f"{name}.range", np.stack([low, high]).astype(np.float32))

    def content(self) -> bytes:
        """All arrays, each at its place."""
        return b"".join(self._parts)


def smallest_unsigned(array: np.ndarray) -> np.ndarray:
    """The same whole numbers, none negative, in as few bytes as hold the largest."""
    return array.astype(np.min_scalar_type(int(array.max(initial=0))))


def base64_gzip(content: bytes) -> str:
    """Text that a page inflates again; the same for the same content."""
    return base64.b64encode(gzip.compress(content, 9, mtime=0)).decode("ascii")
