"""Dataset files: samples are read back as written, and invalid ones are refused."""

from __future__ import annotations

import copy
import math
import os
import pickle
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sparsenet.data import Conversion, Sample, SparseDataset, import_parametric
from sparsenet.files import seal
from sparsenet.shapes import Mesh

TRIANGLE = Mesh(np.array([[0.1, 1 / 3, -2e9], [1, 0, 0], [0, 1, 0]]), np.array([[0, 1, 2]]))
SIDES = (4, 4, 4)


def create(path: Path, samples, sides=SIDES, classes=("a", "b"), **options) -> SparseDataset:
    return SparseDataset.create(path, samples, sides, max(sides), classes, **options)


@st.composite
def sample_lists(draw):
    sides = tuple(draw(st.lists(st.sampled_from([1, 2, 5, 256, 257, 70000]), min_size=1, max_size=4)
                       .filter(lambda sides: math.prod(sides) < 2**63)))
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
    (Sample(np.array([[0, 0, 4]])), r"cell \[0, 0, 4\] is outside the grid"),
    (Sample(np.array([[-1, 0, 0]])), "is outside"),
    (Sample(np.array([[1, 2, 3], [0, 0, 0], [1, 2, 3]])), r"cell \[1, 2, 3\] occurs twice"),
    (Sample(np.array([[0.0, 0, 0]])), "expected integers"),
    (Sample(np.array([[0, 0]])), r"expected \(n, 3\)"),
    (Sample(np.array([[0, 0, 0]]), label=2), "label is 2, expected -1 to 1, the index of its class"),
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


@pytest.mark.parametrize(("changes", "message"), [
    ({"label": 0.0}, "label is 0.0, expected a whole number, -1 to 1, the index of its class"),
    ({"label": np.nan}, "label is nan, expected a whole number"), ({"label": True}, "label is True"),
    ({"label": "cup"}, "label is 'cup', expected a whole number, -1 to 1, the index of its class"),
    ({"label": -2}, "label is -2, expected -1 to 1"), ({"label": None}, "label is None"),
    ({"pose": 0.5}, "pose is 0.5"), ({"pose": -1}, "pose is -1"), ({"object": 1.5}, "object is 1.5"),
    ({"object": 2**31}, "object is 2147483648, expected 0 to 2147483647"),
    ({"name": b"n"}, "name is b'n', expected a text"), ({"split": None}, "split is None, expected a text"),
    ({"name": "n\udcff"}, "name is .*, which is not valid Unicode"), ({"name": "a\0"}, "name contains a NUL character"),
    ({"mesh": ([], [])}, "mesh is a tuple, expected a sparsenet.Mesh or None"),
    ({"features": np.ones((1, 0))}, r"features have shape \(1, 0\)"),
    ({"features": np.full((1, 1), 1e300)}, "not finite in float32"),
    ({"coordinates": np.array([[2**63, 0, 0]], np.uint64)}, "is outside the grid"),
])
def test_values_that_would_be_changed_silently_are_refused(tmp_path: Path, changes: dict, message: str):
    sample = Sample(**{"coordinates": np.array([[0, 0, 0]]), **changes})
    with pytest.raises((ValueError, TypeError), match=f"create: sample 0 .*{message}"):
        create(tmp_path / "x.h5", [sample])


@pytest.mark.parametrize("sample", [(np.array([[0, 0, 0]]), 1), np.zeros((1, 3), int), None])
def test_what_is_not_a_sample_is_named(tmp_path: Path, sample):
    with pytest.raises(TypeError, match="sample 0 is a (tuple|ndarray|NoneType), expected a Sample: Sample.coord"):
        create(tmp_path / "x.h5", [sample])


@pytest.mark.parametrize("samples", [Sample(np.array([[0, 0, 0]])), None, 3])
def test_samples_come_one_after_another(tmp_path: Path, samples):
    with pytest.raises(TypeError, match="samples are a (Sample|NoneType|int), expected a list or an iterator of"):
        create(tmp_path / "x.h5", samples)
    assert list(tmp_path.iterdir()) == []


