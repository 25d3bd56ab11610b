"""Trainings of a second, on voxels of noisy bars, plates and crosses; and ways to stop them."""

from __future__ import annotations

import os
import signal
from itertools import count

import numpy as np

from sparsenet.data import SparseDataset
from sparsenet.data.sample import Sample
from sparsenet.training import loop
from sparsenet.training.checkpoint import load_checkpoint

CLASSES = ["bar", "plate", "cross"]
TEXT = """
[data]
path = "{path}"
render_size = 0
workers = 0
validation_share = 0.2
[network]
channels = [4, 6, 8]
dropout = 0.2
[training]
epochs = 2
batch_size = 8
[optimizer]
lr = 0.2
momentum = 0.9
dampening = 0.9
[augmentation]
shift = 0.15
"""
TRIPLETS = ["loss.kind=triplet", "loss.triplets_per_batch=6"]
MINED = ["loss.mining=hard", "training.batch_size=9", "loss.classes_per_batch=3"]


def shape(label, rng):
    """(n, 3) cells of a noisy bar, plate or cross in a grid of 8."""
    grid = np.zeros((8, 8, 8), bool)
    a, b = rng.integers(1, 7, 2)
    grid[a, b, :] = True
    if label == 1:
        grid[a, :, :] = True
    if label == 2:
        grid[a, :, b] = True
        grid[:, b, b] = True
    grid ^= rng.random(grid.shape) < 0.01
    return np.argwhere(grid).astype(np.int32)


def make(path, seed=6, **objects):
    """A dataset with this many objects in each split."""
    rng = np.random.default_rng(seed)
    numbers = count()

    def samples():
        for split, several in objects.items():
            for i in range(several):
                number, label = next(numbers), i % 3
                for pose in range(2):
                    cells = shape(label, rng) if i else np.zeros((0, 3), np.int32)
                    yield Sample(cells, label, f"{split}/{CLASSES[label]}_{i:02d}", split, number, pose)

    SparseDataset.create(path, samples(), (8, 8, 8), 8, CLASSES).close()
    return path


def run(config, out, **options):
    options.setdefault("say", lambda line: None)
    return loop.train(config, out, progress=False, **options)


def bits(out, name="last.h5"):
    """The exact final state of a run: weights, their average, momentum and the losses."""
    state = load_checkpoint(out / name)
    arrays = {f"{part}/{name}": array.tobytes() for part in ("weights", "latest", "momentum")
              for name, array in getattr(state, part).items()}
    figures = [{name: value for name, value in row.items() if name in ("loss", "accuracy", "lr", "validation_loss",
                                                                       "validation_accuracy", "validation_mAP")}
               for row in state.history]
    return arrays, figures, state.epoch, state.step, state.updates


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def stop_in_step(monkeypatch, number, how):
    """Make `how()` happen in the middle of the step of that number, counted from 1."""
    real, calls = loop.loss_of, count(1)

    def loss_of(*arguments):
        if next(calls) == number:
            how()
        return real(*arguments)

    monkeypatch.setattr(loop, "loss_of", loss_of)


def interrupt_within(monkeypatch, name, number=1):
    """Make Ctrl-C come at the beginning of call `number` of a function of the loop, counted from 1."""
    real, calls = getattr(loop, name), count(1)

    def function(*arguments):
        if next(calls) == number:
            interrupt()
        return real(*arguments)

    monkeypatch.setattr(loop, name, function)


def validating(monkeypatch, *figures):
    """Make the validations of a training these, one after the other: (accuracy, loss)."""
    rows = iter(figures)
    monkeypatch.setattr(loop, "validate", lambda *_: dict(zip(("validation_accuracy", "validation_loss"), next(rows),
                                                           strict=True)))
