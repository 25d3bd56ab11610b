"""Volumes: NIfTI and NPY, their headers, the cells above a threshold, and the importer."""

from __future__ import annotations

import gzip
import io
import struct
from pathlib import Path

import numpy as np
import pytest
from command_line import ENVIRONMENT, invoke

from sparsenet.data import Conversion, SparseDataset, import_volumes, volume_files
from sparsenet.data.volume_files import active_cells, read_volume_header
from sparsenet.shapes import MeshError

QUIET = Conversion(progress=False)
CODES = {"u1": 2, "i2": 4, "i4": 8, "f4": 16, "f8": 64, "i1": 256, "u2": 512, "u4": 768, "i8": 1024, "u8": 1280}


def nifti(array: np.ndarray, order: str = "<", version: int = 1, slope: float = 0.0, inter: float = 0.0,
          **changes) -> bytes:
    """A .nii file of the array; `changes` replace fields of the header, by name."""
    kind = array.dtype.str[1:]
    fields = {"dim": [array.ndim, *array.shape, *[1] * (7 - array.ndim)], "datatype": CODES[kind],
              "bitpix": 8 * array.itemsize, "offset": 352 if version == 1 else 544, "slope": slope, "inter": inter,
              "magic": b"n+1\0" if version == 1 else b"n+2\0\r\n\x1a\n", "size": 348 if version == 1 else 540} | changes
    header = bytearray(352 if version == 1 else 544)
    struct.pack_into(f"{order}i", header, 0, fields["size"])
    places = {1: ("8h", 40, 70, "f", 108, "2f", 112, 344), 2: ("8q", 16, 12, "q", 168, "2d", 176, 4)}[version]
    struct.pack_into(order + places[0], header, places[1], *fields["dim"])
    struct.pack_into(f"{order}2h", header, places[2], fields["datatype"], fields["bitpix"])
    struct.pack_into(order + places[3], header, places[4], fields["offset"])
    struct.pack_into(order + places[5], header, places[6], fields["slope"], fields["inter"])
    header[places[7]:places[7] + len(fields["magic"])] = fields["magic"]
    return bytes(header) + array.astype(array.dtype.newbyteorder(order)).tobytes(order="F")


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data) if path.suffix.lower() == ".gz" else data)
    return path


def check_cells(path: Path, values: np.ndarray, threshold: float) -> None:
    """Against all cells of the array, one after the other."""
    cells, found = active_cells(path, threshold)
    order = np.lexsort(cells.T[::-1])
    expected = [index for index in np.ndindex(values.shape) if values[index] > threshold]
    assert cells[order].tolist() == [list(index) for index in expected] and found.dtype == np.float32
    np.testing.assert_array_equal(found[order], np.array([values[index] for index in expected], np.float32))


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", CODES)
def test_nifti_of_every_kind(tmp_path: Path, version, order, kind, rng):
    array = rng.integers(0, 5, (3, 4, 2)).astype(kind)
    path = write(tmp_path / "a.nii", nifti(array, order, version))
    assert read_volume_header(path)[:3] == ((3, 4, 2), np.dtype(order + kind), True)
    check_cells(path, array, 1)


@pytest.mark.parametrize("shape", [(7,), (3, 4), (3, 4, 2), (3, 4, 2, 1, 1), (1, 1, 1)])
@pytest.mark.parametrize("name", ["a.nii", "a.NII.GZ"])
def test_nifti_of_other_shapes(tmp_path: Path, name, shape, rng):
    array = rng.standard_normal(shape).astype("f4")
    path = write(tmp_path / name, nifti(array))
    assert read_volume_header(path).shape == shape[:3]
    check_cells(path, array.reshape(shape[:3]), 0.2)


