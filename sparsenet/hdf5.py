"""Reads untrusted HDF5 files: only data stored in the file, using memory in proportion to its size.

A valid HDF5 file may refer to other files (external and soft links, external storage, virtual datasets) or
recursively to itself, or declare gigabytes that it does not store.  `check_tree` refuses all of this through the
low-level interface before any value is read.  Only numbers and texts are read afterwards, from attributes of the
root and from datasets at most one group deep.

Every refusal is a ValueError that starts with the key, such as `meshes/faces`; the caller adds the file name.
"""

from __future__ import annotations

import mmap
import os
import reprlib
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import numpy as np

SIGNATURE = b"\x89HDF\r\n\x1a\n"
UNREADABLE = (OSError, KeyError, RuntimeError, ValueError, TypeError, OverflowError)  # by h5py, of damaged files
MAX_EXPANSION = 1100  # bytes per stored byte; deflate compresses at most 1,032 to 1
_MAX_CHUNK = 1 << 26  # bytes of a chunk: reading a single number decompresses all of it
_MAX_ATTRIBUTE = 1 << 16  # bytes, as in files of the earliest format
_MAX_TEXT = 1 << 26  # bytes of variable-length texts read at once
_MAX_NAME = 200  # characters
_FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32"}
_HEAP = b"GCOL\x01"  # a global heap collection, which stores variable-length texts
_WORDS = {"b": "booleans", "i": "integers", "u": "unsigned integers", "f": "floating-point numbers", "T": "text"}


