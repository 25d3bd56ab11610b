"""Reads volumes, grids of numbers: NIfTI (.nii) and arrays of NumPy (.npy), also compressed (.gz).

    NIfTI-1    348 bytes: sizeof_hdr 348 (int32) ... dim (8 int16 at 40), datatype, bitpix (int16 at 70, 72),
               vox_offset, scl_slope, scl_inter (float32 at 108, 112, 116), magic "n+1\\0" at 344
    NIfTI-2    540 bytes: sizeof_hdr 540, magic "n+2\\0\\r\\n\\x1a\\n", datatype, bitpix (int16 at 12, 14), dim (8 int64
               at 16), vox_offset (int64 at 168), scl_slope, scl_inter (float64 at 176, 184)

dim[0] is the number of axes, the first of which is the fastest.  Cells follow at vox_offset; a slope other than 0
scales them: value = slope * stored + inter.  Axes stay as they are stored: orientation and the sizes of voxels are not
read.  Headers are not trusted: no more memory is taken than MAX_CELLS cells need, and no more is decompressed.

Source: R. Cox et al., 'nifti1.h', 'nifti2.h', https://nifti.nimh.nih.gov
"""

from __future__ import annotations

import gzip
import io
import math
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from sparsenet.data.folders import extension_of
from sparsenet.shapes.mesh import MeshError
from sparsenet.shapes.npy import read_header as read_npy_header

SUFFIXES = (".nii", ".npy")
MAX_CELLS = 2**28  # of a volume, 645 along each side
MAX_ACTIVE = 2**25  # cells of a sample
_SLAB = 2**22  # cells that are compared at a time
_MAX_OFFSET = 2**24  # bytes before the cells, NIfTI's header and extensions, and behind them
_DTYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
_MAGIC = {348: b"n+1\0", 540: b"n+2\0\r\n\x1a\n"}


