"""Galleries: a folder, or a file of descriptors, with its dataset or without."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pytest
from mesh_files import mesh_of, write_off

import sparsenet as sn
from sparsenet.cli import main
from sparsenet.data.convert import Conversion
from sparsenet.data.importers import import_parametric
from sparsenet.models import FolderDescriptors
from sparsenet.retrieval import Descriptors, find_similar
from sparsenet.serve import Gallery, Limits, open_gallery
from sparsenet.serve.desk import Desk, Recipe
from sparsenet.serve.drawing import packed_cells
from sparsenet.training import load_network


@pytest.fixture(scope="module")
def embedded(tmp_path_factory):
    """shapes.h5, a dataset of parametric shapes, and vectors.h5, their descriptors by modelnet40."""
    folder = tmp_path_factory.mktemp("descriptors")
    import_parametric(folder / "shapes.h5", {"test": 1},
                      conversion=Conversion(render_size=24, fill=True, progress=False))
    net, state = load_network(sn.models.model_path("modelnet40"))
    with sn.SparseDataset.open(folder / "shapes.h5") as shapes:
        Descriptors.of(net, shapes, state.digest).save(folder / "vectors.h5")
    return folder


def test_a_file_of_descriptors(embedded):
    gallery = open_gallery(embedded / "vectors.h5")
    facts = gallery.facts()
    assert len(gallery) == 10 and facts["probabilities"] is None and not facts["without_pictures"]
    assert [facts["classes"][label] for label in facts["labels"]] == list(sn.shapes.CLASSES)
    desk = Desk(gallery.recipe, Limits())
    with sn.SparseDataset.open(embedded / "shapes.h5") as shapes:
        assert desk.voxels(gallery.places[3]) == packed_cells(shapes.voxels(3)[0])
    mesh = write_off(embedded / "query.off", mesh_of("chair", 3))
    answer = desk.search(mesh.read_bytes(), None)
    found = find_similar(sn.load_pretrained(), mesh, Descriptors.load(embedded / "vectors.h5"), 10, gallery.metric)
    ranked = gallery.ranked(answer["vector"])
    assert np.frombuffer(base64.b64decode(ranked["order"]), "<u4").tolist() == found.rows.tolist()
    assert answer["classes"][0][0] == "chair"


@pytest.mark.extra("inspect")
def test_the_inspector_of_a_sample(embedded):
    gallery = open_gallery(embedded / "vectors.h5")
    assert "seen by" in Desk(gallery.recipe, Limits()).inspector(gallery.places[0], "a bed, seen by modelnet40")


def test_without_its_dataset_it_says_that_there_are_no_pictures(embedded, tmp_path):
    found = Descriptors.load(embedded / "vectors.h5")
    for dataset, reason in ((str(tmp_path / "moved.h5"), "moved.h5, is no longer where it was"),
                            ("", "does not say which dataset")):
        found.dataset = dataset
        found.save(tmp_path / "vectors.h5")
        gallery = open_gallery(tmp_path / "vectors.h5")
        assert reason in gallery.without_pictures and gallery.places == []
        assert not gallery.facts()["pictures"]
    assert len(open_gallery(tmp_path / "vectors.h5", dataset=embedded / "shapes.h5").places) == 10
    found.names = found.names[::-1].copy()
    found.save(tmp_path / "vectors.h5")
    with pytest.raises(ValueError, match="is not the one that the shapes were embedded from"):
        open_gallery(tmp_path / "vectors.h5", dataset=embedded / "shapes.h5")


def test_what_cannot_be_opened(embedded, meshes, tmp_path, monkeypatch):
    monkeypatch.setenv("SPARSENET_CACHE", str(tmp_path / "cache"))
    with pytest.raises(FileNotFoundError, match="does not exist: expected a folder of meshes"):
        open_gallery(tmp_path / "nothing")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.off").write_text("OFF")
    with pytest.raises(ValueError, match="none of its 1 mesh files can be read"):
        open_gallery(tmp_path / "bad", progress=False)
    with pytest.raises(ValueError, match="a dataset is for a file of descriptors"):
        open_gallery(meshes, dataset="x.h5")
    with pytest.raises(ValueError, match="those that it was made with"):
        open_gallery(embedded / "vectors.h5", up_axis="y")
    found = Descriptors.load(embedded / "vectors.h5")
    found.checkpoint = "0" * 64
    found.save(tmp_path / "other.h5")
    with pytest.raises(ValueError, match="was not made with the weights of modelnet40: name the model"):
        open_gallery(tmp_path / "other.h5")


def test_the_command_writes_a_page(meshes, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SPARSENET_CACHE", str(meshes.parent / "cache"))
    assert main(["serve", str(meshes), "--export", str(tmp_path / "page.html"), "--quiet"]) == 0
    told = capsys.readouterr()
    assert "12 shapes" in told.out and "broken.off: " in told.err
    assert (tmp_path / "page.html").read_text("utf-8").count("chair_1.off") == 1


def test_too_many_for_a_page_are_refused_before_they_are_embedded(meshes, embedded, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sparsenet.models.embed_folder", None)
    monkeypatch.setattr("sparsenet.serve.running.MAX_EXPORTED", 9)
    for source, count in ((meshes, 13), (embedded / "vectors.h5", 10)):
        assert main(["serve", str(source), "--export", str(tmp_path / "page.html")]) == 1
        assert f"{count} shapes do not fit into one file, expected at most 9" in capsys.readouterr().err


def test_a_network_without_classes_has_none():
    found = FolderDescriptors(Path("/shapes"), ["a.off"], np.ones((1, 4), np.float32), {}, 1, [], np.array([-1]),
                              np.zeros(1))
    facts = Gallery.of_folder(found, Recipe("runs/psb/best.h5")).facts()
    assert (facts["classes"], facts["labels"], facts["probabilities"]) == ([], [-1], None)
    assert facts["model"] == "psb/best.h5"


def test_the_command_says_what_is_missing(meshes, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("sparsenet.serve.server.find_spec", lambda name: None)
    assert main(["serve", str(meshes)]) == 1
    assert "waitress, which is not installed: pip install 'sparsenet[serve]'" in capsys.readouterr().err
    assert main(["serve", str(meshes), "--export", str(tmp_path / "no" / "page.html")]) == 1
    for option in (["--port", "70000"], ["--workers", "0"], ["--max-seconds", "-1"]):
        with pytest.raises(SystemExit) as stop:
            main(["serve", str(meshes), *option])
        assert stop.value.code == 2
