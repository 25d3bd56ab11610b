"""A checkpoint: everything needed to resume training with the same bits, in one HDF5 file.

    attributes   format, version, epoch, step, seconds, dataset, digest (of the weights), processor, blas
    config, classes                 the full config text, ending in a section [voxelization]; the class names by
                                    label
    class_counts                    training samples of each class
    check/NAME                      of a model that is shipped: the `cells` of a shape, and its `descriptor`
    weights/NAME, momentum/NAME     arrays, by parameter name; of Adam momentum/NAME.mean and NAME.square (of AMSGrad
                                    NAME.maximum, too), and in NAME.steps the steps of the parameter
    loss/NAME                       what the loss learned beside the network (centres, proxies, a projection), whose
                                    momentum is momentum/loss.NAME
    latest/NAME                     if the weights are a moving average (attribute updates: of so many steps), those
                                    that the last step gave
    running/NAME                    sums of the current epoch
    history/NAME                    (epochs done,) float64; NaN for an epoch without this figure

Nothing is pickled, so an untrusted file cannot contain code.  Randomness is keyed by (seed,
epoch, sample): the seed in the config, `epoch` and `step` are the entire random state.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sparsenet.files import Contents, arrays_digest, read_hdf5, write_hdf5
from sparsenet.nn.weights_file import CHECKPOINT_FORMAT, CHECKPOINT_VERSION, weights_of
from sparsenet.toml import TomlError, as_toml, parse_toml

_VOXELIZATION = "\n[voxelization]\n"


class CheckpointError(ValueError):
    """The file is not a complete checkpoint, or belongs to another experiment."""


@dataclass
class Checkpoint:
    """The state of training between two steps.

    weights, momentum : name -> array; momentum is the state of the optimizer, empty before the first step.  With
        optimizer.ema the weights are the moving average: those that were evaluated, and that the network is used with.
    latest, updates : with optimizer.ema the weights after the last step, from which training goes on, and the number of
        updates of the average; otherwise empty and 0.
    loss : name -> array, what the loss learned beside the network; empty if nothing.
    epoch, step : the current epoch (from 0), and how many of its batches are done.
    seconds : training time so far.
    config : the full config text (`Config.text`), without the section [voxelization] that ends it in the file.
    classes : the class names, by label.
    running : sums of the current epoch, by name.
    history : one dict of figures per finished epoch.
    dataset : digest of the training dataset's file (`SparseDataset.digest`), "" if unknown.
    voxelization : how the dataset's meshes were voxelized: "render_size", "fill", "up_axis",
        and "turns" if not 1 (`sparsenet.shapes.Voxelization`); empty if unknown.
    class_counts : training samples of each class, empty if unknown.
    check : "cells" (n, 3) of a shape and its "descriptor" (C,), by which a shipped model is checked; otherwise empty.
    processor, blas : the machine that wrote it (`sparsenet.kernels.cpu.machine`), "" if unknown.
    """

    weights: dict[str, np.ndarray]
    momentum: dict[str, np.ndarray]
    epoch: int
    step: int
    seconds: float
    config: str
    classes: list[str]
    running: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    dataset: str = ""
    voxelization: dict[str, int | bool | str] = field(default_factory=dict)
    processor: str = ""
    blas: str = ""
    latest: dict[str, np.ndarray] = field(default_factory=dict)
    updates: int = 0
    class_counts: list[int] = field(default_factory=list)
    loss: dict[str, np.ndarray] = field(default_factory=dict)
    check: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """sha256 of the weights (see `arrays_digest`)."""
        return arrays_digest(self.weights)


def save_checkpoint(path: str | Path, checkpoint: Checkpoint) -> None:
    """Write a temporary file, sync it and rename it, so `path` is a complete checkpoint at every moment."""
    names = list(dict.fromkeys(name for row in checkpoint.history for name in row))
    groups = {
        "weights": checkpoint.weights, "momentum": checkpoint.momentum, "latest": checkpoint.latest,
        "loss": checkpoint.loss, "check": checkpoint.check,
        "running": {name: np.float64(value) for name, value in checkpoint.running.items()},
        "history": {name: np.array([row.get(name, np.nan) for row in checkpoint.history]) for name in names},
    }
    arrays = {f"{group}/{name}": array for group, of_group in groups.items() for name, array in of_group.items()}
    if checkpoint.class_counts:
        arrays["class_counts"] = np.array(checkpoint.class_counts, np.int64)
    # The config is not an attribute, because attributes are limited to 64 KiB.
    arrays |= {"config": _joined(checkpoint), "classes": np.array(checkpoint.classes, object)}
    attributes = {name: getattr(checkpoint, name)
                  for name in ("epoch", "step", "seconds", "dataset", "digest", "processor", "blas", "updates")}
    write_hdf5(path, CHECKPOINT_FORMAT, CHECKPOINT_VERSION, attributes, arrays)


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read and verify a checkpoint.

    Raises
    ------
    CheckpointError : the file is missing, not HDF5, damaged, of another kind or of a newer version, or its weights or
        momentum contain NaN or infinity.
    """
    try:
        # Files of version 1 are not sealed and do not identify the dataset.
        found = read_hdf5(path, {CHECKPOINT_FORMAT: CHECKPOINT_VERSION}, unsealed=[(CHECKPOINT_FORMAT, 1)])
        config, voxelization = _parted(found.text("config"), path)
        return Checkpoint(
            weights=weights_of(found), momentum=_momentum(found), epoch=_count(found, "epoch"),
            step=_count(found, "step"), seconds=float(found.attribute("seconds", float)), config=config,
            classes=found.texts("classes"), running=_running(found), history=_rows(found),
            dataset=found.attribute("dataset", str, ""), voxelization=voxelization,
            processor=found.attribute("processor", str, ""), blas=found.attribute("blas", str, ""),
            latest=_like_weights(found, "latest"), updates=found.attribute("updates", int, 0),
            class_counts=_class_counts(found), loss=found.finite_group("loss"),
            check=found.finite_group("check"))
    except (FileNotFoundError, ValueError) as error:
        raise CheckpointError(f"checkpoint {error}") from error