class VolumeHeader(NamedTuple):
    """The header of a volume.

    shape : (D,) cells along each axis, D from 1 to 4
    dtype : of the stored numbers;  fortran : whether the first axis is the fastest
    offset : bytes before the first cell
    slope, inter : value = slope * stored + inter
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool
    offset: int
    slope: float = 1.0
    inter: float = 0.0


def read_volume_header(path: str | os.PathLike) -> VolumeHeader:
    """The header of a .nii or .npy file, optionally followed by .gz.

    Raises
    ------
    MeshError : the file cannot be used; the message is one line with its name and the problem.
    OSError : from the file system.
    """
    with _opened(path) as file:
        return _header(path, file)


def active_cells(path: str | os.PathLike, threshold: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """The cells (n, D) int64 of a volume whose value is above the threshold, and these values (n,) float32; NaN is not
    above.

    Raises as `read_volume_header` does: also for a value that float32 cannot hold, or more than MAX_ACTIVE cells.
    """
    with _opened(path) as file:
        header = _header(path, file)
        size = math.prod(header.shape) * header.dtype.itemsize
        file.seek(header.offset)
        data = file.read(size)
        if len(file.read(_MAX_OFFSET)) == _MAX_OFFSET:  # read to the end, where gzip compares a sum of the data
            raise MeshError(f"{_MAX_OFFSET} bytes or more follow its cells")
    if len(data) != size:
        raise MeshError(f"{path}: it ends after {len(data)} of the {size} bytes of its cells: truncated?")
    stored = np.frombuffer(data, header.dtype).reshape(header.shape, order="F" if header.fortran else "C")
    cells, values, count = [], [], 0
    with np.errstate(all="ignore"):
        for some_cells, some_values in _slabs(stored, header, threshold):
            count += len(some_cells)
            if count > MAX_ACTIVE:
                raise MeshError(f"{path}: more than {MAX_ACTIVE} cells are above the threshold {threshold:g}: raise it")
            cells.append(some_cells)
            values.append(some_values.astype(np.float32))
    found = np.concatenate(values)
    if not np.isfinite(found).all():
        raise MeshError(f"{path}: it holds a value that is not finite in float32")
    return np.concatenate(cells), found


def _slabs(stored: np.ndarray, header: VolumeHeader, threshold: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Cells and values above the threshold, for some layers of the slowest axis at a time."""
    axis = stored.ndim - 1 if header.fortran else 0
    layers = max(1, _SLAB // max(1, stored.size // max(1, stored.shape[axis])))
    for start in range(0, max(1, stored.shape[axis]), layers):
        slab = np.moveaxis(np.moveaxis(stored, axis, 0)[start:start + layers], 0, axis)
        if (header.slope, header.inter) != (1.0, 0.0):
            slab = slab.astype(np.float64) * header.slope + header.inter
        chosen = slab > threshold
        cells = np.argwhere(chosen)
        cells[:, axis] += start
        yield cells, slab[chosen]


@contextmanager
def _opened(path: str | os.PathLike) -> Iterator[IO[bytes]]:
    """The file, decompressed; errors of its content become MeshErrors with its name."""
    try:
        with (gzip.open(path, "rb") if Path(path).suffix.lower() == ".gz" else open(path, "rb")) as file:
            yield file  # type: ignore[misc]
    except MeshError as error:
        text = str(error)
        raise MeshError(text if text.startswith(f"{path}: ") else f"{path}: {text}") from None
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise MeshError(f"{path}: it cannot be decompressed by gzip: {error}") from None
    except MemoryError:
        raise MeshError(f"{path}: there is not enough memory to read it") from None


def _header(path: str | os.PathLike, file: IO[bytes]) -> VolumeHeader:
    suffix = extension_of(Path(path).name, [end for one in SUFFIXES for end in (one, f"{one}.gz")])[:4]
    if suffix not in SUFFIXES:
        raise MeshError(f"a volume ends in {', '.join(SUFFIXES)}, each also with .gz")
    header = _npy_header(file) if suffix == ".npy" else _nifti_header(file.read(540))
    if not 1 <= len(header.shape) <= 4 or not all(header.shape):
        raise MeshError(f"it has the shape {header.shape}, expected 1 to 4 axes of at least one cell")
    if math.prod(header.shape) > MAX_CELLS:
        raise MeshError(f"it has the shape {header.shape}, {math.prod(header.shape)} cells, expected at most "
                        f"{MAX_CELLS}")
    return header


def _npy_header(file: IO[bytes]) -> VolumeHeader:
    start = file.read(20_000)  # longer ones are refused
    if not start:
        raise MeshError("the file is empty")
    head = io.BytesIO(start)
    shape, fortran, dtype = read_npy_header(head)
    return VolumeHeader(shape, dtype, fortran, head.tell())


def _nifti_header(start: bytes) -> VolumeHeader:
    size, order = next(((size, order) for order in "<>" for size in _MAGIC
                        if len(start) >= size and start[:4] == struct.pack(f"{order}i", size)), (0, ""))
    if not size:
        raise MeshError("it does not start with a header of NIfTI, whose first number is its size, 348 or 540"
                        if start else "the file is empty")
    magic = start[344:348] if size == 348 else start[4:12]
    if magic == b"ni1\0" or magic[:4] == b"ni2\0":
        raise MeshError("its cells are in a file of their own (.img): convert the pair to one .nii")
    if magic != _MAGIC[size]:
        raise MeshError(f"its header has the magic {magic!r}, expected {_MAGIC[size]!r}: it may be ANALYZE 7.5, or "
                        "damaged")
    at: tuple = {348: ("8h", 40, 70, "f", 108, "2f", 112), 540: ("8q", 16, 12, "q", 168, "2d", 176)}[size]
    axes, *dim = struct.unpack_from(order + at[0], start, at[1])
    code, bits = struct.unpack_from(f"{order}2h", start, at[2])
    (offset,) = struct.unpack_from(order + at[3], start, at[4])
    slope, inter = struct.unpack_from(order + at[5], start, at[6])
    if not 1 <= axes <= 7 or min(dim[:axes]) < 1:
        raise MeshError(f"its header has dim {[axes, *dim]}, expected 1 to 7 axes and that many lengths above 0")
    shape = tuple(dim[:axes])
    volumes = math.prod(shape[3:])
    if volumes > 1:
        raise MeshError(f"it has the shape {shape}, {volumes} volumes, expected one: split it along the further axes")
    if code not in _DTYPES or bits != 8 * np.dtype(_DTYPES[code]).itemsize:
        raise MeshError(f"its cells have datatype {code} of {bits} bits, expected real numbers of a known size")
    if not (size + 4 <= offset <= _MAX_OFFSET and offset == int(offset)):
        raise MeshError(f"its cells begin at byte {offset:g}, expected {size + 4} to {_MAX_OFFSET}")
    if not math.isfinite(slope) or slope == 0:
        slope, inter = 1.0, 0.0
    if not math.isfinite(inter):
        raise MeshError(f"its header scales by {slope:g} and adds {inter}, expected finite numbers")
    return VolumeHeader(shape[:3], np.dtype(order + _DTYPES[code]), True, int(offset), slope, inter)