def test_a_summary_counts_classes_by_splits(tmp_path: Path):
    samples = [Sample(np.array([[0, 0, 0]]), label, split=split) for label, split in
               ((0, "test"), (0, "train"), (0, "train"), (1, "dev"), (-1, "train"))]
    with create(tmp_path / "x.h5", samples, classes=("bed", "chair", "none")) as dataset:
        assert dataset.summary() == f"""{dataset!r}
class       train  test  dev
----------------------------
bed             2     1    0
chair           0     0    1
none            0     0    0
(no label)      1     0    0
----------------------------
all             3     1    1"""
        assert dataset.subset("dev").summary().splitlines()[-1].split() == ["all", "1"]


def test_the_longest_side_keeps_its_last_cell(tmp_path: Path):
    with create(tmp_path / "x.h5", [Sample(np.array([[2**31 - 2, 1]]))], (2**31 - 1, 2)) as dataset:
        assert dataset[0].coordinates.tolist() == [[2**31 - 2, 1]]


def test_create_refuses_a_missing_folder(tmp_path: Path):
    with pytest.raises(OSError, match="the folder .*absent does not exist"):
        create(tmp_path / "absent" / "x.h5", [])


@pytest.mark.parametrize(("options", "message"), [
    ({"sides": ()}, "spatial_size"), ({"sides": (0,)}, "spatial_size"), ({"classes": ("a", "a")}, "distinct"),
    ({"classes": tuple(map(str, range(5000)))}, "at most 4000"), ({"classes": "ab"}, "list of non-empty texts"),
    ({"classes": None}, "expected a list of non-empty texts"), ({"classes": iter("ab")}, "list of non-empty texts"),
    ({"classes": ("a", "")}, "non-empty"), ({"classes": (1,)}, "expected a list of non-empty texts"),
    ({"classes": ("a\0",)}, "NUL"), ({"classes": ("\udcff",)}, "not valid Unicode"),
    ({"sides": (2**31, 4)}, "spatial_size is .2147483648, 4., expected 1 to 4 numbers from 1 to 2147483647"),
    ({"sides": (2**31 - 1,) * 3}, "2.63 cells or more"), ({"sides": (4.5, 4)}, "expected one whole number per"),
    ({"sides": 4}, "spatial_size is 4, expected one whole number per dimension"),
    ({"render_size": 4.5}, "render_size is 4.5"), ({"render_size": "4"}, "render_size is '4'"),
    ({"render_size": 0}, "render_size is 0, expected 1 to"), ({"render_size": True}, "render_size is True"),
])
def test_create_refuses_wrong_arguments(tmp_path: Path, options: dict, message: str):
    with pytest.raises((ValueError, TypeError), match=f"SparseDataset.create: .*{message}"):
        SparseDataset.create(tmp_path / "x.h5", [], options.get("sides", SIDES), options.get("render_size", 4),
                             options.get("classes", ("a",)))
    assert list(tmp_path.iterdir()) == []


def test_open_explains_what_is_wrong(tmp_path: Path):
    path = tmp_path / "x.h5"
    with pytest.raises(FileNotFoundError, match="no such file.*sparsenet make-dataset. makes one"):
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
    (damage_label, "damaged: labels has 7 in row 0, expected -1 to 1"), (drop_names, "damaged: names is missing"),
    (drop_classes, "damaged: attribute classes is missing"), (shorten_object, "object has shape"),
])
def test_open_finds_damage(tmp_path: Path, damage, message: str):
    path = tmp_path / "x.h5"
    create(path, [Sample(np.array([[1, 2, 3]])), Sample(np.array([[1, 2, 3]]))]).close()
    with h5py.File(path, "r+") as file:
        damage(file)
    seal(path)
    with pytest.raises(ValueError, match=message):
        SparseDataset.open(path)


def foreign(path: Path, **changes) -> Path:
    """A dataset as another program writes it with h5py's defaults: no seal, nothing packed, texts of any length."""
    parts = {"@format": "sparsenet-voxels", "@version": 1, "@spatial_size": [4, 300], "@render_size": 9,
             "@classes": ["cup", "żółw"], "coordinates": np.array([[1, 2, 3, 0], [4, 5, 299, 0]], np.uint64),
             "row_splits": [0, 2, 3, 4], "labels": [0, 1, -1], "split": ["train", "test", "test"],
             "names": ["a", "żółw", ""], "object": [0, 1, 1], "pose": [0, 0, 1], "features": np.ones((4, 2))}
    with h5py.File(path, "w") as file:
        for name, value in (parts | changes).items():
            if value is not None:
                (file.attrs if name[0] == "@" else file)[name.lstrip("@")] = value
    return path


