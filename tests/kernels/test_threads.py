"""The thread pool: every block once, errors surface, BLAS is held to one thread inside blocks."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from sparsenet.kernels import get_num_threads, launch, set_num_threads
from sparsenet.kernels.cpu import threads as threads_module
from sparsenet.kernels.cpu.threads import run_blocks, run_rows, serial, single_threaded_blas


@pytest.fixture(autouse=True)
def restore_threads():
    before = get_num_threads()
    yield
    set_num_threads(before)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("blocks", [0, 1, 7, 100])
def test_every_block_runs_once(threads, blocks):
    set_num_threads(threads)
    done = []
    run_blocks(done.append, blocks)
    assert sorted(done) == list(range(blocks))


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("rows, step, expected", [
    (0, 4, []), (3, 4, [(0, 3)]), (4, 4, [(0, 4)]), (9, 4, [(0, 4), (4, 8), (8, 9)]), (3, 1, [(0, 1), (1, 2), (2, 3)]),
])
def test_blocks_of_rows_cover_each_row_once(threads, rows, step, expected):
    set_num_threads(threads)
    done = []
    run_rows(lambda start, stop: done.append((start, stop)), rows, step)
    assert sorted(done) == expected


def test_an_exception_in_a_block_is_raised():
    set_num_threads(3)

    def fail(block):
        if block == 5:
            raise ValueError("block 5 is broken")

    with pytest.raises(ValueError, match="block 5 is broken"):
        run_blocks(fail, 10)


def test_callers_side_by_side_share_the_threads():
    set_num_threads(3)
    done = threading.Event()
    waiting = [threads_module._submit(done.wait, 2) for _ in range(4)]
    try:
        helpers = [thread for thread in threading.enumerate() if re.fullmatch(r"sparsenet_\d+", thread.name)]
        assert len(helpers) == 2  # the third is the caller
    finally:
        done.set()
    assert all(future.result() for futures in waiting for future in futures)


def test_nested_and_serial_calls_stay_on_their_thread():
    set_num_threads(4)
    names = []

    def outer(block):
        run_blocks(lambda inner: names.append((block, threading.get_ident())), 3)

    run_blocks(outer, 4)
    assert len(names) == 12
    assert all(len({ident for b, ident in names if b == block}) == 1 for block in range(4))
    idents = set()
    with serial():
        run_blocks(lambda block: idents.add(threading.get_ident()), 20)
    assert idents == {threading.get_ident()}


def test_blas_is_single_threaded_inside_and_restored_after():
    def blas_threads():
        return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]

    with threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        with single_threaded_blas(), single_threaded_blas():
            assert set(blas_threads()) <= {1}
        assert blas_threads() == before


def test_the_limit_of_blas_is_set_and_restored_by_any_thread():
    """Another thread has set BLAS's threads before, and the last thread to leave is not the first that entered."""
    def blas_threads():
        return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}

    entered, left, seen = threading.Event(), threading.Event(), []

    def first():
        with single_threaded_blas():
            seen.append(blas_threads())
            entered.set()
            assert left.wait(20)

    try:
        limiter = threadpool_limits(limits=2, user_api="blas")  # by this thread, for good
        before = blas_threads()
        worker = threading.Thread(target=first)
        worker.start()
        assert entered.wait(20)
        with single_threaded_blas():
            left.set()
            worker.join()
            seen.append(blas_threads())
        assert all(one <= {1} for one in seen) and blas_threads() == before
        with single_threaded_blas():
            worker = threading.Thread(target=first)
            left.clear()
            entered.clear()
            worker.start()
            assert entered.wait(20)
        left.set()
        worker.join()
        assert blas_threads() == before
    finally:
        left.set()
        limiter.restore_original_limits()


def test_set_num_threads_rejects_zero():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        set_num_threads(0)


def test_the_number_may_be_set_while_blocks_are_handed_out(monkeypatch):
    """The pool is not closed while blocks are submitted to it."""
    setters, done = [], []

    class Pool(ThreadPoolExecutor):
        def submit(self, *arguments):
            setters.append(threading.Thread(target=set_num_threads, args=(4,)))
            setters[-1].start()
            setters[-1].join(0.1)
            return super().submit(*arguments)

    set_num_threads(3)
    monkeypatch.setattr(threads_module, "ThreadPoolExecutor", Pool)
    run_blocks(done.append, 5)
    for setter in setters:
        setter.join()
    assert sorted(done) == [0, 1, 2, 3, 4] and get_num_threads() == 4


def test_the_number_may_be_set_while_a_block_asks_for_blas():
    """Asking for BLAS takes the lock under which the pool is replaced."""
    set_num_threads(2)
    begun, go_on, done = threading.Event(), threading.Event(), threading.Event()

    def block(number):
        if threading.current_thread() is not caller:
            begun.set()
            go_on.wait(20)
            with single_threaded_blas():
                pass
        else:
            begun.wait(20)

    def call():
        run_blocks(block, 2)

    caller = threading.Thread(target=call, daemon=True)
    caller.start()
    assert begun.wait(20)
    setter = threading.Thread(target=lambda: (set_num_threads(3), done.set()), daemon=True)
    setter.start()
    setter.join(0.1)
    go_on.set()
    assert done.wait(20)
    caller.join(20)
    assert not caller.is_alive()


def test_a_number_that_is_set_is_not_written_over_by_the_first_look(monkeypatch):
    looking, go_on = threading.Event(), threading.Event()

    def cores():
        looking.set()
        go_on.wait(20)
        return 7

    monkeypatch.setattr(threads_module, "_num_threads", None)
    monkeypatch.setattr(threads_module, "_available_cores", cores)
    monkeypatch.delenv("SPARSENET_NUM_THREADS", raising=False)
    reader = threading.Thread(target=get_num_threads)
    reader.start()
    assert looking.wait(20)
    setter = threading.Thread(target=set_num_threads, args=(2,))
    setter.start()
    setter.join(0.1)
    go_on.set()
    for thread in (reader, setter):
        thread.join()
    assert get_num_threads() == 2


def test_environment_variable(monkeypatch):
    monkeypatch.setattr(threads_module, "_num_threads", None)
    monkeypatch.setenv("SPARSENET_NUM_THREADS", "3")
    assert get_num_threads() == 3
    monkeypatch.setattr(threads_module, "_num_threads", None)
    monkeypatch.setenv("SPARSENET_NUM_THREADS", "many")
    with pytest.raises(ValueError, match="SPARSENET_NUM_THREADS is 'many'"):
        get_num_threads()


@pytest.mark.parametrize("threads", [1, 3])
def test_overflow_gives_infinity_without_a_warning(threads):
    set_num_threads(threads)
    large = np.full((3000, 4), 1e30, np.float32)
    assert np.isinf(launch("matmul", large, np.ascontiguousarray(large[:4]))).all()
