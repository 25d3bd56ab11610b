"""The report at the end of an import."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path

import h5py
import pytest

from sparsenet.data import Conversion, SparseDataset, import_csv, import_folder, import_parametric, read_upright
from sparsenet.files import seal
from sparsenet.shapes import read_mesh

QUIET = Conversion(render_size=6, progress=False)
# A spike of height 3 that stands along z, and the same along y.
STANDING_Z = "OFF\n4 4 0\n0 0 0\n1 0 0\n0 1 0\n0 0 {}\n3 0 1 2\n3 0 1 3\n3 0 2 3\n3 1 2 3\n"
STANDING_Y = "v 0 0 0\nv 1 0 0\nv 0 0 -1\nv 0 {} 0\nf 1 2 3\nf 1 2 4\nf 1 3 4\nf 2 3 4\n"


def write(path: Path, text: str, height: float = 3) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.format(height))
    return path


def test_the_table_counts_classes_and_splits(tmp_path: Path):
    for number, part in enumerate(["train/chair/a", "train/chair/b", "test/chair/c", "val/bed/d", "test/bed/e"]):
        write(tmp_path / f"tree/{part}.off", STANDING_Z, 1 + number)
    write(tmp_path / "tree/test/bed/bad.off", "none")
    write(tmp_path / "tree/notes.txt", "none")
    report = import_folder(tmp_path / "tree", tmp_path / "x.h5", QUIET)
    assert report.counts == Counter({("chair", "train"): 2, ("chair", "test"): 1, ("bed", "val"): 1,
                                     ("bed", "test"): 1})
    assert report.counts_text().splitlines() == [
        "class  train  val  test", "-----------------------", "bed        0    1     1", "chair      2    0     1",
        "-----------------------", "all        2    1     2"]
    text = str(report)
    assert "layout: split/class (guessed: each top-level folder has the name of a split: test, train, val)" in text
    assert "ignored 1 file (.txt 1); unreadable: 1; same content as an earlier sample: 0" in text
    assert "warning" not in text


def test_what_was_drawn_for_the_test_is_said(tmp_path: Path):
    for number in range(5):
        write(tmp_path / f"tree/chair/{number}.off", STANDING_Z, 1 + number)
    report = import_folder(tmp_path / "tree", tmp_path / "x.h5", QUIET, test_share=0.4, seed=3)
    assert report.remarks == ["layout: class (guessed: no folder has the name of a split)",
                              "5 meshes are in no split: 2 of them drawn for test (test share 0.4, seed 3), the rest "
                              "in train"]
    report = import_folder(tmp_path / "tree", tmp_path / "x.h5", QUIET, layout="class")
    assert report.remarks[0] == "layout: class"


def test_the_same_content_in_two_splits_is_a_warning(tmp_path: Path):
    tree = tmp_path / "tree"
    write(tree / "train/chair/a.off", STANDING_Z, 1)
    write(tree / "train/chair/b.off", STANDING_Z.replace("OFF", "OFF # other words, the same mesh"), 1)
    write(tree / "train/chair/c.off", STANDING_Z, 2)
    write(tree / "test/chair/d.off", STANDING_Z, 3)
    report = import_folder(tree, tmp_path / "x.h5", QUIET)
    assert report.duplicates == [[("train", "train/chair/a"), ("train", "train/chair/b")]]
    assert report.warnings() == [] and "same content as an earlier sample: 1" in str(report)
    write(tree / "test/chair/d.off", STANDING_Z, 2)
    report = import_folder(tree, tmp_path / "x.h5", QUIET)
    assert [("test", "test/chair/d"), ("train", "train/chair/c")] in report.duplicates
    assert len(report.warnings()) == 1 and "test/chair/d (test) = train/chair/c (train)" in report.warnings()[0]


def test_any_number_of_processes_gives_the_same_report(tmp_path: Path):
    for number in range(20):
        write(tmp_path / f"tree/{'test' if number % 3 else 'train'}/chair/{number}.off", STANDING_Z, 1 + number % 7)
    write(tmp_path / "tree/train/chair/bad.off", "none")
    one, two = (import_folder(tmp_path / "tree", tmp_path / "x.h5", Conversion(6, processes=count, progress=False))
                for count in (1, 2))
    assert one == two and one.duplicates and one.failures


def test_files_with_y_up_are_rotated_upright(tmp_path: Path):
    write(tmp_path / "tree/spike/z.off", STANDING_Z)
    write(tmp_path / "tree/spike/y.obj", STANDING_Y)
    report = import_folder(tmp_path / "tree", tmp_path / "x.h5", Conversion(6, keep_meshes=True, progress=False))
    assert report.up_axes == Counter({("y", ".obj"): 1, ("z", ".off"): 1})
    assert "up axis: y for 1 file (.obj 1), rotated to z, z for 1 file (.off 1), left unchanged" in str(
        report)
    assert "warning: the up axes, guessed from the formats, differ" in str(report)
    with SparseDataset.open(tmp_path / "x.h5") as dataset:
        assert dataset.up_axis == "auto"
        turned, standing = dataset[0], dataset[1]
        assert turned.coordinates.tolist() == standing.coordinates.tolist()
        assert turned.mesh.vertices.tolist() == standing.mesh.vertices.tolist()


@pytest.mark.parametrize("axis", ["y", "z"])
def test_an_up_axis_that_is_given_overrules_the_formats(tmp_path: Path, axis: str):
    paths = [write(tmp_path / "tree/spike/z.off", STANDING_Z), write(tmp_path / "tree/spike/y.obj", STANDING_Y)]
    conversion = Conversion(6, keep_meshes=True, progress=False, up_axis=axis)
    report = import_folder(tmp_path / "tree", tmp_path / "x.h5", conversion)
    assert report.up_axes == Counter({(axis, ".obj"): 1, (axis, ".off"): 1}) and report.warnings() == []
    with SparseDataset.open(tmp_path / "x.h5") as dataset:
        assert dataset.up_axis == axis
        for sample, path in zip(dataset, sorted(paths), strict=True):
            expected = read_mesh(path).upright(axis).vertices.tolist()
            assert sample.mesh.vertices.tolist() == expected == read_upright(path, axis).vertices.tolist()


def test_formats_behind_gz_are_known(tmp_path: Path):
    tree = tmp_path / "tree/spike"
    for path in (write(tree / "a.off", STANDING_Z), write(tree / "b.OBJ", STANDING_Y)):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    write(tree / "c.xyz", "0 0 0\n1 1 1\n")
    report = import_folder(tmp_path / "tree", tmp_path / "x.h5", QUIET)
    assert report.up_axes == Counter({("y", ".obj"): 1, ("z", ".off"): 1}) and report.ignored == {".xyz": 1}
    with SparseDataset.open(tmp_path / "x.h5") as dataset:
        assert dataset.names.tolist() == ["spike/a", "spike/b"]
        assert dataset[0].coordinates.tolist() == dataset[1].coordinates.tolist()


def test_an_unknown_up_axis_is_refused(tmp_path: Path):
    path = write(tmp_path / "tree/spike/z.off", STANDING_Z)
    with pytest.raises(ValueError, match="import: up_axis is 'x', expected auto, y, z"):
        import_folder(tmp_path / "tree", tmp_path / "x.h5", Conversion(6, progress=False, up_axis="x"))
    with pytest.raises(ValueError, match="up_axis is 'x'"):
        read_upright(path, "x")
    with pytest.raises(ValueError, match="SparseDataset.create: up_axis is 'x', expected auto, y, z"):
        SparseDataset.create(tmp_path / "x.h5", [], (4,) * 3, 4, ["a"], up_axis="x")
    SparseDataset.create(tmp_path / "x.h5", [], (4,) * 3, 4, ["a"], up_axis="y").close()
    with h5py.File(tmp_path / "x.h5", "a") as file:
        file.attrs["up_axis"] = "x"
    seal(tmp_path / "x.h5")
    with pytest.raises(ValueError, match="attribute up_axis is 'x', expected auto, y, z"):
        SparseDataset.open(tmp_path / "x.h5")


def test_a_dataset_that_says_nothing_was_not_turned(tmp_path: Path, meshes):
    assert meshes.up_axis == "z"
    import_parametric(tmp_path / "x.h5", {"train": 1}, 0, QUIET)
    with SparseDataset.open(tmp_path / "x.h5") as dataset:
        assert dataset.up_axis == "auto"


def test_tables_without_labels(tmp_path: Path):
    write(tmp_path / "a.off", STANDING_Z)
    (tmp_path / "list.csv").write_text("path,class\na.off,chair\n")
    report = import_csv(tmp_path / "list.csv", tmp_path / "x.h5", QUIET)
    assert report.remarks == ["columns not read: class", "no column label: unlabelled"]
    assert report.counts == Counter({(None, "train"): 1}) and "(no label)" in report.counts_text()


def test_long_lists_are_cut_in_warnings_but_not_in_the_report(tmp_path: Path):
    write(tmp_path / "tree/chair/a.off", STANDING_Z)
    for number in range(30):
        write(tmp_path / f"tree/{number:02}.off", STANDING_Z)
    report = import_folder(tmp_path / "tree", tmp_path / "x.h5", QUIET)
    assert len(report.without_class) == 30 and "18, 19 and 10 more" in str(report)