def test_a_file_that_another_program_wrote_with_default_texts_is_read(tmp_path: Path):
    with SparseDataset.open(foreign(tmp_path / "x.h5")) as dataset:
        assert (dataset.spatial_size, dataset.classes, dataset.fill) == ((4, 300), ["cup", "żółw"], False)
        assert dataset.names.tolist() == ["a", "żółw", ""] and dataset.subset("test").labels.tolist() == [1, -1]
        assert dataset[1].coordinates.tolist() == [[3, 299]] and dataset[1].features.tolist() == [[1, 1]]
        assert dataset[1].coordinates.dtype == np.int32 and dataset[1].features.dtype == np.float32
    fixed = {"names": np.array([b"a", b"b", b"c"]), "split": np.array([b"train", b"test", b"test"]),
             "@classes": np.array([b"cup", b"bed"]), "@format": np.bytes_(b"sparsenet-voxels")}
    with SparseDataset.open(foreign(tmp_path / "x.h5", **fixed)) as dataset:
        assert dataset.names.tolist() == ["a", "b", "c"] and dataset.classes == ["cup", "bed"]


@pytest.mark.parametrize(("changes", "message"), [
    ({"labels": [0.0, 1.0, -1.0]}, "labels has dtype float64, expected integers"),
    ({"labels": [np.nan, 1, 1]}, "labels has dtype float64"),
    ({"labels": [True, False, True]}, "labels has dtype bool"),
    ({"labels": ["cup", "bed", "cup"]}, "labels has dtype object, expected integers"),
    ({"labels": [0, 2, 1]}, "labels has 2 in row 1, expected -1 to 1"),
    ({"labels": np.array([0, 2**64 - 1, 1], np.uint64)}, "labels has 18446744073709551615 in row 1"),
    ({"labels": [[0], [1], [1]]}, r"labels has shape \(3, 1\), expected \(3,\)"),
    ({"labels": 1}, r"labels has shape \(\), expected \(3,\)"),
    ({"object": [0, -1, 1]}, "object has -1 in row 1"),
    ({"object": [0, 2**31, 1]}, "object has 2147483648 in row 1, expected 0 to 2147483647"),
    ({"pose": [0, 0, 0]}, "object 1 has pose 0 twice"),
    ({"pose": None}, "pose is missing"),
    ({"names": [1, 2, 3]}, "names has dtype int64, expected text"),
    ({"names": ["a", "b"]}, r"names has shape \(2,\)"),
    ({"names": np.array([b"\xff", b"b", b"c"])}, "names contains a text that is not UTF-8"),
    ({"split": np.zeros(3)}, "split has dtype float64, expected text"),
    ({"row_splits": []}, "row_splits"),
    ({"row_splits": [0.0, 2, 3, 4]}, "row_splits has dtype float64"),
    ({"row_splits": np.array([0, 3, 2, 4], np.uint64)}, "row_splits does not go from 0 to 4 in 3 steps"),
    ({"row_splits": [0, 9, 3, 4]}, "row_splits has 9 in row 1, expected 0 to 4"),
    ({"coordinates": np.zeros((2, 4), int)}, "coordinates has dtype int64, expected unsigned integers"),
    ({"coordinates": np.zeros((3, 4), np.uint8)}, r"coordinates has shape \(3, 4\), expected \(2, n\)"),
    ({"features": np.ones((4, 0))}, r"features have shape \(4, 0\), expected one channel"),
    ({"features": np.ones((3, 2))}, r"features has shape \(3, 2\), expected \(4, n\)"),
    ({"features": np.ones((4, 2), int)}, "features has dtype int64, expected floating-point"),
    ({"meshes": np.ones(3)}, "meshes/vertices is missing"),
    ({"meshes/faces": np.zeros((1, 3), int), "meshes/vertices": np.zeros((3, 2))}, "meshes/vertices has shape"),
    ({"@classes": ["cup", "cup"]}, "attribute class 'cup' occurs twice, expected distinct"),
    ({"@classes": ["cup", ""]}, "attribute classes are .*, expected a list of non-empty texts"),
    ({"@classes": "cup"}, "attribute classes is 'cup', expected a list of texts"),
    ({"@classes": [1, 2]}, "attribute classes is .*, expected a list of texts"),
    ({"@spatial_size": [4.0, 300.0]}, r"attribute spatial_size is float64 \(2,\), expected \(D,\) integers"),
    ({"@spatial_size": 4}, "attribute spatial_size is int64"),
    ({"@spatial_size": "4 300"}, "attribute spatial_size is"),
    ({"@spatial_size": [0, 300]}, "attribute spatial_size is .0, 300., expected 1 to 4 numbers"),
    ({"@spatial_size": [2**31, 3]}, "attribute spatial_size is .2147483648, 3., expected 1 to 4 numbers from 1"),
    ({"@spatial_size": [2**31 - 1] * 3}, "has 2.63 cells or more"),
    ({"@render_size": 2.5}, "attribute render_size is 2.5, expected a whole number"),
    ({"@render_size": 0}, "attribute render_size is 0"), ({"@render_size": [3, 4]}, "attribute render_size is"),
    ({"@fill": "no"}, "attribute fill is 'no', expected true or false"),
    ({"@format": 3}, "its format is 3"), ({"@version": 1.5}, "its version is 1.5"),
    ({"@version": h5py.Empty("i4")}, "attribute version has no value"),
])
def test_wrong_kinds_shapes_and_values_are_one_line_with_file_and_key(tmp_path: Path, changes: dict, message: str):
    foreign(tmp_path / "x.h5", **changes)
    with pytest.raises(ValueError, match=f"^SparseDataset.open: [^\n]*x.h5[^\n]*{message}[^\n]*$"):
        SparseDataset.open(tmp_path / "x.h5")


