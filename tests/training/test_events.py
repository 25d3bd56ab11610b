"""The callback of a training, and early stopping."""

from __future__ import annotations

import math

import pytest
from small_runs import bits, run, validating

from sparsenet.training import Event, load_checkpoint
from sparsenet.training.config import ConfigError
from sparsenet.training.evaluation import stalled


def test_a_callback_is_told_of_steps_epochs_and_the_end(config, tmp_path, whole):
    events = []
    result = run(config(), tmp_path, callback=events.append)
    assert [(event.kind, event.epoch, event.step, event.steps, event.total_steps) for event in events] == [
        *(("step", 1, step, 4, step) for step in range(1, 5)), ("epoch", 1, 4, 4, 4),
        *(("step", 2, step, 4, 4 + step) for step in range(1, 5)), ("epoch", 2, 4, 4, 8), ("end", 2, 4, 4, 8)]
    assert all(isinstance(event, Event) and event.net is result.net for event in events)
    steps = [event.figures for event in events if event.kind == "step"]
    assert set(steps[0]) == {"loss", "lr", "accuracy"} and 0 <= steps[0]["accuracy"] <= 1
    epochs = [event.figures for event in events if event.kind == "epoch"]
    assert epochs == result.history and events[-1].figures == result.figures
    sizes = [8, 8, 8, 6]
    mean = sum(figures["loss"] * size for figures, size in zip(steps, sizes, strict=False)) / 30
    assert math.isclose(mean, epochs[0]["loss"])
    assert bits(tmp_path) == bits(whole[1]), "it changes nothing"


def test_a_callback_that_raises_stops_resumably(config, tmp_path, whole):
    def callback(event):
        if event.kind == "epoch":
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(config(), tmp_path, callback=callback)
    events = []
    run(config(), tmp_path, callback=events.append, resume=True)
    assert [(event.kind, event.epoch) for event in events] == [*[("step", 2)] * 4, ("epoch", 2), ("end", 2)]
    assert bits(tmp_path) == bits(whole[1])


@pytest.mark.parametrize(("accuracies", "patience", "stops"), [
    ([], 1, False), ([0.5], 1, False), ([0.5, 0.6], 1, False), ([0.5, 0.5], 1, True), ([0.5, 0.4, 0.6], 2, False),
    ([0.5, 0.4, 0.3], 2, True), ([0.5, 0.4, 0.3], 0, False), ([0.5, 0.4, 0.3], 3, False),
])
def test_it_stalls_after_validations_that_were_no_better(accuracies, patience, stops):
    history = [{"loss": 1.0}]  # not validated
    for accuracy in accuracies:
        history += [{"validation_accuracy": accuracy, "validation_loss": 1.0}, {"loss": 1.0}]
    assert stalled(history, patience) is stops


def test_it_stops_early_resumably_and_keeps_the_best(config, tmp_path, monkeypatch):
    settings = config("training.epochs=9", "training.patience=2")
    lines = []
    validating(monkeypatch, (0.5, 1.0), (0.6, 1.0), (0.6, 1.0), (0.5, 0.1))
    result = run(settings, tmp_path, say=lines.append)
    assert result.finished and len(result.history) == 4
    assert "stopped early: none of the last 2 validations was better (training.patience)" in lines
    assert load_checkpoint(tmp_path / "best.h5").epoch == 2 and load_checkpoint(tmp_path / "last.h5").epoch == 4
    lines.clear()
    again = run(settings, tmp_path, say=lines.append, resume=True)
    assert len(again.history) == 4 and again.figures == result.figures
    assert any("stopped early after 4 epochs (training.patience): it is only evaluated" in line for line in lines)
    validating(monkeypatch, (0.5, 0.1))
    run(config("training.epochs=9", "training.patience=3"), tmp_path, resume=True)
    assert load_checkpoint(tmp_path / "last.h5").epoch == 5, "with more patience it goes on"


def test_patience_needs_validations(config, tmp_path):
    for overrides in (["data.validation_share=0"], ["training.validate_every=0"]):
        with pytest.raises(ConfigError, match="training.patience is 2, and nothing is validated"):
            run(config("training.patience=2", *overrides), tmp_path)
