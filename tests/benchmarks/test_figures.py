"""Figures: goals, ratios, and the JSON file."""

from __future__ import annotations

import json

import pytest

from benchmarks import Figure, Results


def results() -> Results:
    made = Results("cpu", {"threads": 2}, {"repeats": 3})
    made.add("convolution", "surface", "pairs", 372288)
    made.add("convolution", "surface", "forward", 12.3456789, "ms", spread=0.0512, better="lower")
    made.add("convolution", "surface", "forward, peer / ours", 1.7, "x", better="higher", goal=1.5)
    made.add("memory", "render 40", "peak / live", 2.4, "x", better="lower", goal=2.0)
    made.notes.append("peer torch left out")
    return made


def test_a_goal_is_met_in_the_direction_that_is_better():
    met = {figure.name: figure.met for figure in results().goals()}
    assert met == {"forward, peer / ours": True, "peak / live": False}


def test_a_ratio_has_no_unit_of_time_and_a_direction():
    assert Figure("s", "c", "n", 1.0, "x", better="higher").is_ratio
    assert Figure("s", "c", "n", 1.0, "%", better="lower").is_ratio
    assert not Figure("s", "c", "n", 1.0, "%").is_ratio
    assert not Figure("s", "c", "n", 1.0, "ms", better="lower").is_ratio


def test_a_place_is_taken_once():
    made = results()
    with pytest.raises(ValueError, match="already exists"):
        made.add("convolution", "surface", "pairs", 1)


def test_a_goal_needs_a_direction():
    with pytest.raises(ValueError, match="better='higher' or 'lower'"):
        results().add("s", "c", "n", 1.0, goal=2.0)


def test_a_file_gives_back_what_was_saved(tmp_path):
    made = results()
    made.save(tmp_path / "cpu.json")
    assert Results.load(tmp_path / "cpu.json").failed == {}
    made.failed["hash"] = "RuntimeError: keys differ"
    made.save(tmp_path / "cpu.json")
    assert Results.load(tmp_path / "cpu.json").failed == made.failed
    read = Results.load(tmp_path / "cpu.json")
    assert (read.device, read.machine, read.settings, read.notes) == ("cpu", {"threads": 2}, {"repeats": 3},
                                                                      ["peer torch left out"])
    assert [figure.key for figure in read.figures] == [figure.key for figure in made.figures]
    assert [figure.goal for figure in read.figures] == [None, None, 1.5, 2.0]
    assert read.value("convolution", "surface", "pairs") == 372288
    assert read.value("convolution", "surface", "forward") == pytest.approx(12.3456789, rel=1e-4)
    assert read.find("convolution", "surface", "forward").spread == 0.051
    assert read.value("convolution", "surface", "absent") is None


def test_each_figure_has_a_line_of_the_file(tmp_path):
    results().save(tmp_path / "cpu.json")
    lines = (tmp_path / "cpu.json").read_text().splitlines()
    assert sum('"section"' in line for line in lines) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["cpu.json"]


@pytest.mark.parametrize("content", ["not json", "[]", json.dumps({"format": "other", "version": 1})])
def test_another_file_is_refused(tmp_path, content):
    path = tmp_path / "cpu.json"
    path.write_text(content)
    with pytest.raises(ValueError, match="benchmark: .*cpu.json"):
        Results.load(path)