@pytest.mark.parametrize(("changes", "message"), [
    ({"coordinates": np.array([[1, 2, 4, 0], [4, 5, 6, 0]], np.uint8)}, r"its cell \[4, 6\] is outside the grid"),
    ({"coordinates": np.array([[1, 2, 2**32 + 1, 0], [4, 5, 6, 0]], np.uint64)}, r"its cell \[4294967297, 6\] is"),
    ({"features": np.array([[1.0], [1], [np.nan], [1]])}, "its features contain a value that is not finite"),
    ({"features": np.array([[1.0], [1], [1e300], [1]])}, "its features contain a value that is not finite in float32"),
])
def test_a_wrong_sample_is_named_with_its_file_when_it_is_read(tmp_path: Path, changes: dict, message: str):
    with SparseDataset.open(foreign(tmp_path / "x.h5", **changes)) as dataset:
        with pytest.raises(ValueError, match=f"x.h5, row 1 .'żółw'.: {message}"):
            dataset[1]
        with pytest.raises(RuntimeError, match=f"batches: sample 1: .*x.h5, row 1 .'żółw'.: {message}"):
            list(dataset.batches(1, workers=1))
        assert len(dataset[0]) == 2


@pytest.mark.parametrize("cells", [[[1, 4], [1, 4]], [[2, 4], [1, 5]]])
def test_cells_out_of_order_are_named(tmp_path: Path, cells: list):
    stored = np.array([*cells, [3, 6], [0, 0]], np.uint8).T
    with SparseDataset.open(foreign(tmp_path / "x.h5", coordinates=stored)) as dataset, (
            pytest.raises(ValueError, match=r"row 0 .'a'.: its cell .* is out of order, or occurs twice")):
        dataset[0]


def test_a_mesh_that_cannot_be_used_is_named(tmp_path: Path):
    create(tmp_path / "x.h5", [Sample(np.array([[0, 0, 0]]), name="n", mesh=TRIANGLE)]).close()
    with h5py.File(tmp_path / "x.h5", "r+") as file:
        file["meshes/faces"][0, 0] = 9
    seal(tmp_path / "x.h5")
    with SparseDataset.open(tmp_path / "x.h5") as dataset, (
            pytest.raises(ValueError, match="x.h5, row 0 .'n'.: its mesh cannot be used: a face refers to vertex 9")):
        dataset.mesh(0)


