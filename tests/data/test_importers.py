"""Importers: folders, lists, PSB, ModelNet40's voxels, the built-in shapes."""

from __future__ import annotations

import io
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest

from sparsenet.data import SparseDataset
from sparsenet.data.convert import Conversion, MeshEntry, convert_meshes
from sparsenet.data.importers import import_csv, import_folder, import_parametric
from sparsenet.data.modelnet10 import CLASSES as MODELNET10
from sparsenet.data.modelnet10 import import_modelnet10_voxels
from sparsenet.data.modelnet40 import import_modelnet40_voxels
from sparsenet.data.psb import import_psb, read_cla
from sparsenet.shapes import CLASSES, Off3DPicture, read_mesh

TETRAHEDRON = "OFF\n4 4 6\n0 0 0\n{0} 0 0\n0 1 0\n0 0 1\n3 0 1 2\n3 0 1 3\n3 0 2 3\n3 1 2 3\n"
QUIET = Conversion(render_size=8, progress=False)


def write_mesh(path: Path, width: float = 1.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(TETRAHEDRON.format(width))
    return path


def contents(path: Path) -> list[tuple]:
    with SparseDataset.open(path) as dataset:
        return [(dataset.classes[s.label], s.split, s.name, s.coordinates.tolist()) for s in dataset]


def test_folder_tree(tmp_path: Path):
    tree = tmp_path / "tree"
    for number, part in enumerate(["chair/train/c2", "chair/train/c10", "chair/test/c3", "bed/train/b1"]):
        write_mesh(tree / f"{part}.off", 1 + number)
    write_mesh(tree / "bed/train/.hidden.off")
    (tree / "bed/train/notes.txt").write_text("none")
    (tree / "bed/test").mkdir()
    report = import_folder(tree, tmp_path / "x.h5", QUIET)
    found = contents(report.path)
    assert [part[:3] for part in found] == [
        ("bed", "train", "bed/train/b1"), ("chair", "test", "chair/test/c3"), ("chair", "train", "chair/train/c10"),
        ("chair", "train", "chair/train/c2")]
    expected, _ = Off3DPicture(tree / "chair/train/c10.off", 8).voxelize(8)
    assert found[2][3] == expected.tolist()
    assert (report.samples, report.failures) == (4, [])


def test_meshes_without_a_split_folder_are_divided_by_their_names(tmp_path: Path):
    for number in range(40):
        write_mesh(tmp_path / "tree" / "chair" / f"c{number:02d}.off")
    import_folder(tmp_path / "tree", tmp_path / "x.h5", QUIET, test_share=0.3)
    first = {part[2]: part[1] for part in contents(tmp_path / "x.h5")}
    assert list(first.values()).count("test") == 12
    (tmp_path / "tree/chair/c00.off").unlink()
    import_folder(tmp_path / "tree", tmp_path / "x.h5", QUIET, test_share=0.3)
    assert sum(first[name] != split for _, split, name, _ in contents(tmp_path / "x.h5")) <= 1


@pytest.mark.parametrize(("share", "sizes", "held_out"), [
    (0.2, {"a": 1, "b": 2, "c": 3, "d": 10}, {"b": 1, "c": 1, "d": 2}),
    (0.9, {"a": 1, "b": 2, "c": 5}, {"b": 1, "c": 4}),
    (0.0, {"a": 3}, {}), (1.0, {"a": 1, "b": 2}, {"a": 1, "b": 2})])
def test_a_share_of_each_class_is_held_out(tmp_path: Path, share: float, sizes: dict, held_out: dict):
    for name, size in sizes.items():
        for number in range(size):
            write_mesh(tmp_path / "tree" / name / f"m{number}.off")
    import_folder(tmp_path / "tree", tmp_path / "x.h5", QUIET, test_share=share)
    assert Counter(label for label, split, *_ in contents(tmp_path / "x.h5") if split == "test") == held_out


def test_the_share_is_one_of_the_meshes_that_can_be_read(tmp_path: Path):
    """Whichever meshes are unreadable, each class keeps its share of test shapes."""
    tree = tmp_path / "tree"
    for number in range(10):
        write_mesh(tree / "a" / f"m{number}.off")
    import_folder(tree, tmp_path / "x.h5", QUIET)
    for _, split, name, _ in contents(tmp_path / "x.h5"):
        if split == "test":
            (tree / f"{name}.off").write_text("no mesh")
    report = import_folder(tree, tmp_path / "y.h5", QUIET)
    assert report.counts == {("a", "train"): 6, ("a", "test"): 2} and len(report.failures) == 2
    assert "8 meshes are in no split: 2 of them drawn for test (test share 0.2, seed 0)" in str(report)


def test_extensions_are_chosen(tmp_path: Path):
    write_mesh(tmp_path / "tree/a/train/one.OFF")
    (tmp_path / "tree/a/train/two.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    assert import_folder(tmp_path / "tree", tmp_path / "x.h5", QUIET).samples == 2
    assert import_folder(tmp_path / "tree", tmp_path / "x.h5", QUIET, extensions=["obj"]).samples == 1
    with pytest.raises(ValueError, match="contains no mesh: .* ending in .ply; ignored 2 files .*obj 1, .off 1"):
        import_folder(tmp_path / "tree", tmp_path / "x.h5", QUIET, extensions=["ply"])
    with pytest.raises(FileNotFoundError, match="does not exist"):
        import_folder(tmp_path / "absent", tmp_path / "x.h5", QUIET)


def test_unreadable_meshes_are_listed_and_lose_nothing_else(tmp_path: Path):
    tree = tmp_path / "tree"
    for number in range(5):
        write_mesh(tree / f"a/train/m{number}.off", 1 + number)
    (tree / "a/train/m1.off").write_text("OFF\n900 1 0\n0 0 0\n")
    (tree / "a/train/m3.off").write_bytes(b"")
    report = import_folder(tree, tmp_path / "x.h5", QUIET)
    assert [part[2] for part in contents(report.path)] == ["a/train/m0", "a/train/m2", "a/train/m4"]
    assert [Path(source).name for source, _ in report.failures] == ["m1.off", "m3.off"]
    assert "left out 2 files or folders" in str(report) and "m3.off: the file is empty" in str(report)
    with pytest.raises(ValueError, match="m1.off"):
        import_folder(tree, tmp_path / "y.h5", Conversion(render_size=8, progress=False, strict=True))
    assert not (tmp_path / "y.h5").exists()


def test_no_file_when_no_mesh_can_be_read(tmp_path: Path):
    (tmp_path / "tree/a/train").mkdir(parents=True)
    (tmp_path / "tree/a/train/m.off").write_bytes(b"")
    with pytest.raises(ValueError, match="none of 1 meshes could be used: the first failed with: .*empty"):
        import_folder(tmp_path / "tree", tmp_path / "x.h5", QUIET)
    assert not (tmp_path / "x.h5").exists()


def test_spawned_processes_write_the_same_file(tmp_path: Path):
    entries = []
    for number in range(20):
        path = write_mesh(tmp_path / f"m{number}.off", 1 + number / 7)
        entries.append(MeshEntry(partial(read_mesh, path), f"m{number}", number % 2, "train", str(path)))
    (tmp_path / "m9.off").write_text("no mesh")
    for processes in (1, 2):
        conversion = Conversion(8, keep_meshes=True, processes=processes, progress=False)
        report = convert_meshes(entries, tmp_path / f"{processes}.h5", ["a", "b"], conversion)
        assert len(report.failures) == 1
    assert (tmp_path / "1.h5").read_bytes() == (tmp_path / "2.h5").read_bytes()


def test_kept_meshes_and_solids(tmp_path: Path):
    path = write_mesh(tmp_path / "tree/a/train/m.off")
    import_folder(tmp_path / "tree", tmp_path / "x.h5", Conversion(30, True, True, progress=False))
    with SparseDataset.open(tmp_path / "x.h5") as dataset:
        expected, _ = Off3DPicture(path, 30).voxelize(30, fill=True)
        assert dataset.fill and dataset.has_meshes and dataset.render_size == 30
        np.testing.assert_array_equal(dataset[0].coordinates, expected)
        np.testing.assert_array_equal(dataset[0].mesh.vertices, read_mesh(path).vertices)


def test_csv(tmp_path: Path):
    write_mesh(tmp_path / "shapes/a b.off")
    write_mesh(tmp_path / "c.off", 3)
    table = tmp_path / "list.csv"
    table.write_text('\ufefflabel,path,split,name\nsofa,"shapes/a b.off",test,\nbed,c.off,,my bed\n', encoding="utf-8")
    import_csv(table, tmp_path / "x.h5", QUIET)
    assert [part[:3] for part in contents(tmp_path / "x.h5")] == [
        ("sofa", "test", "shapes/a b.off"), ("bed", "train", "my bed")]
    table.write_text(f"path,label\n{tmp_path / 'c.off'},1\n")
    import_csv(table, tmp_path / "x.h5", QUIET)
    assert contents(tmp_path / "x.h5")[0][:2] == ("1", "train")


@pytest.mark.parametrize("text", [
    "path, label, split\nc.off, bed, Test\n", " Path ,LABEL,Split\n c.off,bed ,TEST\n",
    "\ufeffpath;label;split\nc.off;bed;test",
    "label\tpath\tsplit\nbed\tc.off\ttest\n", 'path, label, split\r\n"c.off", "bed", "test"\r\n\r\n',
    "path,label,colour,split\nc.off,bed,red,test\n", "\n \npath,label,split,\n,,,\nc.off,bed,test,,,\n \n,,,,\n"])
def test_headers_and_cells_may_have_blanks_and_other_delimiters(tmp_path: Path, text: str):
    write_mesh(tmp_path / "c.off")
    (tmp_path / "list.csv").write_text(text, encoding="utf-8")
    import_csv(tmp_path / "list.csv", tmp_path / "x.h5", QUIET)
    assert [part[:3] for part in contents(tmp_path / "x.h5")] == [("bed", "test", "c.off")]


def test_a_listed_file_that_is_not_there_is_left_out_in_one_line(tmp_path: Path):
    write_mesh(tmp_path / "c.off")
    (tmp_path / "list.csv").write_text("path\nc.off\nabsent.off\n")
    report = import_csv(tmp_path / "list.csv", tmp_path / "x.h5", QUIET)
    assert report.failures == [(str(tmp_path / "absent.off"), "No such file or directory")]
    assert f"left out 1 file or folder that cannot be used:\n  {tmp_path / 'absent.off'}: No such file" in str(report)


@pytest.mark.parametrize(("given", "split"), [("Validation", "val"), ("EVALUATION", "val"), ("valid", "val"),
                                              ("Train", "train"), ("", "train"), ("Fold 1", "Fold 1")])
def test_splits_of_a_table(tmp_path: Path, given: str, split: str):
    write_mesh(tmp_path / "c.off")
    (tmp_path / "list.csv").write_text(f"path,label,split\nc.off,bed,{given}\n")
    import_csv(tmp_path / "list.csv", tmp_path / "x.h5", QUIET)
    assert contents(tmp_path / "x.h5")[0][1] == split


@pytest.mark.parametrize(("text", "message"), [
    ("", "has the columns none"), ("file;label\n", "has the columns file, label, expected path, label"),
    ("path,label\n", "does not list any mesh"), ("path,label,Label\n", "two columns label"),
    ("path,label\na,b.off,chair\n", "line 2 has 3 values for 2 columns: put a value with ',' in quotes"),
    ("path,label\na.off,chair\n\na.off,bed\n", "line 4: line 2 has the name 'a.off', too"),
    ("path,label,name\na.off,chair,x\nb.off,bed,x\n", "line 3: line 2 has the name 'x', too"),
    ("path,label\na.off,\n", "line 2: path or label is empty"),
    ("path,label\nx.off\n", "line 2: path or label is empty"), ("path,label\n\xff,a\n", "UTF-8"),
    ('path,label\n"x', "cannot be read as CSV"),
])
def test_wrong_tables_are_refused(tmp_path: Path, text: str, message: str):
    (tmp_path / "list.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=message):
        import_csv(tmp_path / "list.csv", tmp_path / "x.h5", QUIET)


class Screen(io.StringIO):
    """A stream that is a terminal or a file."""

    def __init__(self, terminal: bool):
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@pytest.mark.parametrize(("terminal", "progress"), [(True, True), (True, False), (False, True)])
def test_progress_bars_are_for_terminals(archives, tmp_path: Path, monkeypatch, terminal: bool, progress: bool):
    write_mesh(tmp_path / "tree/a/m.off")
    monkeypatch.setattr(sys, "stderr", screen := Screen(terminal))
    import_folder(tmp_path / "tree", tmp_path / "x.h5", Conversion(8, progress=progress))
    import_modelnet40_voxels(archives[0], tmp_path / "y.h5", 1, progress=progress)
    bars = [name for name in ("voxelize", "import") if f"{name}:" in screen.getvalue()]
    assert bars == (["voxelize", "import"] if terminal and progress else [])


def test_equal_voxels_in_both_splits_are_reported(archives, tmp_path: Path):
    folder, _ = archives
    with np.load(folder / "train.npz") as train, np.load(folder / "test.npz") as test:
        arrays = {**test, "vox_packed": test["vox_packed"].copy()}
        arrays["vox_packed"][2] = train["vox_packed"][5]
    np.savez(folder / "test.npz", **arrays)
    report = import_modelnet40_voxels(folder, tmp_path / "x.h5", progress=False)
    assert report.duplicates == [[("train", "cup/train5"), ("test", "cup/test2")]]
    assert report.counts == {("bowl", "train"): 420, ("cup", "train"): 420, ("bowl", "test"): 24, ("cup", "test"): 12}
    assert "cup/train5 (train) = cup/test2 (test)" in report.warnings()[0]


CLA = "PSB 1\n4 3\n\nair 0 0\n\nplane air 2\n7\n1\n\nboat 0 1\n3\n\nempty 0 0\n"


def test_cla(tmp_path: Path):
    path = tmp_path / "train.cla"
    path.write_text(CLA)
    assert [(c.name, c.parent, c.models) for c in read_cla(path)] == [
        ("air", "", []), ("plane", "air", [7, 1]), ("boat", "", [3]), ("empty", "", [])]


@pytest.mark.parametrize(("before", "after", "message"), [
    ("PSB 1", "OFF 1", "expected 'PSB 1'"), ("PSB 1", "PSB 2", "expected 'PSB 1'"), ("4 3", "4 4", "states"),
    ("4 3", "5 3", "states"), ("plane air", "plane sea", "parent sea"), ("boat 0", "air 0", "air occurs twice"),
    ("\n3\n", "\n7\n", "boat has a model that occurs twice"), ("air 2", "air 3", "after air"),
    ("empty 0 0\n", "empty 0 2\n1\n", "after boat"), ("empty 0 0", "empty", "after boat"),
    ("4 3", "", "after the header"),
])
def test_damaged_cla_is_refused(tmp_path: Path, before: str, after: str, message: str):
    path = tmp_path / "train.cla"
    path.write_text(CLA.replace(before, after))
    with pytest.raises(ValueError, match=f"read_cla: .*({message})"):
        read_cla(path)


def test_psb(tmp_path: Path):
    (tmp_path / "train.cla").write_text(CLA)
    (tmp_path / "test.cla").write_text("PSB 1\n2 2\nboat 0 1\n2\ncar 0 1\n105\n")
    for number in (1, 2, 3, 7, 105):
        write_mesh(tmp_path / f"meshes/m{number}.off")
    import_psb(tmp_path, tmp_path / "x.h5", QUIET)
    assert [part[:3] for part in contents(tmp_path / "x.h5")] == [
        ("boat", "train", "m3"), ("plane", "train", "m7"), ("plane", "train", "m1"), ("boat", "test", "m2"),
        ("car", "test", "m105")]
    import_psb(tmp_path, tmp_path / "x.h5", QUIET, shared_classes=True)
    assert [part[:3] for part in contents(tmp_path / "x.h5")] == [("boat", "train", "m3"), ("boat", "test", "m2")]


def test_psb_as_its_authors_lay_it_out(tmp_path: Path):
    base = tmp_path / "classification/v1/base"
    base.mkdir(parents=True)
    for split, number in (("train", 99), ("test", 105)):
        (base / f"{split}.cla").write_text(f"PSB 1\n1 1\nboat 0 1\n{number}\n")
        write_mesh(tmp_path / f"db/{number // 100}/m{number}/m{number}.off")
    assert import_psb(tmp_path, tmp_path / "x.h5", QUIET).failures == []
    with pytest.raises(FileNotFoundError, match="no train.cla"):
        import_psb(base.parent, tmp_path / "x.h5", QUIET)
    with pytest.raises(FileNotFoundError, match="no folder meshes or db"):
        import_psb(base, tmp_path / "x.h5", QUIET)


@pytest.fixture
def archives(tmp_path: Path, rng: np.random.Generator) -> tuple[Path, dict[str, np.ndarray]]:
    grids = {}
    for split, objects in (("train", 70), ("test", 3)):
        grids[split] = rng.random((objects, 12, 30, 30, 30)) < 0.002
        grids[split][1, 4] = False
        packed = np.packbits(grids[split].reshape(objects, 12, -1), axis=-1)
        names = np.array([f"cup/{split}{number}" for number in range(objects)])
        np.savez_compressed(tmp_path / f"{split}.npz", vox_packed=packed, name=names,
                            label=np.arange(objects, dtype=np.uint8) % 2, classes=np.array(["bowl", "cup"]))
    return tmp_path, grids


def test_modelnet40_voxels(archives, tmp_path: Path):
    folder, grids = archives
    report = import_modelnet40_voxels(folder, tmp_path / "x.h5", progress=False)
    assert report.samples == 73 * 12
    with SparseDataset.open(report.path) as dataset:
        assert (dataset.spatial_size, dataset.render_size, dataset.classes) == ((30, 30, 30), 24, ["bowl", "cup"])
        assert len(dataset.object_samples) == 73 and dataset.fill
        test = dataset.subset("test")
        for index in (0, 16, 35):
            sample = test[index]
            assert (sample.name, sample.pose, sample.label) == (f"cup/test{index // 12}", index % 12, index // 12 % 2)
            np.testing.assert_array_equal(sample.coordinates, np.argwhere(grids["test"][index // 12, index % 12]))
        np.testing.assert_array_equal(dataset[69 * 12].coordinates, np.argwhere(grids["train"][69, 0]))
    with h5py.File(report.path) as file:
        assert file["coordinates"].dtype == np.uint8
    assert import_modelnet40_voxels(folder, tmp_path / "x.h5", poses=2, progress=False).samples == 146


def test_damaged_voxel_archives_are_refused(archives, tmp_path: Path):
    folder, _ = archives
    with pytest.raises(ValueError, match="poses is 13"):
        import_modelnet40_voxels(folder, tmp_path / "x.h5", poses=13, progress=False)
    whole = (folder / "train.npz").read_bytes()
    (folder / "train.npz").write_bytes(whole[:len(whole) // 2])
    with pytest.raises(ValueError, match="not an archive of packed voxels"):
        import_modelnet40_voxels(folder, tmp_path / "x.h5", progress=False)
    broken = bytearray(whole)
    broken[len(whole) // 4:len(whole) // 4 + 100] = bytes(100)
    (folder / "train.npz").write_bytes(broken)
    with pytest.raises(ValueError, match="is damaged"):
        import_modelnet40_voxels(folder, tmp_path / "x.h5", progress=False)
    np.savez(folder / "train.npz", label=np.zeros(1))
    with pytest.raises(ValueError, match="not an archive of packed voxels: .*name"):
        import_modelnet40_voxels(folder, tmp_path / "x.h5", progress=False)
    (folder / "train.npz").unlink()
    with pytest.raises(FileNotFoundError, match="expected train.npz and test.npz"):
        import_modelnet40_voxels(folder, tmp_path / "x.h5", progress=False)
    assert not (tmp_path / "x.h5").exists()


def test_code_in_a_voxel_archive_does_not_run(tmp_path: Path):
    class Code:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    np.savez(tmp_path / "train.npz", label=np.zeros(1), name=np.array([Code()], object), classes=np.array(["cup"]))
    with pytest.raises(ValueError, match="not an archive of packed voxels: Object arrays cannot be loaded"):
        import_modelnet40_voxels(tmp_path, tmp_path / "x.h5", progress=False)
    assert not (tmp_path / "ran").exists()


def test_builtin_shapes(tmp_path: Path):
    report = import_parametric(tmp_path / "x.h5", {"train": 2, "test": 1}, 0, QUIET)
    first = contents(report.path)
    with SparseDataset.open(report.path) as dataset:
        assert dataset.classes == list(CLASSES) and report.samples == 3 * len(CLASSES)
        assert np.bincount(dataset.subset("train").labels).tolist() == [2] * len(CLASSES)
    import_parametric(tmp_path / "y.h5", {"train": 3, "test": 1}, 0, QUIET)
    longer = {part[2]: part for part in contents(tmp_path / "y.h5")}
    assert all(longer[part[2]] == part for part in first)
    import_parametric(tmp_path / "y.h5", {"train": 2, "test": 1}, 1, QUIET)
    assert contents(tmp_path / "y.h5") != first
    with pytest.raises(ValueError, match="expected 1 or more"):
        import_parametric(tmp_path / "y.h5", {"train": 0}, 0, QUIET)


def test_real_psb_classification(data_root: Path):
    held = {split: {c.name: c for c in read_cla(data_root / f"psb/{split}.cla") if c.models}
            for split in ("train", "test")}
    assert [len(held[split]) for split in ("train", "test")] == [90, 92]
    shared = held["train"].keys() & held["test"].keys()
    assert len(shared) == 21
    assert [sum(len(held[split][name].models) for name in shared) for split in ("train", "test")] == [369, 370]
    assert held["train"]["commercial"].parent == "airplane"


def write_modelnet10(path: Path, rng: np.random.Generator, **changes: np.ndarray) -> np.ndarray:
    """An archive of 12 training and 4 test grids; the latter (4, 32, 32, 32) bool."""
    grids = rng.random((16, 32, 32, 32)) < 0.01
    grids[13], grids[14] = grids[2], False
    packed, labels = np.packbits(grids.reshape(16, -1), axis=1), (np.arange(16) % 10).astype(np.uint8)
    arrays = {"train": packed[:12], "train_label": labels[:12], "test": packed[12:], "test_label": labels[12:]}
    np.savez_compressed(path, **{name: one for name, one in (arrays | changes).items() if one is not None})
    return grids[12:]


def test_modelnet10_voxels(tmp_path: Path, rng: np.random.Generator):
    grids = write_modelnet10(tmp_path / "a.npz", rng)
    report = import_modelnet10_voxels(tmp_path / "a.npz", tmp_path / "x.h5")
    assert report.samples == 16 and report.counts["desk", "test"] == 1
    assert report.duplicates == [[("train", "chair/train_0002"), ("test", "desk/test_0001")]]
    with SparseDataset.open(report.path) as dataset:
        assert (dataset.spatial_size, dataset.render_size, dataset.classes) == ((32,) * 3, 32, list(MODELNET10))
        assert not dataset.fill and len(dataset.object_samples) == 16
        test = dataset.subset("test")
        for number, grid in enumerate(grids):
            np.testing.assert_array_equal(test[number].coordinates, np.argwhere(grid))
            assert test[number].name == f"{MODELNET10[(12 + number) % 10]}/test_{number:04d}"
            assert test[number].label == (12 + number) % 10


@pytest.mark.parametrize(("changes", "message"), [
    ({"test": None}, "not an archive of packed voxels: .*test"),
    ({"test": np.zeros((4, 5), np.uint8)}, r"test is uint8 \(4, 5\), expected uint8 \(N, 4096\)"),
    ({"train_label": np.zeros(3, int)}, r"train_label is int64 \(3,\), expected integers \(12,\)"),
    ({"test_label": np.full(4, 10)}, "test_label is 10 to 10, expected 0 to 9"),
    ({"test_label": np.array(["a"] * 4, object)}, "not an archive of packed voxels: Object arrays"),
])
def test_damaged_voxels_of_modelnet10_are_refused(changes, message, tmp_path: Path, rng: np.random.Generator):
    write_modelnet10(tmp_path / "a.npz", rng, **changes)
    with pytest.raises(ValueError, match=f"a.npz.*{message}"):
        import_modelnet10_voxels(tmp_path / "a.npz", tmp_path / "x.h5")
    whole = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(whole[:len(whole) // 2])
    with pytest.raises(ValueError, match="a.npz is not an archive of packed voxels"):
        import_modelnet10_voxels(tmp_path / "a.npz", tmp_path / "x.h5")
    with pytest.raises(FileNotFoundError, match="b.npz does not exist: expected ModelNet10's voxels"):
        import_modelnet10_voxels(tmp_path / "b.npz", tmp_path / "x.h5")
    assert not (tmp_path / "x.h5").exists()