def test_a_slope_scales_before_the_threshold(tmp_path: Path, rng):
    array = rng.integers(-9, 9, (3, 4, 2)).astype("i2")
    for slope, inter in ((0.5, -1.0), (-2.0, 3.0), (1.0, 0.5)):
        check_cells(write(tmp_path / "a.nii", nifti(array, slope=slope, inter=inter)), slope * array + inter, 0.25)
    for slope in (0.0, np.nan, np.inf):
        check_cells(write(tmp_path / "a.nii", nifti(array, slope=slope, inter=7.0)), array, 0)


@pytest.mark.parametrize("shape", [(7,), (3, 4), (3, 4, 2), (2, 3, 2, 2)])
@pytest.mark.parametrize("kind", ["bool", "u1", "i8", "f2", "f4", ">f8"])
def test_arrays_of_numpy(tmp_path: Path, shape, kind, rng):
    array = rng.integers(0, 3, shape).astype(kind)
    for order in "CF":
        check_cells(write(tmp_path / "a.npy", npy(np.array(array, order=order))), array, 0)
    check_cells(write(tmp_path / "a.npy.gz", npy(array)), array, 0.5)


def test_slabs_are_joined_and_nan_is_not_above(tmp_path: Path, rng, monkeypatch):
    monkeypatch.setattr(volume_files, "_SLAB", 10)
    array = rng.standard_normal((5, 4, 3))
    array[2, 1, 1] = np.nan
    for data, name in ((npy(array), "a.npy"), (npy(np.asfortranarray(array)), "b.npy"), (nifti(array), "a.nii")):
        check_cells(write(tmp_path / name, data), array, -0.1)
    with pytest.raises(MeshError, match="a.npy: it holds a value that is not finite in float32"):
        active_cells(write(tmp_path / "a.npy", npy(np.where(array > 0, 1e300, array))))
    monkeypatch.setattr(volume_files, "MAX_ACTIVE", 10)
    with pytest.raises(MeshError, match="more than 10 cells are above the threshold 0: raise it"):
        active_cells(tmp_path / "a.nii")


SMALL = np.ones((2, 3, 2), "i2")


@pytest.mark.parametrize(("name", "data", "message"), [
    ("a.nii", b"", "the file is empty"), ("a.npy", b"", "the file is empty"),
    ("a.img", nifti(SMALL), "a volume ends in .nii, .npy, each also with .gz"),
    ("a.nii", b"x" * 600, "does not start with a header of NIfTI"), ("a.nii", nifti(SMALL)[:300], "does not start"),
    ("a.nii", nifti(SMALL)[:-1], "it ends after 23 of the 24 bytes of its cells"),
    ("a.nii", nifti(SMALL, magic=b"ni1\0"), "its cells are in a file of their own"),
    ("a.nii", nifti(SMALL, version=2, magic=b"ni2\0\r\n\x1a\n"), "its cells are in a file of their own"),
    ("a.nii", nifti(SMALL, magic=b"\0\0\0\0"), "has the magic .* it may be ANALYZE 7.5"),
    ("a.nii", nifti(SMALL, dim=[9, 1, 1, 1, 1, 1, 1, 1]), "expected 1 to 7 axes"),
    ("a.nii", nifti(SMALL, dim=[3, 2, -3, 2, 1, 1, 1, 1]), "that many lengths above 0"),
    ("a.nii", nifti(SMALL, dim=[0] * 8), "expected 1 to 7 axes"),
    ("a.nii", nifti(SMALL, dim=[4, 2, 3, 1, 2, 1, 1, 1]), r"shape \(2, 3, 1, 2\), 2 volumes, expected one"),
    ("a.nii", nifti(SMALL, dim=[3, 32767, 32767, 32767, 1, 1, 1, 1]), "cells, expected at most 268435456"),
    ("a.nii", nifti(SMALL, version=2, dim=[3, 2**62, 2**62, 1, 1, 1, 1, 1]), "cells, expected at most 268435456"),
    ("a.nii", nifti(SMALL, datatype=32, bitpix=64), "datatype 32 of 64 bits, expected real numbers"),
    ("a.nii", nifti(SMALL, bitpix=8), "datatype 4 of 8 bits"), ("a.nii", nifti(SMALL, offset=0), "begin at byte 0"),
    ("a.nii", nifti(SMALL, offset=352.5), "begin at byte 352.5"), ("a.nii", nifti(SMALL, offset=np.nan), "at byte nan"),
    ("a.nii", nifti(SMALL, version=2, offset=2**40), "begin at byte 1.09951e.12, expected 544 to 16777216"),
    ("a.nii", nifti(SMALL, slope=2.0, inter=np.nan), "scales by 2 and adds nan"),
    ("a.npy", npy(SMALL)[:-3], "it ends after 21 of the 24 bytes"), ("a.npy", b"abc", "not an array of NumPy"),
    ("a.npy", npy(SMALL + 1j), "it holds .*<c16"), ("a.npy", npy(np.ones((1,) * 5)), "expected 1 to 4 axes"),
    ("a.npy", npy(np.ones((0, 3))), "at least one cell"), ("a.npy", npy(np.float64(3)), r"shape \(\), expected 1 to 4"),
    ("a.npy", npy(SMALL).replace(b"(2, 3, 2), }    ", b"(9999, 9999, 9)}"), "cells, expected at most 268435456"),
])
def test_what_is_no_volume_is_refused_in_one_line(tmp_path: Path, name: str, data: bytes, message: str):
    path = write(tmp_path / name, data)
    with pytest.raises(MeshError, match=message) as raised:
        active_cells(path)
    assert str(raised.value).startswith(f"{path}: ") and "\n" not in str(raised.value)