def test_samples_that_take_no_bytes_are_refused_before_their_columns_are_read(tmp_path: Path):
    with h5py.File(foreign(tmp_path / "x.h5"), "r+") as file:
        del file["row_splits"]
        file.create_dataset("row_splits", data=np.zeros(10**6, np.int64), compression="gzip")
    with pytest.raises(ValueError, match="row_splits has 999999 samples, the file has"):
        SparseDataset.open(tmp_path / "x.h5")


def test_a_byte_that_changed_anywhere_is_found_before_hdf5_sees_the_file(tmp_path: Path, rng: np.random.Generator):
    path = tmp_path / "x.h5"
    create(path, [Sample(np.array([[0, 0, 0], [1, 2, 3]]), name="n", mesh=TRIANGLE)]).close()
    whole = path.read_bytes()
    for place in [*range(0, 600, 7), *rng.choice(len(whole), 100, replace=False)]:
        damaged = bytearray(whole)
        damaged[place] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="^[^\n]*x.h5: [^\n]*damaged[^\n]*$"):
            SparseDataset.open(path)


def test_a_closed_dataset_says_so(tmp_path: Path):
    dataset = create(tmp_path / "x.h5", [Sample(np.array([[0, 0, 0]]), name="n", mesh=TRIANGLE)])
    view = dataset.select([0])
    dataset.close()
    for use in (lambda: dataset[0], lambda: view.voxels(0), lambda: dataset.mesh(0), lambda: list(dataset)):
        with pytest.raises(ValueError, match="x.h5 is closed: open it again with SparseDataset.open"):
            use()
    assert dataset.names.tolist() == ["n"]


def test_open_of_a_file_cut_short(tmp_path: Path, rng: np.random.Generator):
    path = tmp_path / "x.h5"
    sides = (50, 50, 50)
    cells = np.stack(np.unravel_index(np.sort(rng.choice(50**3, 60_000, replace=False)), sides), axis=1)
    create(path, [Sample(cells)], sides).close()
    whole = path.read_bytes()
    for share in (0.001, 0.01, 0.3, 0.9, 0.999):
        path.write_bytes(whole[:int(share * len(whole))])
        with pytest.raises(ValueError, match="not an HDF5 file|truncated or damaged"):
            SparseDataset.open(path)


def test_views(voxels: SparseDataset):
    train, test = voxels.subset("train"), voxels.subset("test")
    assert (len(train), len(test)) == (27, 9)
    assert set(train.split) == {"train"} and set(test.object.tolist()) == {3, 7, 11}
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


def test_a_copy_is_the_same_view_of_a_file_of_its_own(voxels: SparseDataset):
    part = voxels.subset("test")
    for before_or_after_use in range(2):
        with copy.deepcopy(part) as twin:
            np.testing.assert_array_equal(twin[1].coordinates, part[1].coordinates)
        assert part[0].name and list(part.batches(4)), before_or_after_use


def test_another_dataset_in_the_place_of_a_pickled_one_is_refused(tmp_path: Path):
    samples = [Sample(np.array([[0, 0, 0]]), name=name) for name in "abc"]
    with create(tmp_path / "x.h5", samples) as dataset:
        pickled = pickle.dumps(dataset)
    create(tmp_path / "x.h5", samples[::-1]).close()
    with pytest.raises(ValueError, match="x.h5 is not the dataset that was pickled or copied"):
        pickle.loads(pickled)


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


def test_the_digest_differs_between_files_but_not_between_views_or_copies(tmp_path: Path):
    cells = [np.array([[0, 0, 0]]), np.array([[1, 1, 1], [2, 2, 2]])]

    def digest(name="n", label=0, cells=cells, classes=("a", "b")):
        with create(tmp_path / "x.h5", [Sample(part, label, name) for part in cells], classes=classes) as dataset:
            assert dataset.select([0]).digest == dataset.digest
            return dataset.digest

    assert digest() == digest()
    assert len({digest(), digest("m"), digest(label=1), digest(cells=cells[:1]), digest(classes=("a", "c"))}) == 5


