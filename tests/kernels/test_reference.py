"""The reference backend: how it is chosen, that it imports no other half, and that networks train on it."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from convolution_cases import Table, through
from cuda_host import cupy_of_numpy

import sparsenet as sn
from sparsenet import backend
from sparsenet.kernels import find, launch, table
from sparsenet.kernels.table import names

ROOT = Path(sn.__file__).parents[1]
TRAINING = """
import json, sys, time
from pathlib import Path
import sparsenet as sn
from sparsenet.training import load_config, loop, train

losses, times, steps, loss_of = [], [], [], loop.loss_of

def recorded(net, batch, criterion):
    times.append(time.process_time())
    steps.append(({name: array.copy() for name, array in net.get_weights().items()}, batch, criterion))
    loss, figures = loss_of(net, batch, criterion)
    losses.append(float(loss.numpy()))
    return loss, figures

loop.loss_of = recorded
config = load_config("quickstart", ["data.parametric_train=35", "data.parametric_test=2", "training.epochs=1"])
net = train(config, Path(sys.argv[1]), progress=False, say=lambda line: None).net
no_compiler = "numba" not in sys.modules
sn.set_backend(None)
on_cpu = []
for weights, batch, criterion in steps:
    net.load_state_dict(weights)
    on_cpu.append(float(loss_of(net.train(), batch, criterion)[0].numpy()))
