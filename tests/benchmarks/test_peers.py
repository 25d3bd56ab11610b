"""Peers: missing ones are reported, wrong ones do not count."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import Results, beside_peers, convolution, passes, peers
from benchmarks.workloads import WORKLOADS
from sparsenet.sparse import ActiveSites, Geometry


def test_an_interpreter_that_does_not_exist_is_noted(tmp_path):
    notes = []
    assert peers.available(str(tmp_path / "python"), notes.append) == []
    assert len(notes) == len(peers.PEERS)
    assert all("left out" in note for note in notes)


def test_a_peer_that_is_not_installed_is_noted(monkeypatch, tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('torch is not here')")
    monkeypatch.setattr(peers, "WORKER", tmp_path / "worker.py")
    peers.WORKER.write_text("import torch")  # finds the one beside it
    notes = []
    assert peers.available(sys.executable, notes.append) == []
    assert notes == [f"peer {name} left out: {name} ended: ImportError: torch is not here" for name in peers.PEERS]


def test_no_interpreter_means_no_peers():
    assert peers.available(None, pytest.fail) == []


def test_a_worker_is_asked_in_json_and_closed(monkeypatch, tmp_path):
    monkeypatch.setattr(peers, "WORKER", tmp_path / "worker.py")
    peers.WORKER.write_text("""
import json, sys
for line in sys.stdin:
    command = json.loads(line)
    answer = {"torch": "9", "spconv": "8"} if command["do"] == "versions" else {"seconds": len(command["pass"])}
    print(json.dumps(answer), flush=True)
""")
    with peers.Peer("spconv", sys.executable) as peer:
        assert peer.label == "spconv 8, 1 thread"
        assert peer.case("forward")() == 7
    assert peer.process.returncode == 0


@pytest.fixture(scope="module")
def task():
    made = convolution._Task(WORKLOADS[2], "cpu")
    return made, made.verify()


@pytest.mark.parametrize("wrong", [None, "output", "input_gradient", "weight_gradient"])
def test_a_peer_counts_only_if_every_result_is_right(rng, task, wrong):
    made, expected = task
    order = rng.permutation(len(expected["output"]))
    given = {"output": expected["output"][order], "output_coordinates": made.oracle.output_coordinates[order],
             "input_gradient": expected["input_gradient"].copy(), "weight_gradient": expected["weight_gradient"].copy()}
    if wrong:
        given[wrong][0, 0] += 0.1 * np.abs(given[wrong]).max()
    results = Results("cpu")
    peer = SimpleNamespace(label="peer 1", set_up=lambda *_, **__: given)
    assert convolution._is_correct(peer, made, expected, results) == (wrong is None)
    assert len(results.notes) == (wrong is not None)
    assert all("wrong by" in note for note in results.notes)


@pytest.mark.parametrize("name", peers.PEERS)
def test_an_installed_peer_agrees_with_the_reference(task, name):
    pytest.importorskip(name, reason=f"{name} is not installed: no peer to compare with")
    made, expected = task
    with peers.Peer(name, sys.executable) as peer:
        assert convolution._is_correct(peer, made, expected, Results("cpu"))
        assert peer.case("backward")() > 0


@pytest.mark.parametrize(("name", "width"), [("spconv", 8), ("triton", 64)])
def test_an_installed_peer_agrees_at_a_surface(monkeypatch, name, width):
    pytest.importorskip(name, reason=f"{name} is not installed: no peer to compare with")
    monkeypatch.setenv("TRITON_INTERPRET", "1")  # its kernels run on the CPU
    keys, side = passes.surface_keys(4)
    sites = ActiveSites.from_keys(keys, (side,) * 3, 1)
    task = passes.Task(sites.rulebook(Geometry.make_submanifold(3, 3)), width, width)
    results = Results("cpu")
    with peers.Peer(name, sys.executable) as peer:
        assert beside_peers._is_right(peer, task, "float32", "a surface", results), results.notes
        assert peer.case("forward")() > 0 and peer.case("backward")() > 0


def test_a_pass_that_is_wrong_is_not_timed(task):
    made, _ = task
    weight = made.layer.weight
    before = weight.array
    try:
        weight.array = before * 1.01  # the reference goes by the weights that the task was given
        with pytest.raises(RuntimeError, match="forward differs from the reference"):
            made.verify()
    finally:
        weight.array = before


def test_packages_that_a_folder_carries_are_found_and_the_checkouts_are_not(monkeypatch, tmp_path):
    (tmp_path / "torch.py").write_text("")
    root = peers._CHECKOUT
    given = [str(root), str(root / "tests" / "cuda_host" / "stand_in"), str(tmp_path), ""]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(given))
    monkeypatch.setattr(peers, "WORKER", tmp_path / "elsewhere" / "worker.py")
    peers.WORKER.parent.mkdir()
    peers.WORKER.write_text("""
import json, os, sys
import torch
for line in sys.stdin:
    print(json.dumps({"torch": torch.__file__, "spconv": os.environ["PYTHONPATH"]}), flush=True)
""")
    with peers.Peer("spconv", sys.executable) as peer:
        assert peer.versions == {"torch": str(tmp_path / "torch.py"), "spconv": str(tmp_path)}


def test_only_peers_of_the_names_given_are_looked_for(tmp_path):
    notes = []
    assert peers.available(str(tmp_path / "python"), notes.append, "cuda", names=("triton",)) == []
    assert len(notes) == 1 and notes[0].startswith("peer triton left out: ")
