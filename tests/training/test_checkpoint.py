"""A checkpoint holds everything, survives a crash while written, and names what is wrong with a file."""

from __future__ import annotations

import os
import tomllib

import h5py
import numpy as np
import pytest

from sparsenet.files import arrays_digest, seal
from sparsenet.training.checkpoint import (
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    save_checkpoint,
)


@pytest.fixture
def checkpoint():
    rng = np.random.default_rng(0)
    weights = {"layers.10.weight": rng.normal(size=(8, 1, 3)).astype(np.float32),
               "layers.2.bias": rng.normal(size=3), "empty": np.zeros((0, 4), np.float32)}
    momentum = {name: array * 0.1 for name, array in weights.items()}
    history = [{"epoch": 0.0, "loss": 0.1 + 0.2}, {"epoch": 1.0, "loss": 1 / 3, "accuracy": 0.5}]
    return Checkpoint(weights, momentum, epoch=2, step=5, seconds=1.5, config="[data]\npath = \"é.h5\"\n",
                      classes=["chair", "stół"], running={"loss": 0.7, "samples": 12}, history=history,
                      dataset="beef", voxelization={"render_size": 40, "fill": True, "up_axis": "auto"},
                      processor="znver4", blas="openblas 0.3.31 SkylakeX")


def test_what_is_saved_is_loaded_bit_for_bit(tmp_path, checkpoint):
    save_checkpoint(tmp_path / "last.h5", checkpoint)
    loaded = load_checkpoint(tmp_path / "last.h5")
    for part in ("weights", "momentum"):
        ours, theirs = getattr(checkpoint, part), getattr(loaded, part)
        assert list(ours) == list(theirs)  # the order too
        for name in ours:
            assert ours[name].dtype == theirs[name].dtype
            np.testing.assert_array_equal(ours[name], theirs[name])
    for part in ("epoch", "step", "seconds", "config", "classes", "running", "history", "digest", "dataset",
                 "voxelization", "processor", "blas"):
        assert getattr(loaded, part) == getattr(checkpoint, part)


def test_the_config_text_in_the_file_says_how_meshes_were_made_voxels(tmp_path, checkpoint):
    save_checkpoint(tmp_path / "last.h5", checkpoint)
    with h5py.File(tmp_path / "last.h5") as file:
        text = file["config"].asstr()[()]
    assert tomllib.loads(text) == {"data": {"path": "é.h5"},
                                   "voxelization": {"render_size": 40, "fill": True, "up_axis": "auto"}}


def test_version_2_is_read_which_tells_neither_voxelization_nor_machine(tmp_path, checkpoint):
    checkpoint.voxelization = {}
    save_checkpoint(tmp_path / "last.h5", checkpoint)
    with h5py.File(tmp_path / "last.h5", "a") as file:
        file.attrs["version"] = 2
        for name in ("processor", "blas"):
            del file.attrs[name]
    seal(tmp_path / "last.h5")
    loaded = load_checkpoint(tmp_path / "last.h5")
    assert (loaded.voxelization, loaded.processor, loaded.blas, loaded.config) == ({}, "", "", checkpoint.config)


def test_a_section_that_is_not_toml_is_reported(tmp_path, checkpoint):
    checkpoint.voxelization, checkpoint.config = {}, f"\n[voxelization]\na = {'[' * 5000}"
    save_checkpoint(tmp_path / "last.h5", checkpoint)
    with pytest.raises(CheckpointError, match="last.h5: damaged .section .voxelization.: .*nested too deeply"):
        load_checkpoint(tmp_path / "last.h5")


def test_before_the_first_step_there_is_no_momentum_and_no_history(tmp_path):
    save_checkpoint(tmp_path / "last.h5", Checkpoint({"w": np.ones(2)}, {}, 0, 0, 0.0, "", []))
    loaded = load_checkpoint(tmp_path / "last.h5")
    assert loaded.momentum == {} and loaded.history == [] and loaded.running == {}


def test_no_trace_of_the_file_beside_is_left(tmp_path, checkpoint):
    save_checkpoint(tmp_path / "last.h5", checkpoint)
    save_checkpoint(tmp_path / "last.h5", checkpoint)
    assert os.listdir(tmp_path) == ["last.h5"]


def test_a_crash_while_writing_leaves_the_old_one_whole(tmp_path, checkpoint, monkeypatch):
    save_checkpoint(tmp_path / "last.h5", checkpoint)

    def crash(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", crash)
    checkpoint.epoch = 99
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path / "last.h5", checkpoint)
    assert load_checkpoint(tmp_path / "last.h5").epoch == 2
    assert os.listdir(tmp_path) == ["last.h5"]


def test_the_digest_sees_names_shapes_dtypes_and_bits_but_not_order():
    weights = {"a": np.arange(6, dtype=np.float32), "b": np.zeros(2)}
    digest = arrays_digest(weights)
    assert len(digest) == 64
    assert arrays_digest(dict(reversed(weights.items()))) == digest
    assert arrays_digest(weights | {"a": weights["a"].astype(">f4")}) == digest  # the same numbers stored otherwise
    for other in (weights["a"].reshape(2, 3), weights["a"].astype(np.float64), np.nextafter(weights["a"], 9)):
        assert arrays_digest(weights | {"a": other}) != digest


