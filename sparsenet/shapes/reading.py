"""Mesh files to meshes: OFF (see `off`), and OBJ, PLY, STL and GLB by trimesh behind our own checks.

The checks are there because a file may lie: about its size (which would cost gigabytes), or in a way
that trimesh would read as another shape without a word.  None of trimesh's optional dependencies is
needed: materials and textures are skipped.
"""

from __future__ import annotations

import io
import json
import logging
import os
import re
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sparsenet.shapes.mesh import Mesh, MeshError, merge
from sparsenet.shapes.off import parse_off

# What a parser raises when a file is broken: trimesh indexes, unpacks and converts what the file
# says, so nearly every built-in error but those of the interpreter itself; and NumPy's warning about
# a text that is no number, where warnings are errors.
_PARSER_ERRORS = (ArithmeticError, AssertionError, AttributeError, BufferError, EOFError, ImportError,
                  LookupError, MemoryError, NameError, OSError, RuntimeError, TypeError, ValueError,
                  Warning, struct.error)

_QUIET = logging.NullHandler()
_NUMBER = rb"[-+]?+(?:\d++(?:\.\d*+)?|\.\d++)(?:[eE][-+]?\d++)?"
_STL_VERTEX = re.compile(rb"\bvertex\b", re.IGNORECASE)
_STL_POINT = re.compile(rb"\bvertex" + 3 * (rb"\s++" + _NUMBER) + rb"\s", re.IGNORECASE)
_STL_SOLID = re.compile(rb"^[ \t]*+(end)?solid\b", re.IGNORECASE | re.MULTILINE)
# OBJ lines that trimesh misreads or passes over: indented, or a face with anything but indices from 1
_OBJ_CORNERS = rb"[ \t]*+(?:[1-9]\d*+(?:/\d*+){0,2}+[ \t\r]*+)++$"
_UNUSUAL_OBJ = re.compile(rb"^(?:[ \t]+[vf][ \t]|[vf]\t|f (?!" + _OBJ_CORNERS + rb"))", re.MULTILINE)


def read_mesh(path: str | os.PathLike) -> Mesh:
    """Read a mesh file; several bodies in one file become one mesh, each moved to its place.

    Parameters
    ----------
    path : a file whose name ends in .off, .obj, .ply, .stl or .glb (in any case)

    Returns
    -------
    Mesh, of at least one triangle; polygons are cut into triangles, vertices that no face uses are
    left out.  The axes are the file's (PSB and ModelNet point z up, GLB points y up).

    Raises
    ------
    MeshError : in one line, the file and what is wrong with it.
    FileNotFoundError, PermissionError, IsADirectoryError : from the file system.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in _READERS:
        raise MeshError(f"{path}: a mesh file ends in {', '.join(_READERS)}, not {suffix or 'nothing'!r}")
    try:
        data = path.read_bytes()
        if not data.strip():
            raise MeshError("the file is empty")
        return _READERS[suffix](data).without_unused_vertices()
    except MeshError as error:
        raise MeshError(f"{path}: {error}") from None


def up_axis_of(path: str | os.PathLike) -> str:
    """The axis along which shapes of a file's format stand by custom: "y" or "z", by the name alone.

    glTF says y (in its specification), OBJ is written so by nearly every program; the others follow
    the data sets that this package reads, ModelNet and the Princeton Shape Benchmark: z.
    """
    return "y" if Path(path).suffix.lower() in (".obj", ".glb", ".gltf") else "z"


def _read_obj(data: bytes) -> Mesh:
    return _through_trimesh(_plain_obj(_as_utf8(data)), "obj")


def _read_ply(data: bytes) -> Mesh:
    header, end, body = data.partition(b"end_header")
    if not end:
        raise MeshError("its header has no end: is it a PLY file, and whole?")
    counts = re.findall(rb"^\s*element\s+(\S+)\s+(\S+)", header, re.MULTILINE)
    for name, count in counts:
        if not count.isdigit() or len(count) > 18 or int(count) > len(data):
            raise MeshError(f"the header promises {_text(count)} of {_text(name)}, "
                            f"more than a file of {len(data)} bytes can hold")
    promised, lines = sum(int(count) for _, count in counts), len(body.split(b"\n", 1)[-1].splitlines())
    if b"ascii" in header and promised > lines:
        raise MeshError(f"the header promises {promised} lines, there are {lines} after it")
    return _through_trimesh(data, "ply")


def _read_stl(data: bytes) -> Mesh:
    binary = len(data) >= 84 and len(data) == 84 + 50 * struct.unpack_from("<I", data, 80)[0]
    if binary:
        return _through_trimesh(data, "stl")
    if not data.lstrip()[:5].lower() == b"solid":
        raise MeshError("it is no text STL (which opens with 'solid'), and for a binary STL its size is not "
                        "that of the number of triangles in bytes 80 to 83")
    solids = _STL_SOLID.findall(data)
    opened, closed = solids.count(b""), sum(1 for end in solids if end)
    if opened > closed:
        raise MeshError(f"{opened} bodies open with 'solid' and {closed} end with 'endsolid': is it cut off?")
    vertices, points = len(_STL_VERTEX.findall(data)), len(_STL_POINT.findall(data))
    if points < vertices:
        raise MeshError(f"{vertices - points} of {vertices} vertices are not three numbers")
    return _through_trimesh(_as_utf8(data), "stl")


def _read_glb(data: bytes) -> Mesh:
    _check_glb(data)
    return _through_trimesh(data, "glb")


_READERS: dict[str, Callable[[bytes], Mesh]] = {
    ".off": parse_off, ".obj": _read_obj, ".ply": _read_ply, ".stl": _read_stl, ".glb": _read_glb,
}


def _through_trimesh(data: bytes, file_type: str) -> Mesh:
    """The surfaces that trimesh finds, moved to their places in the scene and joined."""
    import trimesh
    from trimesh.exchange.stl import HeaderError

    logging.getLogger("trimesh").addHandler(_QUIET)  # it logs tracebacks, and Python prints unhandled ones
    try:
        scene = trimesh.load(io.BytesIO(data), file_type=file_type, force="scene", process=False,
                             skip_materials=True)
        parts = [_placed(*scene.graph[node], scene.geometry) for node in scene.graph.nodes_geometry]
    except MeshError:
        raise
    except (*_PARSER_ERRORS, HeaderError) as error:
        reason = " ".join(str(error).split())
        if "unexpected length" in reason:
            reason += " (trimesh reads no binary PLY that mixes triangles with other polygons, either)"
        raise MeshError(f"it cannot be read as {file_type.upper()}: "
                        f"{type(error).__name__}: {reason:.200}") from None
    surfaces = [part for part in parts if part is not None]
    if not surfaces:
        raise MeshError("it holds no face: only a surface can be voxelized")
    return merge(surfaces)


def _placed(transform: np.ndarray, name: str, geometries: dict) -> Mesh | None:
    """One body of a scene in the scene's frame; None for points and lines."""
    geometry = geometries[name]
    faces = getattr(geometry, "faces", None)
    if faces is None or not len(faces):
        return None
    mesh = Mesh(np.array(geometry.vertices), np.array(faces))
    if np.array_equal(transform, np.eye(4)):
        return mesh
    return Mesh(mesh.vertices @ transform[:3, :3].T + transform[:3, 3], mesh.faces)


