"""Parallel processes: results in order, and one error however and whenever a worker ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess

import numpy as np
import pytest
import worker_tasks

from sparsenet import worker_processes
from sparsenet.worker_processes import WorkerDied, map_in_workers

posix = pytest.mark.skipif(os.name != "posix", reason="sends signals to processes")


def never() -> bool:
    return False


@pytest.fixture(autouse=True)
def no_process_is_left():
    yield
    assert multiprocessing.active_children() == []


def test_results_are_in_the_order_of_the_tasks():
    sizes = np.random.default_rng(0).integers(0, 200_000, 100)  # tasks and results beyond what a pipe holds
    results = map_in_workers(worker_tasks.doubled, [np.full(size, size) for size in sizes], 2, never)
    assert [(len(result), set(result)) for result in results] == [(size, {2 * size} if size else set())
                                                                  for size in sizes]


def test_no_more_processes_than_tasks():
    assert list(map_in_workers(worker_tasks.doubled, [], 2, never)) == []
    assert len(set(map_in_workers(worker_tasks.process_number, [0], 2, never)) - {os.getpid()}) == 1


def test_each_worker_is_prepared_once():
    results = list(map_in_workers(worker_tasks.preparations, range(20), 2, never, prepare=worker_tasks.prepared))
    assert results == [1] * 20


def test_an_error_is_raised_in_order_with_the_traceback_of_its_worker():
    results = map_in_workers(worker_tasks.refused, range(50), 2, never)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ZeroDivisionError, match="task 3") as caught:
        next(results)
    assert "in refused" in caught.value.__notes__[0]


@posix
@pytest.mark.parametrize("function", [worker_tasks.dead, worker_tasks.cut_short])
@pytest.mark.parametrize("group", [False, True])  # whether the signal that ended the worker reaches this process, too
def test_a_worker_that_dies_is_noticed_even_in_the_middle_of_a_message(function: Callable, group: bool):
    died: list[float] = []
    alive = 0

    def interrupted() -> bool:  # a moment after a worker has died
        nonlocal alive
        before, alive = alive, len(multiprocessing.active_children())
        if group and alive < before:
            died.append(time.monotonic())
        return bool(died) and time.monotonic() > died[0] + 0.05

    with pytest.raises(KeyboardInterrupt if group else WorkerDied):
        list(map_in_workers(function, range(50), 2, interrupted))


@posix
def test_a_worker_that_is_killed_while_it_waits_to_send_the_rest():
    results = map_in_workers(worker_tasks.large, range(50), 2, never)
    process, _ = next(results)
    time.sleep(0.5)  # both have sent what the pipe holds of the next result
    os.kill(process, signal.SIGKILL)
    with pytest.raises(WorkerDied):
        list(results)


@posix
def test_an_interruption_ends_workers_that_neither_listen_nor_end(monkeypatch):
    monkeypatch.setattr(worker_processes, "_GRACE", 0.5)
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        list(map_in_workers(worker_tasks.stuck, range(2), 2, lambda: time.monotonic() > begun + 1))


def test_workers_end_by_themselves_and_silently_when_the_iterator_is_closed(monkeypatch, capfd):
    for end in ("terminate", "kill"):
        monkeypatch.setattr(BaseProcess, end, lambda process: None)
    results = map_in_workers(worker_tasks.large, range(50), 2, never)
    next(results)
    time.sleep(0.5)  # they wait to send the rest
    results.close()
    assert multiprocessing.active_children() == []
    assert capfd.readouterr() == ("", "")
