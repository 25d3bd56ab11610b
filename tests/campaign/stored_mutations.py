"""Changes of stored files: of bytes, of TOML texts, and of HDF5 structures (see `stored_structures`)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from stored_structures import pick, restructured

from sparsenet.files import seal

BYTES_SHARE = 0.4  # of the changes of an HDF5 file


def mutated(original: Path, path: Path, rng: np.random.Generator, sealed: bool, folder: Path) -> str:
    """Write a changed copy of the original to `path`; returns what was changed, bytes if it begins with that word."""
    if original.suffix == ".toml":
        change = pick(rng, TEXT_CHANGES if rng.random() < 0.6 else BYTE_CHANGES)
        path.write_bytes(change(bytearray(original.read_bytes()), rng))
        return change.__name__
    if rng.random() < BYTES_SHARE:
        change, whole = pick(rng, BYTE_CHANGES), original.read_bytes()
        found = change(bytearray(whole), rng)
        while found == whole:
            found = change(bytearray(whole), rng)
        path.write_bytes(found)
        return f"bytes: {change.__name__}"
    while (words := restructured(original, path, rng, folder)) is None:
        pass
    if sealed:
        seal(path)
    return words


# ---- bytes ----


def flips(data: bytearray, rng: np.random.Generator) -> bytes:
    for _ in range(int(pick(rng, (1, 1, 1, 4, 16)))):
        data[int(rng.integers(len(data)))] ^= int(rng.integers(1, 256))
    return bytes(data)


def flips_near_the_start(data: bytearray, rng: np.random.Generator) -> bytes:
    """Where the structures of an HDF5 file begin."""
    for _ in range(int(pick(rng, (1, 2, 4)))):
        data[int(rng.integers(min(len(data), 3000)))] ^= int(rng.integers(1, 256))
    return bytes(data)


def cut(data: bytearray, rng: np.random.Generator) -> bytes:
    return bytes(data[: int(rng.integers(len(data)))])


def removed(data: bytearray, rng: np.random.Generator) -> bytes:
    start = int(rng.integers(len(data)))
    del data[start : start + int(rng.integers(1, 2000))]
    return bytes(data)


def doubled(data: bytearray, rng: np.random.Generator) -> bytes:
    start = int(rng.integers(len(data)))
    part = data[start : start + int(rng.integers(1, 2000))]
    place = int(rng.integers(len(data)))
    return bytes(data[:place] + part + data[place:])


def overwritten(data: bytearray, rng: np.random.Generator) -> bytes:
    start, length = int(rng.integers(len(data))), int(rng.integers(1, 200))
    data[start : start + length] = bytes([int(pick(rng, (0, 1, 255)))]) * len(data[start : start + length])
    return bytes(data)


BYTE_CHANGES: list[Callable] = [flips, flips, flips_near_the_start, cut, removed, doubled, overwritten]


# ---- TOML ----


def deep_lists(data: bytearray, rng: np.random.Generator) -> bytes:
    depth = int(rng.integers(1, 100_000))
    return bytes(data) + b"\nx = " + b"[" * depth + b"]" * depth


def long_number(data: bytearray, rng: np.random.Generator) -> bytes:
    return bytes(data).replace(b"=", b"= 1" + b"0" * int(rng.integers(1, 100_000)), int(rng.integers(1, 4)))


def deep_key(data: bytearray, rng: np.random.Generator) -> bytes:
    return bytes(data) + b"\n" + b"a." * int(rng.integers(1, 100_000)) + b"a = 1"


def long_text(data: bytearray, rng: np.random.Generator) -> bytes:
    return bytes(data).replace(b'"', b'"' + b"long\\n" * int(rng.integers(1, 100_000)), 1)


def strange_value(data: bytearray, rng: np.random.Generator) -> bytes:
    lines = bytes(data).split(b"\n")
    places = [number for number, line in enumerate(lines) if b"=" in line]
    values = (b"nan", b"-inf", b"1e999", b"-1", b"0x7fffffffffffffff", b"1979-05-27", b"{a=1}", b"[[1]]", b"''",
              b"true", b'"\\u0000"', b"9" * 400, b"[]", b'["a", 1]')
    for place in rng.choice(places, min(len(places), 3), replace=False):
        lines[place] = lines[place].split(b"=")[0] + b"= " + pick(rng, values)
    return b"\n".join(lines)


def shuffled_lines(data: bytearray, rng: np.random.Generator) -> bytes:
    lines = bytes(data).split(b"\n")
    return b"\n".join(lines[number] for number in rng.integers(len(lines), size=len(lines)))


TEXT_CHANGES: list[Callable] = [
    deep_lists, long_number, deep_key, long_text, strange_value, strange_value, shuffled_lines]