def test_damaged_gzip_is_refused(tmp_path: Path):
    whole = gzip.compress(nifti(np.arange(2000, dtype="i4").reshape(20, 10, 10)))
    for data in (b"nothing", whole[:-200], whole[:400] + b"\0" * 100 + whole[500:]):
        (tmp_path / "a.nii.gz").write_bytes(data)
        with pytest.raises(MeshError, match="a.nii.gz: it cannot be decompressed by gzip"):
            active_cells(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("data", [nifti(SMALL), nifti(SMALL, ">", 2), npy(SMALL)], ids=["NIfTI-1", "NIfTI-2", "NPY"])
def test_a_byte_that_changes_is_an_error_or_another_volume(tmp_path: Path, data: bytes, rng):
    """Never another exception, and never more memory than the file can fill."""
    path = tmp_path / ("a.npy" if data.startswith(b"\x93") else "a.nii")
    for place in rng.integers(0, len(data), 300):
        changed = bytearray(data)
        changed[place] = rng.integers(0, 256)
        path.write_bytes(changed)
        try:
            cells, values = active_cells(path)
        except MeshError:
            continue
        assert len(cells) == len(values) <= SMALL.size


def plant(root: Path, rng: np.random.Generator) -> Path:
    for name, shape in (("a/train/one.nii.gz", (4, 5, 6)), ("a/test/two.npy", (6, 3, 6)),
                        ("b/train/three.nii", (2, 2, 2)), ("b/test/four.npy.gz", (6, 5, 6))):
        array = np.where(rng.random(shape) < 0.2, rng.standard_normal(shape), 0).astype("f4")
        write(root / name, nifti(array) if ".nii" in name else npy(array))
    return root


def array_of(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    cells, values = active_cells(path)
    array = np.zeros(shape, np.float32)
    array[tuple(cells.T)] = values
    return array


def test_a_tree_of_volumes(tmp_path: Path, rng):
    tree = plant(tmp_path / "tree", rng)
    write(tree / "a/train/bad.nii", b"nothing")
    write(tree / "a/train/flat.npy", npy(np.ones((3, 3))))
    report = import_volumes(tree, tmp_path / "x.h5", conversion=QUIET)
    with SparseDataset.open(report.path) as dataset:
        assert dataset.spatial_size == (6, 5, 6) and dataset.render_size == 6 and dataset.fill and dataset.has_features
        assert [(s.split, s.name, dataset.classes[s.label]) for s in dataset] == [
            ("test", "a/test/two", "a"), ("train", "a/train/one", "a"), ("test", "b/test/four", "b"),
            ("train", "b/train/three", "b")]
        one = dataset[1]
        grid = np.zeros((6, 5, 6), np.float32)
        grid[tuple(one.coordinates.T)] = one.features[:, 0]
        expected = array_of(tree / "a/train/one.nii.gz", (4, 5, 6))
        np.testing.assert_array_equal(grid[1:5], expected)
        assert not grid[0].any() and not grid[5].any()
        with dataset.batches(4) as batches:
            assert next(batches).input.channels == 1
    assert sorted(Path(source).name for source, _ in report.failures) == ["bad.nii", "flat.npy"]
    assert "grid: 6 x 5 x 6 cells, those above 0 are active" in str(report)
    assert "(3, 3), which does not fit the grid (6, 5, 6): expected 3 axes" in str(report)


def test_a_given_grid_and_occupancy(tmp_path: Path, rng):
    tree = plant(tmp_path / "tree", rng)
    report = import_volumes(tree, tmp_path / "x.h5", 0.5, True, (6, 4, 7), QUIET)
    assert sorted(Path(source).name for source, _ in report.failures) == ["four.npy.gz", "one.nii.gz"]
    with SparseDataset.open(report.path) as dataset:
        assert dataset.spatial_size == (6, 4, 7) and not dataset.has_features
        cells, _ = active_cells(tree / "a/test/two.npy", 0.5)
        np.testing.assert_array_equal(dataset[0].coordinates, cells + [0, 0, 0])
    for processes in (1, 2):
        import_volumes(tree, tmp_path / f"{processes}.h5", conversion=Conversion(processes=processes, progress=False))
    assert (tmp_path / "1.h5").read_bytes() == (tmp_path / "2.h5").read_bytes()


def test_volumes_of_two_and_four_axes(tmp_path: Path, rng):
    for dimension in (1, 2, 4):
        shape = (3,) * dimension
        write(tmp_path / f"{dimension}/a/x.npy", npy(rng.random(shape)))
        report = import_volumes(tmp_path / str(dimension), tmp_path / "x.h5", 0.5, conversion=QUIET)
        with SparseDataset.open(report.path) as dataset:
            assert dataset.spatial_size == shape


@pytest.mark.parametrize(("options", "message"), [
    ({"spatial_size": (0, 3, 3)}, r"import: spatial_size is \(0, 3, 3\), expected 1 to 4 numbers"),
    ({"extensions": ["nii.gz"], "layout": "split/class"}, "does not have the name of a split"),
    ({"extensions": ["mha"]}, "contains no volume: .* ending in .mha"),
    ({"spatial_size": (1, 1, 1)}, "none of 4 volumes could be used: the first failed with: .* does not fit the grid"),
    ({"conversion": Conversion(strict=True, progress=False), "spatial_size": (1, 1, 1)}, "two.npy: it has the shape"),
])
def test_what_the_importer_refuses(tmp_path: Path, options, message, rng):
    with pytest.raises(ValueError, match=message):
        import_volumes(plant(tmp_path / "tree", rng), tmp_path / "x.h5", **{"conversion": QUIET} | options)
    assert not (tmp_path / "x.h5").exists()


def test_the_command(tmp_path: Path, rng):
    done = invoke("make-dataset", "volumes", plant(tmp_path / "tree", rng), tmp_path / "x.h5", "--threshold", 0.1,
                  "--spatial-size", 8, 8, 8, "--processes", 1, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{tmp_path / 'x.h5'}: 4 samples") and "grid: 8 x 8 x 8 cells" in done.stdout
