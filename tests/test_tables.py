"""Tables in words."""

from __future__ import annotations

from sparsenet.tables import aligned


def test_columns_are_aligned_under_a_rule():
    assert aligned([("name", "n"), ("a", "1"), ("long name", "20")], left=(0,)).splitlines() == [
        "name        n",
        "-------------",
        "a           1",
        "long name  20",
    ]


def test_rules_count_from_either_end():
    lines = aligned([("a",), ("b",), ("c",)], rules=(1, -1)).splitlines()
    assert lines == ["a", "-", "b", "-", "c"]
    assert aligned([("a", ""), ("b", "")], left=(0, 1), rules=()) == "a\nb"
