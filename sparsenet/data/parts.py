"""Parts of a file that several processes or jobs make, each a file beside the whole.

A part of a dataset is a dataset file, whose splits are still empty if they are to be drawn from all shapes together,
with a record:

    part (n,) uint8     JSON: number, of, settings (sha256 of what all parts must share), entries (of all parts), draw
                        (how splits are drawn), noun, digests (of the objects' contents), and the report of the import
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sparsenet.data.reader import DatasetReader
from sparsenet.hdf5 import UNREADABLE, find_dataset
from sparsenet.wording import counted

if TYPE_CHECKING:
    from sparsenet.data.import_report import ImportReport

MOST_PARTS = 100_000
_LONGEST = 1 << 30  # bytes of a record


@dataclass(frozen=True)
class Part:
    """Part `number` of `of` parts, counted from 1.

    Raises ValueError if there is no such part.
    """

    number: int
    of: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of <= MOST_PARTS:
            raise ValueError(f"part {self.number} of {self.of}: expected a number from 1 to that of all parts, at most "
                             f"{MOST_PARTS}")

    @classmethod
    def parse(cls, text: str) -> Part:
        """The part that a text such as "3/8" names.  Raises ValueError."""
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text, re.ASCII)
        if not found:
            raise ValueError(f"{text!r} is not a part such as 3/8, the third of eight")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def path(self, whole: str | os.PathLike) -> Path:
        """The file of this part, beside that of the whole: shapes.3-of-8.h5 for shapes.h5."""
        whole = Path(whole)
        return whole.with_name(f"{whole.stem}.{self.number}-of-{self.of}{whole.suffix}")

    def of_items(self, count: int, step: int = 1) -> slice:
        """The items of this part, of `count` in order; parts begin at multiples of `step`."""
        steps = -(-count // step)
        start, stop = ((number * steps // self.of) * step for number in (self.number - 1, self.number))
        return slice(start, min(stop, count))


def parts_beside(whole: str | os.PathLike) -> list[Path]:
    """The files of parts beside the whole, by number.

    Raises ValueError if there are none, or they are parts of different divisions.
    """
    whole = Path(whole)
    pattern = re.compile(rf"{re.escape(whole.stem)}\.(\d+)-of-(\d+){re.escape(whole.suffix)}", re.ASCII)
    found = sorted((int(match[2]), int(match[1]), path) for path in whole.parent.glob("*")
                   if (match := pattern.fullmatch(path.name)))
    if not found:
        raise ValueError(f"join: no part of {whole} is beside it, such as {Part(1, 2).path(whole).name}: make the "
                         "parts with --part, or name them")
    divisions = sorted({of for of, _, _ in found})
    if len(divisions) > 1:
        raise ValueError(f"join: beside {whole} are parts of {divisions[0]} and of {divisions[1]}: name those to join, "
                         "or remove the others")
    return [path for _, _, path in found]


def check_complete(parts: list[tuple[Part, Path]]) -> None:
    """Raise ValueError unless they are all parts of one division, once each."""
    of = parts[0][0].of
    numbers = sorted(part.number for part, _ in parts)
    other = next((path for part, path in parts if part.of != of), None)
    if other is not None:
        raise ValueError(f"join: {parts[0][1]} is a part of {of}, and {other} of another number: join one division")
    twice = next((a for a, b in zip(numbers, numbers[1:], strict=False) if a == b), None)
    if twice is not None:
        raise ValueError(f"join: part {twice} of {of} is given twice")
    missing = sorted(set(range(1, of + 1)) - set(numbers))
    if missing:
        named = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
        raise ValueError(f"join: of {of} parts {len(missing)} are missing: {named}: make them first")


def settings_digest(*settings: Any) -> str:
    """sha256 of settings that JSON can hold."""
    return hashlib.sha256(json.dumps(settings).encode()).hexdigest()


def read_record(reader: DatasetReader) -> dict[str, Any]:
    """The record of a part.  Raises ValueError if the file is not a part, or the record is damaged."""
    if "part" not in reader.file:
        raise ValueError(f"join: {reader.path} is a whole dataset, expected parts that --part made")
    try:
        stored = find_dataset(reader.file, "part", "u", (None,))
        if stored.size > _LONGEST:
            raise ValueError("its record is too long")
        record = json.loads(bytes(stored[:].astype(np.uint8)))
        Part(record["number"], record["of"])
        objects = np.unique(reader.object)
        if len(record["digests"]) != len(objects) or not np.array_equal(objects, np.arange(len(objects))):
            raise ValueError(f"it has {counted(len(objects), 'object')} and {len(record['digests'])} digests")
        return record
    except UNREADABLE as error:
        raise ValueError(f"join: {reader.path} is damaged: its record cannot be read ({error}): make it "
                         "again") from error


def is_part(path: str | os.PathLike, part: Part, settings: str) -> bool:
    """Whether a file is this part, made with these settings.  Raises ValueError if it is something else."""
    with closing(DatasetReader(path)) as reader:
        record = read_record(reader)
    if record["settings"] != settings or (record["number"], record["of"]) != (part.number, part.of):
        raise ValueError(f"import: {path} is a part made with other settings, or from other files: remove it, or name "
                         "another output")
    return True


def write_part(part: Part, destination: str | os.PathLike, report: ImportReport, settings: Sequence[Any], entries: int,
               noun: tuple[str, str], write: Callable[[Path, slice, Callable[[], str]], None],
               digests: Callable[[], list[bytes]], draw: list[Any] | None = None) -> ImportReport:
    """Write a part of a dataset, unless it is there already.

    destination : the whole;  report : what is known of the whole so far; filled in for the part and returned
    settings : what all parts must share, for JSON;  entries, noun : how many things all parts are made of, and what
        they are called, one and several
    write : called with the path, the entries of the part, and a function that returns the record once they are read;
        writes the file
    digests : called then, returns those of the contents of the objects
    draw : see `SplitDrawing.settings`; None if no split is drawn

    Raises ValueError if the file is there and is something else, or a part of other settings.
    """
    report.path = path = part.path(destination)
    digest = settings_digest(*settings, part.of)
    began = {"number": part.number, "of": part.of, "settings": digest, "entries": entries, "draw": draw,
             "noun": noun, "found_failures": list(report.failures), "ignored": dict(report.ignored),
             "without_class": report.without_class, "remarks": list(report.remarks)}
    report.remarks.append(f"part {part} of {counted(entries, *noun)}")
    if path.exists() and is_part(path, part, digest):
        report.remarks.append("it was there already, and is kept")
    else:
        report.failures = []
        write(path, part.of_items(entries), lambda: json.dumps({
            **began, "digests": [one.hex() for one in digests()], "failures": report.failures,
            "up_axes": [[*key, count] for key, count in report.up_axes.items()]}))
    with closing(DatasetReader(path)) as reader:
        report.samples = len(reader.labels)
    return report
