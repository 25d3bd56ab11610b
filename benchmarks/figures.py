"""The results of a benchmark: a flat list of figures, and the machine on which they were measured."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sparsenet.files import write_text

FORMAT = "sparsenet-benchmark"
VERSION = 1
RATIO_UNITS = ("x", "%")  # independent of a machine's clock, so used for comparing runs


@dataclass(frozen=True)
class Figure:
    """One number.

    section, case, name : its position: table, row and column
    unit : "ms", "s", "GFLOP/s", "x" (one time over another), "%", "", ...
    spread : interquartile range of its repeats over their median; 0 without repeats
    better : "higher", "lower", or "" if neither
    goal : a bound in the direction of `better`, or None
    """

    section: str
    case: str
    name: str
    value: float
    unit: str = ""
    spread: float = 0.0
    better: str = ""
    goal: float | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        return self.section, self.case, self.name

    @property
    def is_ratio(self) -> bool:
        return self.unit in RATIO_UNITS and self.better != ""

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None without one."""
        if self.goal is None:
            return None
        return self.value >= self.goal if self.better == "higher" else self.value <= self.goal


@dataclass
class Results:
    """The figures of one run.

    device : "cpu" or "cuda";  machine : see `machine.describe`;  settings : settings of the run
    notes : what was left out, and why;  failed : name of each failed section -> its error
    heard : called with each figure as it is added
    """

    device: str
    machine: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    heard: Callable[[Figure], None] = field(default=lambda figure: None, repr=False, compare=False)

    def add(self, section: str, case: str, name: str, value: float, unit: str = "", *, spread: float = 0.0,
            better: str = "", goal: float | None = None) -> None:
        """Append a figure.  Raises ValueError if its position is taken, or a goal has no direction."""
        figure = Figure(section, case, name, float(value), unit, float(spread), better, goal)
        if goal is not None and not better:
            raise ValueError(f"benchmark: {figure.key} has a goal, expected better='higher' or 'lower' too")
        if self.find(*figure.key) is not None:
            raise ValueError(f"benchmark: {figure.key} already exists")
        self.figures.append(figure)
        self.heard(figure)

    def find(self, section: str, case: str, name: str) -> Figure | None:
        return next((figure for figure in self.figures if figure.key == (section, case, name)), None)

    def value(self, section: str, case: str, name: str) -> float | None:
        """The value of a figure, or None if it does not exist."""
        figure = self.find(section, case, name)
        return None if figure is None else figure.value

    def sections(self) -> list[str]:
        """The sections, in the order of their first figures."""
        return list(dict.fromkeys(figure.section for figure in self.figures))

    def of(self, section: str) -> list[Figure]:
        return [figure for figure in self.figures if figure.section == section]

    def goals(self) -> Iterable[Figure]:
        return (figure for figure in self.figures if figure.goal is not None)

    def save(self, path: str | os.PathLike) -> None:
        """Write the figures as JSON, atomically."""
        content = {"format": FORMAT, "version": VERSION, "device": self.device, "machine": self.machine,
                   "settings": self.settings, "notes": self.notes, "failed": self.failed,
                   "figures": [_compact(figure) for figure in self.figures]}
        write_text(path, _lines(content))

    @classmethod
    def load(cls, path: str | os.PathLike) -> Results:
        """Read the figures written by `save`.

        Raises
        ------
        FileNotFoundError, ValueError : no such file, or another format.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise ValueError(f"benchmark: {path} is not JSON: {error}") from None
        if not isinstance(content, dict) or content.get("format") != FORMAT or content.get("version") != VERSION:
            raise ValueError(f"benchmark: {path} is not a {FORMAT} file of version {VERSION}: make it with "
                             "sparsenet benchmark --json")
        figures = [Figure(**figure) for figure in content["figures"]]
        return cls(content["device"], content["machine"], content["settings"], figures, content["notes"],
                   content.get("failed", {}))


def line(figure: Figure) -> str:
    """The figure as one line of JSON."""
    return json.dumps(_compact(figure), ensure_ascii=False)


def read_lines(path: Path) -> list[Figure]:
    """Figures written one per line; a truncated last line is left out, a missing file counts as empty."""
    if not path.exists():
        return []
    whole = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [Figure(**json.loads(one)) for one in whole if one.endswith("\n")]


def _compact(figure: Figure) -> dict[str, Any]:
    record = asdict(figure)
    for name, plain in (("spread", 0.0), ("better", ""), ("goal", None), ("unit", "")):
        if record[name] == plain:
            del record[name]
    record["value"] = int(figure.value) if figure.value.is_integer() else float(f"{figure.value:.5g}")
    if "spread" in record:
        record["spread"] = round(record["spread"], 3)
    return record


def _lines(content: dict[str, Any]) -> str:
    """JSON with one line per figure, so that diffs of two files are readable."""
    figures = content.pop("figures")
    head = json.dumps(content, indent=1, ensure_ascii=False).removesuffix("\n}")
    rows = ",\n  ".join(json.dumps(figure, ensure_ascii=False) for figure in figures)
    return f'{head},\n "figures": [\n  {rows}\n ]\n}}\n'
