"""The class, split and name of each mesh of a folder."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from sparsenet.data import Conversion, SparseDataset, import_folder
from sparsenet.data.folders import find_meshes, printable

QUIET = Conversion(render_size=4, progress=False)
TETRAHEDRON = "OFF\n4 4 6\n0 0 0\n{0} 0 0\n0 1 0\n0 0 1\n3 0 1 2\n3 0 1 3\n3 0 2 3\n3 1 2 3\n"
EXTENSIONS = (".off", ".obj", ".ply", ".stl", ".glb")


def plant(root: Path, *paths: str | bytes) -> Path:
    """Meshes at these paths, each of another width."""
    for number, path in enumerate(paths):
        place = Path(os.fsdecode(os.path.join(os.fsencode(root), os.fsencode(path))))
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(TETRAHEDRON.format(1 + number))
    return root


def placed(root: Path, **options) -> list[tuple[str, str | None, str | None]]:
    return [(mesh.name, mesh.label, mesh.split) for mesh in find_meshes(root, EXTENSIONS, **options).meshes]


@pytest.mark.parametrize(("paths", "layout", "expected"), [
    (["chair/train/a.off", "chair/test/b.off", "bed/train/c.off"], "class/split", [
        ("bed/train/c", "bed", "train"), ("chair/test/b", "chair", "test"), ("chair/train/a", "chair", "train")]),
    (["chair/Train/a.off", "chair/TEST/b.off", "chair/val/c.off"], "class/split", [
        ("chair/TEST/b", "chair", "test"), ("chair/Train/a", "chair", "train"), ("chair/val/c", "chair", "val")]),
    (["Training/train/a.off", "bed/evaluation/b.off"], "class/split", [
        ("Training/train/a", "Training", "train"), ("bed/evaluation/b", "bed", "val")]),
    (["train/chair/a.off", "test/chair/b.off", "validation/bed/c.off"], "split/class", [
        ("test/chair/b", "chair", "test"), ("train/chair/a", "chair", "train"), ("validation/bed/c", "bed", "val")]),
    (["Train/chair/test/a.off"], "split/class", [("Train/chair/test/a", "chair", "train")]),
    (["train/a.off", "bus/b.off"], "class", [("bus/b", "bus", None), ("train/a", "train", None)]),
    (["train/test/a.off", "bus/b.off"], "class/split", [("bus/b", "bus", None), ("train/test/a", "train", "test")]),
    (["chair/0a/model.off", "chair/0b/models/model.off"], "class", [
        ("chair/0a/model", "chair", None), ("chair/0b/models/model", "chair", None)]),
    (["chair/old/train/deep/a.off", "chair/testing/b.off"], "class/split", [
        ("chair/old/train/deep/a", "chair", "train"), ("chair/testing/b", "chair", None)]),
])
def test_folders_are_classes_splits_or_plain(tmp_path: Path, paths: list[str], layout: str, expected: list[tuple]):
    found = find_meshes(plant(tmp_path, *paths), EXTENSIONS)
    assert found.layout == layout and found.guess
    assert [(mesh.name, mesh.label, mesh.split) for mesh in found.meshes] == expected


def test_folders_without_a_mesh_do_not_change_the_guess(tmp_path: Path):
    plant(tmp_path, "train/chair/a.off", "test/chair/b.off")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/a.png").touch()
    assert find_meshes(tmp_path, EXTENSIONS).layout == "split/class"


@pytest.mark.parametrize(("layout", "expected"), [
    ("class/split", [("test/train/b", "test", "train"), ("train/chair/a", "train", None)]),
    ("split/class", [("test/train/b", "train", "test"), ("train/chair/a", "chair", "train")]),
    ("class", [("test/train/b", "test", None), ("train/chair/a", "train", None)])])
def test_a_layout_that_is_given_overrules_the_guess(tmp_path: Path, layout: str, expected: list[tuple]):
    plant(tmp_path, "train/chair/a.off", "test/train/b.off")
    assert placed(tmp_path, layout=layout) == expected
    assert find_meshes(tmp_path, EXTENSIONS, layout).guess == ""


def test_a_layout_that_does_not_fit_is_refused(tmp_path: Path):
    plant(tmp_path, "training/chair/a.off")
    with pytest.raises(ValueError, match="layout split/class: .*training does not have the name of a split"):
        import_folder(tmp_path, tmp_path / "x.h5", QUIET, layout="split/class")
    with pytest.raises(ValueError, match="layout is 'classes', expected class/split, split/class, class"):
        import_folder(tmp_path, tmp_path / "x.h5", QUIET, layout="classes")
    with pytest.raises(ValueError, match="layout class .* give one of the two"):
        import_folder(tmp_path, tmp_path / "x.h5", QUIET, layout="class", unlabelled=True)


def test_meshes_without_a_class_are_left_out_and_named(tmp_path: Path):
    tree = plant(tmp_path / "tree", "root.off", "train/loose.off", "train/chair/a.off", "test/chair/b.off")
    report = import_folder(tree, tmp_path / "x.h5", QUIET)
    assert report.samples == 2 and report.without_class == ["root", "train/loose"]
    assert "left out 2 meshes that are in no class folder" in str(report) and "root, train/loose" in str(report)
    with pytest.raises(ValueError, match="tree: root is in no class folder"):
        import_folder(tree, tmp_path / "y.h5", Conversion(4, progress=False, strict=True))
    with pytest.raises(ValueError, match="of 2 meshes in .* none is in a class folder .*import them as unlabelled"):
        import_folder(plant(tmp_path / "flat", "a.off", "train/b.off"), tmp_path / "y.h5", QUIET)
    assert not (tmp_path / "y.h5").exists()


@pytest.mark.parametrize(("paths", "splits"), [
    (["a.off", "b.off"], ["train", "train"]), (["one/two/a.off", "b.off"], ["train", "train"]),
    (["train/x/a.off", "val/b.off", "c.off"], ["train", "train", "val"])])
def test_unlabelled_folders(tmp_path: Path, paths: list[str], splits: list[str]):
    report = import_folder(plant(tmp_path / "tree", *paths), tmp_path / "x.h5", QUIET, unlabelled=True)
    with SparseDataset.open(tmp_path / "x.h5") as dataset:
        assert dataset.classes == [] and dataset.labels.tolist() == [-1] * len(paths)
        assert sorted(dataset.split.tolist()) == splits
        assert dataset.names.tolist() == sorted(path.removesuffix(".off") for path in paths)
    assert "(no label)" in str(report) and report.without_class == []


def test_names_are_unique(tmp_path: Path):
    plant(tmp_path, "c/a.off", "c/a.obj", "c/b.ply", "c/a.off.stl", "d/a.off", "c/train.OFF", "c/train/x.off")
    assert [name for name, *_ in placed(tmp_path)] == [
        "c/a.obj", "c/a.off", "c/a.off.stl", "c/b", "c/train/x", "c/train", "d/a"]


@pytest.mark.skipif(os.name != "posix", reason="names that are bytes")
def test_names_that_are_no_text_are_escaped(tmp_path: Path):
    tree = plant(tmp_path / "tree", "chair/a.off", b"chair/caf\xe9.off", b"t\xfcr/b.off")
    Path(os.fsdecode(os.fsencode(tree) + b"/chair/\xe4.off")).write_text("no mesh")
    for processes in (1, 2):
        report = import_folder(tree, tmp_path / "x.h5", Conversion(4, progress=False, processes=processes))
        with SparseDataset.open(tmp_path / "x.h5") as dataset:
            assert dataset.names.tolist() == ["chair/a", "chair/caf\\xe9", "t\\xfcr/b"]
            assert dataset.classes == ["chair", "t\\xfcr"]
        assert [source.rsplit("/", 1)[1] for source, _ in report.failures] == ["\\xe4.off"]
        str(report).encode("utf-8")


def test_what_is_printable_stays_as_it_is():
    assert printable("Tür/椅子") == "Tür/椅子" and printable("a\udce9b\ud800") == "a\\xe9b\\ud800"


def test_files_that_are_passed_over_are_counted(tmp_path: Path):
    plant(tmp_path, "c/a.off")
    for name in ("c/a.mtl", "c/b.mtl", "c/README", "c/.hidden.off", ".DS_Store"):
        (tmp_path / name).touch()
    (tmp_path / "c/.git").mkdir()
    found = find_meshes(tmp_path, EXTENSIONS)
    assert found.ignored == Counter({".mtl": 2, "no extension": 1, "hidden": 3})


@pytest.mark.skipif(os.name != "posix", reason="links and pipes")
def test_links_are_followed_but_not_in_circles(tmp_path: Path):
    tree = plant(tmp_path / "tree", "chair/a.off")
    plant(tmp_path / "elsewhere", "b.off")
    (tree / "bed").symlink_to(tmp_path / "elsewhere")
    (tree / "chair/back").symlink_to(tree)
    (tree / "chair/gone.off").symlink_to(tmp_path / "absent.off")
    os.mkfifo(tree / "chair/pipe.off")
    report = import_folder(tree, tmp_path / "x.h5", QUIET)
    assert report.samples == 2 and report.classes == ["bed", "chair"]
    assert [(Path(source).name, "No such file" in reason) for source, reason in report.failures] == [
        ("gone.off", True)]
    assert report.ignored == {"links to a folder above": 1, ".off": 1}


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path, monkeypatch):
    tree, scandir = plant(tmp_path / "tree", "chair/a.off", "bed/b.off"), os.scandir

    def refusing(folder):
        if Path(folder).name == "bed":
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refusing)
    report = import_folder(tree, tmp_path / "x.h5", QUIET)
    assert report.classes == ["chair"]
    assert report.failures == [(str(tree / "bed"), "the folder cannot be listed: Permission denied")]
    with pytest.raises(ValueError, match="bed: the folder cannot be listed"):
        import_folder(tree, tmp_path / "x.h5", Conversion(4, progress=False, strict=True))
