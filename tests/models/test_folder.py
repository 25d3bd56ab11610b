"""A folder of meshes, embedded once and searched."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
from mesh_files import mesh_of, write_off

import sparsenet as sn
from sparsenet import models
from sparsenet.cli import main
from sparsenet.files import read_hdf5, write_hdf5
from sparsenet.lock import LockedError, locked
from sparsenet.models import embed_folder, search_folder
from sparsenet.models import folder as module

NAMES = ("box", "chair", "cylinder", "table")


@pytest.fixture
def net(folder):
    return sn.load_pretrained(folder / "model.h5")


@pytest.fixture
def shapes(tmp_path, monkeypatch):
    """A folder of eight meshes, two of each kind, whose descriptors are kept beside it."""
    monkeypatch.setenv("SPARSENET_CACHE", str(tmp_path / "cache"))
    known = [name for name in NAMES if name in sn.shapes.CLASSES] + list(sn.shapes.CLASSES)
    for name in list(dict.fromkeys(known))[:4]:
        for number in range(2):
            write_off(tmp_path / "shapes" / name / f"{number}.off", mesh_of(name, number))
    (tmp_path / "shapes" / "notes.txt").write_text("no mesh")
    return tmp_path / "shapes"


def cache_of(shapes):
    (path,) = (shapes.parent / "cache").glob("*.h5")
    return path


def test_the_query_finds_itself_and_the_descriptors_are_those_of_each_file(net, shapes):
    known = embed_folder(net, shapes, progress=False)
    assert known.names == sorted(path.relative_to(shapes).as_posix() for path in shapes.rglob("*.off"))
    assert known.computed == len(known) == 8 and not known.unreadable
    np.testing.assert_allclose(np.linalg.norm(known.vectors, axis=1), 1, rtol=1e-6)
    for name in known.names:
        found = search_folder(net, known, shapes / name, 3)
        assert found.names[0] == name and found.distances[0] < 1e-6 and sorted(found.distances) == list(found.distances)
        assert name in str(found)
    alone = sn.retrieval.embed(net, _batch(net, shapes / known.names[2], turns=3), unit=True).astype(np.float64)
    mean = alone.mean(axis=0)
    np.testing.assert_allclose(known.vectors[2], mean / np.linalg.norm(mean), atol=1e-6)
    whole, _ = models.describe(net, [net.voxelization.read(shapes / name) for name in known.names], 3)
    np.testing.assert_array_equal(whole, known.vectors)


def test_each_file_has_its_class(net, shapes):
    for _ in range(2):  # computed, then kept
        known = embed_folder(net, shapes, progress=False)
        assert known.classes == net.classes and known.labels.shape == known.probabilities.shape == (8,)
        for name, label, probability in zip(known.names, known.labels, known.probabilities, strict=True):
            expected = sn.classify(net, shapes / name, turns=3)
            assert known.classes[label] == expected.label and probability == pytest.approx(expected.probability)
    net.classes = None
    assert embed_folder(net, shapes, turns=2, progress=False).labels.tolist() == [-1] * 8


def test_descriptors_of_a_version_without_classes_are_made_again(net, shapes):
    embed_folder(net, shapes, progress=False)
    path = cache_of(shapes)
    found = read_hdf5(path, {module.FORMAT: module.VERSION})
    arrays = {name: found.array(name) for name in ("names", "errors", "stamps", "contents", "vectors")}
    write_hdf5(path, module.FORMAT, 1, {"settings": found.attribute("settings", str)}, arrays)
    lines = []
    assert embed_folder(net, shapes, progress=False, say=lines.append).computed == 8 and not lines


def _batch(net, path, turns):
    treatment = net.voxelization
    mesh = treatment.read(path)
    rows = [np.insert(treatment.voxelize(mesh, net.field, rotation).coordinates, 0, b, axis=1)
            for b, rotation in enumerate(treatment.rotations(turns))]
    rows = np.concatenate(rows)
    return sn.SparseTensor(np.ones((len(rows), 1), np.float32), rows, net.field, turns)


def test_a_file_is_embedded_once(net, shapes):
    first = embed_folder(net, shapes, progress=False)
    again = embed_folder(net, shapes, progress=False)
    assert again.computed == 0 and again.names == first.names and np.array_equal(again.vectors, first.vectors)
    path = shapes / first.names[0]
    os.utime(path, ns=(1, 1))  # another time, the same content
    assert embed_folder(net, shapes, progress=False).computed == 0
    shutil.copy(path, shapes / "copy.off")  # the same content under another name
    copied = embed_folder(net, shapes, progress=False)
    assert copied.computed == 0 and np.array_equal(copied.vectors[copied.names.index("copy.off")], first.vectors[0])
    write_off(path, mesh_of("chair", 99))
    changed = embed_folder(net, shapes, progress=False)
    assert changed.computed == 1 and not np.array_equal(changed.vectors[0], first.vectors[0])
    path.unlink()
    assert path.name not in embed_folder(net, shapes, progress=False).names
    assert len(embed_folder(net, shapes, progress=False)) == 8
    assert embed_folder(net, shapes, turns=1, progress=False).computed == 8  # other poses, other descriptors
    assert embed_folder(net, shapes, progress=False).computed == 0


def test_another_network_embeds_anew_and_the_first_s_descriptors_are_kept(net, shapes):
    first = embed_folder(net, shapes, progress=False)
    parameter = next(net.parameters())
    weights = parameter.array
    parameter.array = weights * np.float32(2)
    assert [embed_folder(net, shapes, progress=False).computed for _ in range(2)] == [8, 0]
    parameter.array = weights
    again = embed_folder(net, shapes, progress=False)
    assert again.computed == 0 and np.array_equal(again.vectors, first.vectors)


def test_files_that_cannot_be_read_are_named_and_remembered(net, shapes):
    (shapes / "broken.off").write_text("OFF\n3 1 0\n")
    (shapes / "nowhere.off").symlink_to(shapes / "not there.off")
    for computed in (8, 0):
        known = embed_folder(net, shapes, progress=False)
        assert known.computed == computed and list(known.unreadable) == ["broken.off"]
        assert known.unreadable["broken.off"] and str(shapes) not in known.unreadable["broken.off"]
    write_off(shapes / "broken.off", mesh_of("chair", 3))
    mended = embed_folder(net, shapes, progress=False)
    assert mended.computed == 1 and not mended.unreadable


def test_an_interrupted_call_goes_on(net, shapes, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", 3)
    real, calls = module.describe, []

    def stopped(*arguments):
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), 2)
        return real(*arguments)

    monkeypatch.setattr(module, "describe", stopped)
    with pytest.raises(KeyboardInterrupt):
        embed_folder(net, shapes, progress=False)
    assert embed_folder(net, shapes, progress=False).computed == 2  # of eight, after two chunks of three
    for path in shapes.rglob("*.off"):
        os.utime(path, ns=(7, 7))  # as after a copy: what is known by content stays so, whenever it is interrupted
    hashed, looked = module._hashed, []

    def stopping(*arguments):
        looked.append(1)
        if len(looked) == 2:
            os.kill(os.getpid(), 2)
        return hashed(*arguments)

    monkeypatch.setattr(module, "_hashed", stopping)
    with pytest.raises(KeyboardInterrupt):
        embed_folder(net, shapes, progress=False)
    assert embed_folder(net, shapes, progress=False).computed == 0


@pytest.mark.parametrize("damage", ["cut", "kinds", "nan", "lengths", "labels"])
def test_a_damaged_cache_is_made_again(net, shapes, damage):
    embed_folder(net, shapes, progress=False)
    path, lines = cache_of(shapes), []
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:900])
    else:
        found = read_hdf5(path, {module.FORMAT: module.VERSION})
        arrays = {name: found.array(name) for name in ("names", "errors", "stamps", "contents", "vectors", "labels",
                                                          "probabilities")}
        if damage == "nan":
            arrays["vectors"] = arrays["vectors"] * np.float32(np.nan)
        elif damage == "kinds":
            arrays["stamps"] = arrays["stamps"].astype(np.float64)
        elif damage == "labels":
            arrays["labels"] = arrays["labels"] + len(net.classes)
        else:
            arrays["contents"] = arrays["contents"][1:]
        write_hdf5(path, module.FORMAT, module.VERSION, {"settings": found.attribute("settings", str)}, arrays)
    assert embed_folder(net, shapes, progress=False, say=lines.append).computed == 8
    assert len(lines) == 1 and "damaged and made again" in lines[0]
    assert embed_folder(net, shapes, progress=False).computed == 0


def test_a_cache_that_cannot_be_written_is_told(net, shapes, monkeypatch):
    (shapes.parent / "file").write_text("no folder")
    monkeypatch.setenv("SPARSENET_CACHE", str(shapes.parent / "file"))
    monkeypatch.setattr(module.tempfile, "gettempdir", lambda: str(shapes.parent / "file"))
    lines = []
    for _ in range(2):
        assert embed_folder(net, shapes, progress=False, say=lines.append).computed == 8
    assert len(lines) == 2 and "SPARSENET_CACHE names another folder" in lines[0]


def test_the_cache_has_its_place_in_each_system(monkeypatch, tmp_path):
    monkeypatch.delenv("SPARSENET_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    monkeypatch.setattr(module.Path, "home", lambda: tmp_path)
    for platform, place in (("linux", "xdg"), ("win32", "local"), ("darwin", "Library/Caches")):
        monkeypatch.setattr(module.sys, "platform", platform)
        assert models.cache_folder() == tmp_path / place / "sparsenet"


def test_two_processes_do_not_embed_the_same_folder(net, shapes):
    embed_folder(net, shapes, progress=False)
    with locked(cache_of(shapes)):
        assert embed_folder(net, shapes, progress=False).computed == 0  # many may search it
        write_off(shapes / "new.off", mesh_of("chair", 5))
        with pytest.raises(LockedError, match="shapes: another process is embedding its meshes .*in use by process"):
            embed_folder(net, shapes, progress=False)
    assert embed_folder(net, shapes, progress=False).computed == 1


def test_what_another_process_embedded_while_this_one_began_is_used(net, shapes, monkeypatch):
    real, calls = module._load, []

    def stale(*arguments):
        calls.append(1)
        return {} if len(calls) == 3 else real(*arguments)  # before the other process wrote its file

    monkeypatch.setattr(module, "_load", stale)
    assert [embed_folder(net, shapes, progress=False).computed for _ in range(2)] == [8, 0] and len(calls) == 4


def test_what_cannot_be_searched(net, shapes, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotADirectoryError, match="not a folder"):
        embed_folder(net, tmp_path / "nothing")
    with pytest.raises(ValueError, match="has no mesh file"):
        embed_folder(net, tmp_path / "empty")
    with pytest.raises(ValueError, match="does not know how meshes are voxelized"):
        embed_folder(sn.s3dcnn(), shapes)
    known = embed_folder(net, shapes, progress=False)
    with pytest.raises(ValueError, match="k is 9, expected 1 to 8"):
        search_folder(net, known, mesh_of("chair"), 9)


def test_the_command_searches_a_folder(folder, shapes, capsys):
    arguments = ["search", str(shapes), str(next(shapes.rglob("0.off"))), "--model", str(folder / "model.h5")]
    (shapes / "broken.off").write_text("OFF\n3 1 0\n")
    picture = shapes.parent / "found.png"
    assert main([*arguments, "-k", "3", "--picture", str(picture)]) == 0
    printed = capsys.readouterr()
    assert "8 meshes" in printed.out and "8 embedded now" in printed.out and "broken.off: " in printed.err
    assert picture.read_bytes()[:4] == b"\x89PNG" and printed.out.count(".off") >= 4
    assert main([*arguments, "-k", "100"]) == 0
    assert "0 embedded now" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        main([*arguments, "-k", "0"])
    assert stop.value.code == 2


@pytest.mark.parametrize("options", [("-k", "2"), ("-k2",), ("--quiet", "-k", "2"), ("--up-axis", "z", "-k", "2"),
                                     ("--up-axis=z", "-k=2")], ids=" ".join)
def test_options_may_come_first(folder, shapes, capsys, options):
    assert main(["search", *options, str(shapes), str(next(shapes.rglob("0.off"))), "--model",
                 str(folder / "model.h5")]) == 0
    assert "8 meshes in" in capsys.readouterr().out


@pytest.mark.parametrize(("words", "code", "message"), [
    (["nothing", "MESH"], 1, "nothing does not exist: expected a folder of meshes, a checkpoint, or the name of a "),
    (["MESH", "FOLDER"], 2, "is a folder: the folder to search comes first, then the mesh"),
    (["FOLDER"], 2, "the following arguments are required: MESH"),
], ids=["no such folder", "the other way round", "no mesh"])
def test_a_wrong_command_line_says_what_is_expected(shapes, capsys, words, code, message):
    names = {"FOLDER": str(shapes), "MESH": str(next(shapes.rglob("0.off")))}
    words = ["search", *(names.get(word, word) for word in words)]
    if code == 2:
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 2
    else:
        assert main(words) == code
    assert message in capsys.readouterr().err
