"""Worker processes with a limit of time: what goes wrong costs one answer, and the pool goes on."""

from __future__ import annotations

import threading
import time
from functools import partial

import pytest
from worker_tasks import Errands

from sparsenet.serve.pool import Busy, Pool, TimeLimit
from sparsenet.shapes import MeshError
from sparsenet.worker_processes import WorkerDied


@pytest.fixture(scope="module")
def pool():
    with Pool(Errands, processes=1, seconds=1.0, waiting=2, patience=30.0) as pool:
        yield pool


def test_a_task_is_done_at_a_desk_that_was_warmed_up_once(pool):
    value, warm, process = pool.call("told", b"x" * 1_000_000)
    assert len(value) == 1_000_000 and warm == 1
    assert pool.call("told", 1) == (1, 1, process)


def test_a_function_is_called_for_its_value_when_a_worker_is_free(pool):
    process = pool.call("told", lambda: 3)
    assert process[:2] == (3, 1)
    with pytest.raises(ZeroDivisionError):
        pool.call("told", lambda: 1 / 0)
    assert pool.call("told", 0)[2] == process[2]  # the worker was not asked, and stays


def test_an_error_is_the_task_s_and_the_worker_stays(pool):
    process = pool.call("told", 0)[2]
    with pytest.raises(MeshError, match="not a mesh"):
        pool.call("refused")
    with pytest.raises(AttributeError):
        pool.call("unknown")
    assert pool.call("told", 0)[2] == process


@pytest.mark.parametrize(("task", "arguments", "error"), [("slept", (60,), TimeLimit), ("died", (), WorkerDied)])
def test_a_worker_that_does_not_answer_is_replaced(pool, task, arguments, error):
    process, begun = pool.call("told", 0)[2], time.monotonic()
    with pytest.raises(error):
        pool.call(task, *arguments)
    assert time.monotonic() - begun < 30
    assert pool.call("told", 2)[0] == 2 and pool.call("told", 2)[2] != process


def test_so_many_wait_and_no_more(pool):
    outcomes = []

    def sleep():
        try:
            outcomes.append(pool.call("slept", 0.3))
        except Busy as error:
            outcomes.append(error)

    threads = [threading.Thread(target=sleep) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count(None) == 3  # one at work, two waiting
    assert sum("too many" in str(outcome) for outcome in outcomes) == 3


def test_one_that_has_waited_long_enough_gives_up(pool, monkeypatch):
    monkeypatch.setattr(pool, "patience", 0.1)
    sleeper = threading.Thread(target=lambda: pool.call("slept", 0.8))
    sleeper.start()
    time.sleep(0.2)
    with pytest.raises(Busy, match="no worker has become free"):
        pool.call("told", 0)
    sleeper.join()


def test_one_that_does_not_start_says_why():
    with pytest.raises(ValueError, match="does not get warm"):
        Pool(partial(Errands, "warm_up"), 1, 1.0, 1, 1.0)
