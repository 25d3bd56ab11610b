"""The chapters of the course run, their assertions hold, and each has the form that CONTRIBUTING.md states."""

from __future__ import annotations

import re
import shutil
import sys
from itertools import groupby
from pathlib import Path

import pytest

pytest.importorskip("matplotlib", reason="the chapters draw: they need matplotlib")
DOCS = Path(__file__).parents[2] / "docs"
sys.path.append(str(DOCS))

import notebooks  # noqa: E402

CHAPTERS = sorted((DOCS / "course").glob("*.py"))
NAMES = [path.stem for path in CHAPTERS]


@pytest.mark.parametrize("path", CHAPTERS, ids=NAMES)
def test_a_chapter_runs(path):
    """Each assertion in it holds; each cell that draws, and no other, says in words what there is to see."""
    if "HostDriver" in path.read_text(encoding="utf-8") and shutil.which("g++") is None:
        pytest.skip("this chapter compiles kernels with g++")
    cells = notebooks.read(path)
    drawn = {cell.line: bool(output.pictures) for cell, output in zip(cells, notebooks.run(cells, path), strict=True)}
    assert drawn == {cell.line: bool(cell.alt) for cell in cells}
    assert sum(drawn.values()) >= 1


@pytest.mark.parametrize("path", CHAPTERS, ids=NAMES)
def test_a_chapter_has_exercises_with_tested_solutions(path):
    cells = notebooks.read(path)
    assert [int(number) for cell in cells for number in re.findall(r"^### Exercise (\d)\. ", cell.text, re.MULTILINE)
            ] == [1, 2, 3]
    begin = next(number for number, cell in enumerate(cells) if "## Exercises" in cell.text)
    assert not any("solution" in cell.tags for cell in cells[:begin])
    parts = [(solution, "\n".join(cell.text for cell in group))
             for solution, group in groupby(cells[begin:], lambda cell: "solution" in cell.tags)]
    assert [solution for solution, _ in parts] == [False, True] * 3
    assert all("### Exercise" in text for solution, text in parts if not solution)
    assert all(re.search(r"^ *(assert|np\.testing)", text, re.MULTILINE) for solution, text in parts if solution)


@pytest.mark.parametrize("path", CHAPTERS, ids=NAMES)
def test_a_chapter_is_as_long_as_a_reader_stays_awake(path):
    cells = notebooks.read(path)
    assert 10 <= notebooks.minutes(cells) <= 20
    assert "## What to remember" in path.read_text(encoding="utf-8")
    assert set().union(*(cell.tags for cell in cells)) <= {"picture", "solution"}


def test_they_stand_in_one_order_everywhere():
    titles = [notebooks.title(notebooks.read(path)) for path in CHAPTERS]
    assert [int(re.match(r"(\d+)\. ", title)[1]) for title in titles] == list(range(1, len(titles) + 1))
    contents = (DOCS / "course" / "index.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| \[(.*)\]\((.*)\.py\)", contents, re.MULTILINE) == list(zip(titles, NAMES, strict=True))
    nav = (DOCS.parent / "mkdocs.yml").read_text(encoding="utf-8")
    assert re.findall(r"- course/(\d\d_\w+)\.md", nav) == NAMES
