"""Tables and the picture."""

from __future__ import annotations

import pytest

from benchmarks import Results, picture
from benchmarks.report import number, section_table, text


def results() -> Results:
    made = Results("cpu", {"processor": "P", "threads": 2})
    for case in ("submanifold, random", "submanifold, surface"):
        made.add("convolution", case, "forward", 12.345, "ms", spread=0.3, better="lower")
        made.add("convolution", case, "forward, spconv", 20.0, "ms", better="lower")
        made.add("convolution", case, "sgemm", 10.0, "ms")
        made.add("convolution", case, "forward, peer / ours", 1.7, "x", better="higher", goal=1.5)
    for size, sites in ((30, 100), (40, 200), (100, 900)):
        made.add("S3DCNN cost", f"render {size}", "sites a sample", sites)
        made.add("S3DCNN cost", f"render {size}", "step a sample", sites / 100, "ms")
        made.add("S3DCNN split", f"render {size}", "leaky ReLU", 40.0, "%")
        made.add("S3DCNN split", f"render {size}", "update", 60.0, "%")
    return made


def test_a_table_is_aligned_and_marks_wide_spreads():
    table = section_table(results(), "convolution").splitlines()
    assert table[0] == "convolution"
    assert table[1].split() == ["forward", "forward,", "sgemm", "forward,"] or "forward" in table[1]
    assert any("~12.3" in line and "1.7" in line for line in table)
    assert len({len(line) for line in table[3:]}) == 1


def test_a_wide_table_is_turned_or_broken():
    made = Results("cpu")
    for case in ("one", "two"):
        for i in range(30):
            made.add("wide", case, f"figure number {i}", i, "ms")
    lines = section_table(made, "wide").splitlines()
    assert max(map(len, lines)) <= 118
    assert sum("figure number" in line for line in lines) == 30  # a figure a row


def test_the_text_holds_the_goals_and_the_notes():
    made = results()
    made.notes.append("peer torch left out")
    words = text(made)
    assert "goals" in words and ">= 1.5" in words and "yes" in words
    assert words.endswith("peer torch left out")


@pytest.mark.parametrize(("value", "shown"), [(0, "0"), (372288, "372,288"), (1234.5, "1,234"), (123.4, "123"),
                                              (12.345, "12.3"), (0.01234, "0.0123"), (7.0, "7")])
def test_numbers(value, shown):
    assert number(value) == shown


def test_the_picture_is_written(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: no pictures")
    picture.draw(results(), tmp_path / "cpu.png")
    assert (tmp_path / "cpu.png").stat().st_size > 10_000


def test_a_picture_of_nothing_is_refused(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: no pictures")
    with pytest.raises(ValueError, match="leave --picture out"):
        picture.draw(Results("cpu"), tmp_path / "cpu.png")
