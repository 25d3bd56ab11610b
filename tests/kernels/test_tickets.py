"""Counters are kept for a stream, and grow."""

from __future__ import annotations

import threading
import types

import numpy as np
from cuda_host import cupy_of_numpy

from sparsenet import backend
from sparsenet.kernels.cuda import tickets as module
from sparsenet.kernels.cuda.tickets import tickets


def test_on_the_host_they_are_new_each_time():
    one, other = tickets(np, 5), tickets(np, 5)
    assert one is not other and one.dtype == np.uint32 and one.shape == (5,) and not one.any()


def test_of_a_stream(monkeypatch, host_driver):
    monkeypatch.setattr(module, "_kept", {})
    with cupy_of_numpy.installed(host_driver):
        xp = backend.cupy()
        first = tickets(xp, 5)
        assert tickets(xp, 7) is first and first.size >= 7 and not bool(first.any())
        with xp.cuda.Stream():
            assert tickets(xp, 5) is not first
        larger = tickets(xp, first.size + 1)
        assert larger.size > first.size and tickets(xp, 5) is larger


def test_the_threads_own_default_streams_have_one_handle(monkeypatch, host_driver):
    monkeypatch.setattr(module, "_kept", {})
    found = []
    with cupy_of_numpy.installed(host_driver):
        xp = backend.cupy()
        monkeypatch.setattr(xp.cuda, "get_current_stream", lambda: types.SimpleNamespace(ptr=2))
        thread = threading.Thread(target=lambda: found.append(tickets(xp, 5)))
        found.append(tickets(xp, 5))
        thread.start()
        thread.join()
    assert found[0] is not found[1]
