"""PLY, text or binary in either byte order: `vertex`, `face` and `tristrips`; other elements are ignored.

    ply
    format ascii 1.0            or binary_little_endian, binary_big_endian
    comment ...                 anything, also obj_info
    element vertex 8            8 rows
    property float x            a column of these rows
    element face 6
    property list uchar int vertex_indices      in each row a count and that many values
    end_header
    the rows of all elements, in order

A file with vertices only is a point cloud: each point becomes a degenerate triangle, which marks its cell.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from sparsenet.shapes.mesh import Mesh, MeshError, points_as_mesh
from sparsenet.shapes.ply_rows import Lists, Property, Rows, binary_rows, text_rows
from sparsenet.shapes.polygons import mesh_of_polygons
from sparsenet.shapes.text import excerpt, indices

_TYPES = {"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4",
          "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4",
          "float32": "f4", "float64": "f8"}
_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
_CORNERS = ("vertex_indices", "vertex_index")


@dataclass
class Element:
    """One element of the header."""

    name: str
    count: int
    properties: list[Property] = field(default_factory=list)


def parse_ply(data: bytes) -> Mesh:
    """The mesh of a PLY file; polygons are triangulated (see `mesh_of_polygons`).

    Raises
    ------
    MeshError : an invalid or unterminated header, more rows than the file can hold, vertices
        without x, y, z, neither faces nor points, or see `mesh_of_polygons`.
    """
    rows_of = _rows(data)
    vertices = _vertices(rows_of)
    strips = [_lists(rows_of[name], name) for name in ("tristrips",) if name in rows_of and rows_of[name].count]
    faces = [_lists(rows_of["face"], "face")] if "face" in rows_of and rows_of["face"].count else []
    if not faces and not strips:
        return points_as_mesh(vertices)
    parts = [(indices(lists.values), lists.sizes) for lists in faces]
    parts += [_of_strips(indices(lists.values), lists.sizes) for lists in strips]
    return mesh_of_polygons(vertices, *(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def parse_ply_points(data: bytes) -> Mesh:
    """The vertices of a PLY file, each as a degenerate triangle; faces are ignored.  Raises MeshError as `parse_ply`
    does."""
    return points_as_mesh(_vertices(_rows(data)))


def _rows(data: bytes) -> dict[str, Rows]:
    """The rows of each element, by its name."""
    order, elements, body = _header(data)
    rows = sum(element.count for element in elements)
    if rows > len(body):
        raise MeshError(f"the header declares {rows} rows ({_counts_text(elements)}), more than the {len(body)} bytes "
                        "after it can hold")
    read = text_rows if order == "" else binary_rows
    return dict(zip((element.name for element in elements), read(body, order, elements), strict=True))


def _header(data: bytes) -> tuple[str, list[Element], bytes]:
    """Byte order ("" for text), elements, and the bytes after the header."""
    start = re.match(rb"ply[ \t]*(\r\n|\n|\r)", data)
    if start is None:
        raise MeshError("it does not start with the line 'ply'")
    end = re.search(rb"(?:^|[\r\n])[ \t]*end_header[ \t]*(?:" + re.escape(start[1]) + rb"|[\r\n]|$)", data)
    if end is None:
        raise MeshError("its header has no end ('end_header'): truncated?")
    order, elements = None, []
    for line in data[start.end():end.start() + 1].splitlines():
        words = line.decode("latin-1").split()
        match words:
            case ["format", form, _] if form in _ORDERS:
                order = _ORDERS[form]
            case ["element", name, count] if count.isascii() and count.isdigit() and len(count) <= 18:
                elements.append(Element(name, int(count)))
            case ["property", kind, name] if kind in _TYPES and elements:
                elements[-1].properties.append(Property(name, _TYPES[kind]))
            case ["property", "list", length, kind, name] if {length, kind} <= _TYPES.keys() and elements:
                elements[-1].properties.append(Property(name, _TYPES[kind], _TYPES[length]))
            case ["format" | "element" | "property", *_]:
                raise MeshError(f"a line of the header is {excerpt(line)}, which PLY does not allow there")
            case _:  # comment, obj_info, and continued comments without the keyword
                continue
    if order is None:
        raise MeshError("its header has no line 'format'")
    _check(elements)
    return order, elements, data[end.end():]


def _check(elements: list[Element]) -> None:
    names = Counter(element.name for element in elements)
    for element in elements:
        if names[element.name] > 1:
            raise MeshError(f"the header has {names[element.name]} elements {element.name:.40}")
        if element.count and not element.properties:
            raise MeshError(f"element {element.name:.40} has {element.count} rows and no property")


def _counts_text(elements: list[Element]) -> str:
    return ", ".join(f"{element.count} of {element.name:.40}" for element in elements[:4])


def _vertices(rows_of: dict[str, Rows]) -> np.ndarray:
    if "vertex" not in rows_of:
        raise MeshError("it has no element 'vertex'")
    rows = rows_of["vertex"]
    missing = [axis for axis in "xyz" if axis not in rows.columns]
    if missing:
        raise MeshError(f"its vertices have no property {', '.join(missing)}")
    return np.stack([rows.columns[axis].astype(np.float64) for axis in "xyz"], axis=1)


def _lists(rows: Rows, element: str) -> Lists:
    """The corners: the list 'vertex_indices', or the only list."""
    name = next((name for name in _CORNERS if name in rows.lists), None)
    if name is None and len(rows.lists) == 1:
        name = next(iter(rows.lists))
    if name is None:
        raise MeshError(f"element {element} has no list 'vertex_indices'")
    return rows.lists[name]


def _of_strips(corners: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners and sizes of the triangles of strips; a strip ends with its list or at a -1."""
    last_of_list = np.zeros(len(corners) + 1, bool)
    last_of_list[np.cumsum(sizes)] = True  # the position after the end of each list
    strip = np.cumsum((corners == -1) | last_of_list[:-1]) if len(corners) else corners
    starts = np.arange(max(len(corners) - 2, 0))
    whole = (strip[starts] == strip[starts + 2]) & (corners[starts] != -1)
    starts = starts[whole]
    first = np.searchsorted(strip, strip[starts]) + (corners[np.searchsorted(strip, strip[starts])] == -1)
    odd = (starts - first) % 2
    triangles = np.stack([starts + odd, starts + 1 - odd, starts + 2], axis=1)  # every second one is flipped
    return corners[triangles].ravel(), np.full(len(triangles), 3)
