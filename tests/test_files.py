"""Files are always whole: written beside and renamed; what is not whole when read is one clear error."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from sparsenet import files
from sparsenet.files import (
    arrays_digest,
    check_folder,
    open_hdf5,
    read_hdf5,
    replacing,
    seal,
    size_text,
    write_hdf5,
    write_text,
)
from sparsenet.nn.weights_file import read_weights, write_weights
from sparsenet.retrieval import Descriptors, Index
from sparsenet.training import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint

KIND = {"sparsenet-test": 1}


def write(path):
    write_hdf5(path, "sparsenet-test", 1, {"answer": 42, "word": "ż"},
               {"a/second": np.arange(3), "a/first": np.zeros((0, 2), np.float32), "text": "long\ntext",
                "names": np.array(["x", "ył"], object), "none": np.array([], object)})


def test_what_is_written_is_read(tmp_path):
    write(tmp_path / "x.h5")
    found = read_hdf5(tmp_path / "x.h5", KIND)
    assert (found.kind, found.version, found.attribute("answer"), found.attribute("word")) == ("sparsenet-test", 1, 42,
                                                                                               "ż")
    assert list(found.group("a")) == ["second", "first"] and found.array("text") == "long\ntext"
    assert found.array("names").tolist() == ["x", "ył"] and found.array("none").tolist() == []
    np.testing.assert_array_equal(found.group("a")["second"], np.arange(3))
    with pytest.raises(ValueError, match="x.h5: damaged .b is missing."):
        found.array("b")


def test_a_new_file_takes_the_old_one_s_place_when_it_is_whole(tmp_path, monkeypatch):
    path, done = tmp_path / "x.txt", []
    write_text(path, "old")
    replace = os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: done.append("sync"))
    monkeypatch.setattr(os, "replace", lambda *names: (done.append("rename"), replace(*names)))
    with replacing(path) as beside:
        beside.write_text("new")
        assert path.read_text() == "old" and beside.parent == tmp_path
        with replacing(path) as other:
            assert other != beside
            other.write_text("between")
        assert path.read_text() == "between"
    assert path.read_text() == "new" and [p.name for p in tmp_path.iterdir()] == ["x.txt"]
    assert done[:2] == ["sync", "rename"]  # and then the folder


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_fails_leaves_the_old_file_and_no_other(tmp_path, error):
    write_text(tmp_path / "x.txt", "old")
    with pytest.raises(error), replacing(tmp_path / "x.txt") as beside:
        beside.write_text("half")
        raise error
    assert [p.name for p in tmp_path.iterdir()] == ["x.txt"] and (tmp_path / "x.txt").read_text() == "old"


def part_of(path, process, machine=None):
    """A file as a process that was killed leaves it."""
    part = path.with_name(f".{path.name}.{machine or files._machine()}.{process}.0123abcd.part")
    part.write_text("half")
    return part


def dead_process():
    return subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True,
                          check=True).stdout.strip()


@pytest.mark.skipif(os.name != "posix", reason="elsewhere parts are left alone")
def test_parts_of_killed_processes_are_removed(tmp_path):
    dead = dead_process()
    stale = [part_of(tmp_path / name, dead) for name in ("x.txt", "other.h5", "two.dots.h5")]
    kept = [part_of(tmp_path / "x.txt", os.getpid()), part_of(tmp_path / "x.txt", 1),
            part_of(tmp_path / "x.txt", dead, "0123abcd"), part_of(tmp_path / "x.txt", 10**30)]
    own = tmp_path / f".mine.{files._machine()}.{dead}.part"
    own.touch()
    write_text(tmp_path / "x.txt", "new")
    assert not any(path.exists() for path in stale) and own.exists()
    assert all(path.read_text() == "half" for path in kept)


@pytest.mark.skipif(os.name != "posix", reason="elsewhere parts are left alone")
def test_what_replacing_writes_is_known_as_a_part_while_it_lives(tmp_path):
    with replacing(tmp_path / "x.txt") as beside:
        beside.write_text("new")
        name = files._PART.fullmatch(beside.name)
        assert int(name["process"]) == os.getpid() and name["machine"] == files._machine()
        write_text(tmp_path / "y.txt", "another")  # by the same process: it removes nothing that is being written
        assert beside.exists()


def test_a_folder_that_cannot_be_written_to_is_reported_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)  # root may write anywhere
    with pytest.raises(PermissionError, match=f"x.h5: the folder {tmp_path} cannot be written to"):
        check_folder(tmp_path / "x.h5")


def test_an_error_names_the_file_and_not_its_part(tmp_path):
    for given in (str, Path):  # the system gives back the name that a file was opened by
        with pytest.raises(OSError, match="No space left on device: '.*/x.txt'"), (
                replacing(tmp_path / "x.txt")) as beside:
            raise OSError(28, "No space left on device", given(beside))


@pytest.mark.parametrize(("size", "text"), [(0, "0 bytes"), (312, "312 bytes"), (999, "999 bytes"), (1000, "1.0 kB"),
                                            (4_549, "4.5 kB"), (999_949, "999.9 kB"), (999_950, "1.0 MB"),
                                            (12_000_000, "12.0 MB"), (3_210_000_000, "3.2 GB")])
def test_sizes_in_words(size, text):
    assert size_text(size) == text


def test_a_file_that_cannot_be_written_is_reported_before_the_work(tmp_path):
    with pytest.raises(FileNotFoundError, match="the folder .*absent does not exist: make it"), (
            replacing(tmp_path / "absent" / "x")):
        pytest.fail("the block must not begin")
    with pytest.raises(IsADirectoryError, match="is a folder"), replacing(tmp_path):
        pytest.fail("the block must not begin")


def test_headers_are_checked(tmp_path):
    path = tmp_path / "x.h5"
    with pytest.raises(FileNotFoundError, match="x.h5: no such file, expected one of format 'sparsenet-test'"):
        open_hdf5(path, KIND)
    for content in (b"", b"no HDF5"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="x.h5: not an HDF5 file"):
            open_hdf5(path, KIND)
    for attributes, message in (({}, "its format is None"), ({"format": 3}, "its format is"),
                                ({"format": "sparsenet-test"}, "its version is None"),
                                ({"format": "sparsenet-test", "version": "one"}, "its version is 'one'"),
                                ({"format": "sparsenet-test", "version": 2}, "version 2, this package reads up to 1")):
        with h5py.File(path, "w") as file:
            file.attrs.update(attributes)
        with pytest.raises(ValueError, match=message):
            open_hdf5(path, KIND)


def test_the_digest_depends_on_names_kinds_shapes_and_values():
    given = {"a": np.arange(4), "b": np.array(["x", "y"])}
    digests = [arrays_digest(given), arrays_digest({"a": given["a"]}), arrays_digest(given | {"a": [0, 1, 2, 4]}),
               arrays_digest(given | {"b": np.array(["x", "z"])}),
               arrays_digest(given | {"a": np.arange(4).reshape(2, 2)})]
    assert len(set(digests)) == 5 and digests[0] == arrays_digest(dict(reversed(given.items())))


def weights():
    return {"convolution1.weight": np.arange(24, dtype=np.float32).reshape(8, 1, 3), "convolution1.bias": np.ones(3)}


def save_weights(path):
    write_weights(path, weights())


def save_training(path):
    save_checkpoint(path, Checkpoint(weights(), weights(), 1, 2, 3.5, "[data]\npath = 'a.h5'\n", ["cup", "bed"],
                                     {"loss": 1.5}, [{"epoch": 1.0, "loss": 0.5}], "beef"))


def save_descriptors(path):
    Descriptors(np.arange(12.0).reshape(4, 3), [0, 1, -1, 0], ["a", "b", "c", "d"], ["cup", "bed"], "beef").save(path)


def save_index(path):
    index = Index()
    index.add(np.arange(12.0).reshape(4, 3))
    index.save(path)


@pytest.mark.parametrize(("save", "load"), [(save_weights, read_weights), (save_training, load_checkpoint),
                                            (save_descriptors, Descriptors.load), (save_index, Index.load)])
def test_a_byte_that_changed_anywhere_is_one_clear_error(tmp_path, save, load, rng):
    path = tmp_path / "x.h5"
    save(path)
    whole = path.read_bytes()
    for place in rng.choice(len(whole), 250, replace=False):
        damaged = bytearray(whole)
        damaged[place] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="^[^\n]*x.h5: [^\n]*damaged[^\n]*$"):
            load(path)
    for length in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="x.h5: "):
            load(path)


def test_damage_of_a_checkpoint_is_a_checkpoint_error(tmp_path):
    save_weights(tmp_path / "weights.h5")
    with pytest.raises(CheckpointError, match="its format is 'sparsenet-weights', expected 'sparsenet-checkpoint'"):
        load_checkpoint(tmp_path / "weights.h5")
    save_training(tmp_path / "last.h5")
    assert read_weights(tmp_path / "last.h5").keys() == weights().keys()


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_weights_that_are_not_finite_are_named(tmp_path, value):
    write_weights(tmp_path / "x.h5", weights() | {"convolution1.bias": np.array([1.0, value, 2.0])})
    with pytest.raises(ValueError, match="x.h5: weights/convolution1.bias contains NaN or infinity in 1 of 3 numbers"):
        read_weights(tmp_path / "x.h5")


@pytest.mark.parametrize(("save", "load"), [(save_weights, read_weights), (save_training, load_checkpoint),
                                            (save_descriptors, Descriptors.load), (save_index, Index.load)])
def test_a_small_file_of_a_stranger_is_refused_although_it_is_sealed(tmp_path, save, load):
    path = tmp_path / "x.h5"
    save(path)
    with h5py.File(path, "a") as file:
        file["weights/bad" if "weights" in file else "bad"] = h5py.ExternalLink("other.h5", "/x")
    seal(path)
    with pytest.raises(ValueError, match="x.h5: truncated or damaged .(weights/)?bad is a link to another file"):
        load(path)


@pytest.mark.parametrize(("key", "value", "message"), [
    ("@metric", 3, "metric is 3, expected a text"), ("@metric", "x", "metric is 'x', expected one of cosine, l2"),
    ("vectors", np.full((2, 2), np.nan), "vectors have NaN.*first in row 0"), ("vectors", "x", "vectors is str"),
    ("vectors", np.ones(3), "vectors is float64 .3,., expected 2 axes"),
])
def test_wrong_contents_of_an_index_are_named(tmp_path, key, value, message):
    path = tmp_path / "x.h5"
    save_index(path)
    with h5py.File(path, "a") as file:
        if key.startswith("@"):
            file.attrs[key[1:]] = value
        else:
            del file[key]
            file[key] = value
    seal(path)
    with pytest.raises(ValueError, match=f"^[^\n]*x.h5: [^\n]*{message}[^\n]*$"):
        Index.load(path)


@pytest.mark.parametrize("save", [save_weights, save_training])
def test_weights_of_another_digest_are_refused(tmp_path, save):
    path = tmp_path / "x.h5"
    save(path)
    with h5py.File(path, "a") as file:
        assert file.attrs["digest"] == arrays_digest(weights())
        file["weights/convolution1.bias"][0] = 7
    with pytest.raises(ValueError, match="load_weights: .*x.h5: truncated or damaged .its sha256"):
        read_weights(path)
    seal(path)
    with pytest.raises(ValueError, match="load_weights: .*x.h5: the weights are damaged"):
        read_weights(path)