def _plain_obj(data: bytes) -> bytes:
    """The OBJ text as trimesh reads it right: nothing indented, every corner counted from the first vertex.

    trimesh passes over indented lines, stops at the first corner that is no number, takes the
    forbidden index 0 for 1, and counts corners such as -1, the latest vertex, back from the end of the
    file, which is another vertex where vertices and faces alternate.
    """
    if not _UNUSUAL_OBJ.search(data):
        return data
    lines, vertices = [], 0
    for line in data.replace(b"\\\r\n", b" ").replace(b"\\\n", b" ").splitlines():
        words = line.partition(b"#")[0].split()
        if words and words[0] == b"v":
            vertices += 1
        elif words and words[0] == b"f":
            words = [b"f"] + [_absolute(word, vertices) for word in words[1:]]
        lines.append(b" ".join(words))
    return b"\n".join(lines)


def _absolute(corner: bytes, vertices: int) -> bytes:
    """`-1/2/3` -> `8` after 8 vertices (texture and normal are not used)."""
    first = corner.partition(b"/")[0]
    try:
        index = int(first)
    except ValueError:
        raise MeshError(f"a face refers to vertex {_text(first)!r}, expected a whole number") from None
    if index == 0 or vertices + index < 0:
        raise MeshError(f"a face refers to vertex {index} after {vertices} vertices (OBJ counts from 1, "
                        "or back from -1)")
    return b"%d" % (index if index > 0 else vertices + index + 1)


def _check_glb(data: bytes) -> None:
    """Refuse what trimesh would answer with gigabytes, or with zeros in the place of vertices."""
    try:
        (length,) = struct.unpack_from("<I", data, 12)
        document = json.loads(data[20:20 + length])
        accessors = document.get("accessors", [])
        views = document.get("bufferViews", [])
        promised = max([item["count"] for item in accessors], default=0)
        viewed = sum(view["byteLength"] for view in views)
        used = {index for mesh in document.get("meshes", []) for part in mesh["primitives"]
                for index in (part["attributes"].get("POSITION"), part.get("indices")) if index is not None}
        hollow = [index for index in used if "bufferView" not in accessors[index]]
    except (struct.error, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError,
            ValueError) as error:
        raise MeshError(f"the header of the GLB cannot be read: {type(error).__name__}: {error}") from None
    if promised > len(data) or viewed > 16 * len(data):
        raise MeshError(f"the header promises {promised} values and {viewed} bytes, "
                        f"more than a file of {len(data)} bytes can hold")
    if hollow:
        extensions = document.get("extensionsRequired") or ["sparse accessors"]
        raise MeshError(f"its vertices are packed ({', '.join(map(str, extensions))}), which is not read: "
                        "export it without compression")


def _as_utf8(data: bytes) -> bytes:
    """Text of another encoding (names, comments) read as Latin-1: trimesh wants a package to guess it."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1").encode("utf-8")
    return data


def _text(words: bytes) -> str:
    return words[:40].decode("ascii", "replace")