def test_a_file_that_is_absent_or_cut_short_or_no_hdf5_says_so(tmp_path, checkpoint):
    path = tmp_path / "last.h5"
    with pytest.raises(CheckpointError, match="last.h5: no such file"):
        load_checkpoint(path)
    save_checkpoint(path, checkpoint)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(CheckpointError, match="last.h5: truncated or damaged"):
        load_checkpoint(path)
    path.write_bytes(b"weights")
    with pytest.raises(CheckpointError, match="checkpoint .*last.h5: not an HDF5 file"):
        load_checkpoint(path)


def test_a_file_of_another_kind_or_from_the_future_says_so(tmp_path, checkpoint):
    path = tmp_path / "last.h5"
    save_checkpoint(path, checkpoint)
    with h5py.File(path, "a") as file:
        file.attrs["version"] = 99
    seal(path)
    with pytest.raises(CheckpointError, match="version 99.*update sparsenet"):
        load_checkpoint(path)
    with h5py.File(path, "a") as file:
        file.attrs["format"] = "sparsenet-voxels"
    seal(path)
    with pytest.raises(CheckpointError, match="'sparsenet-voxels', expected 'sparsenet-checkpoint'"):
        load_checkpoint(path)


@pytest.mark.parametrize("part", ["weights/layers.2.bias", "momentum/layers.2.bias", "history/loss"])
def test_a_changed_number_is_found(tmp_path, checkpoint, part):
    save_checkpoint(tmp_path / "last.h5", checkpoint)
    with h5py.File(tmp_path / "last.h5", "a") as file:
        file[part][0] += 1
    with pytest.raises(CheckpointError, match="last.h5: truncated or damaged .its sha256 does not match"):
        load_checkpoint(tmp_path / "last.h5")


@pytest.mark.parametrize("part", ["weights", "momentum"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_named(tmp_path, checkpoint, part, value):
    getattr(checkpoint, part)["layers.2.bias"][1] = value
    save_checkpoint(tmp_path / "last.h5", checkpoint)
    with pytest.raises(CheckpointError, match=f"last.h5: {part}/layers.2.bias contains NaN or infinity in 1 of 3"):
        load_checkpoint(tmp_path / "last.h5")


def without(file, name):
    if name in file:
        del file[name]


@pytest.mark.parametrize(("key", "value", "message"), [
    ("@epoch", 1.5, "epoch is 1.5, expected a whole number"), ("@epoch", -1, "epoch is -1, expected 0 or more"),
    ("@step", "one", "step is 'one', expected a whole number"), ("@seconds", "long", "seconds is 'long', expected a n"),
    ("@dataset", 3, "dataset is 3, expected a text"), ("@digest", 3, "digest is 3, expected a text"),
    ("config", 3, "config is int64"), ("config", ["a", "b"], "config is ndarray .2,., expected a text"),
    ("classes", [1, 2], "classes is int64 .2,."), ("classes", "cup", "classes is str"),
    ("running/loss", [1.0, 2.0], r"running/loss has shape \(2,\), expected one number"),
    ("running/loss", "low", "running/loss has dtype <U3, expected numbers"),
    ("history/loss", [1.0], r"history/(loss|accuracy) has shape .*one number per epoch"),
    ("history/loss", 1.0, r"history/loss has shape \(\), expected \(2,\)"),
    ("history/loss", ["a", "b"], "history/loss has dtype object, expected numbers"),
    ("weights/layers.2.bias", "text", "weights/layers.2.bias has dtype .*, expected numbers"),
    ("momentum/layers.2.bias", [1.0],
     r"momentum/layers.2.bias has shape \(1,\), expected that of the weight of this name"),
    ("momentum/other", [1.0], "momentum/other has shape"),
    ("momentum/layers.2.bias.mean", [1.0], "momentum/layers.2.bias.mean has shape"),
    ("momentum/layers.2.bias.steps", [1.0, 1.0, 1.0], "momentum/layers.2.bias.steps has shape"),
])
def test_wrong_kinds_and_shapes_are_one_line_with_file_and_key(tmp_path, checkpoint, key, value, message):
    path = tmp_path / "last.h5"
    save_checkpoint(path, checkpoint)
    with h5py.File(path, "a") as file:
        if key.startswith("@"):
            file.attrs[key[1:]] = value
        else:
            without(file, key)
            file[key] = value
    seal(path)
    with pytest.raises(CheckpointError, match=f"^checkpoint [^\n]*last.h5: damaged .{message}[^\n]*$"):
        load_checkpoint(path)


def test_version_1_is_read_whose_digest_is_of_the_weights_alone(tmp_path, checkpoint):
    path = tmp_path / "last.h5"
    save_checkpoint(path, checkpoint)
    with h5py.File(path, "a") as file:
        file.attrs["version"] = 1
        del file.attrs["dataset"]
    path.write_bytes(path.read_bytes()[512:])  # without the user block
    loaded = load_checkpoint(path)
    assert loaded.digest == checkpoint.digest and loaded.history == checkpoint.history and loaded.dataset == ""
    with h5py.File(path, "a") as file:
        file["weights/layers.2.bias"][0] += 1
    with pytest.raises(CheckpointError, match="the weights are damaged"):
        load_checkpoint(path)