@pytest.mark.parametrize(("count", "words"), [(1, "1 sample of 1 object, 1 class"),
                                              (3, "3 samples of 3 objects, 1 class")])
def test_counts_have_their_nouns(tmp_path: Path, count, words):
    samples = [Sample(np.array([[0, 0, 0]]), name=str(number)) for number in range(count)]
    with create(tmp_path / "x.h5", samples, classes=("a",)) as dataset:
        assert repr(dataset).endswith(f"x.h5': {words}, spatial_size=(4, 4, 4), render_size=4)")


class TestSeveralFiles:
    @pytest.fixture
    def paths(self, tmp_path):
        rng = np.random.default_rng(2)
        for name, count in (("a", 3), ("b", 0), ("c", 4)):
            samples = [Sample(np.argwhere(rng.random((4, 4, 4)) < 0.2), number % 2, f"{name}/{number}", "train",
                              object=number // 2, pose=number % 2) for number in range(count)]
            SparseDataset.create(tmp_path / f"{name}.h5", samples, (4, 4, 4), 4, ["x", "y"]).close()
        return [tmp_path / f"{name}.h5" for name in "abc"]

    def test_they_are_read_one_after_the_other(self, paths):
        with SparseDataset.open(paths) as whole, SparseDataset.open(paths[0]) as a, SparseDataset.open(paths[2]) as c:
            assert len(whole) == 7 and whole.names.tolist() == [*a.names, *c.names]
            assert whole.object.tolist() == [0, 0, 1, 2, 2, 3, 3] and whole.pose.tolist() == [0, 1, 0, 0, 1, 0, 1]
            for place, (one, own) in enumerate([*((a, i) for i in range(3)), *((c, i) for i in range(4))]):
                np.testing.assert_array_equal(whole[place].coordinates, one[own].coordinates)
                assert whole[place].label == one[own].label
            batches = list(whole.batches(2, poses="all"))
            assert sum(map(len, batches)) == 7
            np.testing.assert_array_equal(batches[1].input.coordinates[batches[1].input.coordinates[:, 0] == 1, 1:],
                                          c[0].coordinates)
            digest = whole.digest
            assert whole.mesh(5) is None and len({digest, a.digest, c.digest}) == 3
        with pytest.raises(ValueError, match="is closed"):
            whole.batches(2)

    def test_as_one_text_and_as_a_copy(self, paths):
        with SparseDataset.open(os.pathsep.join(map(str, paths))) as whole:
            other = pickle.loads(pickle.dumps(whole.select([6, 1])))
            np.testing.assert_array_equal(other[0].coordinates, whole[6].coordinates)
            other.close()
        with SparseDataset.open([paths[0]]) as one:
            assert one.path == paths[0]

    def test_meshes_come_from_their_file(self, tmp_path):
        for seed in (1, 2):
            import_parametric(tmp_path / f"{seed}.h5", {"train": 1}, seed,
                              Conversion(8, keep_meshes=True, progress=False))
        with SparseDataset.open([tmp_path / "1.h5", tmp_path / "2.h5"]) as whole, (
                SparseDataset.open(tmp_path / "2.h5")) as second:
            np.testing.assert_array_equal(whole.kept_mesh(13).vertices, second.kept_mesh(3).vertices)
            np.testing.assert_array_equal(whole.mesh(13).faces, second.mesh(3).faces)

    def test_files_that_do_not_fit_are_refused(self, paths, tmp_path):
        SparseDataset.create(tmp_path / "d.h5", [], (4, 4, 4), 4, ["y", "x"]).close()
        with pytest.raises(ValueError, match=r"the classes of .*d.h5 is \['y', 'x'\], that of .*a.h5 \['x', 'y'\]"):
            SparseDataset.open([paths[0], tmp_path / "d.h5"])
        with pytest.raises(ValueError, match="a.h5 is named twice"):
            SparseDataset.open([paths[0], paths[2], paths[0]])
        with pytest.raises(FileNotFoundError, match="e.h5"):
            SparseDataset.open([paths[0], tmp_path / "e.h5"])
        with pytest.raises(ValueError, match="the list of files is empty"):
            SparseDataset.open([])
