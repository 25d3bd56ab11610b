"""A checkpoint: everything a training needs to go on with the same bits, in one HDF5 file.

    attributes   format, version, epoch, step, seconds, digest, momentum_digest
    config, classes                 the full config text; the class names by label
    weights/NAME, momentum/NAME     arrays, by parameter name
    running/NAME                    sums of the epoch under way
    history/NAME                    (epochs done,) float64; NaN where an epoch has no such figure

Nothing is pickled, so a file from a stranger can hold no code.  Randomness is keyed by (seed,
epoch, sample): the seed in the config, `epoch` and `step` are its whole state.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

FORMAT, VERSION = "sparsenet-checkpoint", 1


class CheckpointError(ValueError):
    """A file that is no whole checkpoint, or not one of this experiment."""


@dataclass
class Checkpoint:
    """The state of a training between two steps.

    weights, momentum : name -> array; momentum is empty before the first step.
    epoch, step : the epoch under way (from 0), and how many of its batches are done.
    seconds : training time so far.
    config : the full config text (`Config.text`).
    classes : the class names, by label.
    running : sums of the epoch under way, by name.
    history : one dict of figures per finished epoch.
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

    @property
    def digest(self) -> str:
        """sha256 of the weights (see `weights_digest`)."""
        return weights_digest(self.weights)


def weights_digest(weights: dict[str, np.ndarray]) -> str:
    """sha256, in hexadecimal, of names, dtypes, shapes and bits, whatever the order of the dict."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        array = np.asarray(weights[name])
        array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def save_checkpoint(path: str | Path, checkpoint: Checkpoint) -> None:
    """Write the file beside, sync it, rename it: at every moment `path` is a whole checkpoint."""
    import h5py

    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with h5py.File(beside, "w") as file:
            file.attrs.update({"format": FORMAT, "version": VERSION, "epoch": checkpoint.epoch,
                               "step": checkpoint.step, "seconds": checkpoint.seconds,
                               "digest": checkpoint.digest,
                               "momentum_digest": weights_digest(checkpoint.momentum)})
            file["config"] = checkpoint.config  # a dataset: attributes end at 64 KiB
            file.create_dataset("classes", data=np.array(checkpoint.classes, object),
                                dtype=h5py.string_dtype("utf-8"))
            names = list(dict.fromkeys(name for row in checkpoint.history for name in row))
            columns = {name: np.array([row.get(name, np.nan) for row in checkpoint.history], np.float64)
                       for name in names}
            running = {name: np.float64(value) for name, value in checkpoint.running.items()}
            for group, arrays in (("weights", checkpoint.weights), ("momentum", checkpoint.momentum),
                                  ("running", running), ("history", columns)):
                file.create_group(group, track_order=True)
                for name, array in arrays.items():
                    file[group][name] = array
        with open(beside, "rb") as written:
            os.fsync(written.fileno())
        os.replace(beside, path)
        _sync_folder(path.parent)
    finally:
        beside.unlink(missing_ok=True)


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read and verify a checkpoint.

    Raises
    ------
    CheckpointError : the file is absent, no HDF5, damaged, of another kind, or of a newer version.
    """
    import h5py

    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"checkpoint {path}: no such file")
    try:
        with h5py.File(path, "r") as file:
            kind, version = file.attrs.get("format"), file.attrs.get("version")
            if kind != FORMAT:
                raise CheckpointError(f"checkpoint {path}: its format is {kind!r}, expected {FORMAT!r}")
            if version > VERSION:
                raise CheckpointError(f"checkpoint {path}: version {version}, this package reads up to "
                                      f"{VERSION}: update sparsenet")
            checkpoint = Checkpoint(
                weights=_arrays(file["weights"]), momentum=_arrays(file["momentum"]),
                epoch=int(file.attrs["epoch"]), step=int(file.attrs["step"]),
                seconds=float(file.attrs["seconds"]), config=file["config"].asstr()[()],
                classes=file["classes"].asstr()[()].tolist(),
                running={name: float(value) for name, value in _arrays(file["running"]).items()},
                history=_rows(_arrays(file["history"])),
            )
            stated = {"weights": file.attrs["digest"], "momentum": file.attrs["momentum_digest"]}
    except (OSError, KeyError, RuntimeError) as error:
        raise CheckpointError(f"checkpoint {path}: not a whole checkpoint file ({error})") from error
    for part, arrays in (("weights", checkpoint.weights), ("momentum", checkpoint.momentum)):
        if weights_digest(arrays) != stated[part]:
            raise CheckpointError(f"checkpoint {path}: the {part} are damaged (their sha256 is not the one "
                                  "that the file states)")
    return checkpoint


def _arrays(group: Any) -> dict[str, np.ndarray]:
    """Datasets of a group by name, in the order they were written."""
    return {name: dataset[()] for name, dataset in group.items()}


def _rows(columns: dict[str, np.ndarray]) -> list[dict[str, float]]:
    length = len(next(iter(columns.values()))) if columns else 0
    return [{name: float(column[i]) for name, column in columns.items() if not np.isnan(column[i])}
            for i in range(length)]


def _sync_folder(folder: Path) -> None:
    """Make the rename itself outlive a power cut (where folders can be opened: not on Windows)."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
