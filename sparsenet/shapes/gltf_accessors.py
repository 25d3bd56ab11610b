"""The arrays of a glTF document: accessors over buffer views, with quantization and sparse substitution."""

from __future__ import annotations

from typing import Any

import numpy as np

from sparsenet.shapes.gltf_buffers import Buffers, whole
from sparsenet.shapes.mesh import MeshError

_COMPONENTS = {5120: "i1", 5121: "u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}


class Accessors:
    """The arrays of one document.

    Parameters
    ----------
    document : the glTF document
    buffers : its bytes
    limit : total number of values that may be read; overlapping accessors could claim any number
    """

    def __init__(self, document: dict[str, Any], buffers: Buffers, limit: int):
        self._accessors = document.get("accessors", [])
        self._views = document.get("bufferViews", [])
        self._buffers = buffers
        self._limit, self._count = limit, 0
        self._positions: dict[int, np.ndarray] = {}

    def is_stored(self, number: int) -> bool:
        """Whether the values of an accessor are stored in a buffer."""
        return not {"bufferView", "sparse"}.isdisjoint(self._accessors[whole(number, "accessor")])

    def positions(self, number: int) -> np.ndarray:
        """Vertex positions (V, 3) float64, cached."""
        if number not in self._positions:
            self._positions[number] = self.floats(number, "VEC3")
        return self._positions[number]

    def floats(self, number: int, kind: str) -> np.ndarray:
        """(n, width) float64 of an accessor of type `kind`; normalized integers are decoded to [-1, 1]."""
        accessor, values = self._values(number, kind)
        decoded = values.astype(np.float64)
        if accessor.get("normalized") and values.dtype.kind in "iu":
            decoded = np.maximum(decoded / np.iinfo(values.dtype).max, -1)
        return decoded

    def indices(self, number: int) -> np.ndarray:
        """(n,) unsigned integers."""
        _, values = self._values(number, "SCALAR")
        if values.dtype.kind != "u":
            raise MeshError(f"accessor {number} has {values.dtype.name}, expected unsigned integers for indices")
        return values[:, 0]

    def _values(self, number: int, kind: str) -> tuple[dict[str, Any], np.ndarray]:
        """The accessor, and its values (n, width) as stored."""
        accessor = self._accessors[whole(number, "accessor")]
        if accessor["type"] != kind:
            raise MeshError(f"accessor {number} is {str(accessor['type'])[:20]}, expected {kind}")
        component = _COMPONENTS.get(accessor["componentType"])
        if component is None:
            raise MeshError(f"accessor {number} has componentType {str(accessor['componentType'])[:20]}, "
                            f"expected one of {', '.join(map(str, _COMPONENTS))}")
        count, row = whole(accessor["count"], "count"), np.dtype((component, (_WIDTHS[kind],)))
        self._count += count
        if self._count > self._limit:
            raise MeshError(f"its accessors declare more than {self._count} values, the limit for a file of this size "
                            f"is {self._limit}")
        if "bufferView" in accessor:
            values = self._rows(f"accessor {number}", accessor, count, row)
        elif "sparse" in accessor:
            values = np.zeros((count, _WIDTHS[kind]), component)
        else:
            raise MeshError(f"accessor {number} has no bytes in this file: its vertices are compressed"
                            ", which is not read: export it without compression")
        if "sparse" in accessor:
            values = self._changed(number, values, accessor["sparse"], row)
        return accessor, values

    def _changed(self, number: int, values: np.ndarray, sparse: dict[str, Any], row: np.dtype) -> np.ndarray:
        """The values after the sparse substitution."""
        count, component = whole(sparse["count"], "count"), _COMPONENTS.get(sparse["indices"]["componentType"], "")
        if component[-2:-1] != "u":
            raise MeshError(f"the sparse indices of accessor {number} are not unsigned integers")
        name = f"the sparse list of accessor {number}"
        places = self._rows(name, sparse["indices"], count, np.dtype((component, (1,))))[:, 0]
        if count and places.max() >= len(values):
            raise MeshError(f"{name} refers to value {places.max()}, there are {len(values)}")
        values = values.copy()
        values[places] = self._rows(name, sparse["values"], count, row)
        return values

    def _rows(self, name: str, source: dict[str, Any], count: int, row: np.dtype) -> np.ndarray:
        """(count, width) values of the view that `source` names, starting at its byteOffset."""
        view = self._views[whole(source["bufferView"], "bufferView")]
        buffer = self._buffers[whole(view["buffer"], "buffer")]
        start, length = whole(view.get("byteOffset", 0), "byteOffset"), whole(view["byteLength"], "byteLength")
        stride = whole(view.get("byteStride", 0), "byteStride") or row.itemsize
        offset = whole(source.get("byteOffset", 0), "byteOffset")
        if start + length > len(buffer):
            raise MeshError(f"the view of {name} ends at byte {start + length} of a buffer of {len(buffer)}")
        if count and offset + stride * (count - 1) + row.itemsize > length:
            raise MeshError(f"{name} declares {count} values, more than the {length} bytes of its view can hold")
        width = row.shape[0]
        return np.ndarray((count, width), row.base, buffer if count else b"", start + offset if count else 0,
                          (stride, row.base.itemsize))