def _joined(checkpoint: Checkpoint) -> str:
    """The config text, followed by the section [voxelization]."""
    lines = [f"{name} = {as_toml(value)}" for name, value in checkpoint.voxelization.items()]
    return checkpoint.config + _VOXELIZATION + "\n".join([*lines, ""]) if lines else checkpoint.config


def _parted(text: str, path: str | Path) -> tuple[str, dict[str, int | bool | str]]:
    """The config text, and the entries of its section [voxelization]; empty for files from before it existed."""
    config, _, section = text.partition(_VOXELIZATION)
    try:
        return config, parse_toml(section)
    except TomlError as error:
        raise ValueError(f"{path}: damaged (section [voxelization]: {error}): make it again") from None


def _count(found: Contents, name: str) -> int:
    count = found.attribute(name, int)
    if count < 0:
        raise found.wrong(f"{name} is {count}, expected 0 or more")
    return count


def _class_counts(found: Contents) -> list[int]:
    """The training samples of each class; empty for files from before they were stored."""
    if "class_counts" not in found.arrays:
        return []
    counts = found.array("class_counts", "iu", 1).tolist()
    if len(counts) != len(found.texts("classes")) or min(counts) < 0:
        raise found.wrong(f"class_counts are {counts}, expected a number of samples for each class")
    return counts


def _like_weights(found: Contents, group: str) -> dict[str, np.ndarray]:
    """The arrays of a group, each of the shape of the weight of its name."""
    arrays, weights = found.finite_group(group), found.group("weights")
    for name, array in arrays.items():
        if name not in weights or np.shape(array) != np.shape(weights[name]):
            raise found.wrong(f"{group}/{name} has shape {np.shape(array)}, expected that of the weight of this name")
    return arrays


def _momentum(found: Contents) -> dict[str, np.ndarray]:
    """The arrays of the optimizer, each of the shape of the weight NAME or loss.NAME that it is named after, and the
    numbers NAME.steps."""
    arrays = found.finite_group("momentum")
    weights = found.group("weights") | {f"loss.{name}": array for name, array in found.group("loss").items()}
    for name, array in arrays.items():
        owner, _, kept = (name, "", "") if name in weights else name.rpartition(".")
        if owner not in weights or np.shape(array) != (() if kept == "steps" else np.shape(weights[owner])):
            raise found.wrong(f"momentum/{name} has shape {np.shape(array)}, expected that of the weight of this name")
    return arrays


def _running(found: Contents) -> dict[str, float]:
    running = found.group("running")
    for name, value in running.items():
        if np.ndim(value):
            raise found.wrong(f"running/{name} has shape {np.shape(value)}, expected one number")
    return {name: float(value) for name, value in running.items()}


def _rows(found: Contents) -> list[dict[str, float]]:
    columns = found.group("history")
    length = next((len(column) for column in columns.values() if np.ndim(column)), 0)
    for name, column in columns.items():
        if np.shape(column) != (length,):
            raise found.wrong(f"history/{name} has shape {np.shape(column)}, expected ({length},), one number "
                              "per epoch")
    return [{name: float(column[i]) for name, column in columns.items() if not np.isnan(column[i])}
            for i in range(length)]
