"""Numbers from a device: several in one transfer, and counted."""

import gc
import threading
import types
import weakref

import numpy as np
import pytest

from sparsenet.kernels import fetch as module
from sparsenet.kernels.fetch import fetch, fetch_later, fetches


def test_arrays_come_as_one_list():
    before = fetches()
    assert fetch(np.array([3, -4], np.int32), np.empty(0, np.int64), np.array([2**40])) == [3, -4, 2**40]
    assert fetch(np.array([7], np.uint8)) == [7]
    assert fetches() == before + 2


def test_each_thread_counts_its_own():
    fetch(np.zeros(1, np.int64))
    seen = []
    thread = threading.Thread(target=lambda: seen.append(fetches()))
    thread.start()
    thread.join()
    assert seen == [0]


class Pinned(bytearray):
    """Memory that a weak reference can watch."""


class Event:
    """An event that the test completes."""

    made: list["Event"] = []

    def __init__(self, disable_timing: bool):
        self.done = False
        Event.made.append(self)

    def record(self) -> None:
        pass

    def synchronize(self) -> None:
        assert self.done, "this would wait for ever"


@pytest.fixture
def blocks(monkeypatch) -> list[weakref.ref]:
    """The pinned memory given out on a GPU whose copies take their time."""
    found: list[weakref.ref] = []

    def allocate(size: int) -> Pinned:
        memory = Pinned(size)
        found.append(weakref.ref(memory))
        return memory

    cuda = types.SimpleNamespace(alloc_pinned_memory=allocate, Event=Event)
    monkeypatch.setattr(Event, "made", [])
    monkeypatch.setattr(module, "_in_progress", type(module._in_progress)())
    monkeypatch.setattr(module, "device_of", lambda array: "cuda")
    monkeypatch.setattr(module, "array_module", lambda array: types.SimpleNamespace(cuda=cuda))
    return found


class OnDevice:
    nbytes, size, shape, dtype = 16, 2, (2,), np.dtype(np.float64)

    def get(self, out: np.ndarray, blocking: bool) -> None:
        out[:] = 3.0, 4.0


def test_a_copy_that_nobody_waits_for_keeps_its_memory_until_it_is_done(blocks):
    fetch_later(OnDevice())  # dropped at once
    gc.collect()
    assert blocks[0]() is not None
    fetch_later(OnDevice())
    gc.collect()
    assert blocks[0]() is not None and blocks[1]() is not None
    for event in Event.made:
        event.done = True
    fetch_later(OnDevice())
    gc.collect()
    assert blocks[0]() is blocks[1]() is None and blocks[2]() is not None


def test_what_is_waited_for_outlives_the_copy(blocks):
    wait = fetch_later(OnDevice())
    Event.made[0].done = True
    fetch_later(OnDevice())
    assert wait().tolist() == [3.0, 4.0]
