"""Changes of HDF5 files that a stranger can make through h5py: kinds, shapes, values, links, storage, filters."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5p, h5s, h5t


def restructured(original: Path, path: Path, rng: np.random.Generator, folder: Path) -> str | None:
    """Change the structure of a copy; None if HDF5 refuses to make the change."""
    shutil.copy(original, path)
    with h5py.File(path, "r+") as file:
        change, name = pick(rng, STRUCTURE_CHANGES), pick(rng, everything(file))
        try:
            change(file, name, rng, folder)
        except (ValueError, TypeError, OSError, KeyError, RuntimeError, OverflowError):
            return None
    return f"{change.__name__} of {name}"


def pick(rng: np.random.Generator, choices: Any) -> Any:
    return choices[int(rng.integers(len(choices)))]


def everything(file: h5py.File) -> list[str]:
    """Names of the datasets, and "@NAME" of the root's attributes."""
    found = [f"@{name}" for name in file.attrs]
    for name, item in file.items():
        found += [name] if isinstance(item, h5py.Dataset) else [f"{name}/{own}" for own in item]
    return found


def values_of_another_kind(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """(data, dtype) for an array of the shape."""
    kind = pick(rng, ("i1", "u1", "i8", "u8", ">i4", "f2", "f4", "f8", "g", "c8", "S3", "S70000", "text", "bool",
                      "compound", "opaque", "reference", "vlen", "enum", "time"))
    if kind == "text":
        return np.full(shape, "word\0é"[int(rng.integers(6)):], object), h5py.string_dtype("utf-8")
    if kind == "compound":
        return np.zeros(shape, [("a", "i4"), ("b", "f8")]), None
    if kind == "opaque":
        return np.zeros(shape, "V5"), None
    if kind == "reference":
        return np.full(shape, None, object), h5py.ref_dtype
    if kind == "vlen":
        return None, h5py.vlen_dtype(np.int32)
    if kind == "enum":
        return np.zeros(shape, "i2"), h5py.enum_dtype({"no": 0, "yes": 1}, "i2")
    if kind == "time":
        return np.zeros(shape, "i8"), h5py.opaque_dtype(np.dtype("M8[s]"))
    if kind == "bool":
        return rng.random(shape) < 0.5, None
    if kind[0] == "S":
        return np.full(shape, b"\xff\xfe" if rng.random() < 0.3 else b"abc", kind), None
    with np.errstate(all="ignore"):
        return rng.integers(-3, 300, shape).astype(kind), None


def another_kind(file: h5py.File, name: str, rng: np.random.Generator, folder: Path) -> None:
    replace(file, name, rng, shape_of(file, name))


def another_shape(file: h5py.File, name: str, rng: np.random.Generator, folder: Path) -> None:
    old = shape_of(file, name)
    shape = pick(rng, ((), (0,), (1,), (2, 3), (*old, 1), (*old, 0), tuple(side + 1 for side in old), old[1:],
                       (1,) * 12, (50,), tuple(reversed(old))))
    attribute, data = name.startswith("@"), value_of(file, name)
    if attribute:
        file.attrs[name[1:]] = np.resize(data, shape) if np.asarray(data).dtype.kind != "U" else str(data) * 2
    else:
        kind = file[name].dtype
        del file[name]
        file.create_dataset(name, data=np.resize(data, shape), dtype=kind)


def another_value(file: h5py.File, name: str, rng: np.random.Generator, folder: Path) -> None:
    data = np.array(value_of(file, name))
    if data.dtype.kind in "iufb" and data.size:
        strange = [0, 1]
        if data.dtype.kind in "iu":
            strange += [np.iinfo(data.dtype).min, np.iinfo(data.dtype).max]
        elif data.dtype.kind == "f":
            strange += [np.finfo(data.dtype).min, np.finfo(data.dtype).max, np.nan, np.inf, -1, 1e30]
        data.flat[int(rng.integers(data.size))] = pick(rng, strange)
    elif data.size:
        data = data.astype(object)
        data.flat[int(rng.integers(data.size))] = pick(rng, ("", "a" * 5000, "\ud800", "é\n\x1b[0m"))
        encoded = [text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text for text in data.flat]
        data = np.array(encoded, object).reshape(data.shape)
    put(file, name, data)


def removed_one(file: h5py.File, name: str, rng: np.random.Generator, folder: Path) -> None:
    remove(file, name)


def nothing(file: h5py.File, name: str, rng: np.random.Generator, folder: Path) -> None:
    put(file, name, h5py.Empty(pick(rng, ("f4", "i8", "S5"))))


def huge_attribute(file: h5py.File, name: str, rng: np.random.Generator, folder: Path) -> None:
    texts = [pick(rng, ("word", "x" * 60_000))] * int(rng.integers(1, 4000))
    if name.startswith("@"):
        file.attrs.create(name[1:], texts, dtype=h5py.string_dtype("utf-8"))
    else:
        file.attrs["more"] = np.zeros(8000)


def soft_link(file: h5py.File, name: str, rng: np.random.Generator, folder: Path) -> None:
    place = at(file, name)
    file[place] = h5py.SoftLink(pick(rng, ("/labels", f"/{place}", "/nowhere", "/", ".")))


def external_link(file: h5py.File, name: str, rng: np.random.Generator, folder: Path) -> None:
    place = at(file, name)
    file[place] = h5py.ExternalLink(pick(rng, ("/etc/passwd", "nowhere.h5", str(folder / "dataset.h5"))), "/labels")


def hard_link(file: h5py.File, name: str, rng: np.random.Generator, folder: Path) -> None:
    target = pick(rng, [other for other in everything(file) if not other.startswith("@")] or ["/"])
    place = at(file, name)
    file[place] = file["/"] if rng.random() < 0.5 or target not in file else file[target]


def deep_group(file: h5py.File, name: str, rng: np.random.Generator, folder: Path) -> None:
    group = file.create_group(at(file, name))
    for _ in range(int(pick(rng, (0, 1, 500)))):
        group = group.create_group("g")


def named_type(file: h5py.File, name: str, rng: np.random.Generator, folder: Path) -> None:
    file[at(file, name)] = np.dtype("f4")


def virtual(file: h5py.File, name: str, rng: np.random.Generator, folder: Path) -> None:
    shape, place = shape_of(file, name) or (3,), at(file, name)
    layout = h5py.VirtualLayout(shape, "i4")
    layout[...] = h5py.VirtualSource(pick(rng, (".", str(folder / "dataset.h5"), "/etc/passwd")), place, shape=shape)
    file.create_virtual_dataset(place, layout)


def stored_elsewhere(file: h5py.File, name: str, rng: np.random.Generator, folder: Path) -> None:
    shape, place = shape_of(file, name) or (3,), at(file, name)
    file.create_dataset(place, shape, pick(rng, ("S4", "i4")), external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])


