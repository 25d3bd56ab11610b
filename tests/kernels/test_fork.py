"""A child that is forked while other threads run kernels can compute, no matter which locks they held."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks: elsewhere processes are spawned")

CHILD = '''
import os, signal, threading, warnings
import numpy as np
from sparsenet import kernels
from sparsenet.kernels.cpu import threads

warnings.simplefilter("ignore", DeprecationWarning)  # of fork among threads: this is the test
kernels.set_num_threads(2)
x = np.linspace(-1, 1, 1 << 21, dtype=np.float32).reshape(-1, 64)
expected = np.where(x > 0, x, np.float32(0.5) * x)

def compute():
    names = set()
    threads.run_blocks(lambda block: (barrier.wait(20), names.add(threading.get_ident())), 2)
    assert len(names) == 2, "both blocks ran on one thread"
    assert np.array_equal(kernels.launch("leaky_relu_forward", x, 0.5), expected)

def fork(work):
    """The exit status of a child that does the work: SIGALRM where it takes more than 30 seconds."""
    global barrier
    barrier = threading.Barrier(2)
    child = os.fork()
    if not child:
        status = 1
        try:
            signal.alarm(30)
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

barrier = threading.Barrier(2)
compute()  # compiled, and the pool of threads begun
'''


def run(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", CHILD + code], capture_output=True, text=True, check=False,
                          timeout=300)
    assert (done.returncode, done.stdout) == (0, "") and not done.stderr, done.stderr


def test_children_of_a_process_whose_threads_allocate_all_the_time():
    run('''
stop = threading.Event()

def allocate():
    while not stop.is_set():
        kept = [np.empty((size << 20,), np.uint8) for size in (2, 5, 3)]
        del kept[1]

workers = [threading.Thread(target=allocate) for _ in range(2)]
for worker in workers:
    worker.start()
try:
    assert [fork(compute) for _ in range(30)] == [0] * 30
finally:
    stop.set()
''')


def test_locks_that_another_thread_holds_are_not_the_childs():
    run('''
held, done = threading.Event(), threading.Event()

def hold():
    with threads._lock:
        held.set()
        done.wait()

threading.Thread(target=hold).start()
held.wait()
try:
    assert fork(compute) == 0
finally:
    done.set()
''')


def test_the_limit_of_blas_is_the_childs_own():
    run('''
from threadpoolctl import ThreadpoolController

controller = ThreadpoolController()
controller.limit(limits=2, user_api="blas")

def blas_threads():
    return {library["num_threads"] for library in controller.info() if library["user_api"] == "blas"}

before, one = blas_threads(), {1}
inside, done = threading.Event(), threading.Event()

def hold():
    with threads.single_threaded_blas():
        inside.set()
        done.wait()

worker = threading.Thread(target=hold)
worker.start()
inside.wait()

def other_thread_inside():
    for _ in range(2):
        with threads.single_threaded_blas():
            assert blas_threads() <= one
        assert blas_threads() == before

def this_thread_inside():
    assert blas_threads() <= one and threads._blas.users == 1
    with threads.single_threaded_blas():
        pass
    assert blas_threads() <= one

try:
    assert fork(other_thread_inside) == 0
    with threads.single_threaded_blas():
        assert fork(this_thread_inside) == 0
finally:
    done.set()
    worker.join()
assert blas_threads() == before
''')
