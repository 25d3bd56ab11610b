"""Memory of large results: used again, little more of it than was in use at once, seen by tracemalloc."""

from __future__ import annotations

import errno
import gc
import mmap
import subprocess
import sys
import threading
import tracemalloc

import numpy as np
import pytest

from sparsenet import SparseTensor, Tensor, ops
from sparsenet.kernels.cpu.memory import Pool

MB = 1 << 20


def address(array: np.ndarray) -> int:
    return array.ctypes.data


@pytest.fixture
def pool() -> Pool:
    return Pool()


@pytest.mark.parametrize("shape", [(3 * MB,), (1024, 600), (100, 3, 1700), (0, 5), (), (7, 3)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int16", np.dtype(np.int64)])
def test_an_array_like_any_other(pool, shape, dtype):
    array = pool.empty(shape, dtype)
    assert array.shape == shape and array.dtype == dtype
    assert array.flags.c_contiguous and array.flags.writeable and array.flags.aligned
    array[...] = 3
    assert (array == 3).all()
    assert np.array_equal(array.copy(), array) and np.array_equal(array.T, np.full(shape[::-1], 3))


def test_a_large_array_begins_at_a_page(pool):
    assert address(pool.empty((2 * MB,), np.uint8)) % 4096 == 0


def test_small_arrays_are_numpys(pool):
    assert pool.empty((2 * MB - 1,), np.uint8).flags.owndata
    assert pool.live() == pool.held() == 0


def test_a_block_comes_back_when_the_last_array_over_it_is_gone(pool):
    array = pool.empty((2 * MB,), np.uint8)
    where, part = address(array), array[5:10].reshape(5, 1)
    del array
    assert pool.live() == 2 * MB
    other = pool.empty((2 * MB,), np.uint8)
    assert address(other) != where
    del part
    assert pool.live() == 2 * MB and pool.held() == 4 * MB
    assert address(pool.empty((MB, 2), np.uint8)) == where


def test_views_of_one_array_share_an_owner_and_two_arrays_do_not(pool):
    """What autograd tells arrays apart by."""
    a, b = (pool.empty((2 * MB,), np.uint8) for _ in range(2))
    assert a.base is a.reshape(2, MB).base is a[3:].base is a.view(np.int16)[::2].base
    assert a.base is not b.base


def test_writing_to_one_array_leaves_all_others_as_they_are(pool, rng):
    kept: list[tuple[np.ndarray, int]] = []
    for number in range(200):
        array = pool.empty((int(rng.integers(MB, 6 * MB)),), np.uint8)
        array[[0, -1]] = number
        kept.append((array, number))
        if rng.random() < 0.7:
            kept.pop(int(rng.integers(len(kept))))
    del array
    assert all((kept_one[[0, -1]] == number).all() for kept_one, number in kept)
    assert pool.live() >= sum(one.nbytes for one, _ in kept if one.nbytes >= 2 * MB)


@pytest.mark.parametrize("size", [2 * MB, 2 * MB + 1, 3 * MB + 7, 33 * MB, 100 * MB - 1, 123_456_789])
def test_an_eighth_at_most_is_wasted(pool, size):
    array = pool.empty((size,), np.uint8)
    assert array.nbytes <= pool.live() <= array.nbytes * 9 / 8


def test_held_never_exceeds_the_most_that_was_live_by_more_than_a_quarter(pool, rng):
    kept: list[np.ndarray] = []
    most = 0
    for _ in range(1000):
        kept.append(pool.empty((int(rng.integers(2 * MB, 9 * MB)),), np.uint8))
        most = max(most, pool.live())
        assert pool.live() <= pool.held() <= most * 5 / 4
        while kept and rng.random() < 0.5:
            kept.pop(int(rng.integers(len(kept))))
    kept.clear()
    assert pool.live() == 0 and 0 < pool.held() <= most * 5 / 4


def test_what_waits_side_by_side_serves_a_larger_array(pool):
    arrays = [pool.empty((size * MB,), np.uint8) for size in (2, 3, 4)]
    where = address(arrays[0])
    arrays.pop(1)
    arrays.pop(0)
    large = pool.empty((5 * MB,), np.uint8)
    assert address(large) == where and pool.held() == 9 * MB


def test_memory_of_what_waits_is_not_asked_for_again(pool):
    """The bytes are there still; what was given back to the system comes again as zeros."""
    first, second = (pool.empty((4 * MB,), np.uint8) for _ in range(2))
    where = address(first)
    first[:] = 7
    del first
    again = pool.empty((2 * MB,), np.uint8)
    assert address(again) == where and (again == 7).all()
    del again
    pool.release()
    assert (pool.empty((2 * MB,), np.uint8) == 0).all()
    del second


def test_beyond_the_quarter_the_highest_that_wait_are_given_back(pool):
    low, wall, high, end = (pool.empty((4 * MB,), np.uint8) for _ in range(4))  # 16 MB at once: 20 may be held
    for array in (low, high):
        array[:] = 7
    del low, high, array
    large = pool.empty((11 * MB,), np.uint8)  # fits into neither; 19 MB are in use then, 23 may be held
    assert pool.live() == 19 * MB and pool.held() == pytest.approx(19 * MB * 5 / 4, abs=1)
    low, high = (pool.empty((4 * MB,), np.uint8) for _ in range(2))
    assert (low == 7).all() and high[0] == 7 and high[-1] == 0
    del wall, end, large


def test_release_gives_back_what_waits_and_nothing_else(pool):
    kept, gone = (pool.empty((4 * MB,), np.uint8) for _ in range(2))
    kept[:] = 7
    del gone
    pool.release()
    assert pool.held() == pool.live() == 4 * MB and (kept == 7).all()
    del kept
    first = pool.empty((6 * MB,), np.uint8)  # what was live before release does not count any more
    assert pool.held() <= first.nbytes * 5 / 4


def test_what_does_not_fit_is_numpys():
    pool = Pool(capacity=8 * MB)
    kept = pool.empty((5 * MB,), np.uint8)
    other = pool.empty((5 * MB,), np.uint8)
    assert not kept.flags.owndata and other.flags.owndata
    assert pool.live() == 5 * MB
    assert Pool(capacity=0).empty((5 * MB,), np.uint8).flags.owndata


def test_a_system_that_takes_no_hints_about_memory(monkeypatch):
    """No huge pages, or pages that are locked: arrays come from the pool all the same, and none of it is lost."""
    class Refusing(mmap.mmap):
        def madvise(self, *arguments: int) -> None:
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(mmap, "mmap", Refusing)
    pool = Pool(capacity=12 * MB)
    arrays = [pool.empty((size * MB,), np.uint8) for size in (3, 4, 5)]
    assert not any(array.flags.owndata for array in arrays) and pool.live() == 12 * MB
    del arrays[0]
    pool.release()  # the gap before the second one counts as given back
    assert pool.held() == 9 * MB
    arrays.clear()
    whole = pool.empty((12 * MB,), np.uint8)  # joins both, of which only one is known to be memory
    assert not whole.flags.owndata and pool.held() == pool.live() == 12 * MB
    del whole
    pool.release()
    assert pool.held() == 0 and not pool.empty((12 * MB,), np.uint8).flags.owndata


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_is_given_back_is_memory_no_longer(pool):
    def resident() -> int:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * 4096

    before = resident()
    array = pool.empty((64 * MB,), np.uint8)
    assert resident() - before < 8 * MB  # addresses are no memory before they are touched
    array[:] = 1
    del array
    assert pool.held() == 64 * MB and resident() - before > 56 * MB
    pool.release()
    assert pool.held() == 0 and resident() - before < 8 * MB


def test_any_thread_asks_and_any_lets_go():
    pool, wrong, rounds = Pool(), [], 60
    handed: list[tuple[np.ndarray, int]] = []

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for turn in range(rounds):
            mark = seed * rounds + turn & 0xFF
            array = pool.empty((int(rng.integers(2, 6)) * MB,), np.uint8)
            array[::4096] = mark
            handed.append((array, mark))
            other, expected = handed.pop(int(rng.random() < 0.5) - 1)
            if not (other[::4096] == expected).all():
                wrong.append((seed, turn))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    handed.clear()
    assert not wrong
    assert pool.live() == 0


def test_a_cycle_of_references_is_collected_within_the_pool_itself(pool):
    """The collector may run a lease's end at any allocation, also where the pool holds its own lock."""
    for _ in range(50):
        cycle: list = [pool.empty((2 * MB,), np.uint8)]
        cycle.append(cycle)
        del cycle
    with pool._lock:
        gc.collect()
    assert pool.live() == 0


def test_tracemalloc_sees_what_is_in_use(pool):
    waiting = pool.empty((8 * MB,), np.uint8)
    del waiting
    tracemalloc.start()
    try:
        base = tracemalloc.get_traced_memory()[0]
        array = pool.empty((8 * MB,), np.uint8)
        assert tracemalloc.get_traced_memory()[0] - base == pytest.approx(8 * MB, abs=200_000)
        del array
        assert tracemalloc.get_traced_memory()[0] - base == pytest.approx(0, abs=200_000)
        assert tracemalloc.get_traced_memory()[1] - base == pytest.approx(8 * MB, abs=200_000)
    finally:
        tracemalloc.stop()


def test_the_end_of_the_interpreter_is_silent():
    code = ("import sys; from sparsenet.kernels import memory; kept = memory.empty((1 << 21,), 'uint8');"
            "sys.kept = memory.empty((1 << 21,), 'uint8'); cycle = [memory.empty((1 << 21,), 'uint8')];"
            "cycle.append(cycle)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_autograd_sees_that_a_view_of_a_saved_result_was_modified(rng):
    x = Tensor(rng.standard_normal((600, 1000)).astype(np.float32), requires_grad=True)
    y = ops.leaky_relu(x, 0.5)  # large enough for the pool; saved for backward
    assert y.array.base is not None
    view = y.reshape(-1)
    view.mark_modified()
    with pytest.raises(RuntimeError, match="assigned or modified"):
        y.backward(np.ones_like(x.array))


def test_results_of_kernels_that_are_kept_stay_as_they_are(rng):
    coordinates = np.argwhere(np.ones((1, 30, 30, 30)))
    x = SparseTensor(rng.standard_normal((len(coordinates), 16)).astype(np.float32), coordinates, (30,) * 3, 1)
    first = ops.leaky_relu(x, 0.5).features.array
    before = first.copy()
    for slope in (0.1, 0.2, 0.3):
        ops.leaky_relu(x, slope)
    assert np.array_equal(first, before)
