"""Mesh files to meshes, by the suffix of their name; each format has a module of its own.

The readers take geometry alone, from bytes that may lie: nothing is allocated on the word of a header,
and what cannot be read as it is meant is refused in one line.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sparsenet.shapes.binvox import parse_binvox
from sparsenet.shapes.gltf import parse_glb, parse_gltf
from sparsenet.shapes.mesh import Mesh, MeshError
from sparsenet.shapes.obj import parse_obj
from sparsenet.shapes.off import parse_off
from sparsenet.shapes.ply import parse_ply
from sparsenet.shapes.points import parse_xyz
from sparsenet.shapes.stl import parse_stl

_READERS: dict[str, Callable[[bytes], Mesh]] = {
    ".off": parse_off, ".obj": parse_obj, ".ply": parse_ply, ".stl": parse_stl, ".xyz": parse_xyz,
    ".binvox": parse_binvox,
}
# May refer to other files in their folder
_READERS_IN_A_FOLDER: dict[str, Callable[[bytes, Path | None], Mesh]] = {".glb": parse_glb, ".gltf": parse_gltf}
MESH_SUFFIXES = (*_READERS, *_READERS_IN_A_FOLDER)
# What a .gz file may unpack to: meshes shrink by a factor of 3 to 10, a bomb by 1,000
UNPACKED_PER_BYTE, UNPACKED_OF_ANY_FILE = 32, 2**26


def read_mesh(path: str | os.PathLike) -> Mesh:
    """Read a mesh file; several bodies in one file become one mesh, each moved to its place.

    Parameters
    ----------
    path : a file whose name ends in .off, .obj, .ply, .stl, .glb, .gltf, .xyz or .binvox (in any case),
        or in one of these and .gz

    Returns
    -------
    Mesh, of at least one triangle; polygons are cut into triangles, vertices that no face uses are
    left out.  Points without faces (PLY, XYZ) are triangles of one point each, which mark their cells;
    voxels (binvox) are the surface of their solid.  The axes are the file's (see `up_axis_of`).

    Raises
    ------
    MeshError : in one line, the file and what is wrong with it.
    FileNotFoundError, PermissionError, IsADirectoryError : from the file system.
    """
    path = Path(path)
    suffix = mesh_suffix(path)
    if suffix not in MESH_SUFFIXES:
        raise MeshError(f"{path}: a mesh file ends in {', '.join(MESH_SUFFIXES)}, each also with .gz, "
                        f"{f'not in {suffix!r}' if suffix else 'and this name has no ending'}")
    try:
        data = path.read_bytes()
        if path.suffix.lower() == ".gz":
            data = _unpacked(data)
        return parse_mesh(data, suffix, path.parent)
    except MeshError as error:
        raise MeshError(f"{path}: {error}") from None
    except MemoryError:
        raise MeshError(f"{path}: there is not enough memory to read it") from None


def parse_mesh(data: bytes, suffix: str, folder: Path | None = None) -> Mesh:
    """The mesh that the bytes of a file hold.

    Parameters
    ----------
    suffix : one of MESH_SUFFIXES, which tells the format
    folder : where the buffers of a glTF document may lie; None: nowhere

    Raises
    ------
    MeshError : in one line, what is wrong.
    """
    if not data.strip():
        raise MeshError("the file is empty")
    with np.errstate(all="ignore"):  # `Mesh` refuses what is not finite
        mesh = (_READERS_IN_A_FOLDER[suffix](data, folder) if suffix in _READERS_IN_A_FOLDER
                else _READERS[suffix](data))
        return mesh.without_unused_vertices()


def mesh_suffix(path: str | os.PathLike) -> str:
    """The suffix that names a file's format, in small letters: ".off" of `A.OFF` and of `a.off.gz`."""
    path = Path(path)
    return Path(path.stem if path.suffix.lower() == ".gz" else path.name).suffix.lower()


def up_axis_of(path: str | os.PathLike) -> str:
    """The axis along which shapes of a file's format stand by custom: "y" or "z", by the name alone.

    glTF says y (in its specification), OBJ is written so by nearly every program; the others follow
    the data sets that this package reads, ModelNet and the Princeton Shape Benchmark: z.
    """
    return "y" if mesh_suffix(path) in (".obj", ".glb", ".gltf") else "z"


def _unpacked(data: bytes) -> bytes:
    """What a gzip file holds; raises MeshError beyond the limit that its size justifies."""
    limit = max(UNPACKED_OF_ANY_FILE, UNPACKED_PER_BYTE * len(data))
    parts, size, rest = [], 0, data
    try:
        while rest:  # a gzip file may have several members, and zeros after them
            unpacker = zlib.decompressobj(wbits=31)
            parts.append(unpacker.decompress(rest, limit - size + 1))
            size += len(parts[-1])
            if size > limit:
                raise MeshError(f"it unpacks to more than {limit} bytes, the limit for {len(data)} packed bytes")
            if not unpacker.eof:
                raise MeshError("its gzip data end too early: is it cut off?")
            rest = unpacker.unused_data.lstrip(b"\0")
    except zlib.error as error:
        raise MeshError(f"it cannot be unpacked by gzip: {error}") from None
    return b"".join(parts)
