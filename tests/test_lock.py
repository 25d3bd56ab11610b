"""A lock keeps a second process out, says who holds it, and does not outlive its process."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sparsenet import lock
from sparsenet.lock import LockedError, locked

HOLDER = """
import sys, time
from sparsenet.lock import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of tmp_path."""
    words = [sys.executable, "-c", HOLDER, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(Path(lock.__file__).parents[1])}
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_folder_is_held_by_one_process_which_is_named(tmp_path, holder):
    with pytest.raises(LockedError) as error, locked(tmp_path):
        pass
    assert str(error.value).startswith(f"{tmp_path} is in use by process {holder.pid} on {socket.gethostname()}: ")


@pytest.mark.skipif(os.name != "posix", reason="signals are sent as POSIX has them")
def test_the_lock_of_a_killed_process_is_gone_though_its_file_stays(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert os.listdir(tmp_path) == [".lock"]
    with locked(tmp_path):
        assert (tmp_path / ".lock").read_text() == f"process {os.getpid()} on {socket.gethostname()}\n"
    assert os.listdir(tmp_path) == []


def test_a_second_time_in_one_process_is_refused_too(tmp_path):
    with locked(tmp_path), pytest.raises(LockedError, match=f"process {os.getpid()} "), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_a_file_is_locked_beside_it_whether_it_exists_or_not(tmp_path):
    with locked(tmp_path / "a.h5"), locked(tmp_path / "b.h5"):
        assert sorted(os.listdir(tmp_path)) == [".a.h5.lock", ".b.h5.lock"]
        with pytest.raises(LockedError, match="a.h5 is in use"), locked(tmp_path / "a.h5"):
            pass
    assert os.listdir(tmp_path) == []


def test_it_is_released_after_an_error(tmp_path):
    with pytest.raises(KeyboardInterrupt), locked(tmp_path):
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


def test_never_two_at_once_however_often_it_is_taken_and_released(tmp_path):
    """Lock files come and go: a lock on one that has been removed meanwhile does not count."""
    inside, most, done = 0, 0, 0

    def work():
        nonlocal inside, most, done
        for _ in range(300):
            try:
                with locked(tmp_path):
                    inside += 1
                    most = max(most, inside)
                    inside -= 1
                    done += 1
            except LockedError:
                pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1 and done > 0


def test_a_file_that_is_replaced_while_it_is_being_locked_is_opened_again(tmp_path, monkeypatch):
    real, calls = lock._lock, []

    def lock_of_a_removed_file(descriptor):
        real(descriptor)
        if not calls:
            (tmp_path / ".lock").unlink()  # as its last holder does between our opening and our locking it
        calls.append(descriptor)

    monkeypatch.setattr(lock, "_lock", lock_of_a_removed_file)
    with locked(tmp_path):
        assert len(calls) == 2 and (tmp_path / ".lock").exists()


def test_a_file_system_without_locks_is_reported(tmp_path, monkeypatch):
    def unsupported(_):
        raise OSError(errno.ENOTSUP, "not supported")

    monkeypatch.setattr(lock, "_lock", unsupported)
    with pytest.warns(RuntimeWarning, match="its file system has no locks"), locked(tmp_path):
        pass