print(json.dumps([losses, on_cpu, times[-1] - times[0], no_compiler]))
"""


@pytest.fixture(autouse=True)
def not_chosen(monkeypatch):
    """No backend is chosen before a test, and its choice is undone afterwards."""
    monkeypatch.delenv("SPARSENET_BACKEND", raising=False)
    monkeypatch.setattr(backend, "_chosen", [])


@pytest.fixture
def use_checking(monkeypatch):
    """Sets SPARSENET_CHECK, which is read once in a process."""
    def use(value):
        monkeypatch.setenv("SPARSENET_CHECK", value)
        table.checking.cache_clear()

    yield use
    monkeypatch.undo()
    table.checking.cache_clear()


@pytest.fixture
def which(monkeypatch):
    """Says which backend a launch goes to."""
    for name in ("cpu", "reference"):
        find("leaky_relu_forward").on(name)
        monkeypatch.setitem(find("leaky_relu_forward").implementations, name, lambda *arguments, name=name: name)
    return lambda **where: launch("leaky_relu_forward", np.zeros((1, 1)), 0.3, **where)


def test_the_specification_imports_no_other_half():
    program = ("import sys\nfrom sparsenet.kernels.table import find, names\n"
               "for name in names():\n    find(name).on('reference')\n"
               "print(*(name for name in sys.modules if name.startswith('sparsenet.kernels.') or name == 'numba'))")
    done = subprocess.run([sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": str(ROOT)},
                          capture_output=True, text=True, check=True)
    loaded = {name.removeprefix("sparsenet.kernels.") for name in done.stdout.split()}
    assert {f"{family}.reference" for family in ("convolution", "rulebook", "voxels")} <= loaded
    assert not {name for name in loaded if name == "numba" or name.endswith((".cpu", ".cuda"))}


def test_it_is_chosen_by_set_backend(which):
    assert sn.get_backend() is None and which() == "cpu"
    sn.set_backend("reference")
    assert sn.get_backend() == "reference" and which() == "reference" and which(backend="cpu") == "cpu"
    sn.set_backend(None)
    assert sn.get_backend() is None and which() == "cpu"


def test_it_is_chosen_by_the_environment_before_which_set_backend_counts(which, monkeypatch):
    monkeypatch.setenv("SPARSENET_BACKEND", "reference")
    assert sn.get_backend() == "reference" and which() == "reference"
    sn.set_backend(None)
    assert which() == "cpu"


def test_other_names_raise(which, monkeypatch):
    with pytest.raises(ValueError, match="set_backend: name is 'cuda', expected 'reference' or none"):
        sn.set_backend("cuda")
    monkeypatch.setenv("SPARSENET_BACKEND", "numpy")
    with pytest.raises(ValueError, match="SPARSENET_BACKEND is 'numpy', expected 'reference' or none"):
        which()


def test_arrays_on_a_gpu_raise(host_driver):
    sn.set_backend("reference")
    with cupy_of_numpy.installed(host_driver):
        x = backend.to_device(np.zeros((1, 1)), "cuda")
        with pytest.raises(TypeError, match="leaky_relu_forward: the reference backend computes with NumPy arrays"):
            launch("leaky_relu_forward", x, 0.3)
        sn.set_backend(None)
        with pytest.raises(TypeError, match="leaky_relu_forward: the reference backend computes with NumPy arrays"):
            launch("leaky_relu_forward", x, 0.3, backend="reference")


def test_the_quickstart_trains_on_it_as_on_a_cpu(tmp_path):
    """20 steps in less than a minute of processor time, the loader's threads included, so that a loaded machine passes
    too; each with the loss that a CPU gives for its weights, and no compiler in the process.

    Left to themselves the two drift apart, as any two roundings do: by 1e-3 after ten steps.
    """
    environment = os.environ | {"PYTHONPATH": str(ROOT), "SPARSENET_BACKEND": "reference"}
    done = subprocess.run([sys.executable, "-c", TRAINING, str(tmp_path / "run")], env=environment,
                          capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    losses, on_cpu, seconds, no_compiler = json.loads(done.stdout)
    print(f"{len(losses)} steps in {seconds:.0f} s of processor time")
    assert len(losses) >= 20 and seconds < 60 and no_compiler
    np.testing.assert_allclose(losses, on_cpu, atol=1e-4, rtol=0)
    assert losses != on_cpu, "all bits agree: was the reference in use?"


@pytest.mark.parametrize("checking", ["", "1"])
def test_a_row_that_is_not_there_is_told_when_checking(use_checking, checking):
    """Without a check it would be read from somewhere in memory: here it is the last row, read as the first."""
    use_checking(checking)
    features, weights = np.ones((5, 2)), np.ones((1, 2, 3))
    neighbours = np.array([[0], [5]], np.int32)
    if checking:
        with through("neighbours"), pytest.raises(ValueError, match="convolution_forward: neighbours name rows 0 to 5, "
                                                                    "expected -1 or a row of the 5 input sites"):
            launch("convolution_forward", features, weights, Table(neighbours, 5), None)
        neighbours[1] = -1
    launch("convolution_forward", features, weights, Table(neighbours % 5, 5), None)


@pytest.mark.parametrize("of", ["forward", "forward_by_row", "input_gradient", "weight_gradient"])
@pytest.mark.parametrize("name", ["convolution", "grouped_convolution"])
def test_each_pass_is_told_of_rows_that_are_not_there(use_checking, name, of):
    use_checking("1")
    kernel = find(f"{name}_{of}")
    good, bad = (Table(np.array([[0], [4]], np.int32), 5) for _ in range(2))
    for view in ("neighbours", "transposed_neighbours", "pairs"):
        setattr(bad, view, np.full_like(getattr(good, view), 9))
    weights = np.ones((1, 2 if name.startswith("grouped") else 4, 6))
    given = {"features": np.ones((5, 4)), "weights": weights, "gradient": np.ones((2, 6)), "groups": 2}
    launch(kernel.name, *((given | {"rulebook": good}).get(argument) for argument in kernel.arguments))
    with pytest.raises(ValueError, match=f"{kernel.name}: [a-z_]+ name rows 9 to 9, expected "):
        launch(kernel.name, *((given | {"rulebook": bad}).get(argument) for argument in kernel.arguments))


@pytest.mark.parametrize("checking", ["", "1"])
def test_on_a_gpu_values_are_looked_at_only_when_checking(host_driver, use_checking, checking):
    from sparsenet.kernels.cuda.source import use_driver

    use_checking(checking)
    splits = np.array([0, 3, 2, 4])
    with use_driver(host_driver):
        if not checking:
            launch("segment_sum", np.ones((4, 2)), splits, backend="cuda")  # whatever it gives
            return
        with pytest.raises(ValueError, match="segment_sum: splits is .*, expected numbers that rise from 0 to 4"):
            launch("segment_sum", np.ones((4, 2)), splits, backend="cuda")


def test_a_table_of_another_length_is_refused(launch):
    with pytest.raises(ValueError, match="hash_lookup: table_keys has 6 slots, expected a power of two"):
        launch("hash_lookup", np.full(6, -1), np.zeros(6, np.int32), np.array([3]))


def test_contracts_are_the_table():
    """Each kernel is declared in the folder where its implementations are."""
    families = {find(name).modules["reference"].partition(".")[0] for name in names()}
    contracts = {family: vars(importlib.import_module(f"sparsenet.kernels.{family}.contract")) for family in families}
    declared = {value.name: family for family, contract in contracts.items() for value in contract.values()
                if isinstance(value, table.Kernel)}
    assert declared == {name: find(name).modules["reference"].partition(".")[0] for name in names()}
