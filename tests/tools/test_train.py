"""tools/train.py: a config in, a run's folder out; one line of error, and what Ctrl-C leaves is whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sparsenet.training.checkpoint import load_checkpoint

ROOT = Path(__file__).parents[2]
SMALL = ["quickstart", "--set", "data.parametric_train=4", "--set", "data.parametric_test=2",
         "--set", "network.channels=[2,3,4,5]", "--set", "schedule.kind=constant", "--set", "training.epochs=2"]


def command(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return [sys.executable, str(ROOT / "tools" / "train.py"), *map(str, arguments)], environment


def train(*arguments):
    words, environment = command(*arguments)
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run: its folder, and what it printed."""
    out = tmp_path_factory.mktemp("runs") / "small"
    return out, train(*SMALL, "--out", out)


def test_it_trains_and_says_how_well(run):
    out, done = run
    assert done.returncode == 0, done.stderr
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == ["epoch 1/2", "epoch 2/2", "final"]
    assert "test accuracy" in done.stdout and "test mAP" in done.stdout and "epoch 1" in done.stderr
    assert load_checkpoint(out / "last.h5").epoch == 2


def test_it_resumes_and_does_not_overwrite(run):
    out, _ = run
    again = train(*SMALL, "--out", out, "--quiet")
    assert again.returncode == 1 and "last.h5 is there already" in again.stderr
    resumed = train(*SMALL, "--out", out, "--set", "training.epochs=3", "--resume", "--quiet")
    assert resumed.returncode == 0, resumed.stderr
    assert "epoch 3/3" in resumed.stdout and "epoch 2/" not in resumed.stdout and not resumed.stderr


def test_seconds_stop_it_resumably(tmp_path):
    done = train(*SMALL, "--out", tmp_path, "--seconds", "0.001", "--quiet")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("final:") and load_checkpoint(tmp_path / "last.h5").step == 1


@pytest.mark.skipif(os.name != "posix", reason="signals are sent as POSIX has them")
def test_ctrl_c_leaves_a_whole_checkpoint_and_exits_130(tmp_path):
    words, environment = command(*SMALL, "--set", "training.epochs=100000", "--out", tmp_path)
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not (tmp_path / "last.h5").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors and "interrupted" in errors
    assert load_checkpoint(tmp_path / "last.h5").weights
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".part")]


@pytest.mark.parametrize(("arguments", "code", "words"), [
    (["nowhere.toml"], 1, "nowhere.toml: no such file; the package ships with"),
    (["quickstart", "--set", "training.epohs=3"], 1, "did you mean training.epochs?"),
    (["paper", "--set", "data.path=nowhere.h5"], 1, "nowhere.h5"),
    (["quickstart", "--resume"], 1, "last.h5: no such file"),
    ([], 2, "CONFIG is missing"),
])
def test_an_error_is_one_line(tmp_path, arguments, code, words):
    done = train(*arguments, "--out", tmp_path / "run")
    assert done.returncode == code and words in done.stderr
    assert "Traceback" not in done.stderr and (code == 2 or done.stderr.count("\n") == 1)


def test_help_has_examples_and_keys_has_them_all():
    assert "examples:" in train("--help").stdout
    keys = train("--keys").stdout
    assert "[optimizer]" in keys and "momentum = 0.99" in keys
