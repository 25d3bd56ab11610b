"""Meshes are kept by keys, so many bytes of them."""

from __future__ import annotations

import pytest

from sparsenet.serve.sent import Sent


def test_a_mesh_is_kept_with_its_axis():
    sent = Sent(100)
    keys = [sent.keep(b"a" * 10, axis) for axis in ("y", None)]
    assert [sent.get(key) for key in keys] == [(b"a" * 10, "y"), (b"a" * 10, None)]
    assert len(set(keys)) == 2 and all(len(key) == 22 for key in keys)
    assert sent.get("x" * 22) is None and sent.get("") is None


def test_the_one_that_was_not_asked_for_longest_gives_way():
    sent = Sent(100)
    first, second = (sent.keep(bytes(40), None) for _ in range(2))
    assert sent.get(first)
    third = sent.keep(bytes(40), None)
    assert sent.get(second) is None and sent.get(first) and sent.get(third)
    whole = sent.keep(bytes(100), None)
    assert [bool(sent.get(key)) for key in (first, third, whole)] == [False, False, True]


@pytest.mark.parametrize("size", [101, 10**6])
def test_one_that_is_too_large_is_not_kept(size):
    sent = Sent(100)
    small = sent.keep(b"a", None)
    assert sent.keep(bytes(size), None) is None and sent.get(small)
