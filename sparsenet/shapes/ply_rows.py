"""Reads the rows of PLY elements, from text or binary, into columns.

Rows without lists, and rows whose lists all have the same length (nearly all files), are read at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from sparsenet.shapes.mesh import MeshError
from sparsenet.shapes.text import excerpt, is_count, numbers


@dataclass(frozen=True)
class Property:
    """A column: one value per row, or a list if `length` (the type of its counts) is given."""

    name: str
    kind: str
    length: str = ""


@dataclass
class Lists:
    """The lists of one column: concatenated values, and the length of each row's list."""

    values: np.ndarray
    sizes: np.ndarray


@dataclass
class Rows:
    """The columns of one element, by name."""

    count: int
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    lists: dict[str, Lists] = field(default_factory=dict)


class _Element(Protocol):
    name: str
    count: int
    properties: list[Property]


def text_rows(body: bytes, order: str, elements: Sequence[_Element]) -> Iterator[Rows]:
    """Yield the rows of each element: one per line, or as a sequence of words if the lines do not match.

    Raises
    ------
    MeshError : fewer rows, or shorter ones, than the header declares; a word that is not a number.
    """
    lines = [words for line in body.splitlines() if (words := line.split())]
    if len(lines) < sum(element.count for element in elements):
        wrong = (f"the header declares {sum(element.count for element in elements)} lines, "
                 f"there are {len(lines)} after it")
    else:
        start, wrong, fitted = 0, "", []
        for element in elements:
            rows = lines[start:start + element.count]
            fitted.append(rows)
            wrong = wrong or next((f"a row of element {element.name:.40} is {excerpt(words)}, which lacks a value"
                                   for words in rows if _length(words, 0, element.properties) is None), "")
            start += element.count
        if not wrong:
            return iter([_text_columns(element, rows) for element, rows in zip(elements, fitted, strict=True)])
    words, position, found = [word for line in lines for word in line], 0, []
    for element in elements:
        rows = []
        for _ in range(element.count):
            length = _length(words, position, element.properties)
            if length is None:
                raise MeshError(wrong)
            rows.append(words[position:position + length])
            position += length
        found.append(_text_columns(element, rows))
    return iter(found)


def _length(words: list[bytes], position: int, properties: list[Property]) -> int | None:
    """The number of words in the row at `position`; None if the words end before it does."""
    start = position
    for column in properties:
        if column.length:
            if position >= len(words) or not is_count(words[position]):
                return None
            position += int(words[position])
        position += 1
    return position - start if position <= len(words) else None


def _text_columns(element: _Element, rows: list[list[bytes]]) -> Rows:
    result = Rows(len(rows))
    places = [0] * len(rows)
    for column in element.properties:
        if column.length:
            sizes = [int(words[place]) for words, place in zip(rows, places, strict=True)]
            values = [word for words, place, size in zip(rows, places, sizes, strict=True)
                      for word in words[place + 1:place + 1 + size]]
            result.lists[column.name] = Lists(numbers(values), np.array(sizes, np.int64))
            places = [place + 1 + size for place, size in zip(places, sizes, strict=True)]
        else:
            result.columns[column.name] = numbers([words[place] for words, place in zip(rows, places, strict=True)])
            places = [place + 1 for place in places]
    return result


def binary_rows(body: bytes, order: str, elements: Sequence[_Element]) -> Iterator[Rows]:
    """Yield the rows of each element.

    Parameters
    ----------
    order : "<" for little-endian, ">" for big-endian

    Raises
    ------
    MeshError : the bytes end before the rows do, or the length of a list is negative or fractional.
    """
    position = 0
    for element in elements:
        rows, position = _binary_element(body, position, order, element)
        yield rows


def _binary_element(body: bytes, position: int, order: str, element: _Element) -> tuple[Rows, int]:
    if not element.count:
        return _columns_of_block(np.zeros(0, _row_type(order, element.properties, {})), element), position
    sizes = _sizes_of_row(body, position, order, element)
    row = _row_type(order, element.properties, sizes)
    if row.itemsize * element.count <= len(body) - position:
        block = np.frombuffer(body, row, element.count, position)
        if all((block[f"{number} length"] == size).all() for number, size in sizes.items()):
            return _columns_of_block(block, element), position + block.nbytes
    return _row_by_row(body, position, order, element)


