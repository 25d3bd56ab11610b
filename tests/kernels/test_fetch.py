"""Numbers from a device: several in one transfer, and counted."""

import threading

import numpy as np

from sparsenet.kernels.fetch import fetch, fetches


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
