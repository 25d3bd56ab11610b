"""Dataset files: what goes in comes out, and what cannot be is refused."""

from __future__ import annotations

import os
import pickle
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sparsenet.data import Sample, SparseDataset
from sparsenet.shapes import Mesh

TRIANGLE = Mesh(np.array([[0.1, 1 / 3, -2e9], [1, 0, 0], [0, 1, 0]]), np.array([[0, 1, 2]]))
SIDES = (4, 4, 4)


def create(path: Path, samples, sides=SIDES, classes=("a", "b"), **options) -> SparseDataset:
    return SparseDataset.create(path, samples, sides, max(sides), classes, **options)


@st.composite
def sample_lists(draw):
    sides = tuple(draw(st.lists(st.sampled_from([1, 2, 5, 256, 257, 70000]), min_size=1, max_size=4)))
    channels = draw(st.sampled_from([None, 1, 3]))
    meshes = draw(st.booleans())
    cell = st.tuples(*(st.integers(0, side - 1) for side in sides))
    number = st.floats(width=32, allow_nan=False, allow_infinity=False)
    text = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=8)
    samples = []
    for index in range(draw(st.integers(0, 5))):
        cells = draw(st.lists(cell, unique=True, max_size=6))
        features = None
        if channels is not None:
            features = np.array(draw(st.lists(number, min_size=len(cells) * channels, max_size=len(cells) * channels)),
                                np.float32).reshape(len(cells), channels)
        mesh = None
        if meshes:
            count = draw(st.integers(1, 4))
            vertices = draw(st.lists(st.floats(-1e30, 1e30), min_size=3 * count, max_size=3 * count))
            faces = draw(st.lists(st.integers(0, count - 1), min_size=3, max_size=9).map(lambda f: f[:len(f) // 3 * 3]))
            mesh = Mesh(np.array(vertices).reshape(-1, 3), np.array(faces).reshape(-1, 3))
        samples.append(Sample(np.array(cells, np.int64).reshape(-1, len(sides)), draw(st.integers(-1, 1)), draw(text),
                              draw(text), index // 2, index % 2, features, mesh))
    return sides, samples


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sample_lists())
def test_round_trip(tmp_path: Path, drawn):
    sides, samples = drawn
    with create(tmp_path / "x.h5", iter(samples), sides, fill=True) as dataset:
        assert len(dataset) == len(samples)
        assert (dataset.spatial_size, dataset.classes, dataset.fill) == (sides, ["a", "b"], True)
        for given_sample, read in zip(samples, dataset, strict=True):
            order = np.lexsort(given_sample.coordinates.T[::-1])
            assert read.coordinates.dtype == np.int32 and read.features.dtype == np.float32
            np.testing.assert_array_equal(read.coordinates, given_sample.coordinates[order])
            expected = (np.ones((len(order), 1)) if given_sample.features is None
                        else given_sample.features[order])
            np.testing.assert_array_equal(read.features, expected)
            for name in ("label", "name", "split", "object", "pose"):
                assert getattr(read, name) == getattr(given_sample, name)
            assert (read.mesh is None) == (given_sample.mesh is None)
            if read.mesh is not None:
                np.testing.assert_array_equal(read.mesh.vertices, given_sample.mesh.vertices)
                np.testing.assert_array_equal(read.mesh.faces, given_sample.mesh.faces)


def test_layout_is_the_documented_one(tmp_path: Path):
    cells = np.array([[3, 0, 299], [0, 1, 2]])
    samples = [Sample(cells, 1, "s", "test", mesh=TRIANGLE), Sample(cells[:0], 0, "empty", mesh=TRIANGLE)]
    create(tmp_path / "x.h5", samples, (4, 4, 300)).close()
    with h5py.File(tmp_path / "x.h5") as file:
        assert file.attrs["format"] == "sparsenet-voxels"
        assert file.attrs["version"] == 1
        assert file.attrs["spatial_size"].tolist() == [4, 4, 300]
        assert file.attrs["render_size"] == 300
        assert file.attrs["classes"].tolist() == ["a", "b"]
        coordinates = file["coordinates"]
        assert (coordinates.shape, coordinates.dtype, coordinates.chunks) == ((3, 2), np.uint16, (1, 65536))
        assert coordinates.compression == "gzip" and coordinates.shuffle
        assert file["row_splits"][:].tolist() == [0, 2, 2] and file["row_splits"].dtype == np.int64
        assert file["names"].asstr()[:].tolist() == ["s", "empty"]
        assert file["split"].asstr()[:].tolist() == ["test", "train"]
        assert [file[name][:].tolist() for name in ("labels", "object", "pose")] == [[1, 0], [0, 1], [0, 0]]
        assert "features" not in file
        assert file["meshes/vertices"].shape == (6, 3) and file["meshes/face_splits"][:].tolist() == [0, 1, 2]


def test_long_datasets_are_written_in_chunks(tmp_path: Path, rng: np.random.Generator):
    sides = (60, 60, 60)
    keys = [np.sort(rng.choice(60**3, 40_000, replace=False)) for _ in range(5)]
    cells = [np.stack(np.unravel_index(part, sides), axis=1) for part in keys]
    with create(tmp_path / "x.h5", (Sample(part, 0) for part in cells), sides) as dataset:
        for index in (4, 0, 3, 1, 2):
            np.testing.assert_array_equal(dataset.voxels(index)[0], cells[index])


@pytest.mark.parametrize(("sample", "message"), [
    (Sample(np.array([[0, 0, 4]])), r"cell \[0, 0, 4\] lies outside the grid"),
    (Sample(np.array([[-1, 0, 0]])), "lies outside"),
    (Sample(np.array([[1, 2, 3], [0, 0, 0], [1, 2, 3]])), r"cell \[1, 2, 3\] occurs twice"),
    (Sample(np.array([[0.0, 0, 0]])), "expected integers"),
    (Sample(np.array([[0, 0]])), r"expected \(n, 3\)"),
    (Sample(np.array([[0, 0, 0]]), label=2), "label is 2, expected 0 to 1"),
    (Sample(np.array([[0, 0, 0]]), features=np.ones((2, 1))), r"expected \(1, C\)"),
    (Sample(np.array([[0, 0, 0]]), features=np.full((1, 1), np.nan)), "not finite"),
    (Sample(np.array([[0, 0, 0]]), features=np.ones((1, 1))), "some samples have features"),
    (Sample(np.array([[0, 0, 0]]), mesh=TRIANGLE), "some samples have a mesh"),
    (Sample(np.array([[0, 0, 0]]), object=0), "object 0 has pose 0 twice"),
])
def test_a_wrong_sample_is_refused_by_name_and_leaves_no_file(tmp_path: Path, sample: Sample, message: str):
    sample.name = "the culprit"
    with pytest.raises((ValueError, TypeError), match=f"sample 1 .'the culprit'.*{message}"):
        create(tmp_path / "x.h5", [Sample(np.array([[0, 0, 0]])), sample])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interruption_keeps_the_old_file(tmp_path: Path, error: type[BaseException]):
    path = tmp_path / "x.h5"
    create(path, [Sample(np.array([[1, 2, 3]]), name="old")]).close()

    def interrupted():
        yield Sample(np.array([[0, 0, 0]]), name="new")
        raise error

    with pytest.raises(error):
        create(path, interrupted())
    assert [file.name for file in tmp_path.iterdir()] == ["x.h5"]
    with SparseDataset.open(path) as dataset:
        assert dataset.names.tolist() == ["old"]


def test_create_refuses_a_missing_folder(tmp_path: Path):
    with pytest.raises(OSError, match="the folder .*absent does not exist"):
        create(tmp_path / "absent" / "x.h5", [])


@pytest.mark.parametrize(("options", "message"), [
    ({"sides": ()}, "spatial_size"), ({"sides": (0,)}, "spatial_size"), ({"classes": ("a", "a")}, "distinct"),
    ({"classes": tuple(map(str, range(5000)))}, "at most 4000"),
])
def test_create_refuses_wrong_arguments(tmp_path: Path, options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        SparseDataset.create(tmp_path / "x.h5", [], options.get("sides", SIDES), 4, options.get("classes", ("a",)))


def test_open_explains_what_is_wrong(tmp_path: Path):
    path = tmp_path / "x.h5"
    with pytest.raises(FileNotFoundError, match="no such file.*make_dataset.py makes one"):
        SparseDataset.open(path)
    with pytest.raises(ValueError, match="not an HDF5 file"):
        SparseDataset.open(tmp_path)
    path.write_bytes(b"OFF\n1 2 3\n")
    with pytest.raises(ValueError, match="not an HDF5 file"):
        SparseDataset.open(path)
    with h5py.File(path, "w") as file:
        file.attrs["format"] = "sparsenet-checkpoint"
    with pytest.raises(ValueError, match="'sparsenet-checkpoint', expected 'sparsenet-voxels'"):
        SparseDataset.open(path)


def damage_version(file):
    file.attrs["version"] = 2


def damage_splits(file):
    file["row_splits"][1] = 100


def damage_label(file):
    file["labels"][0] = 7


def drop_names(file):
    del file["names"]


def drop_classes(file):
    del file.attrs["classes"]


def shorten_object(file):
    del file["object"]
    file["object"] = np.zeros(1, np.int32)


@pytest.mark.parametrize(("damage", "message"), [
    (damage_version, "version 2.*update sparsenet"), (damage_splits, "damaged: row_splits"),
    (damage_label, "damaged: a label"), (drop_names, "damaged: names is missing"),
    (drop_classes, "attribute classes is missing"), (shorten_object, "object has shape"),
])
def test_open_finds_damage(tmp_path: Path, damage, message: str):
    path = tmp_path / "x.h5"
    create(path, [Sample(np.array([[1, 2, 3]])), Sample(np.array([[1, 2, 3]]))]).close()
    with h5py.File(path, "r+") as file:
        damage(file)
    with pytest.raises(ValueError, match=message):
        SparseDataset.open(path)


def test_open_of_a_file_cut_short(tmp_path: Path, rng: np.random.Generator):
    path = tmp_path / "x.h5"
    sides = (50, 50, 50)
    cells = np.stack(np.unravel_index(np.sort(rng.choice(50**3, 60_000, replace=False)), sides), axis=1)
    create(path, [Sample(cells)], sides).close()
    whole = path.read_bytes()
    for share in (0.001, 0.01, 0.3, 0.9, 0.999):
        path.write_bytes(whole[:int(share * len(whole))])
        with pytest.raises(ValueError, match="not an HDF5 file|cut short or damaged"):
            SparseDataset.open(path)


def test_views(voxels: SparseDataset):
    train, test = voxels.subset("train"), voxels.subset("test")
    assert (len(train), len(test)) == (27, 9)
    assert set(train.splits) == {"train"} and set(test.object.tolist()) == {3, 7, 11}
    part = train.select([5, 2])
    assert part.rows.tolist() == [train.rows[5], train.rows[2]]
    assert part[0].name == train[5].name and part[-1].name == train[2].name
    mask = voxels.pose == 1
    assert voxels.select(mask).pose.tolist() == [1] * 12
    assert len(voxels.select([])) == 0
    with pytest.raises(ValueError, match="split 'val' has no sample.*'test', 'train'"):
        voxels.subset("val")
    with pytest.raises(IndexError, match="expected 0 to 35"):
        voxels.select([36])
    with pytest.raises(IndexError, match="mask"):
        voxels.select(np.ones(3, bool))
    with pytest.raises(ValueError, match="twice"):
        voxels.select([1, 1])
    with pytest.raises(IndexError):
        voxels[36]


def test_objects_group_the_poses_in_order(voxels: SparseDataset):
    assert [samples.tolist() for samples in voxels.object_samples][:2] == [[0, 1, 2], [3, 4, 5]]
    turned = voxels.select([35, 34, 8, 33, 6])  # poses 2, 1 of object 11, 2 of object 2, 0 of 11, 0 of 2
    assert [samples.tolist() for samples in turned.object_samples] == [[3, 1, 0], [4, 2]]
    assert turned.first_poses.tolist() == [3, 4]
    assert turned.object_labels.tolist() == [2, 2]
    assert voxels.select([]).object_samples == []


def test_only_classes_relabels(voxels: SparseDataset):
    part = voxels.only_classes(["c", "a"])
    assert part.classes == ["c", "a"] and len(part) == 24
    for index in (0, 23):
        assert part.classes[part.labels[index]] == voxels.classes[voxels.labels[part.rows[index]]]
    with pytest.raises(ValueError, match="from .classes"):
        voxels.only_classes(["a", "d"])
    assert voxels.shared_classes("train", "test") == ["a", "b", "c"]
    assert voxels.select(np.arange(12)).shared_classes("train", "test") == ["a"]


def test_many_threads_read_what_one_reads(voxels: SparseDataset):
    expected = [voxels[index].coordinates for index in range(len(voxels))]
    wrong: list[int] = []

    def read(start: int) -> None:
        for index in [*range(start, len(voxels)), *range(start)]:
            if not np.array_equal(voxels[index].coordinates, expected[index]):
                wrong.append(index)

    readers = [threading.Thread(target=read, args=(7 * number,)) for number in range(4)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert wrong == []


def test_a_view_survives_pickling(voxels: SparseDataset):
    part = voxels.subset("test").only_classes(["b", "c"])
    with pickle.loads(pickle.dumps(part)) as copy:
        assert copy.labels.tolist() == part.labels.tolist() and copy.classes == ["b", "c"]
        np.testing.assert_array_equal(copy[1].coordinates, part[1].coordinates)


def test_the_file_is_synced_before_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    done = []
    monkeypatch.setattr(os, "fsync", lambda handle: done.append("sync"))
    rename = os.replace
    monkeypatch.setattr(os, "replace", lambda *names: (done.append("rename"), rename(*names)))
    create(tmp_path / "x.h5", []).close()
    assert done[:2] == ["sync", "rename"]


@pytest.mark.parametrize("index", [slice(0, 2), "a", 1.0, [0, 1]])
def test_an_index_is_one_integer(tmp_path: Path, index):
    with create(tmp_path / "x.h5", [Sample(np.array([[0, 0, 0]]))] * 3) as dataset:
        assert len(dataset[np.int64(2)]) == 1
        with pytest.raises(TypeError, match="SparseDataset: index is .*expected an integer: dataset.select"):
            dataset[index]


def test_the_digest_tells_files_apart_and_not_views_or_copies(tmp_path: Path):
    cells = [np.array([[0, 0, 0]]), np.array([[1, 1, 1], [2, 2, 2]])]

    def digest(name="n", label=0, cells=cells, classes=("a", "b")):
        with create(tmp_path / "x.h5", [Sample(part, label, name) for part in cells], classes=classes) as dataset:
            assert dataset.select([0]).digest == dataset.digest
            return dataset.digest

    assert digest() == digest()
    assert len({digest(), digest("m"), digest(label=1), digest(cells=cells[:1]), digest(classes=("a", "c"))}) == 5