def check_heaps(path: str | os.PathLike) -> None:
    """Check the collections of variable-length texts: at a free-space object of size 0 in one, such as zeroed bytes,
    the HDF5 library loops forever.  Call it before the library reads the file.  Raises ValueError.
    """
    with _mapped(path) as data:
        for place, size in _heaps(data):
            end = place + size
            at = place + 16
            while end - at >= 16:  # an object: index and count of references, 4 bytes of padding, length; its bytes
                index, length = int.from_bytes(data[at : at + 2], "little"), _number(data, at + 8)
                needed = 16 + -(-length // 8) * 8 if index else length
                if not 16 <= needed <= end - at:
                    raise ValueError(f"the texts at byte {place} are damaged")
                at += needed


def check_tree(file: Any) -> None:
    """Check every link and dataset of an open h5py.File without reading any value.

    Raises ValueError for a link to another file, a second link to the same object, a group within a group, virtual
    or external storage, a filter other than gzip, shuffle and fletcher32, a type other than numbers and text, a
    chunk of more than 64 MiB, and a dataset that declares more than 1,100 times its stored bytes.
    """
    from h5py import h5o

    stored, size = 0, file.id.get_filesize()
    for key, dataset in _datasets(file.id, "", {h5o.get_info(file.id).addr}):
        stored += _check_storage(key, dataset)
        if stored > size:
            raise ValueError(f"{key}: the datasets up to here declare {stored} stored bytes, the file has {size}")


def _datasets(group: Any, path: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """Yield keys and low-level datasets of a group; an object is opened only after its link is checked."""
    from h5py import h5d, h5g, h5l, h5o

    for name in group:
        key = path + _checked_name(name)
        if (kind := group.links.get_info(name).type) != h5l.TYPE_HARD:
            words = {h5l.TYPE_SOFT: "a soft link", h5l.TYPE_EXTERNAL: "a link to another file"}
            raise ValueError(f"{key} is {words.get(kind, 'a special link')}, expected the data themselves")
        found = h5o.get_info(group, name)
        if found.addr in seen:
            raise ValueError(f"{key} is a second link to an object of this file, expected one")
        seen.add(found.addr)
        if found.type == h5o.TYPE_DATASET:
            yield key, h5d.open(group, name)
        elif found.type != h5o.TYPE_GROUP:
            raise ValueError(f"{key} is a named type, expected a dataset or a group")
        elif path:
            raise ValueError(f"{key} is a group within a group, expected a dataset")
        else:
            yield from _datasets(h5g.open(group, name), f"{key}/", seen)


def _check_storage(key: str, dataset: Any) -> int:
    """The number of bytes stored for a low-level dataset; see `check_tree`."""
    from h5py import h5d

    properties = dataset.get_create_plist()
    layout = properties.get_layout()
    if layout not in (h5d.COMPACT, h5d.CONTIGUOUS, h5d.CHUNKED):
        raise ValueError(f"{key} is a virtual dataset, expected the data themselves")
    if properties.get_external_count():
        raise ValueError(f"{key} is stored in another file, expected the data themselves")
    filters = [properties.get_filter(number)[0] for number in range(properties.get_nfilters())]
    for code in filters:
        if code not in _FILTERS or filters.count(code) > 1:
            known = ", ".join(f"{word} ({number})" for number, word in _FILTERS.items())
            raise ValueError(f"{key} uses the filters {filters}, expected each of {known} at most once")
    shape, width = _form(key, dataset)
    claimed, stored = prod(shape) * width, dataset.get_storage_size()
    if layout == h5d.CHUNKED:
        chunk = prod(properties.get_chunk()) * width
        if chunk > _MAX_CHUNK:
            raise ValueError(f"{key} has chunks of {chunk} bytes, expected at most {_MAX_CHUNK}")
        claimed = max(claimed, chunk * dataset.get_num_chunks())
    if claimed > MAX_EXPANSION * stored:
        raise ValueError(f"{key} declares {claimed} bytes and stores {stored}, expected at most {MAX_EXPANSION} per "
                         "stored byte")
    return stored


def _form(key: str, found: Any) -> tuple[tuple[int, ...], int]:
    """Shape and bytes per element of a low-level numeric or text dataset or attribute."""
    from h5py import h5s, h5t

    kind, space = found.get_type(), found.get_space()
    if kind.get_class() not in (h5t.INTEGER, h5t.FLOAT, h5t.STRING, h5t.ENUM):
        raise ValueError(f"{key} is neither numbers nor text")
    if space.get_simple_extent_type() == h5s.NULL:
        raise ValueError(f"{key} has no value")
    try:
        found.dtype  # noqa: B018  (raises for types that NumPy does not have)
    except UNREADABLE as error:
        raise ValueError(f"{key} is of a type that cannot be read ({error})") from error
    return space.get_simple_extent_dims(), kind.get_size()


def find_dataset(file: Any, key: str, kinds: str, shape: tuple[int | None, ...]) -> Any:
    """The h5py.Dataset `key` of a file that passed `check_tree`.

    kinds : letters of the allowed NumPy kinds, "T" for text
    shape : None for any length

    Raises ValueError if it is missing, a group, or of another kind or shape.
    """
    import h5py

    dataset = file.get(key)
    if dataset is None:
        raise ValueError(f"{key} is missing")
    if not isinstance(dataset, h5py.Dataset):
        raise ValueError(f"{key} is a group, expected a dataset")
    if _kind(dataset.dtype) not in kinds:
        words = " or ".join(_WORDS[kind] for kind in kinds)
        raise ValueError(f"{key} has dtype {dataset.dtype}, expected {words}")
    if dataset.ndim != len(shape) or any(want not in (None, length) for want, length in
                                         zip(shape, dataset.shape, strict=True)):
        words = ", ".join("n" if want is None else str(want) for want in shape)
        raise ValueError(f"{key} has shape {dataset.shape}, expected ({words}{',' * (len(shape) == 1)})")
    return dataset


def read_dataset(dataset: Any) -> Any:
    """All values of an h5py.Dataset that passed `check_tree`: a numeric array; texts (n,) as an array of str
    objects; a scalar text as str.

    Raises ValueError for a text that is not UTF-8, and for repeated texts that are longer than the file in total.
    """
    if _kind(dataset.dtype) != "T":
        return dataset[()]
    key = dataset.name.lstrip("/")
    try:
        return _read_text(dataset, key)
    except UnicodeDecodeError as error:
        raise ValueError(f"{key} contains a text that is not UTF-8 ({error.reason})") from error


def _read_text(dataset: Any, key: str) -> Any:
    import h5py

    if dataset.ndim > 1:
        raise ValueError(f"{key} has shape {dataset.shape}, expected (n,) texts")
    text = dataset.asstr()
    if dataset.ndim == 0:
        return text[()]
    if h5py.check_string_dtype(dataset.dtype).length is not None:
        return text[:]
    # All elements may refer to the same long text: read as many at once as fit if each has the maximum length.
    step = max(1, _MAX_TEXT // max(1, _largest_heap(dataset.file)))
    parts, size = [np.zeros(0, object)], dataset.file.id.get_filesize()
    for start in range(0, len(dataset), step):
        parts.append(text[start : start + step])
        size -= sum(map(len, parts[-1]))
        if size < 0:
            raise ValueError(f"{key} contains texts that are longer than the file")
    return np.concatenate(parts)


def read_attribute(file: Any, name: str) -> Any:
    """An attribute of the root: a bool, int, float or str, a numeric array, or a list of str.

    Raises ValueError if it is missing, neither numbers nor text, or too long.
    """
    from h5py import h5a

    key = f"attribute {name}"
    if not h5a.exists(file.id, name.encode()):
        raise ValueError(f"{key} is missing")
    found = h5a.open(file.id, name.encode())
    shape, width = _form(key, found)
    if prod(shape) * width > _MAX_ATTRIBUTE:
        raise ValueError(f"{key} has {prod(shape) * width} bytes, expected at most {_MAX_ATTRIBUTE}")
    elements = prod(shape)
    if found.dtype.kind == "O" and elements * file.id.get_filesize() > _MAX_TEXT < elements * _largest_heap(file):
        raise ValueError(f"{key} may contain more than {_MAX_TEXT} bytes of text")
    value = file.attrs[name]
    if isinstance(value, np.generic) and value.dtype.kind != "S":
        return value.item()
    if isinstance(value, np.ndarray) and value.dtype.kind not in "SO":
        return value
    if isinstance(value, np.ndarray):
        return [_decoded(text, key) for text in value.ravel().tolist()]
    return _decoded(value, key)


def read_attributes(file: Any) -> dict[str, Any]:
    """All attributes of the root by name, see `read_attribute`."""
    from h5py import h5a

    names = [h5a.open(file.id, index=number).name for number in range(h5a.get_num_attrs(file.id))]
    return {name: read_attribute(file, name) for name in map(_checked_name, names)}


def _kind(dtype: np.dtype) -> str:
    import h5py

    return dtype.kind if h5py.check_string_dtype(dtype) is None else "T"


def _decoded(text: bytes | str, key: str) -> str:
    """A text as str.  Raises ValueError if it is not UTF-8, which h5py passes on as surrogates."""
    raw = text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{key} is not UTF-8 ({error.reason})") from error


def _checked_name(name: bytes | str) -> str:
    """The name of a dataset, group or attribute.  Raises ValueError if it is not printable or too long."""
    text = _decoded(name, f"the name {reprlib.repr(name)}")
    if not text.isprintable() or len(text) > _MAX_NAME:
        raise ValueError(f"the name {reprlib.repr(text)} is not printable, or longer than {_MAX_NAME} characters")
    return text


def _largest_heap(file: Any) -> int:
    """Bytes of the file's largest global heap collection, a bound on the length of variable-length texts."""
    with _mapped(file.filename) as data:
        return max((size for _, size in _heaps(data)), default=0)


@contextmanager
def _mapped(path: str | os.PathLike) -> Iterator[mmap.mmap]:
    with open(path, "rb") as raw, mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ) as data:
        yield data


def _heaps(data: mmap.mmap) -> Iterator[tuple[int, int]]:
    """Yield offset and size in bytes of each global heap collection of a file."""
    place = data.find(_HEAP)
    while place >= 0:
        size = _number(data, place + 8)
        if size <= len(data) - place:  # otherwise the signature is a coincidence, or the library refuses it
            yield place, size
        place = data.find(_HEAP, place + 1)


def _number(data: mmap.mmap, place: int) -> int:
    return int.from_bytes(data[place : place + 8], "little")
