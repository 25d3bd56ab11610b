"""Interleaved repeats."""

from __future__ import annotations

import gc
import time

import numpy as np
import pytest

from benchmarks import Settings
from benchmarks.timing import Timing, case, inner, interleave
from sparsenet import Tensor


def test_cases_take_turns_after_one_untimed_run_each():
    order = []
    cases = {name: lambda name=name: order.append(name) or 1.0 for name in "ab"}
    times = interleave(cases, Settings(repeats=3))
    assert order == ["a", "b"] + ["a", "b"] + ["b", "a"] + ["a", "b"]
    assert times == {"a": Timing((1.0,) * 3), "b": Timing((1.0,) * 3)}


def test_a_group_ends_early_but_not_before_three_rounds():
    times = interleave({"a": lambda: 1.0}, Settings(repeats=50, seconds=0.0))
    assert len(times["a"].samples) == 3


def test_the_garbage_collector_waits_and_comes_back():
    seen = []
    interleave({"a": lambda: seen.append(gc.isenabled()) or 0.0}, Settings(repeats=1))
    assert seen == [True, False]  # the untimed run, then the timed one
    assert gc.isenabled()


def test_preparation_is_not_timed():
    def prepare() -> str:
        time.sleep(0.05)
        return "given"

    got = []
    seconds = case(got.append, prepare)()
    assert got == ["given"]
    assert 0 <= seconds < 0.05


def test_median_and_spread():
    timing = Timing((1.0, 2.0, 3.0, 4.0, 100.0))
    assert (timing.median, timing.best) == (3.0, 1.0)
    assert timing.spread == pytest.approx(2 / 3)


def test_an_inner_tensor_is_the_same_array_and_its_leaf_gets_no_gradient():
    leaf = Tensor(np.ones(3, np.float32), requires_grad=True)
    weight = Tensor(np.full(3, 2, np.float32), requires_grad=True)
    x = inner(leaf)
    assert x.array is leaf.array
    (x * weight).sum().backward()
    assert leaf.grad is None
    assert weight.grad.tolist() == [1, 1, 1]