def _row_type(order: str, properties: list[Property], sizes: dict[int, int]) -> np.dtype:
    """The dtype of a row whose lists have these lengths (by property number; default 0)."""
    fields: list[tuple] = []
    for number, column in enumerate(properties):
        if column.length:
            fields += [(f"{number} length", order + column.length),
                       (f"{number}", order + column.kind, (sizes.get(number, 0),))]
        else:
            fields.append((f"{number}", order + column.kind))
    return np.dtype(fields)


def _columns_of_block(block: np.ndarray, element: _Element) -> Rows:
    rows = Rows(len(block))
    for number, column in enumerate(element.properties):
        values = block[f"{number}"]
        if column.length:
            rows.lists[column.name] = Lists(values.reshape(-1), np.full(len(block), values.shape[1], np.int64))
        else:
            rows.columns[column.name] = values
    return rows


def _sizes_of_row(body: bytes, position: int, order: str, element: _Element) -> dict[int, int]:
    """The lengths of the lists in the row at `position`, by property number."""
    sizes = {}
    for number, column in enumerate(element.properties):
        if column.length:
            sizes[number] = _length_at(body, position, np.dtype(order + column.length), element)
            position += np.dtype(column.length).itemsize + sizes[number] * np.dtype(column.kind).itemsize
        else:
            position += np.dtype(column.kind).itemsize
    if position > len(body):
        raise MeshError(_cut(element))
    return sizes


def _length_at(body: bytes, position: int, kind: np.dtype, element: _Element) -> int:
    if position + kind.itemsize > len(body):
        raise MeshError(_cut(element))
    length = np.frombuffer(body, kind, 1, position)[0]
    if not (0 <= length <= len(body) and length == int(length)):
        raise MeshError(f"a list of element {element.name:.40} has {length:.12g} values, "
                        f"negative or more than a file of {len(body)} bytes can hold")
    return int(length)


def _row_by_row(body: bytes, position: int, order: str, element: _Element) -> tuple[Rows, int]:
    """Rows with lists of different lengths: the position of a row is known only after the previous one."""
    steps = [(np.dtype(column.kind).itemsize, np.dtype(order + column.length) if column.length else None)
             for column in element.properties]
    places: list[list[int]] = [[] for _ in steps]
    sizes: list[list[int]] = [[] for _ in steps]
    for _ in range(element.count):
        for number, (width, length) in enumerate(steps):
            size = 1
            if length is not None:
                # the length is usually one byte, which is read without NumPy
                size = (body[position] if length.str[1:] == "u1" and position < len(body)
                        else _length_at(body, position, length, element))
                sizes[number].append(size)
                position += length.itemsize
            places[number].append(position)
            position += size * width
        if position > len(body):
            raise MeshError(_cut(element))
    rows = Rows(element.count)
    for number, column in enumerate(element.properties):
        kind = np.dtype(order + column.kind)
        lengths = np.array(sizes[number] if column.length else [1] * element.count, np.int64)
        values = _gather(body, np.array(places[number], np.int64), lengths, kind)
        if column.length:
            rows.lists[column.name] = Lists(values, lengths)
        else:
            rows.columns[column.name] = values
    return rows, position


def _gather(body: bytes, places: np.ndarray, lengths: np.ndarray, kind: np.dtype) -> np.ndarray:
    """The concatenated runs of values that start at the byte offsets `places`."""
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    starts = np.repeat(places, lengths) + within * kind.itemsize
    raw = np.frombuffer(body, np.uint8)
    return raw[starts[:, None] + np.arange(kind.itemsize)].reshape(-1).view(kind)


def _cut(element: _Element) -> str:
    return f"it ends before the {element.count} rows of element {element.name:.40} do: truncated?"
