"""Summarizes a campaign in at most sixty lines: outcome of each stage, smoke-test failures, the main figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, Results, read_lines
from benchmarks.report import number
from benchmarks.stage import Outcome

MAX_LINES, MAX_CHARACTERS = 60, 200
_VERDICTS = {True: "passed", False: "FAILED", None: "left out"}
_MAX_FAILURES = 8  # smoke-test failures listed by name
_MAX_NOTES = 6
# Sections in the order of the summary, and the maximum number of lines of each.
SECTIONS = {"large convolution": 12, "beside peers": 8, "ceilings": 1, "wgmma": 1, "S3DCNN steps": 3,
             "S3DCNN pipeline": 4, "ModelNet40 training": 2, "S3DCNN profile": 6, "S3DCNN convolutions": 12}
_IN_ONE_LINE = ("ceilings",)


def line(outcome: Outcome) -> str:
    """The line about one stage."""
    head = f"{outcome.name:<10} {_VERDICTS[outcome.passed]:<8} {outcome.seconds:6.1f} s  {outcome.words}"
    return head.rstrip()[:MAX_CHARACTERS]


def lines(facts: dict[str, Any], outcomes: Sequence[Outcome], out: Path) -> list[str]:
    """The summary of the folder's results so far, at most MAX_LINES lines."""
    summary = [f"{facts['machine'].get('gpu', '?')}, {facts['machine'].get('cuda', '?')}, commit {facts['commit']}, "
            f"{facts['began']}", *map(line, outcomes), *_failures(out), *_notes(out, outcomes)]
    by_section: dict[str, list[str]] = {}
    for (section, case), figures in _by_case(read_lines(out / "figures.jsonl")):
        first = sorted(figures, key=lambda figure: "," in figure.name)  # "forward" before "forward, of matrix rate"
        by_section.setdefault(section, []).append(f"{case}: {', '.join(map(_words, first))}")
    for section, limit in SECTIONS.items():
        rows = by_section.get(section, [])
        if section in _IN_ONE_LINE:
            rows = ["; ".join(rows)] if rows else []
        if rows:
            summary += [section, *(f"  {row}" for row in rows[:limit])]
    if len(summary) > MAX_LINES:
        summary = [*summary[:MAX_LINES - 1], f"... and {len(summary) - MAX_LINES + 1} more lines in the archive"]
    return [one[:MAX_CHARACTERS] for one in summary]


def _failures(out: Path) -> list[str]:
    """The smoke test's lines about failed parts."""
    path = out / "smoke.txt"
    said = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    failed = [f"  {one}" for one in said if one.startswith("FAIL ")]
    more = [f"  ... and {len(failed) - _MAX_FAILURES} more"] if len(failed) > _MAX_FAILURES else []
    return failed[:_MAX_FAILURES] + more


def _notes(out: Path, outcomes: Sequence[Outcome]) -> list[str]:
    """The benchmark stages' notes about omissions."""
    paths = (out / f"{outcome.name}.json" for outcome in outcomes)
    notes = [f"  {note}" for path in paths if path.exists() for note in Results.load(path).notes]
    return list(dict.fromkeys(notes))[:_MAX_NOTES]


def _by_case(figures: Iterable[Figure]) -> Iterable[tuple[tuple[str, str], list[Figure]]]:
    found: dict[tuple[str, str], list[Figure]] = {}
    for figure in figures:
        if not figure.name.endswith(", rate"):  # redundant with the time
            found.setdefault((figure.section, figure.case), []).append(figure)
    return found.items()


def _words(figure: Figure) -> str:
    met = "" if figure.goal is None else f" ({'goal met' if figure.met else f'goal {number(figure.goal)}'})"
    return f"{figure.name} {number(figure.value)}{f' {figure.unit}' if figure.unit else ''}{met}"
