"""How a training continues where it stopped, and what it says about that."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sparsenet.toml import shortened
from sparsenet.training.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from sparsenet.training.config import ConfigError, parse_config
from sparsenet.training.evaluation import score
from sparsenet.training.schema import Config

if TYPE_CHECKING:
    from sparsenet.data import SparseDataset

# Keys (and all of [evaluation]) that may be others when a training is resumed.
MAY_CHANGE = ("data.path", "data.workers", "training.epochs", "training.device", "training.precision",
              "training.tiles", "training.validate_every",
              "training.checkpoint_seconds", "training.max_seconds", "training.detect_anomaly")


def load_resumable(path: Path, config: Config, training_set: SparseDataset) -> Checkpoint:
    """The checkpoint, if its training went by the same config (but for MAY_CHANGE) and dataset.

    Raises
    ------
    CheckpointError, ConfigError : it is damaged; keys differ (all are named, with both values), or the dataset does.
    """
    state = load_checkpoint(path)
    trained = _config_of(state, path)
    differing = [key for key in trained.differences(config) if not _may_change(key, config)]
    if differing:
        what = ", ".join(f"{key} is {shortened(config.shown(key))} and was {shortened(trained.shown(key))}"
                         for key in differing)
        why = " (the cosine schedule's rates depend on the epochs)" if "training.epochs" in differing else ""
        raise ConfigError(f"config: not what {path} was trained with: {what}{why}: set that back, or start anew in "
                          "another folder")
    # Files of before the dataset's digest was kept state "".
    if state.classes != training_set.classes or state.dataset not in ("", training_set.digest):
        raise ConfigError(f"config: {path} was trained on another dataset than {training_set.path} holds: set "
                          "data.path back, or start anew in another folder")
    return state


def _config_of(state: Checkpoint, path: Path) -> Config:
    """A checkpoint states every key: one without data.validation_share was trained on the whole training split."""
    older = [] if "\nvalidation_share = " in state.config else ["data.validation_share=0"]
    return parse_config(state.config, str(path), older)


def _may_change(key: str, config: Config) -> bool:
    if key == "training.epochs" and config.schedule.kind == "cosine":
        return False
    return key in MAY_CHANGE or key.startswith("evaluation.")


def score_of(best: Path) -> tuple[float, float] | None:
    """The validation of the epoch that best.h5 is of; None if there is none, or no such file.

    Raises CheckpointError if it is damaged.
    """
    if not best.exists():
        return None
    try:
        history = load_checkpoint(best).history
    except CheckpointError as error:
        raise CheckpointError(f"{error}; without it the best of the epochs to come is kept") from None
    return score(history[-1]) if history else None


def resumption_lines(state: Checkpoint, last: Path, has_best: bool, machine: dict[str, str], epochs: int) -> list[str]:
    """What to know when a training continues: where, on which other machine, and without what.

    machine : "processor" and "blas" of this one
    epochs : training.epochs
    """
    if state.epoch >= epochs:
        return [f"{last} has {state.epoch} epochs behind it, and training.epochs is {epochs}: it is only evaluated"]
    lines = [f"resuming {last} at epoch {state.epoch + 1}, batch {state.step + 1}"]
    others = [f"{name} {getattr(state, name)!r}, here {value!r}" for name, value in machine.items()
              if getattr(state, name) not in ("", value)]
    if others:
        lines.append(f"note: it was written on another machine ({'; '.join(others)}): the bits from here on may differ "
                     "from those of a training without a stop")
    if not has_best and any(score(row) for row in state.history):
        lines.append("note: best.h5 is not there, or of no validated epoch: the best of the epochs to come is kept")
    return lines


@contextmanager
def resumption_told(out: Path, say: Callable[[str], None]) -> Iterator[None]:
    """After Ctrl-C within it say how to continue the training in the folder `out`."""
    try:
        yield
    except KeyboardInterrupt:
        last = out / "last.h5"
        say(f"stopped, {last} is whole; to continue: sparsenet train {shlex.quote(str(out / 'config.toml'))} "
            f"--out {shlex.quote(str(out))} --resume" if last.exists() else
            "stopped before the first checkpoint: there is nothing to resume")
        raise
