"""Generators keyed by their purpose."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from sparsenet.random import RowStreams, keyed_rng


def test_the_same_keys_give_the_same_numbers_in_any_order_of_calls():
    first = [keyed_rng(7, 0, sample).random(4) for sample in range(5)]
    again = [keyed_rng(7, 0, sample).random(4) for sample in reversed(range(5))][::-1]
    np.testing.assert_array_equal(first, again)


def test_keys_that_differ_anywhere_give_other_numbers():
    values = (0, 1, -1, 2**32, 2**64, "", "0", "1")
    keys = [key for length in (1, 2, 3) for key in itertools.product(values, repeat=length)]
    assert len({keyed_rng(*key).integers(2**63) for key in keys}) == len(keys)


def test_numpy_integers_are_the_integers_they_hold():
    assert keyed_rng(np.int64(3), np.uint8(4)).random() == keyed_rng(3, 4).random()


def test_a_key_of_another_type_is_refused():
    with pytest.raises(TypeError, match="a key is float, expected an integer or a string"):
        keyed_rng(0, 1.0)


def test_a_row_draws_the_same_whatever_rows_are_beside_it():
    whole = RowStreams(3, "layer", rows=range(5))
    part = RowStreams(3, "layer", rows=[4, 1])
    for columns in (2, 3):  # draw after draw
        drawn = whole.random((5, columns))
        np.testing.assert_array_equal(part.random((2, columns)), drawn[[4, 1]])
        assert len(set(drawn.ravel().tolist())) == drawn.size
    assert RowStreams(3, rows=[]).random((0, 4)).shape == (0, 4)


def test_a_number_of_rows_without_streams_is_refused():
    with pytest.raises(ValueError, match="asked for 3 rows, there are streams for 2"):
        RowStreams(0, rows=range(2)).random((3, 1))
