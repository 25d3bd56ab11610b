"""`sparsenet quickstart`: from nothing to an answered query."""

from __future__ import annotations

import csv
import os

from command_line import invoke

from sparsenet import quickstart as module
from sparsenet.quickstart import quickstart, write_off
from sparsenet.random import keyed_rng
from sparsenet.retrieval import Descriptors
from sparsenet.shapes import read_mesh
from sparsenet.shapes.parametric import parametric_mesh
from sparsenet.training import load_checkpoint, load_config


def test_it_builds_trains_evaluates_and_searches(tmp_path, monkeypatch):
    small = ["data.parametric_train=3", "data.parametric_test=2", "training.epochs=1", "network.channels=[2,3,4,5]"]
    monkeypatch.setattr("sparsenet.training.load_config", lambda name, overrides: load_config(name, small + overrides))
    lines = []
    figures = quickstart(tmp_path, progress=False, say=lines.append)
    assert 0 <= figures["test_accuracy"] <= 1 and 0 < figures["test_mAP"] <= 1
    assert lines[-1].startswith(f"accuracy {100 * figures['test_accuracy']:.1f}%, mAP {100 * figures['test_mAP']:.1f}%")
    descriptors = Descriptors.load(tmp_path / "descriptors.h5")
    assert len(descriptors) == 20 and descriptors.checkpoint == load_checkpoint(tmp_path / "best.h5").digest
    with open(tmp_path / "metrics.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 1
    if module.importlib.util.find_spec("matplotlib"):
        assert {"found.png", "curves.png", "precision_recall.png"} <= set(os.listdir(tmp_path))


def test_the_query_is_written_exactly(tmp_path):
    mesh = parametric_mesh("chair", keyed_rng(0, "query"))
    write_off(tmp_path / "query.off", mesh)
    again = read_mesh(tmp_path / "query.off")
    assert (again.vertices == mesh.vertices).all() and (again.faces == mesh.faces).all()


def test_the_command_line():
    done = invoke("quickstart", "--help")
    assert done.returncode == 0 and "--seconds" in done.stdout