def bomb(file: h5py.File, name: str, rng: np.random.Generator, folder: Path) -> None:
    """Gigabytes that are not stored, or packed to next to nothing."""
    shape, place = shape_of(file, name) or (3,), at(file, name)
    length = int(pick(rng, (10**6, 10**9, 2**62)))
    shape = pick(rng, ((length,), (*shape[:-1], length), (length, *shape[1:])))
    kind = pick(rng, ("u1", "i4", "f8", "S100"))
    if rng.random() < 0.3 and length == 10**6:
        file.create_dataset(place, data=np.zeros(2 * length, "u1"), compression="gzip", compression_opts=9)
    elif rng.random() < 0.5 and np.prod([float(side) for side in shape]) < 2**60:
        file.create_dataset(place, shape, kind)
    else:
        chunks = tuple(int(pick(rng, (1, min(side, 1000), min(side, 30_000)))) for side in shape)
        file.create_dataset(place, shape, kind, maxshape=(None,) * len(shape), chunks=chunks, compression="gzip")


def huge_chunk(file: h5py.File, name: str, rng: np.random.Generator, folder: Path) -> None:
    data, place = value_of(file, name), at(file, name)
    data = np.zeros(3) if np.asarray(data).dtype.kind not in "iuf" or not np.ndim(data) else np.asarray(data)
    made = file.create_dataset(place, data.shape, data.dtype, maxshape=(None,) * data.ndim,
                               chunks=(int(pick(rng, (10**6, 10**7))), *(1,) * (data.ndim - 1)), compression="gzip")
    if rng.random() < 0.5:
        made[...] = data


def filtered(file: h5py.File, name: str, rng: np.random.Generator, folder: Path) -> None:
    data, place = np.asarray(value_of(file, name)), at(file, name)
    data = data if data.dtype.kind in "iuf" and data.ndim and data.size else np.zeros(4, np.int32)
    packed = pick(rng, ({"compression": "lzf"}, {"scaleoffset": 3}, {"fletcher32": True}, {"compression": "gzip"},
                        None))
    if packed is not None:
        file.create_dataset(place, data=data, chunks=data.shape, **packed)
        return
    properties = h5p.create(h5p.DATASET_CREATE)
    properties.set_chunk(data.shape)
    properties.set_filter(int(pick(rng, (5, 305, 32001, 32015))), h5py.h5z.FLAG_OPTIONAL, (1,))
    for _ in range(2):
        properties.set_deflate(9)
    h5d.create(file.id, place.encode(), h5t.py_create(data.dtype), h5s.create_simple(data.shape), properties)


def strange_name(file: h5py.File, name: str, rng: np.random.Generator, folder: Path) -> None:
    place = pick(rng, ("weights/new", "momentum/new", "history/new", "running/new", "meshes/new", "features", "new"))
    if place in file:
        del file[place]
    full = (place + pick(rng, ("", "é", "\x1b"))).encode() + pick(rng, (b"", b"\xff"))
    file.create_dataset(full, data=np.arange(3.0))


STRUCTURE_CHANGES: list[Callable] = [
    another_kind, another_kind, another_shape, another_value, another_value, removed_one, nothing, huge_attribute,
    soft_link, external_link, hard_link, deep_group, named_type, virtual, stored_elsewhere, bomb, huge_chunk, filtered,
    strange_name]


def value_of(file: h5py.File, name: str) -> Any:
    return file.attrs[name[1:]] if name.startswith("@") else file[name][()]


def shape_of(file: h5py.File, name: str) -> tuple[int, ...]:
    return np.shape(file.attrs[name[1:]]) if name.startswith("@") else file[name].shape


def remove(file: h5py.File, name: str) -> None:
    if name.startswith("@"):
        del file.attrs[name[1:]]
    else:
        del file[name]


def at(file: h5py.File, name: str) -> str:
    """A free place for an object: that of the dataset, or of a new one beside the attribute."""
    if not name.startswith("@"):
        del file[name]
    return name.replace("@", "of ")


def put(file: h5py.File, name: str, data: Any) -> None:
    if name.startswith("@"):
        file.attrs[name[1:]] = data
    else:
        del file[name]
        file.create_dataset(name, data=data)


def replace(file: h5py.File, name: str, rng: np.random.Generator, shape: tuple[int, ...]) -> None:
    data, kind = values_of_another_kind(rng, shape)
    if name.startswith("@"):
        remove(file, name)
        if data is not None:
            file.attrs.create(name[1:], data, dtype=kind)
    else:
        del file[name]
        file.create_dataset(name, shape, data=data, dtype=kind)
