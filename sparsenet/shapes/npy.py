"""NPY: NumPy's format of one array, of truth values or real numbers.

    \\x93NUMPY  version (2 bytes: 1 0, or 2 0)   length of the text (2 bytes, of version 2 4, little-endian)
    {'descr': '<f8', 'fortran_order': False, 'shape': (3, 3), }        the numbers follow

Read here and not by NumPy, which evaluates the text as Python.
"""

from __future__ import annotations

import re
import struct
from typing import IO, NamedTuple

import numpy as np

from sparsenet.shapes.mesh import MeshError
from sparsenet.shapes.text import excerpt

_MAX_HEADER = 10_000  # bytes
_FIELDS = [re.compile(rf"""[{{,]\s*["']{name}["']\s*:\s*({value})\s*[,}}]""".encode()) for name, value in (
    ("descr", r"""["'][^"']*["']|\[.*\]"""), ("fortran_order", "True|False"), ("shape", r"\([-\d\s,L]*\)"))]
_DESCR = re.compile(r"[<>|=]?(?:b1|[iu][1248]|f[248])")


class ArrayHeader(NamedTuple):
    """shape : of the array;  fortran : whether the first axis is the fastest;  dtype : bool or real numbers"""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype


def read_header(file: IO[bytes]) -> ArrayHeader:
    """The header at the start of a file, behind which the numbers follow.

    Raises
    ------
    MeshError : it is not a header of NPY, or the array does not hold truth values or real numbers.
    """
    start = file.read(8)
    if start[:6] != b"\x93NUMPY" or len(start) < 8:
        raise MeshError("it is not an array of NumPy (.npy): it does not start with \\x93NUMPY")
    if start[6:] not in (b"\1\0", b"\2\0"):
        raise MeshError(f"it has version {start[6]}.{start[7]} of NPY, expected 1.0 or 2.0")
    width, code = (2, "<H") if start[6] == 1 else (4, "<I")
    prefix = file.read(width)
    length = struct.unpack(code, prefix)[0] if len(prefix) == width else 0
    text = file.read(min(length, _MAX_HEADER))
    found = [field.search(text) for field in _FIELDS] if length == len(text) else [None]
    if not all(found):
        raise MeshError("it is not an array of NumPy (.npy): its header is damaged, or longer than 10000 bytes")
    descr, fortran, sides = (match[1].decode("latin-1") for match in found if match)
    numbers = re.findall(r"-?\d+", sides)
    if any(number.startswith("-") or len(number) > 18 for number in numbers):
        raise MeshError(f"its header declares an array of shape {' '.join(sides.split())[:60]}")
    if not _DESCR.fullmatch(descr[1:-1]):
        raise MeshError(f"it holds {excerpt(descr.encode('latin-1'))}, expected truth values or real numbers of at "
                        "most 64 bits")
    return ArrayHeader(tuple(map(int, numbers)), fortran == "True", np.dtype(descr[1:-1]))
