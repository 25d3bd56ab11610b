"""Calls a function in parallel processes, keeping the order of its results.

Each worker has a pipe of its own, whose other end only this process holds.  So either side sees the other one end,
even in the middle of a message: a worker exits if this process is killed, and a dead worker is an error here.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import queue
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import connection, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")

_PATIENCE = 0.2  # seconds between checks for an interruption
_PREFETCHED = 4  # tasks that a worker has at a time: it need not wait for this process after each
_WINDOW = 16  # tasks per worker that may be finished before a task that is still awaited
_GRACE = 5.0  # seconds for a worker to exit before it is ended more forcibly


class WorkerDied(RuntimeError):
    """A worker process ended before it had returned its results."""


@dataclass(eq=False)
class Worker:
    """A process, and this process's end of its pipe."""

    process: BaseProcess
    pipe: Connection
    tasks: deque[int] = field(default_factory=deque)  # numbers of the tasks sent to it, in the order of its results


def map_in_workers(function: Callable[[_Task], _Result], tasks: Sequence[_Task], processes: int,
                   interrupted: Callable[[], bool], prepare: Callable[[], object] | None = None) -> Iterator[_Result]:
    """Yield `function(task)` for each task, in order.  The functions, tasks and results must be picklable.

    The workers are spawned, and have ended when the iterator is exhausted or closed, or has raised.

    interrupted : polled; once it returns true, the workers are ended
    prepare : called once in each worker, before its first task

    Raises
    ------
    KeyboardInterrupt : `interrupted` returned true.
    WorkerDied : a worker ended early.
    Exception : the function's, with the worker's traceback as a note.
    """
    workers: list[Worker] = []
    outcomes: dict[int, tuple[_Result, Exception | None]] = {}
    sent = 0
    try:
        with _dead_workers_reported(interrupted):
            for _ in range(min(processes, len(tasks))):
                _check(interrupted)
                workers.append(start_worker(function, prepare))
        for wanted in range(len(tasks)):
            with _dead_workers_reported(interrupted):
                _check(interrupted)
                sent = _send_tasks(workers, tasks, sent, wanted + _WINDOW * processes)
                while wanted not in outcomes:
                    _receive_outcomes(workers, outcomes)
                    _check(interrupted)
                    sent = _send_tasks(workers, tasks, sent, wanted + _WINDOW * processes)
            result, error = outcomes.pop(wanted)
            if error is not None:
                raise error
            yield result
        for worker in workers:
            with suppress(ConnectionError):  # it has died, but returned all of its results
                worker.pipe.send_bytes(b"")  # no more tasks
        _join(workers)
    finally:
        end_workers(workers)


def _check(interrupted: Callable[[], bool]) -> None:
    if interrupted():
        raise KeyboardInterrupt


@contextmanager
def _dead_workers_reported(interrupted: Callable[[], bool]) -> Iterator[None]:
    """A context in which a broken pipe raises WorkerDied, or KeyboardInterrupt if a signal ended the workers too."""
    try:
        yield
    except (EOFError, ConnectionError) as error:
        deadline = time.monotonic() + _PATIENCE  # a signal to the whole process group may reach this process last
        while time.monotonic() < deadline:
            if interrupted():
                raise KeyboardInterrupt from None
            time.sleep(_PATIENCE / 20)
        raise WorkerDied("a worker process died") from error


def start_worker(function: Callable, prepare: Callable[[], object] | None) -> Worker:
    """A worker that calls `prepare` once, then `function` for each pickled task of its pipe, and answers each with a
    pickled pair (result, None) or (None, error).  It ignores Ctrl-C, and exits when the pipe closes."""
    spawn = multiprocessing.get_context("spawn")
    ours, its = spawn.Pipe()
    process = spawn.Process(target=_work, args=(its, function, prepare))
    try:
        with _deaf_children():
            process.start()
    except BaseException:
        ours.close()
        raise
    finally:
        its.close()
    return Worker(process, ours)


def _send_tasks(workers: Sequence[Worker], tasks: Sequence, sent: int, end: int) -> int:
    """Send the tasks from number `sent` on, up to `end`, to workers that have too few.  Returns the first not sent."""
    while sent < min(end, len(tasks)):
        worker = min(workers, key=lambda worker: len(worker.tasks))
        if len(worker.tasks) == _PREFETCHED:
            break
        worker.pipe.send_bytes(pickle.dumps(tasks[sent]))
        worker.tasks.append(sent)
        sent += 1
    return sent


def _receive_outcomes(workers: Sequence[Worker], outcomes: dict[int, Any]) -> None:
    """Wait a moment for outcomes, and store them by the number of their task."""
    pipes = [worker.pipe for worker in workers]
    ready = connection.wait([*pipes, *(worker.process.sentinel for worker in workers)], timeout=_PATIENCE)
    for worker in workers:
        if worker.pipe in ready:
            outcomes[worker.tasks.popleft()] = pickle.loads(receive(worker.pipe))
        elif worker.process.sentinel in ready:
            raise EOFError


def receive(pipe: Connection) -> bytes:
    """The next message.  Raises EOFError if the other end has closed, even in the middle of it."""
    try:
        return pipe.recv_bytes()
    except OSError as error:  # the pipe was closed in the middle of a message
        raise EOFError from error


def end_workers(workers: Sequence[Worker]) -> None:
    """Close their pipes and end those that do not exit by themselves."""
    for worker in workers:
        worker.pipe.close()  # each worker exits by itself now, even if this function is interrupted
    for end in (BaseProcess.terminate, BaseProcess.kill):
        for worker in workers:
            if worker.process.is_alive():
                end(worker.process)
        _join(workers)


def _join(workers: Sequence[Worker]) -> None:
    deadline = time.monotonic() + _GRACE
    for worker in workers:
        worker.process.join(max(deadline - time.monotonic(), 0))


@contextmanager
def _deaf_children() -> Iterator[None]:
    """A context whose spawned processes ignore Ctrl-C, which the whole group receives; the parent ends them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows: `_work` ignores the signal instead
        yield
        return
    resource_tracker.ensure_running()  # otherwise it would start in the block and unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(pipe: Connection, function: Callable, prepare: Callable[[], object] | None) -> None:
    """The main function of a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tasks: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_receive_tasks, args=(pipe, tasks), daemon=True).start()
    if prepare is not None:
        prepare()
    with suppress(ConnectionError):  # the other end has closed
        while task := tasks.get():
            pipe.send_bytes(_outcome(function, task))


def _receive_tasks(pipe: Connection, tasks: queue.SimpleQueue[bytes]) -> None:
    """Queue the tasks; exit at once when the other end of the pipe closes, which also happens if it is killed."""
    try:
        while task := pipe.recv_bytes():
            tasks.put(task)
        tasks.put(b"")
    except (EOFError, OSError):
        os._exit(1)


def _outcome(function: Callable, task: bytes) -> bytes:
    """A pickled pair (result, None) or (None, error)."""
    try:
        return pickle.dumps((function(pickle.loads(task)), None))
    except Exception as error:  # whatever it is, the parent raises it
        error.add_note(f"in a worker process:\n{traceback.format_exc()}")
        return pickle.dumps((None, error))
