"""A learner's progress, kept in `progress.json` beside the learner's files: nowhere else."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from sparsenet.files import write_text
from sparsenet.teach.puzzle import Puzzle

FILE = "progress.json"


class Progress:
    """The progress in one folder.  Raises ValueError if its file is not what this class writes."""

    def __init__(self, folder: Path):
        self.folder, self.path = folder, folder / FILE
        self._puzzles: dict[str, dict[str, Any]] = {}
        if self.path.exists():
            try:
                self._puzzles = json.loads(self.path.read_text(encoding="utf-8"))["puzzles"]
                assert all(isinstance(one, dict) for one in self._puzzles.values())
            except (ValueError, KeyError, TypeError, AttributeError, AssertionError):
                raise ValueError(f"{self.path} is not a list of solved puzzles: remove it, and check your files "
                                 "again") from None

    def file_of(self, puzzle: Puzzle) -> Path:
        return self.folder / self._puzzles.get(puzzle.name, {}).get("file", puzzle.file_name)

    def state(self, puzzle: Puzzle) -> str:
        """"solved", "changed" since it was solved, "begun" or "open"."""
        file, solved = self.file_of(puzzle), self._puzzles.get(puzzle.name, {}).get("solved")
        if not file.is_file():
            return "solved" if solved else "open"
        if solved:
            return "solved" if solved == _digest(file) else "changed"
        return "begun"

    def solve(self, puzzle: Puzzle, file: Path) -> bool:
        """Note that a file solves a puzzle; whether it is the first to do so."""
        own = self._puzzles.setdefault(puzzle.name, {})
        first = "solved" not in own
        own |= {"file": file.name, "solved": _digest(file)}
        self._write()
        return first

    def next_hint(self, puzzle: Puzzle) -> tuple[int, str]:
        """The number of the next hint, from 1, and its words; the last one again after the last."""
        own = self._puzzles.setdefault(puzzle.name, {})
        own["hints"] = min(own.get("hints", 0) + 1, len(puzzle.hints))
        self._write()
        return own["hints"], puzzle.hints[own["hints"] - 1]

    def _write(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self.path, json.dumps({"puzzles": self._puzzles}, indent=2, sort_keys=True) + "\n")


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]
