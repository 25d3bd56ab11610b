"""The rows of PLY elements, from lines of text or from bytes, by column.

Rows without lists, and rows whose lists are all of one length (the rule by far), are read in one sweep.
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
    """A column: a value in each row, or with `length` (the type of the counts) a list."""

    name: str
    kind: str
    length: str = ""


@dataclass
class Lists:
    """The lists of one column: values one after another, and how many each row has."""

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
    """The rows of each element: one a line, or if the lines do not fit, one word after another.

    Raises
    ------
    MeshError : fewer rows, or shorter ones, than the header promises; a word that is not a number.
    """
    lines = [words for line in body.splitlines() if (words := line.split())]
    if len(lines) < sum(element.count for element in elements):
        wrong = (f"the header promises {sum(element.count for element in elements)} lines, "
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
    words, position, tables = [word for line in lines for word in line], 0, []
    for element in elements:
        rows = []
        for _ in range(element.count):
            length = _length(words, position, element.properties)
            if length is None:
                raise MeshError(wrong)
            rows.append(words[position:position + length])
            position += length
        tables.append(_text_columns(element, rows))
    return iter(tables)


def _length(words: list[bytes], position: int, properties: list[Property]) -> int | None:
    """How many words the row at `position` takes; None if they are not there."""
    start = position
    for column in properties:
        if column.length:
            if position >= len(words) or not is_count(words[position]):
                return None
            position += int(words[position])
        position += 1
    return position - start if position <= len(words) else None


def _text_columns(element: _Element, rows: list[list[bytes]]) -> Rows:
    table = Rows(len(rows))
    places = [0] * len(rows)
    for column in element.properties:
        if column.length:
            sizes = [int(words[place]) for words, place in zip(rows, places, strict=True)]
            values = [word for words, place, size in zip(rows, places, sizes, strict=True)
                      for word in words[place + 1:place + 1 + size]]
            table.lists[column.name] = Lists(numbers(values), np.array(sizes, np.int64))
            places = [place + 1 + size for place, size in zip(places, sizes, strict=True)]
        else:
            table.columns[column.name] = numbers([words[place] for words, place in zip(rows, places, strict=True)])
            places = [place + 1 for place in places]
    return table


def binary_rows(body: bytes, order: str, elements: Sequence[_Element]) -> Iterator[Rows]:
    """The rows of each element.

    Parameters
    ----------
    order : "<" for little-endian, ">" for big-endian

    Raises
    ------
    MeshError : the bytes end before the rows do; a list of a negative or fractional length.
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
    """A row whose lists have those lengths (by the number of the property; 0 if not given)."""
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
    """The lengths of the lists of the row at `position`, by the number of the property."""
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
                        f"more than a file of {len(body)} bytes can hold, or fewer than none")
    return int(length)


def _row_by_row(body: bytes, position: int, order: str, element: _Element) -> tuple[Rows, int]:
    """Rows with lists of several lengths: where each value lies is known after the row before."""
    steps = [(np.dtype(column.kind).itemsize, np.dtype(order + column.length) if column.length else None)
             for column in element.properties]
    places: list[list[int]] = [[] for _ in steps]
    sizes: list[list[int]] = [[] for _ in steps]
    for _ in range(element.count):
        for number, (width, length) in enumerate(steps):
            size = 1
            if length is not None:
                # one byte is the usual length, and read without NumPy
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
    """Runs of values that begin at the bytes `places`, one after another."""
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    starts = np.repeat(places, lengths) + within * kind.itemsize
    raw = np.frombuffer(body, np.uint8)
    return raw[starts[:, None] + np.arange(kind.itemsize)].reshape(-1).view(kind)


def _cut(element: _Element) -> str:
    return f"it ends before the {element.count} rows of element {element.name:.40} do: is it cut off?"
