"""STL, binary and text: a triangle soup.

    binary      80 bytes, the number of triangles (uint32), and 50 bytes for each:
                normal and three corners (12 float32), two ignored bytes
    text        solid NAME
                facet normal x y z / outer loop / vertex x y z, three times / endloop / endfacet
                endsolid NAME
"""

from __future__ import annotations

import re
import struct

import numpy as np

from sparsenet.shapes.mesh import Mesh, MeshError
from sparsenet.shapes.text import numbers

_HEADER = 84
_TRIANGLE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
_NUMBER = rb"[-+]?+(?:\d++(?:\.\d*+)?|\.\d++)(?:[eE][-+]?\d++)?"
# A line 'solid NAME' or 'endsolid NAME', up to the first facet if that is on the same line
_SOLID = re.compile(rb"^[ \t]*+(?:end[ \t]*+)?solid\b(?:(?!\bfacet\s+normal\s+" + _NUMBER + rb")[^\n])*+",
                    re.IGNORECASE | re.MULTILINE)
_WORDS = re.compile(rb"\b(facet|endfacet|vertex)\b", re.IGNORECASE)
_CORNER = re.compile(rb"\bvertex\s++(\S++)\s++(\S++)\s++(\S++)", re.IGNORECASE)


def parse_stl(data: bytes) -> Mesh:
    """The triangles of an STL file, three vertices each; several solids become one mesh.

    A binary file may start with 'solid', and other bytes may follow its triangles; a text file may lack
    'endsolid', and its solids may have any name.

    Raises
    ------
    MeshError : it is neither kind, it is truncated, a binary file has more triangles than its header declares,
        a vertex is not three numbers, or see `Mesh`.
    """
    declared = struct.unpack_from("<I", data, 80)[0] if len(data) >= _HEADER else 0
    exact = len(data) >= _HEADER and len(data) == _HEADER + _TRIANGLE.itemsize * declared
    if not exact and data.lstrip()[:5].lower() == b"solid" and (len(data) < _HEADER or _is_text(data)):
        return _of_soup(_text_corners(data))
    if len(data) < _HEADER:
        raise MeshError("it is neither a text STL, which starts with 'solid', nor as long as a binary header")
    return _of_soup(_binary_corners(data, declared))


def _is_text(data: bytes) -> bool:
    return b"\0" not in data[:2**16] or _CORNER.search(data) is not None


def _binary_corners(data: bytes, declared: int) -> np.ndarray:
    held = (len(data) - _HEADER) // _TRIANGLE.itemsize
    if declared > held:
        raise MeshError(f"its size is not that of a binary STL: bytes 80 to 83 declare {declared} triangles, "
                        f"{held} follow (and a text STL starts with 'solid')")
    triangles = np.frombuffer(data, _TRIANGLE, held, _HEADER)
    if (len(data) - _HEADER) % _TRIANGLE.itemsize == 0 and _are_triangles(triangles[declared:]):
        raise MeshError(f"bytes 80 to 83 declare {declared} triangles, {held} follow")
    return triangles["corners"][:declared].reshape(-1, 3)


def _are_triangles(rest: np.ndarray) -> bool:
    """Whether the bytes after the declared triangles are more triangles, rather than a comment or zeros."""
    length = np.square(rest["normal"].astype(np.float64)).sum(axis=1)
    sound = np.isfinite(rest["corners"]).all() and ((length == 0) | (np.abs(length - 1) < 0.01)).all()
    return bool(sound and rest["corners"].any())


def _text_corners(data: bytes) -> np.ndarray:
    data = _SOLID.sub(b"", data.replace(b"\r\n", b"\n").replace(b"\r", b"\n"))
    words = [word.lower() for word in _WORDS.findall(data)]
    facets, closed, vertices = words.count(b"facet"), words.count(b"endfacet"), words.count(b"vertex")
    if closed != facets:
        raise MeshError(f"{facets} facets begin and {closed} end: truncated?")
    if vertices != 3 * facets:
        raise MeshError(f"{facets} facets have {vertices} vertices, expected three each")
    corners = _CORNER.findall(data)
    try:
        coordinates = numbers([word for corner in corners for word in corner])
    except MeshError as error:
        raise MeshError(f"a vertex is not three numbers: {error}") from None
    if len(corners) != vertices:
        raise MeshError(f"{vertices - len(corners)} of {vertices} vertices are not three numbers")
    return coordinates.reshape(-1, 3)


def _of_soup(corners: np.ndarray) -> Mesh:
    return Mesh(corners, np.arange(len(corners)).reshape(-1, 3))
