"""Counts, lists, columns and suggestions."""

from __future__ import annotations

import pytest

from sparsenet.wording import aligned, counted, did_you_mean, listed


@pytest.mark.parametrize(("arguments", "words"), [
    ((0, "file"), "0 files"), ((1, "file"), "1 file"), ((2, "file"), "2 files"), ((12345, "file"), "12,345 files"),
    ((1, "mesh lies", "meshes lie"), "1 mesh lies"), ((2, "mesh lies", "meshes lie"), "2 meshes lie")])
def test_a_noun_agrees_with_its_count(arguments, words):
    assert counted(*arguments) == words


@pytest.mark.parametrize(("names", "words"), [([], ""), (["a"], "a"), (["a", "b"], "a, b"),
                                              (["a", "b", "c"], "a, b and 1 more")])
def test_a_long_list_ends_with_the_number_left_out(names, words):
    assert listed(names, limit=2) == words


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


def test_a_close_word_is_suggested_and_a_distant_one_is_not():
    assert did_you_mean("epoch", ["epochs", "seed"], "training.") == ": did you mean training.epochs?"
    assert did_you_mean("momentum", ["seed"]) == ""
