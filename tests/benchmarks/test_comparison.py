"""A run beside a committed one."""

from __future__ import annotations

import pytest

from benchmarks import Results, compare
from benchmarks.comparison import report


def run(value: float, spread: float = 0.0, better: str = "higher", unit: str = "x") -> Results:
    results = Results("cpu")
    results.add("convolution", "surface", "forward", value, unit, spread=spread, better=better)
    return results


@pytest.mark.parametrize(("before", "now", "better", "verdict"), [
    (2.0, 2.1, "higher", "same"), (2.0, 3.0, "higher", "better"), (2.0, 1.0, "higher", "worse"),
    (2.0, 3.0, "lower", "worse"), (2.0, 1.0, "lower", "better"), (0.0, 1.0, "lower", "same"),
])
def test_verdicts_follow_the_direction(before, now, better, verdict):
    (one,) = compare(run(now, better=better), run(before, better=better))
    assert one.verdict == verdict


def test_a_wide_spread_explains_a_change():
    (one,) = compare(run(1.2, spread=0.3), run(2.0, spread=0.3))
    assert one.noise == pytest.approx(2 * 0.3 * 2**0.5)
    assert one.verdict == "same"


def test_times_are_not_compared():
    assert compare(run(1.0, unit="ms"), run(9.0, unit="ms")) == []


def test_new_and_gone_figures_differ_and_other_sections_are_ignored():
    now, before = run(1.0), Results("cpu")
    before.add("convolution", "surface", "backward", 1.0, "x", better="higher")
    before.add("start-up", "warm", "share", 1.0, "%", better="lower")
    assert [(one.figure.name, one.verdict) for one in compare(now, before)] == [("forward", "new"),
                                                                                ("backward", "gone")]


def test_the_report_names_what_changed():
    lines = report(compare(run(1.0), run(2.0))).splitlines()
    assert lines[0] == "against the committed figures: 1 worse"
    assert "convolution | surface | forward: 2 -> 1 x (-50%" in lines[1]
    assert report([]) == "against the committed figures: nothing to compare"


def test_devices_are_not_mixed():
    with pytest.raises(ValueError, match="on cpu, the committed one on cuda"):
        compare(Results("cpu"), Results("cuda"))
