"""A dataset made in parts and joined has the bytes of the one that one process writes."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace

import h5py
import numpy as np
import pytest

from sparsenet.cli import main as command_line
from sparsenet.data import (
    Conversion,
    Part,
    SparseDataset,
    import_csv,
    import_folder,
    import_modelnet10_voxels,
    import_modelnet40_voxels,
    import_parametric,
    import_points,
    import_psb,
    import_shrec,
    import_volumes,
)
from sparsenet.data import join_datasets as join
from sparsenet.data.parts import parts_beside, read_record
from sparsenet.data.reader import DatasetReader
from sparsenet.files import seal

QUICK = Conversion(render_size=12, processes=1, progress=False)
MESH = "OFF\n4 4 6\n0 0 0\n{0} 0 0\n0 1 0\n0 0 1\n3 0 1 2\n3 0 1 3\n3 0 2 3\n3 1 2 3\n"


@pytest.fixture
def tree(tmp_path):
    """Meshes of two classes: eight in no split, one of them twice, and one in test; a bad file, an OBJ and a text."""
    for name in ("chair", "stool"):
        (tmp_path / "tree" / name / "test").mkdir(parents=True)
        for number in range(4):
            (tmp_path / "tree" / name / f"{number}.off").write_text(MESH.format(1 + number % 3))
        (tmp_path / "tree" / name / "test" / "t.off").write_text(MESH.format(5))
    (tmp_path / "tree/chair/bad.off").write_text("nothing")
    (tmp_path / "tree/chair/notes.txt").write_text("nothing")
    (tmp_path / "tree/chair/y.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 2 0\nf 1 2 3\n")
    return tmp_path / "tree"


@pytest.fixture
def volumes(tmp_path):
    (tmp_path / "volumes" / "one").mkdir(parents=True)
    for number in range(5):
        values = np.random.default_rng(number).standard_normal((4, 5 + number % 2, 3)).astype(np.float32)
        np.save(tmp_path / "volumes" / "one" / f"{number}.npy", values)
    return tmp_path / "volumes"


def packed_40(folder):
    """train.npz and test.npz of ModelNet40: five and three objects of twelve poses, one of them in both splits."""
    grids = np.random.default_rng(2).random((8, 12, 30, 30, 30)) < 0.002
    grids[6], grids[1, 4] = grids[2], False
    for split, own in (("train", slice(0, 5)), ("test", slice(5, 8))):
        count = len(grids[own])
        np.savez_compressed(folder / f"{split}.npz", vox_packed=np.packbits(grids[own].reshape(count, 12, -1), axis=-1),
                            name=np.array([f"cup/{split}{number}" for number in range(count)]),
                            label=np.arange(count, dtype=np.uint8) % 2, classes=np.array(["bowl", "cup"]))


def packed_10(file):
    grids = np.random.default_rng(2).random((9, 32, 32, 32)) < 0.01
    grids[7] = grids[2]
    packed, labels = np.packbits(grids.reshape(9, -1), axis=1), (np.arange(9) % 10).astype(np.uint8)
    np.savez_compressed(file, train=packed[:5], train_label=labels[:5], test=packed[5:], test_label=labels[5:])


@pytest.fixture(params=["meshes kept", "voxels", "labelled parts", "volumes", "points", "csv", "psb", "shrec",
                        "modelnet40", "modelnet10"])
def make(request, tmp_path):
    """Makes a dataset at a path, with a conversion."""
    kind, (tree, volumes) = request.param, (request.getfixturevalue("tree"), request.getfixturevalue("volumes"))
    if kind == "volumes":
        return lambda path, conversion: import_volumes(volumes, path, 0.5, conversion=conversion)
    if kind == "labelled parts":
        return lambda path, conversion: import_parametric(path, {"train": 1}, 3, replace(conversion, keep_meshes=True),
                                                          parts=True)
    if kind == "points":
        for number in range(6):
            cloud = np.random.default_rng(number).normal(size=(20, 3))
            np.save(tree / "chair" / f"cloud{number}.npy", cloud)
        return lambda path, conversion: import_points(tree, path, replace(conversion, keep_meshes=True), [".npy"])
    if kind == "csv":
        lines = ["path,label,split", *(f"{name}/{number}.off,{name},{'test' if number else ''}"
                                       for name in ("chair", "stool") for number in range(4)), "chair/bad.off,chair,"]
        (tree / "list.csv").write_text("\n".join(lines))
        return lambda path, conversion: import_csv(tree / "list.csv", path, conversion)
    if kind in ("psb", "shrec"):
        (tree / "meshes").mkdir()
        for number in range(7):
            (tree / "meshes" / f"m{number}.off").write_text(MESH.format(1 + number % 3))
        (tree / "train.cla").write_text("PSB 1\n2 4\nboat 0 2\n0\n3\nplane 0 2\n1\n9\n")
        (tree / "test.cla").write_text("PSB 1\n1 2\nboat 0 2\n4\n6\n")
        if kind == "psb":
            return lambda path, conversion: import_psb(tree, path, conversion)
        return lambda path, conversion: import_shrec(tree / "train.cla", path, tree / "meshes", conversion=conversion)
    if kind == "modelnet40":
        packed_40(tmp_path)
        return lambda path, conversion: import_modelnet40_voxels(tmp_path, path, 3, False, conversion.part)
    if kind == "modelnet10":
        packed_10(tmp_path / "ten.npz")
        return lambda path, conversion: import_modelnet10_voxels(tmp_path / "ten.npz", path, conversion.part)
    keep = kind == "meshes kept"
    return lambda path, conversion: import_folder(tree, path, replace(conversion, keep_meshes=keep))


def parts_of(make, path, of):
    return [make(path, replace(QUICK, part=Part(number, of))).path for number in range(1, of + 1)]


@pytest.mark.parametrize("of", [1, 3, 30])
def test_joined_parts_are_the_whole(make, of, tmp_path):
    """30 parts: some are empty."""
    report = make(tmp_path / "whole.h5", QUICK)
    paths = parts_of(make, tmp_path / "joined.h5", of)
    assert paths == parts_beside(tmp_path / "joined.h5")
    joined = join(tmp_path / "joined.h5", paths[::-1])
    assert (tmp_path / "joined.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()
    assert [line.replace("joined.h5", "whole.h5") for line in str(joined).splitlines()] == str(report).splitlines()


def test_parts_that_are_there_are_kept(make, tmp_path):
    paths = parts_of(make, tmp_path / "x.h5", 3)
    before = [path.stat().st_mtime_ns for path in paths]
    paths[1].unlink()
    parts_of(make, tmp_path / "x.h5", 3)
    after = [path.stat().st_mtime_ns for path in paths]
    assert (after[0], after[2]) == (before[0], before[2]) and after[1] > before[1]


def test_parts_of_other_voxels_are_refused(tmp_path):
    packed_40(tmp_path)
    import_modelnet40_voxels(tmp_path, tmp_path / "x.h5", 3, False, Part(2, 3))
    with pytest.raises(ValueError, match="is a part made with other settings, or from other files: remove it"):
        import_modelnet40_voxels(tmp_path, tmp_path / "x.h5", 2, False, Part(2, 3))
    packed_10(tmp_path / "a.npz")
    import_modelnet10_voxels(tmp_path / "a.npz", tmp_path / "y.h5", Part(1, 2))
    with np.load(tmp_path / "a.npz") as arrays:
        np.savez(tmp_path / "a.npz", **{**arrays, "test": arrays["test"][::-1]})
    with pytest.raises(ValueError, match="is a part made with other settings, or from other files: remove it"):
        import_modelnet10_voxels(tmp_path / "a.npz", tmp_path / "y.h5", Part(1, 2))


def test_a_part_that_is_there_is_kept_and_one_of_other_settings_is_refused(tree, tmp_path):
    part = replace(QUICK, part=Part(1, 2))
    path = import_folder(tree, tmp_path / "x.h5", part).path
    before = path.stat().st_mtime_ns
    (tree / "chair/0.off").write_text("damaged since")  # it is not read again
    report = import_folder(tree, tmp_path / "x.h5", part)
    assert path.stat().st_mtime_ns == before and "it was there already, and is kept" in report.remarks
    assert report.samples == 5 and "part 1/2 of 12 meshes" in report.remarks
    for change in ({"render_size": 13}, {"keep_meshes": True}):
        with pytest.raises(ValueError, match="is a part made with other settings, or from other files: remove it"):
            import_folder(tree, tmp_path / "x.h5", replace(part, **change))
    (tree / "chair/1.off").unlink()
    with pytest.raises(ValueError, match="made with other settings, or from other files"):
        import_folder(tree, tmp_path / "x.h5", part)


def test_a_part_without_a_usable_shape_is_fine_and_a_whole_is_not(tmp_path):
    (tmp_path / "tree/chair").mkdir(parents=True)
    for number in range(3):
        (tmp_path / f"tree/chair/{number}.off").write_text("nothing")
    paths = parts_of(lambda path, conversion: import_folder(tmp_path / "tree", path, conversion), tmp_path / "x.h5", 2)
    with pytest.raises(ValueError, match="import: none of 3 meshes could be used: the first failed with"):
        join(tmp_path / "x.h5", paths)
    assert not (tmp_path / "x.h5").exists()


class TestRefusals:
    @pytest.fixture
    def paths(self, tree, tmp_path):
        return parts_of(lambda path, conversion: import_folder(tree, path, conversion), tmp_path / "x.h5", 3)

    def test_incomplete_parts(self, paths, tmp_path):
        with pytest.raises(ValueError, match="of 3 parts 2 are missing: 1, 3: make them first"):
            join(tmp_path / "x.h5", [paths[1]])
        with pytest.raises(ValueError, match="part 2 of 3 is given twice"):
            join(tmp_path / "x.h5", [*paths, paths[1]])

    def test_parts_of_other_settings(self, tree, paths, tmp_path):
        other = import_folder(tree, tmp_path / "y.h5", replace(QUICK, render_size=9, part=Part(2, 3))).path
        with pytest.raises(ValueError, match=r"y.2-of-3.h5 was made with other settings, or from other files, than"):
            join(tmp_path / "x.h5", [paths[0], other, paths[2]])

    def test_what_is_no_part(self, paths, tmp_path):
        join(tmp_path / "x.h5", paths)
        with pytest.raises(ValueError, match="x.h5 is a whole dataset, expected parts that --part made"):
            join(tmp_path / "z.h5", [tmp_path / "x.h5"])
        with pytest.raises(ValueError, match="no part of .*none.h5 is beside it, such as none.1-of-2.h5"):
            parts_beside(tmp_path / "none.h5")
        (tmp_path / "x.1-of-2.h5").touch()
        with pytest.raises(ValueError, match="are parts of 2 and of 3: name those to join, or remove the others"):
            parts_beside(tmp_path / "x.h5")

    @pytest.mark.parametrize("record", [b"{", b"[]", json.dumps({"number": 4, "of": 3, "digests": []}).encode(),
                                        json.dumps({"number": 1, "of": 3, "digests": []}).encode()])
    def test_a_damaged_record(self, paths, record):
        with h5py.File(paths[0], "r+") as file:
            del file["part"]
            file["part"] = np.frombuffer(record, np.uint8)
        seal(paths[0])
        with closing(DatasetReader(paths[0])) as reader, pytest.raises(
                ValueError, match="is damaged: its record cannot be read .*: make it again"):
            read_record(reader)


@pytest.mark.parametrize(("text", "problem"), [
    ("0/3", "part 0 of 3: expected a number from 1"), ("4/3", "part 4 of 3"), ("3", "'3' is not a part such as 3/8"),
    ("1/2/3", "is not a part"), ("-1/3", "is not a part")])
def test_a_part_is_named_by_two_numbers(text, problem):
    with pytest.raises(ValueError, match=problem):
        Part.parse(text)


def test_parts_divide_items_evenly_and_in_steps():
    for of in (1, 2, 3, 7, 40):
        for step in (1, 4):
            parts = [Part(number, of).of_items(22, step) for number in range(1, of + 1)]
            items = [list(range(22))[part] for part in parts]
            assert sum(items, []) == list(range(22))
            assert all(part.start % step == 0 for part in parts if part.start < 22)
            if step == 1:
                assert max(map(len, items)) - min(map(len, items)) <= 1


@pytest.mark.parametrize("source", ["modelnet40-voxels", "modelnet10-voxels"])
def test_packed_voxels_are_imported_in_parts(source, tmp_path, capsys):
    packed_40(tmp_path)
    packed_10(tmp_path / "ten.npz")
    given = tmp_path if source == "modelnet40-voxels" else tmp_path / "ten.npz"
    arguments = ["make-dataset", source, str(given), str(tmp_path / "x.h5")]
    assert command_line(arguments) == 0
    whole, report = (tmp_path / "x.h5").read_bytes(), capsys.readouterr()
    for number in (1, 2, 3):
        assert command_line([*arguments, "--part", f"{number}/3", "--quiet"]) == 0
    assert command_line(["join", str(tmp_path / "x.h5"), "--remove"]) == 0
    assert (tmp_path / "x.h5").read_bytes() == whole and capsys.readouterr() == report


def test_the_commands_make_and_join_parts(tree, tmp_path, capsys):
    arguments = ["make-dataset", "folder", str(tree), str(tmp_path / "x.h5"), "--render-size", "12", "--processes", "1"]
    assert command_line([*arguments, "--quiet"]) == 0
    whole = (tmp_path / "x.h5").read_bytes()
    assert "left out 1 file or folder that cannot be used" in capsys.readouterr().err
    for number in (2, 1):
        assert command_line([*arguments, "--part", f"{number}/2"]) == 0
        out = capsys.readouterr().out
        assert f"x.{number}-of-2.h5: " in out and f"part {number}/2 of 12 meshes" in out
    assert command_line(["join", str(tmp_path / "x.h5"), "--remove"]) == 0
    assert "x.h5: 11 samples" in capsys.readouterr().out
    assert (tmp_path / "x.h5").read_bytes() == whole
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".h5") == ["x.h5"]
    assert command_line(["join", str(tmp_path / "x.h5")]) == 1
    assert "no part of" in capsys.readouterr().err
    with pytest.raises(SystemExit), SparseDataset.open(tmp_path / "x.h5"):
        command_line([*arguments, "--part", "3/2"])
    assert "part 3 of 2: expected a number from 1" in capsys.readouterr().err
