"""`sparsenet train`: a config in, a run's folder out; errors in one line, and whole files after Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest
from command_line import ENVIRONMENT, invoke, words

from sparsenet.training.checkpoint import load_checkpoint

SMALL = ["quickstart", "--set", "data.parametric_train=4", "--set", "data.parametric_test=2",
         "--set", "network.channels=[2,3,4,5]", "--set", "schedule.kind=constant", "--set", "training.epochs=2"]


def train(*arguments, **options):
    return invoke("train", *arguments, **options)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run: its folder, and what it printed."""
    out = tmp_path_factory.mktemp("runs") / "small"
    return out, train(*SMALL, "--out", out)


def test_it_trains_and_says_how_well(run):
    out, done = run
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if not line.startswith("compiling")]
    assert [line.split(":")[0] for line in lines] == ["data", "epoch 1/2", "epoch 2/2", "final"]
    assert "test accuracy" in lines[-1] and "test mAP" in lines[-1]
    assert load_checkpoint(out / "last.h5").epoch == 2


def test_bars_are_shown_on_a_terminal_alone(run):
    _, done = run
    assert "epoch 1:" not in done.stderr and "batch/s" not in done.stderr


def test_it_resumes_and_does_not_overwrite(run):
    out, _ = run
    again = train(*SMALL, "--out", out, "--quiet")
    assert again.returncode == 1
    assert "last.h5 already exists: continue it with --resume (resume=True), replace it with --overwrite" in (
        again.stderr)
    other = train(*SMALL, "--out", out, "--resume", "--set", "optimizer.lr=0.5")
    assert other.returncode == 1 and "optimizer.lr is 0.5 and was 0.1" in other.stderr
    resumed = train(*SMALL, "--out", out, "--set", "training.epochs=3", "--resume", "--quiet")
    assert resumed.returncode == 0, resumed.stderr
    assert "epoch 3/3" in resumed.stdout and "epoch 2/" not in resumed.stdout and not resumed.stderr


def test_seconds_stop_it_resumably(tmp_path):
    done = train(*SMALL, "--out", tmp_path, "--seconds", "0.001", "--quiet")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("final:") and load_checkpoint(tmp_path / "last.h5").step == 1


@pytest.mark.skipif(os.name != "posix", reason="signals are sent as POSIX has them")
@pytest.mark.parametrize(("sent", "code", "word"), [(signal.SIGINT, 130, "interrupted"),
                                                    (signal.SIGTERM, 143, "terminated")])
def test_a_signal_leaves_a_whole_checkpoint_and_says_how_to_continue(tmp_path, sent, code, word):
    endless = words("train", *SMALL, "--set", "training.epochs=100000", "--out", tmp_path)
    with subprocess.Popen(endless, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True) as process:
        deadline = time.monotonic() + 60
        while not (tmp_path / "metrics.csv").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        second = train(*SMALL, "--out", tmp_path, "--overwrite")
        process.send_signal(sent)
        output, errors = process.communicate(timeout=60)
    assert second.returncode == 1 and f"in use by process {process.pid} on " in second.stderr
    assert process.returncode == code
    assert "Traceback" not in errors and word in errors
    assert load_checkpoint(tmp_path / "last.h5").weights
    assert not [name for name in os.listdir(tmp_path) if name.endswith((".part", ".lock"))]
    told = output.splitlines()[-1]
    assert told.startswith(f"stopped; {tmp_path / 'last.h5'} is complete; to continue: sparsenet train ")
    resumed = train(*told.partition("sparsenet train ")[2].split(), "--seconds", "0.001")
    assert resumed.returncode == 0 and "resuming" in resumed.stdout, resumed.stderr


def test_a_killed_training_leaves_no_lock(tmp_path):
    endless = words("train", *SMALL, "--set", "training.epochs=100000", "--out", tmp_path)
    with subprocess.Popen(endless, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline()
        process.kill()
    assert (tmp_path / ".lock").exists()
    assert train(*SMALL, "--out", tmp_path, "--overwrite", "--seconds", "0.001").returncode == 0


@pytest.mark.parametrize(("arguments", "code", "told"), [
    (["nowhere.toml"], 1, "nowhere.toml: no such file; the package ships with"),
    (["quickstart", "--set", "training.epohs=3"], 1, "did you mean training.epochs?"),
    (["quickstart", "--set", "optimizer.lr=1e400"], 1, "optimizer.lr is inf, expected a finite number"),
    (["quickstart", "--set", "training.epochs=1" + "0" * 5000], 1, "training.epochs"),
    (["paper", "--set", "data.path=nowhere.h5"], 1, "nowhere.h5"),
    (["quickstart", "--resume"], 1, "last.h5: no such file"),
    ([], 2, "CONFIG is missing"),
])
def test_an_error_is_one_line(tmp_path, arguments, code, told):
    done = train(*arguments, "--out", tmp_path / "run")
    assert done.returncode == code and told in done.stderr
    assert "Traceback" not in done.stderr and (code == 2 or done.stderr.count("\n") == 1)


def test_help_has_examples_and_keys_has_them_all():
    assert "examples:" in train("--help").stdout
    keys = train("--keys").stdout
    assert "[optimizer]" in keys and "momentum = 0.99" in keys


def test_it_finds_a_learning_rate_and_makes_no_run(tmp_path):
    picture = tmp_path / "losses.png"
    done = train(*SMALL, "--find-lr", "--picture", picture, "--quiet", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("data:") and lines[-1].startswith("suggestion:")
    assert any(line.split() == ["learning", "rate", "loss", "smoothed"] for line in lines)
    assert [path.name for path in tmp_path.iterdir()] == ["losses.png"] and picture.stat().st_size > 5000


@pytest.mark.parametrize(("arguments", "words"), [
    (["--find-lr", "--out", "a"], "--find-lr makes no run: leave out --out"),
    (["--picture", "a.png"], "--picture draws what --find-lr finds"),
])
def test_options_that_do_not_fit_together_are_refused(arguments, words):
    done = train(*SMALL, *arguments)
    assert done.returncode == 2 and words in done.stderr
