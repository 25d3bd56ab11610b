"""The format of a mesh file by its content, for bytes that come without a trustworthy name."""

from __future__ import annotations

import re
import struct

from sparsenet.shapes.mesh import MeshError

_OFF = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:(?:ST|C|N)*4?OFF|\d{1,18}[ \t]+\d{1,18}(?:[ \t]+-?\d+)?[ \t]*[\r\n])",
                  re.IGNORECASE)
_SOLID = re.compile(rb"\s*solid\b", re.IGNORECASE)
_FACET = re.compile(rb"\b(?:facet|endsolid)\b", re.IGNORECASE)
_VERTEX = re.compile(rb"^[ \t]*v[ \t]+[-+.\d]", re.MULTILINE)
_COMMENTS = re.compile(rb"\s*+(?:#[^\r\n]*+[\r\n]++\s*+)*+")
_STL_HEADER, _STL_TRIANGLE = 84, 50
# How files begin that are often taken for meshes -> what they are
_OTHERS = {b"PK\x03\x04": "a ZIP archive: unpack it first", b"\x1f\x8b": "compressed twice: unpack it first",
           b"\x89HDF": "an HDF5 file", b"\x89PNG": "a PNG picture", b"\xff\xd8\xff": "a JPEG picture",
           b"%PDF": "a PDF document", b"Kaydara FBX": "an FBX file: export it as GLB",
           b"BLENDER": "a Blender file: export it as GLB", b"ISO-10303": "a STEP file: export it as STL",
           b"<?xml": "an XML file", b"<!DOCTYPE": "a web page"}


def mesh_format(data: bytes) -> str:
    """The suffix of the format of a mesh file's content: ".off", ".obj", ".ply", ".stl", ".glb" or ".gltf".

    Only the beginning of the data decides, except for OBJ, which has no header, and STL, whose length must fit its
    header.  Whether the rest is whole, `parse_mesh` tells.

    Raises
    ------
    MeshError : it is none of them.
    """
    if not data.strip():
        raise MeshError("the file is empty")
    if data[:4] == b"glTF":
        return ".glb"
    if data[:4] in (b"ply\n", b"ply\r"):
        return ".ply"
    start = _COMMENTS.match(data)
    if _OFF.match(data, start.end() if start else 0):
        return ".off"
    if _SOLID.match(data) and _FACET.search(data, 0, 2**16):
        return ".stl"
    if len(data) >= _STL_HEADER:
        triangles = struct.unpack_from("<I", data, 80)[0]
        if triangles and _STL_HEADER + _STL_TRIANGLE * triangles <= len(data):
            return ".stl"
    if data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"{":
        return ".gltf"
    for beginning, what in _OTHERS.items():
        if data.startswith(beginning):
            raise MeshError(f"it is {what}")
    if b"\0" not in data[:2**16] and _VERTEX.search(data):
        return ".obj"
    raise MeshError("its content is none of OFF, OBJ, PLY, STL, GLB and glTF")
