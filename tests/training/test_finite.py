"""NaN and infinity end a training: the message says where they arose, and none is saved."""

from __future__ import annotations

from itertools import count

import numpy as np
import pytest
from small_runs import bits, run

from sparsenet.optim import SGD
from sparsenet.training import loop
from sparsenet.training.checkpoint import load_checkpoint


def test_a_training_that_diverges_says_what_to_lower(config, tmp_path, monkeypatch):
    real = loop.loss_of

    def loss_of(*arguments):
        loss, figures = real(*arguments)
        return loss * np.inf, np.full_like(figures, np.inf)

    monkeypatch.setattr(loop, "loss_of", loss_of)
    with pytest.raises(RuntimeError, match="the loss is inf at epoch 1, batch 1: lower optimizer.lr, which is 0.2"):
        run(config("training.checkpoint_seconds=1e-9"), tmp_path)
    assert not (tmp_path / "last.h5").exists()


def spoil(monkeypatch, step, name="convolution1.weight"):
    """Make a weight NaN after the step of that number, as a step that is too long does."""
    real, calls = SGD.step, count(1)

    def spoiled(self):
        real(self)
        if next(calls) == step:
            self.parameters[name].array.flat[0] = np.nan

    monkeypatch.setattr(SGD, "step", spoiled)


def test_a_weight_that_is_not_finite_is_never_saved(config, tmp_path, monkeypatch):
    spoil(monkeypatch, 3)
    with pytest.raises(RuntimeError, match="convolution1.weight is no longer finite at epoch 1, batch 4: lower optimi"):
        run(config("training.checkpoint_seconds=1e-9"), tmp_path)
    assert load_checkpoint(tmp_path / "last.h5").step == 2


@pytest.mark.parametrize(("overrides", "words"), [
    ([], "the loss is nan at epoch 1, batch 4: .* training.detect_anomaly = true names the layer"),
    (["training.detect_anomaly=true"], "convolution1"),
])
def test_the_layer_of_the_first_nan_is_named_if_asked(config, tmp_path, monkeypatch, overrides, words):
    spoil(monkeypatch, 3)
    with pytest.raises(RuntimeError, match=words):
        run(config(*overrides), tmp_path)


def test_looking_for_anomalies_changes_no_bit(config, tmp_path):
    run(config(), tmp_path / "a")
    run(config("training.detect_anomaly=true"), tmp_path / "b")
    assert bits(tmp_path / "a") == bits(tmp_path / "b")
