"""`mpirun -n R sparsenet train`: the bits of one process, and an end for all when one ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from command_line import ENVIRONMENT, invoke, words
from mpi_runs import OPTIONS, invoke_ranks, process_of, under_mpirun
from small_runs import TEXT, bits

from sparsenet.training.checkpoint import load_checkpoint

pytestmark = pytest.mark.extra("mpi")
ALONE = {"env": OPTIONS["env"], "timeout": 60}
# 30 objects in batches of 15, ten epochs: 20 steps, with shifts, dropout and batch norm.
SETTINGS = [word for setting in ("training.shards=4", "network.norm=batch", "training.batch_size=15",
                                 "training.epochs=10", "training.validate_every=5") for word in ("--set", setting)]


def library():
    """The name and version of the MPI, asked in a process of its own: this one stays without MPI."""
    script = "from mpi4py import MPI; print(MPI.Get_library_version())"
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, **ALONE).stdout


@pytest.fixture(scope="module")
def config_file(path, tmp_path_factory):
    file = tmp_path_factory.mktemp("config") / "small.toml"
    file.write_text(TEXT.format(path=path))
    return file


@pytest.fixture(scope="module")
def whole(config_file, tmp_path_factory):
    """The folder of a run in one process."""
    out = tmp_path_factory.mktemp("one")
    done = invoke("train", config_file, *SETTINGS, "--out", out, "--quiet")
    assert done.returncode == 0, done.stderr
    return out


def command(config_file, out, *more):
    return words("train", config_file, *SETTINGS, "--out", out, "--quiet", *more)


@pytest.mark.parametrize("ranks", [2, 3])
def test_the_weights_after_20_steps_are_those_of_one_process(ranks, config_file, whole, tmp_path):
    done = invoke_ranks(ranks, command(config_file, tmp_path))
    assert done.returncode == 0, done.stderr
    state = load_checkpoint(tmp_path / "last.h5")
    assert (state.epoch, state.digest) == (10, load_checkpoint(whole / "last.h5").digest)
    assert bits(tmp_path) == bits(whole) and bits(tmp_path, "best.h5") == bits(whole, "best.h5")
    said = [line.split(":")[0] for line in done.stdout.splitlines() if not line.startswith("compiling")]
    assert said == ["data", *(f"epoch {number}/10" for number in range(1, 11)), "final"]  # once


def test_two_ranks_continue_what_three_began(config_file, whole, tmp_path):
    done = invoke_ranks(3, command(config_file, tmp_path, "--seconds", "0.001"))
    assert done.returncode == 0, done.stderr
    assert load_checkpoint(tmp_path / "last.h5").step == 1
    done = invoke_ranks(2, command(config_file, tmp_path, "--resume"))
    assert done.returncode == 0, done.stderr
    assert bits(tmp_path) == bits(whole)


def started(config_file, out, ranks, *more):
    """A run whose first checkpoint is there, and which takes long."""
    run = subprocess.Popen(under_mpirun(ranks, command(config_file, out, "--set", "training.epochs=5000", *more)),
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, **OPTIONS)
    deadline = time.monotonic() + 60
    while not (out / "last.h5").exists() and time.monotonic() < deadline:
        assert run.poll() is None, run.communicate()
        time.sleep(0.05)
    return run


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds the processes by Linux's /proc")
@pytest.mark.parametrize("victim", [0, 2])
def test_a_rank_that_is_killed_ends_all_with_one_line_and_a_whole_checkpoint(victim, config_file, tmp_path):
    run = started(config_file, tmp_path, 3)
    os.kill(process_of(victim, str(tmp_path)), signal.SIGKILL)
    _, errors = run.communicate(timeout=60)
    assert run.returncode != 0
    (line,) = [line for line in errors.splitlines() if line.startswith("sparsenet train: error: ")]
    assert "a rank has died, which ends the training" in line
    assert f"{tmp_path / 'last.h5'} is complete; to continue: mpirun -n 3 sparsenet train" in line
    assert load_checkpoint(tmp_path / "last.h5").epoch >= 0
    assert all(process_of(rank, str(tmp_path)) is None for rank in range(3))
    done = invoke("train", tmp_path / "config.toml", "--out", tmp_path, "--resume", "--seconds", "0.001", "--quiet")
    assert done.returncode == 0, done.stderr


def test_ctrl_c_stops_all_after_the_same_step(config_file, tmp_path):
    run = started(config_file, tmp_path, 2)
    run.send_signal(signal.SIGINT)
    output, errors = run.communicate(timeout=60)
    assert "Traceback" not in errors
    if "Open MPI" not in library():  # which no longer forwards what ranks print once it ends them
        assert "is complete; to continue: " in output
    assert load_checkpoint(tmp_path / "last.h5").config
    done = invoke_ranks(2, words("train", tmp_path / "config.toml", "--out", tmp_path, "--resume", "--seconds",
                                 "0.001", "--quiet"))
    assert done.returncode == 0, done.stderr


def test_an_error_of_all_is_told_once(config_file, tmp_path):
    done = invoke_ranks(3, command(config_file, tmp_path, "--set", "training.shards=2"))
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert done.stderr.count("training.shards is 2, and 3 processes would share them") == 1


def test_an_error_of_one_rank_ends_all(tmp_path):
    script = tmp_path / "odd.py"
    script.write_text("from sparsenet.training.mpi import world\n"
                      "from sparsenet.training.ranks import Ranks\n"
                      "with world() as here:\n"
                      "    if here.rank == 1:\n"
                      "        raise ValueError('an odd thing')\n"
                      "    Ranks(here.rank, here.size, 3, here.link).wait()\n")
    done = invoke_ranks(3, [sys.executable, "-P", str(script)])
    assert done.returncode != 0
    assert done.stderr.count("odd thing") == done.stderr.count("sparsenet: error: rank 1: an odd thing") == 1


def test_a_launcher_of_another_mpi_is_told(config_file, tmp_path):
    names = ("PMI_SIZE", "PMI_RANK") if "Open MPI" in library() else (
        "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK")
    environment = {**ENVIRONMENT, names[0]: "2", names[1]: "0"}
    done = subprocess.run(command(config_file, tmp_path), env=environment, capture_output=True, text=True, timeout=60,
                          check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "2 processes were started, and mpi4py sees 1: the launcher belongs to another MPI" in done.stderr


def test_ranks_convert_and_embed_parts_of_the_whole(whole, path, tmp_path):
    builtin = ["builtin", "--train", "1", "--test", "1", "--render-size", "10", "--processes", "1"]
    assert invoke("make-dataset", *builtin, tmp_path / "one.h5").returncode == 0
    done = invoke_ranks(3, words("make-dataset", *builtin, tmp_path / "three.h5"))
    assert done.returncode == 0 and done.stdout.startswith(f"{tmp_path / 'three.h5'}: 20 samples"), done.stderr
    assert (tmp_path / "three.h5").read_bytes() == (tmp_path / "one.h5").read_bytes()
    assert invoke("embed", whole / "best.h5", tmp_path / "d1.h5", "--quiet").returncode == 0
    done = invoke_ranks(2, words("embed", whole / "best.h5", tmp_path / "d2.h5", "--quiet"))
    assert done.returncode == 0 and done.stdout.startswith(f"{tmp_path / 'd2.h5'}: 21 shapes"), done.stderr
    assert (tmp_path / "d2.h5").read_bytes() == (tmp_path / "d1.h5").read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["d1.h5", "d2.h5", "one.h5", "three.h5"]


def test_packed_voxels_are_imported_on_ranks(tmp_path):
    grids = np.packbits(np.random.default_rng(0).random((5, 32**3)) < 0.01, axis=1)
    np.savez(tmp_path / "ten.npz", train=grids[:3], train_label=np.arange(3), test=grids[3:], test_label=np.arange(2))
    source = ["modelnet10-voxels", tmp_path / "ten.npz"]
    assert invoke("make-dataset", *source, tmp_path / "one.h5").returncode == 0
    done = invoke_ranks(3, words("make-dataset", *source, tmp_path / "three.h5"))
    assert done.returncode == 0 and done.stdout.startswith(f"{tmp_path / 'three.h5'}: 5 samples"), done.stderr
    assert (tmp_path / "three.h5").read_bytes() == (tmp_path / "one.h5").read_bytes()


def test_each_rank_has_its_part_of_the_cores(tmp_path):
    script = tmp_path / "threads.py"
    script.write_text("import sys\n"
                      "from sparsenet.kernels import get_num_threads\n"
                      "from sparsenet.training.mpi import threads_of, world, _cores\n"
                      "from sparsenet.training.ranks import Ranks\n"
                      "with world() as here:\n"
                      "    ranks = Ranks(here.rank, here.size, here.size, here.link)\n"
                      "    cores = list(ranks.merged({here.rank: _cores()}).values())\n"
                      "    assert get_num_threads() == threads_of(cores, here.rank), get_num_threads()\n"
                      "    sys.stdout.write(f'threads {get_num_threads()}\\n')\n")  # in one write
    environment = {name: value for name, value in OPTIONS["env"].items() if name != "SPARSENET_NUM_THREADS"}
    done = invoke_ranks(3, [sys.executable, "-P", str(script)], env=environment)
    assert done.returncode == 0, done.stderr
    found = sorted(line for line in done.stdout.splitlines() if line.startswith("threads"))
    assert len(found) == 3 and (os.cpu_count() > 3 or found == ["threads 1"] * 3)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds the processes by Linux's /proc")
@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_that_is_killed_in_a_conversion_ends_all_with_one_line(victim, tmp_path):
    """Rank 1 has the large meshes; the part of rank 0 is kept, and the rest made later."""
    folder = tmp_path / "tree" / "chair"
    folder.mkdir(parents=True)
    small = "OFF\n4 4 6\n0 0 0\n1 0 0\n0 1 0\n0 0 1\n3 0 1 2\n3 0 1 3\n3 0 2 3\n3 1 2 3\n"
    (tmp_path / "large").write_text("OFF\n4 50000 6\n0 0 0\n1 0 0\n0 1 0\n0 0 1\n" + 50000 * "3 0 1 2\n")
    large = [folder / f"b{number:03}.off" for number in range(400)]
    for path in large:
        path.hardlink_to(tmp_path / "large")
    for number in range(400):
        (folder / f"a{number:03}.off").write_text(small)
    arguments = words("make-dataset", "folder", tmp_path / "tree", tmp_path / "x.h5", "--render-size", "8",
                      "--processes", "1")
    run = subprocess.Popen(under_mpirun(2, arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           start_new_session=True, **OPTIONS)
    deadline = time.monotonic() + 60
    while not (tmp_path / "x.1-of-2.h5").exists() and time.monotonic() < deadline:
        assert run.poll() is None, run.communicate()
        time.sleep(0.05)
    os.kill(process_of(victim, str(tmp_path / "x.h5")), signal.SIGKILL)
    _, errors = run.communicate(timeout=60)
    assert run.returncode != 0
    (line,) = [line for line in errors.splitlines() if line.startswith("sparsenet make-dataset: error: ")]
    assert "a process has died, which ends the command: parts of" in line and "run it again on 2 processes" in line
    assert not (tmp_path / "x.2-of-2.h5").exists()
    for path in large:
        path.unlink()
        path.write_text(small)
    before = (tmp_path / "x.1-of-2.h5").stat().st_mtime_ns
    assert invoke(*arguments[4:], "--part", "1/2", "--quiet").returncode == 0
    assert (tmp_path / "x.1-of-2.h5").stat().st_mtime_ns == before
    done = invoke_ranks(2, arguments)
    assert done.returncode == 0 and "800 samples" in done.stdout, done.stderr
