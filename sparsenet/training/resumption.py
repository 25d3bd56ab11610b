"""Resuming a run from its last checkpoint, and the messages about it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sparsenet.toml import shortened
from sparsenet.training.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from sparsenet.training.config import ConfigError, parse_config
from sparsenet.training.evaluation import score, stalled
from sparsenet.training.losses import class_names
from sparsenet.training.schema import Config

if TYPE_CHECKING:
    from sparsenet.data import SparseDataset

# Keys that may change when a run is resumed, besides all of [evaluation].
MAY_CHANGE = ("data.path", "data.workers", "training.epochs", "training.device", "training.precision",
              "training.loss_scale", "training.recompute", "training.tiles",
              "training.validate_every", "training.checkpoint_seconds", "training.max_seconds",
              "training.detect_anomaly", "training.patience")


def load_resumable(path: Path, config: Config, training_set: SparseDataset) -> Checkpoint:
    """The checkpoint, if its run had the same config (except the keys in MAY_CHANGE) and dataset.

    Raises
    ------
    CheckpointError, ConfigError : it is damaged; keys differ (all are named, with both values); the dataset differs.
    """
    state = load_checkpoint(path)
    trained = _config_of(state, path)
    differing = [key for key in trained.differences(config) if not _may_change(key, config)]
    if differing:
        what = ", ".join(f"{key} is {shortened(config.shown(key))} and was {shortened(trained.shown(key))}"
                         for key in differing)
        why = " (the cosine schedule's rates depend on the epochs)" if "training.epochs" in differing else ""
        raise ConfigError(f"config: not what {path} was trained with: {what}{why}: change that back, or start again in "
                          "another folder")
    # The digest is "" in files from before it was stored.
    if state.classes != class_names(config, training_set) or state.dataset not in ("", training_set.digest):
        raise ConfigError(f"config: {path} was not trained on the dataset in {training_set.path}: change data.path "
                          "back, or start again in another folder")
    return state


def _config_of(state: Checkpoint, path: Path) -> Config:
    """The config of a checkpoint, which states every key; before data.validation_share existed its value was 0."""
    older = [] if "\nvalidation_share = " in state.config else ["data.validation_share=0"]
    return parse_config(state.config, str(path), older)


def _may_change(key: str, config: Config) -> bool:
    if key == "training.epochs" and config.schedule.kind == "cosine":
        return False
    return key in MAY_CHANGE or key.startswith("evaluation.")


def score_of(best: Path) -> tuple[float, float] | None:
    """The `score` of the epoch in best.h5; None if it was not validated or the file does not exist.

    Raises CheckpointError if it is damaged.
    """
    if not best.exists():
        return None
    try:
        history = load_checkpoint(best).history
    except CheckpointError as error:
        raise CheckpointError(f"{error}; if you remove it, the best of the coming epochs is kept") from None
    return score(history[-1]) if history else None


def resumption_lines(state: Checkpoint, last: Path, has_best: bool, machine: dict[str, str],
                     config: Config) -> list[str]:
    """The messages when a run is resumed: its position, and notes about another machine or a missing best.h5.

    machine : "processor" and "blas" of this machine
    """
    epochs = config.training.epochs
    if stalled(state.history, config.training.patience):
        return [f"{last} stopped early after {state.epoch} epochs (training.patience): it is only evaluated"]
    if state.epoch >= epochs:
        return [f"{last} has finished {state.epoch} epochs, and training.epochs is {epochs}: it is only evaluated"]
    lines = [f"resuming {last} at epoch {state.epoch + 1}, batch {state.step + 1}"]
    others = [f"{name} {getattr(state, name)!r}, here {value!r}" for name, value in machine.items()
              if getattr(state, name) not in ("", value)]
    if others:
        lines.append(f"note: it was written on another machine ({'; '.join(others)}): from here on the bits may differ "
                     "from those of an uninterrupted run")
    before = parse_config(state.config, str(last)).training.precision
    if before != config.training.precision:
        lines.append(f"note: training.precision is {config.training.precision} and was {before}: from here on the bits "
                     "differ from those of an uninterrupted run")
    if not has_best and any(score(row) for row in state.history):
        lines.append("note: best.h5 is missing or was not validated: the best of the coming epochs is kept")
    return lines


@contextmanager
def resumption_told(out: Path, say: Callable[[str], None]) -> Iterator[None]:
    """A context that, after Ctrl-C, says how to resume the run in the folder `out`."""
    try:
        yield
    except KeyboardInterrupt:
        last = out / "last.h5"
        say(f"stopped; {last} is complete; to continue: sparsenet train {shlex.quote(str(out / 'config.toml'))} "
            f"--out {shlex.quote(str(out))} --resume" if last.exists() else
            "stopped before the first checkpoint: there is nothing to resume")
        raise
