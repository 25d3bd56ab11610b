"""Worker processes whose tasks may take so long and no longer.

A mesh of unknown origin is read and voxelized in a process of its own: one that takes too long, too much memory, or the
process down with it, costs that process and its own answer, and the server goes on.
"""

from __future__ import annotations

import pickle
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from sparsenet.worker_processes import Worker, WorkerDied, end_workers, receive, start_worker

_PAUSE = 1.0  # seconds before a worker that does not start is started again


class TimeLimit(RuntimeError):
    """A task took longer than it may."""


class Busy(RuntimeError):
    """Too many tasks are waiting, or one has waited too long."""


class Pool:
    """Worker processes, each of which has a desk at which it does one task at a time.

    make_desk : picklable; called once in each worker, it returns an object whose methods are the tasks, and whose
        `warm_up` is called first, without a limit of time
    processes : number of workers
    seconds : that a task may take
    waiting, patience : number of tasks that may wait for a worker, and how many seconds each

    Raises WorkerDied, or the error of `make_desk` or `warm_up`, if the first worker does not start.
    """

    def __init__(self, make_desk: Callable[[], Any], processes: int, seconds: float, waiting: int, patience: float):
        self._make_desk, self.seconds, self.patience = make_desk, seconds, patience
        self._places = threading.BoundedSemaphore(processes + waiting)
        self._idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        self._all: list[Worker] = []
        self._lock = threading.Lock()
        self._closed = False
        try:
            self._idle.put(self._started())  # what its first use compiles, the others find compiled
        except BaseException:
            self.close()
            raise
        for _ in range(processes - 1):
            self._start_another()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, task: str, *arguments: Any) -> Any:
        """The result of a method of a worker's desk; arguments and result must be picklable.

        arguments : for one that is a function, its result, for which it is called when a worker is free; so large
            ones are not held while they wait

        Raises
        ------
        Busy : too many are waiting, or no worker has become free.
        TimeLimit : it took too long.
        WorkerDied : the process ended in it.
        Exception : whatever the method raises.
        """
        if not self._places.acquire(blocking=False):
            raise Busy("too many queries are waiting: try again in a moment")
        try:
            try:
                worker = self._idle.get(timeout=self.patience)
            except queue.Empty:
                raise Busy(f"no worker has become free in {self.patience:g} seconds: try again later") from None
            try:
                values = tuple(value() if callable(value) else value for value in arguments)
            except BaseException:
                self._idle.put(worker)
                raise
            try:
                answer = self._asked(worker, task, values)
            except BaseException:
                self._replace(worker)
                raise
            self._idle.put(worker)
        finally:
            self._places.release()
        result, error = answer
        if error is not None:
            raise error
        return result

    def close(self) -> None:
        """End the workers."""
        with self._lock:
            self._closed = True
            workers, self._all = self._all, []
        for worker in workers:
            worker.process.kill()
        end_workers(workers)

    def _asked(self, worker: Worker, task: str, arguments: tuple) -> tuple[Any, Exception | None]:
        try:
            worker.pipe.send_bytes(pickle.dumps((task, arguments)))
            if not worker.pipe.poll(self.seconds):
                raise TimeLimit(f"it took longer than {self.seconds:g} seconds")
            return pickle.loads(receive(worker.pipe))
        except (EOFError, OSError) as error:
            raise WorkerDied("the process that worked at it has ended") from error

    def _started(self) -> Worker:
        """A worker that has warmed up."""
        worker = start_worker(_do, _Seat(self._make_desk))
        with self._lock:
            self._all.append(worker)
        try:
            if self._closed:
                raise EOFError
            worker.pipe.send_bytes(pickle.dumps(("warm_up", ())))
            _, error = pickle.loads(receive(worker.pipe))
        except (EOFError, OSError) as ended:
            error = WorkerDied("a worker process does not start")
            error.__cause__ = ended
        if error is not None:
            self._forget(worker)
            raise error
        return worker

    def _replace(self, worker: Worker) -> None:
        self._forget(worker)
        self._start_another()

    def _forget(self, worker: Worker) -> None:
        with self._lock:
            if worker in self._all:
                self._all.remove(worker)
        worker.process.kill()
        end_workers([worker])

    def _start_another(self) -> None:
        threading.Thread(target=self._try_to_start, daemon=True).start()

    def _try_to_start(self) -> None:
        """Start a worker; if that fails, again and again: it has worked before."""
        while not self._closed:
            with suppress(Exception):  # queries say meanwhile that no worker has become free
                worker = self._started()
                if self._closed:
                    self._forget(worker)
                self._idle.put(worker)
                return
            time.sleep(_PAUSE)


class _Seat:
    """Makes the desk of a worker process; it stays in this module, where `_do` finds it."""

    desk: Any = None

    def __init__(self, make_desk: Callable[[], Any]):
        self.make_desk = make_desk

    def __call__(self) -> None:
        _Seat.desk = self.make_desk


def _do(task: tuple[str, tuple]) -> Any:
    name, arguments = task
    if name == "warm_up":  # here, so that what goes wrong is answered
        _Seat.desk = _Seat.desk()
    return getattr(_Seat.desk, name)(*arguments)
