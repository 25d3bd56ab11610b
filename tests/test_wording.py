"""Counts and lists in sentences."""

from __future__ import annotations

import pytest

from sparsenet.wording import counted, listed


@pytest.mark.parametrize(("arguments", "words"), [
    ((0, "file"), "0 files"), ((1, "file"), "1 file"), ((2, "file"), "2 files"), ((12345, "file"), "12,345 files"),
    ((1, "mesh lies", "meshes lie"), "1 mesh lies"), ((2, "mesh lies", "meshes lie"), "2 meshes lie")])
def test_a_noun_agrees_with_its_count(arguments, words):
    assert counted(*arguments) == words


@pytest.mark.parametrize(("names", "words"), [([], ""), (["a"], "a"), (["a", "b"], "a, b"),
                                              (["a", "b", "c"], "a, b and 1 more")])
def test_a_long_list_ends_with_how_many_more_there_are(names, words):
    assert listed(names, most=2) == words
