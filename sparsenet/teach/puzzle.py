"""A puzzle: a statement, a source with a hole, hints, and a check of what a learner writes into the hole.

Each puzzle is a folder of `puzzles/`: `__init__.py` with its PUZZLE, and its answer, `solution.py` or `solution.cu`.
What stands in the answer between the marks is the hole: `start` writes the answer without it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from textwrap import dedent, indent
from typing import ClassVar

from sparsenet.teach.puzzles import NAMES
from sparsenet.wording import did_you_mean

_HOLE = re.compile(r"^([ \t]*)(#|//) ---- your code: (.*)\n((?:.*\n)*?)[ \t]*(?:#|//) ---- end\n", re.MULTILINE)
_NAMED = re.compile(r"sparsenet puzzle: (\w+)")


class Wrong(Exception):
    """An answer is wrong; the message says what, where, and what was expected."""


@dataclass(frozen=True)
class Puzzle:
    """The common part of all puzzles.

    module : `__name__` of the module that defines it, whose last part is the puzzle's name
    title : one line;  text : the statement, in plain text;  hints : from a nudge to nearly the answer
    """

    module: str
    title: str
    text: str = field(repr=False)
    hints: tuple[str, ...] = field(repr=False)
    suffix: ClassVar[str]  # of its files
    comment: ClassVar[str]  # how a line of comment begins
    empty: ClassVar[str]  # what stands in the hole at first

    @property
    def name(self) -> str:
        return self.module.rpartition(".")[2]

    @property
    def file_name(self) -> str:
        return self.name + self.suffix

    @cached_property
    def solution(self) -> str:
        """The text of the answer."""
        spec = find_spec(self.module)
        assert spec is not None and spec.origin is not None
        return Path(spec.origin).with_name(f"solution{self.suffix}").read_text(encoding="utf-8")

    @cached_property
    def template(self) -> str:
        """The text of the file that a learner begins with."""
        lines = [f"sparsenet puzzle: {self.name}", f"{self.title}.", "", *dedent(self.text).strip().splitlines(), "",
                 "Write between the marks, then:", f"    sparsenet puzzle check {self.file_name}",
                 f"    sparsenet puzzle hint {self.name}"]
        head = "".join(f"{self.comment} {line}".rstrip() + "\n" for line in lines)
        return f"{head}\n{_HOLE.sub(self._emptied, self.solution)}"

    def _emptied(self, hole: re.Match) -> str:
        space, mark, words, _ = hole.groups()
        inside = indent(self.empty, space) + "\n" if self.empty else ""
        return f"{space}{mark} ---- your code: {words}\n{inside}{space}{mark} ---- end\n"

    @property
    def holes(self) -> list[str]:
        """The text in the holes of the answer."""
        return [hole[4] for hole in _HOLE.finditer(self.solution)]

    def check(self, path: Path, seconds: int) -> str:
        """Run a learner's file, at most so many seconds, and return a remark on a right answer ("": none).

        Raises
        ------
        Wrong : the answer is not right.
        OSError, RuntimeError : the file cannot be read; it cannot be run here.
        """
        text = path.read_text(encoding="utf-8")
        if not text.strip():
            raise Wrong(f"{path.name} is empty: remove it, and `sparsenet puzzle start {self.name}` writes it anew")
        for number, hole in enumerate(_HOLE.finditer(text)):
            if hole[4].strip() == self.empty and self.holes[number:number + 1] != [hole[4]]:
                line = text.count("\n", 0, hole.start()) + 1
                raise Wrong(f"the hole at line {line} of {path.name} is still empty: {hole[3]}\n"
                            f"Write between the marks; `sparsenet puzzle hint {self.name}` helps.")
        return self._run(path, seconds)

    def _run(self, path: Path, seconds: int) -> str:
        raise NotImplementedError


def find(name: str) -> Puzzle:
    """The puzzle of that name, hyphens or underscores.

    Raises ValueError if there is none.
    """
    name = name.replace("-", "_")
    if name not in NAMES:
        hint = did_you_mean(name, NAMES) or f", expected one of {', '.join(NAMES)}"
        raise ValueError(f"there is no puzzle {name!r}{hint}")
    return import_module(f"sparsenet.teach.puzzles.{name}").PUZZLE


def puzzle_of(path: Path) -> Puzzle:
    """The puzzle that a file answers: the one that its text names, or else its name.

    Raises ValueError if that leads to none.
    """
    named = _NAMED.search(path.read_text(encoding="utf-8"))
    name = named[1] if named else path.stem
    if name not in NAMES:
        raise ValueError(f"{path}: no puzzle is named {name!r}: keep the first line of the file, which names it")
    return find(name)
