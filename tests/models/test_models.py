"""Packed models and their loading, and the classification of meshes by them."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

import sparsenet as sn
from sparsenet import models, selfcheck
from sparsenet.cli import main
from sparsenet.data.convert import Conversion
from sparsenet.data.importers import import_parametric
from sparsenet.data.sweethome3d import RULES
from sparsenet.models import pretrained
from sparsenet.models.packing import pack_model
from sparsenet.random import keyed_rng
from sparsenet.shapes import CLASSES, Mesh, MeshError, Voxelization, parametric_mesh
from sparsenet.training import embed_shapes, load_network, parse_config
from sparsenet.training.build import rendering
from sparsenet.training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint


@pytest.fixture
def shipped(folder, tmp_path, monkeypatch):
    """The models of the package are one, "small"."""
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    pretrained._say_terms.cache_clear()
    shutil.copy(folder / "model.h5", tmp_path / "small.h5")
    (tmp_path / "small.md").write_text("# small\n\n## Terms\nFor tests only.\n\nMore.\n\n## Data\nShapes.\n")
    return tmp_path


def chair(number=0):
    return parametric_mesh("chair", keyed_rng(5, "chair", number))


def turned(mesh, matrix):
    return Mesh(mesh.vertices @ np.array(matrix, np.float64).T, mesh.faces)


# ---- packing ----

def test_a_packed_model_is_small_and_gives_nearly_the_same(folder):
    net, state = load_network(folder / "run" / "last.h5")
    packed, small = load_network(folder / "model.h5")
    assert {array.dtype.name for array in small.weights.values() if array.ndim > 1} == {"float16"}
    assert all(parameter.dtype == np.float32 for parameter in packed.parameters())
    assert state.momentum and not small.momentum and not small.latest
    assert small.digest != state.digest and small.classes == state.classes and small.config == state.config
    with sn.SparseDataset.open(folder / "shapes.h5") as shapes:
        np.testing.assert_allclose(packed.predict(shapes), net.predict(shapes), atol=2e-3)


def test_a_network_knows_its_classes_and_how_meshes_were_voxelized(folder):
    net = sn.load_pretrained(folder / "model.h5")
    assert net.classes == list(CLASSES) and not net.training
    assert net.voxelization == Voxelization(render_size=8, fill=True, up_axis="auto", turns=4)
    assert load_network(folder / "run" / "last.h5")[0].voxelization.turns == 1


@pytest.mark.parametrize(("change", "message"), [
    ({"voxelization": {}}, "does not tell how meshes were voxelized"),
    ({"weights": {"linear1.weight": np.float32(1e6)}}, "linear1.weight has numbers beyond 65504"),
])
def test_what_cannot_be_packed(folder, tmp_path, change, message):
    state = load_checkpoint(folder / "run" / "last.h5")
    if "weights" in change:
        change = {"weights": {name: array * change["weights"].get(name, np.float32(1))
                              for name, array in state.weights.items()}}
    save_checkpoint(tmp_path / "odd.h5", replace(state, **change))
    with pytest.warns(RuntimeWarning) if "weights" in change else _nothing(), pytest.raises(ValueError, match=message):
        pack_model(tmp_path / "odd.h5", tmp_path / "model.h5")
    assert not (tmp_path / "model.h5").exists()


def _nothing():
    from contextlib import nullcontext

    return nullcontext()


def test_a_checkpoint_with_an_unknown_voxelization_is_refused(folder, tmp_path):
    state = load_checkpoint(folder / "model.h5")
    for voxelization in ({"render_size": 0}, {"render_size": 8, "up_axis": "w"}, {"render_size": 8, "colour": 1}):
        save_checkpoint(tmp_path / "odd.h5", replace(state, voxelization=voxelization))
        with pytest.raises(CheckpointError, match="section .voxelization."):
            load_network(tmp_path / "odd.h5")


# ---- the models of the package ----

def test_models_are_loaded_by_name_and_state_their_terms_once(shipped, capsys):
    assert models.model_names() == ["small"]
    first = sn.load_pretrained("small")
    assert capsys.readouterr().err == "small: For tests only.\n"
    second = sn.load_pretrained("small")
    assert capsys.readouterr().err == ""
    assert first.get_weights().keys() == second.get_weights().keys()
    assert models.model_card("small").startswith("# small")
    with pytest.raises(FileNotFoundError, match="did you mean small"):
        sn.load_pretrained("smal")
    with pytest.raises(FileNotFoundError, match="not the name of a model: the package has small"):
        models.model_card("large")


def test_selfcheck_recomputes_a_descriptor(shipped):
    assert models.check_models() == [("small", 0.0)]
    assert selfcheck.models_are_whole("cpu")[0]
    state = load_checkpoint(shipped / "small.h5")
    state.check["descriptor"] = state.check["descriptor"] * np.float32(1.001)
    save_checkpoint(shipped / "small.h5", state)
    (_, difference), = models.check_models()
    assert difference == pytest.approx(0.001 / 1.001, rel=1e-3)
    assert not selfcheck.models_are_whole("cpu")[0]


def test_every_model_of_the_package_has_a_card_with_its_digest():
    for name in models.model_names():
        card = models.model_card(name)
        assert load_checkpoint(models.model_path(name)).digest in card
        assert all(f"## {title}\n" in card for title in ("Terms", "Data", "Recipe", "Figures", "Digest"))
        assert models.model_path(name).stat().st_size <= 8e6


def test_the_furniture_knows_its_classes_and_its_credits():
    net, card = sn.load_pretrained("furniture"), " ".join(models.model_card("furniture").split())
    assert len(net.classes) == 15 and set(net.classes) <= {label for label, _, _ in RULES}
    assert net.voxelization == Voxelization(render_size=24, fill=True, up_axis="auto", turns=12)
    assert models.model_path("furniture").stat().st_size <= 2e6
    for author in ("Andrew Kator & Jennifer Legaz", "Reallusion", "Scopia Visual Interfaces Systems, s.l.",
                   "Emmanuel Puybaret / eTeks", "Jay-Artist", "Gnanasaireddy"):
        assert author in card
    for name in ("chair", "table", "bed"):
        found = [sn.classify(net, parametric_mesh(name, keyed_rng(7, name, k)), turns=3).label for k in range(5)]
        assert found.count(name) >= 3, found


# ---- classification ----

def test_a_mesh_gets_the_treatment_of_the_training(folder):
    """Of a shape of the dataset, the class probabilities are those that `predict` gives its stored voxels."""
    net = sn.load_pretrained(folder / "model.h5")
    with sn.SparseDataset.open(folder / "shapes.h5") as shapes:
        expected = net.predict(shapes.subset("test"))
        for row, name in enumerate(CLASSES):
            mesh = parametric_mesh(name, keyed_rng(0, "parametric", "test", name, 0))
            found = sn.classify(net, mesh, turns=1)
            order = np.argsort(-expected[row], kind="stable")
            assert found.classes == [CLASSES[k] for k in order] and found.label == found.classes[0]
            np.testing.assert_allclose(found.probabilities, expected[row][order], rtol=1e-5)
            assert found.probability == found.probabilities[0] and found.dropped == 0


@pytest.mark.parametrize("render_size", [8, 0], ids=["as in the config", "left to the dataset"])
def test_meshes_of_a_dataset_get_the_treatment_of_the_training(folder, tmp_path, render_size):
    """Also of one that was made at another render size, from surfaces instead of solids."""
    net, state = load_network(folder / "model.h5")
    config, found = parse_config(state.config, "test", [f"data.render_size={render_size}"]), []
    for size, fill in ((8, True), (12, False)):
        path = tmp_path / f"{size}.h5"
        import_parametric(path, {"train": 1}, conversion=Conversion(render_size=size, fill=fill, keep_meshes=True,
                                                                    progress=False))
        with sn.SparseDataset.open(path) as shapes:
            assert rendering(config, shapes, net) == {"render_size": 8, "fill": True}
            assert rendering(config, shapes, sn.s3dcnn()) == {"render_size": render_size or None, "fill": None}
            found.append(embed_shapes(net, state, config, shapes))
    assert np.array_equal(found[0].vectors, found[1].vectors) and np.ptp(found[0].vectors, axis=0).any()
    assert [(one.render_size, one.fill) for one in found] == [(8, True)] * 2


def test_probabilities_are_averaged_over_turns(folder):
    net = sn.load_pretrained(folder / "model.h5")
    quarter = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    poses = [chair()]
    for _ in range(3):
        poses.append(turned(poses[-1], quarter))
    each = [dict(zip((one := sn.classify(net, pose, turns=1)).classes, one.probabilities, strict=True))
            for pose in poses]
    found = sn.classify(net, chair())
    for name, probability in zip(found.classes, found.probabilities, strict=True):
        assert probability == pytest.approx(np.mean([one[name] for one in each]), rel=1e-5)
    assert abs(found.probabilities.sum() - 1) < 1e-9
    assert len({tuple(one.items()) for one in each}) == 4  # the poses differ


def test_an_unknown_up_axis_is_found(folder):
    """However a mesh lies, the same six directions are tried, so the probabilities are the same."""
    net = sn.load_pretrained(folder / "model.h5")
    upright = sn.classify(net, chair(), "unknown")
    on_its_side = turned(chair(), [[1, 0, 0], [0, 0, 1], [0, -1, 0]])  # z -> y
    lying = sn.classify(net, on_its_side, "unknown")
    np.testing.assert_allclose(lying.probabilities, upright.probabilities, atol=1e-6)
    up = dict(zip(("x", "y", "z"), np.eye(3), strict=True))
    for found, to_file in ((upright, np.eye(3)), (lying, np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]]))):
        sign, axis = (-1 if "-" in found.up_axis else 1), found.up_axis[-1]
        direction = sign * up[axis] @ to_file  # in the upright mesh's axes
        assert tuple(direction) == tuple((-1 if "-" in upright.up_axis else 1) * up[upright.up_axis[-1]])
    assert sn.classify(net, on_its_side, "y").classes == sn.classify(net, chair(), "z").classes


def test_what_cannot_be_classified(folder, tmp_path):
    net = sn.load_pretrained(folder / "model.h5")
    for arguments, error, message in [
            ((chair(), "w"), ValueError, "up_axis is 'w', expected one of auto, y, z"),
            ((chair(), None, 0), ValueError, "turns is 0"), ((3,), TypeError, "path_or_mesh is int"),
            ((tmp_path / "no.off",), FileNotFoundError, "no.off"), ((__file__,), MeshError, "not in ..py.")]:
        with pytest.raises(error, match=message):
            sn.classify(net, *arguments)
    with pytest.raises(ValueError, match="does not know its classes: load it"):
        sn.classify(sn.s3dcnn(num_classes=3), chair())
    net.classes = net.classes[:3]
    with pytest.raises(ValueError, match="gives 10 numbers that are not probabilities of its 3 classes"):
        sn.classify(net, chair())


# ---- the commands ----

@pytest.mark.parametrize("net", ["modelnet40", None], ids=["a name", "nothing"])
def test_a_network_is_told_from_its_name(net, tmp_path):
    words = "sn.load_pretrained(" + ("'modelnet40'" if net else "")
    for call in (lambda: sn.classify(net, chair()), lambda: models.embed_folder(net, tmp_path),
                 lambda: models.describe(net, [chair()])):
        with pytest.raises(TypeError, match="expected a network, such as " + re.escape(words)):
            call()


def test_classify_prints_a_line_for_each_mesh(folder, meshes, capsys):
    net = sn.load_pretrained(folder / "model.h5")
    table, listed = meshes / "classes.csv", meshes / "classes.json"
    code = main(["classify", str(meshes / "broken.off"), str(meshes / "meshes"), "--model", str(folder / "model.h5"),
                 "--csv", str(table), "--json", str(listed), "--top", "2"])
    printed = capsys.readouterr()
    assert code == 1 and "broken.off" in printed.err and "no mesh" not in printed.out
    rows = list(csv.DictReader(io.StringIO(table.read_text())))
    assert [row["file"] for row in rows] == [str(meshes / name)
                                            for name in ("broken.off", "meshes/a.off", "meshes/deep/b.off")]
    assert rows[0]["error"] and not rows[0]["class"] and not rows[1]["error"]
    stated = json.loads(listed.read_text())
    for row, one in zip(rows[1:], stated[1:], strict=True):
        expected = sn.classify(net, row["file"])
        assert row["class"] == one["class"] == expected.label and f"{expected.probability:.1%}" in printed.out
        assert one["probability"] == expected.probability and len(one["top"]) == 2
        assert row["class_2"] == expected.classes[1] == one["top"][1]["class"]
    assert set(stated[0]) == {"file", "error"}


def test_classify_writes_data_alone_to_the_console(folder, meshes, capsys):
    arguments = ["classify", str(meshes / "meshes" / "a.off"), "--model", str(folder / "model.h5")]
    assert main([*arguments, "--json", "-"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 1
    assert main([*arguments, "--csv", "-"]) == 0
    assert len(list(csv.DictReader(io.StringIO(capsys.readouterr().out)))) == 1
    (meshes / "empty").mkdir()
    assert main(["classify", str(meshes / "empty"), "--model", str(folder / "model.h5")]) == 1
    assert "the folder has no mesh" in capsys.readouterr().err
    assert main(["classify", "a.off", "--model", "nothing"]) == 1
    assert "does not exist: expected a checkpoint, or the name of a model" in capsys.readouterr().err


def test_pack_writes_a_model(folder, tmp_path, capsys):
    assert main(["pack", str(folder / "run" / "last.h5"), str(tmp_path / "small.h5"), "--turns", "3"]) == 0
    assert load_checkpoint(tmp_path / "small.h5").digest in capsys.readouterr().out
    assert sn.load_pretrained(tmp_path / "small.h5").voxelization.turns == 3
    assert main(["pack", str(tmp_path / "small.h5"), str(tmp_path / "small.h5")]) == 1
    assert "would be overwritten" in capsys.readouterr().err
