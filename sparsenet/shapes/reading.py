"""Reads meshes and point clouds by the suffix of their name; each format has its own module.

The readers take only the geometry and do not trust their input: no header can cause a large allocation,
and anything ambiguous or unsupported is refused with a one-line message.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from sparsenet.shapes.binvox import parse_binvox
from sparsenet.shapes.gltf import parse_glb, parse_gltf
from sparsenet.shapes.mesh import Mesh, MeshError
from sparsenet.shapes.obj import parse_obj
from sparsenet.shapes.off import parse_off
from sparsenet.shapes.ply import parse_ply, parse_ply_points
from sparsenet.shapes.points import parse_npy, parse_xyz
from sparsenet.shapes.stl import parse_stl

_READERS: dict[str, Callable[[bytes], Mesh]] = {
    ".off": parse_off, ".obj": parse_obj, ".ply": parse_ply, ".stl": parse_stl, ".xyz": parse_xyz,
    ".binvox": parse_binvox,
}
# Formats that may refer to other files in their folder
_READERS_IN_A_FOLDER: dict[str, Callable[[bytes, Path | None], Mesh]] = {".glb": parse_glb, ".gltf": parse_gltf}
_READERS_OF_POINTS: dict[str, Callable[[bytes], Mesh]] = {
    ".ply": parse_ply_points, ".xyz": parse_xyz, ".npy": parse_npy, ".txt": parse_xyz, ".pts": parse_xyz,
    ".asc": parse_xyz,
}
POINT_SUFFIXES = tuple(_READERS_OF_POINTS)
MESH_SUFFIXES = (*_READERS, *_READERS_IN_A_FOLDER)
# Limit of the decompressed size of a .gz file: meshes compress by a factor of 3 to 10, a bomb by 1,000
UNPACKED_PER_BYTE, UNPACKED_OF_ANY_FILE = 32, 2**26


def read_mesh(path: str | os.PathLike) -> Mesh:
    """Read a mesh file; several bodies in one file become one mesh, each at its position in the scene.

    Parameters
    ----------
    path : a file whose name ends in .off, .obj, .ply, .stl, .glb, .gltf, .xyz or .binvox (ignoring case),
        optionally followed by .gz

    Returns
    -------
    Mesh with at least one triangle; polygons are triangulated, unused vertices are removed.
    Points without faces (PLY, XYZ) become degenerate triangles, which mark their cells; voxels
    (binvox) become the surface of their solid.  The axes are the file's (see `up_axis_of`).

    Raises
    ------
    MeshError : the file cannot be used; the message is one line with its name and the problem.
    FileNotFoundError, PermissionError, IsADirectoryError : from the file system.
    """
    return _read(path, MESH_SUFFIXES, "a mesh file", lambda data, suffix: parse_mesh(data, suffix, Path(path).parent))


def read_points(path: str | os.PathLike) -> Mesh:
    """Read a point cloud: each point becomes a degenerate triangle, which marks its cell.

    Parameters
    ----------
    path : a file whose name ends in .ply (the vertices; faces are ignored), .npy (an array (n, 3) or wider), or .xyz,
        .txt, .pts or .asc (a point a line), ignoring case, optionally followed by .gz

    Raises
    ------
    MeshError, FileNotFoundError, PermissionError, IsADirectoryError : as `read_mesh`.
    """
    def parse(data: bytes, suffix: str) -> Mesh:
        if not data.strip():
            raise MeshError("the file is empty")
        with np.errstate(all="ignore"):
            return _READERS_OF_POINTS[suffix](data)

    return _read(path, POINT_SUFFIXES, "a point cloud", parse)


def _read(path: str | os.PathLike, suffixes: Sequence[str], what: str, parse: Callable[[bytes, str], Mesh]) -> Mesh:
    """The mesh of a file; its name begins the messages."""
    path = Path(path)
    suffix = mesh_suffix(path)
    if suffix not in suffixes:
        path.open("rb").close()  # if it is not there, or a folder, its name is not what is wrong
        raise MeshError(f"{path}: {what} ends in {', '.join(suffixes)}, each also with .gz, "
                        f"{f'not in {suffix!r}' if suffix else 'and this name has no ending'}")
    try:
        data = path.read_bytes()
        if path.suffix.lower() == ".gz":
            data = unpacked(data)
        return parse(data, suffix)
    except MeshError as error:
        raise MeshError(f"{path}: {error}") from None
    except MemoryError:
        raise MeshError(f"{path}: there is not enough memory to read it") from None


def parse_mesh(data: bytes, suffix: str, folder: Path | None = None) -> Mesh:
    """The mesh in the bytes of a file.

    Parameters
    ----------
    suffix : the format, one of MESH_SUFFIXES
    folder : folder of the buffers of a glTF document; None: files are not allowed

    Raises
    ------
    MeshError : the mesh cannot be used; the message is one line.
    """
    if not data.strip():
        raise MeshError("the file is empty")
    with np.errstate(all="ignore"):  # `Mesh` refuses values that are not finite
        mesh = (_READERS_IN_A_FOLDER[suffix](data, folder) if suffix in _READERS_IN_A_FOLDER
                else _READERS[suffix](data))
        return mesh.without_unused_vertices()


def mesh_suffix(path: str | os.PathLike) -> str:
    """The suffix of a file's format, in lower case: ".off" for `A.OFF` and for `a.off.gz`."""
    stem, suffix = os.path.splitext(os.path.basename(path).lower())
    return os.path.splitext(stem)[1] if suffix == ".gz" else suffix


def up_axis_of(path: str | os.PathLike) -> str:
    """The conventional up axis of a file's format, "y" or "z", from the file name alone.

    It is y for glTF (by its specification) and OBJ (in nearly every program), and z for the others, as
    in ModelNet and the Princeton Shape Benchmark.
    """
    return "y" if mesh_suffix(path) in (".obj", ".glb", ".gltf") else "z"


def unpacked(data: bytes, limit: int | None = None) -> bytes:
    """The decompressed content of a gzip file.

    limit : of its bytes; default: 32 for each byte of the file, or 64 MiB if that is more

    Raises MeshError if it exceeds the limit, is truncated or damaged.
    """
    limit = max(UNPACKED_OF_ANY_FILE, UNPACKED_PER_BYTE * len(data)) if limit is None else limit
    parts, size, rest = [], 0, data
    try:
        while rest:  # a gzip file may have several members and trailing zeros
            unpacker = zlib.decompressobj(wbits=31)
            parts.append(unpacker.decompress(rest, limit - size + 1))
            size += len(parts[-1])
            if size > limit:
                raise MeshError(f"it decompresses to more than {limit} bytes, the limit for a file of {len(data)}")
            if not unpacker.eof:
                raise MeshError("its gzip data end too early: truncated?")
            rest = unpacker.unused_data.lstrip(b"\0")
    except zlib.error as error:
        raise MeshError(f"it cannot be decompressed by gzip: {error}") from None
    return b"".join(parts)
