"""The learning-rate finder takes the steps of a training at rising rates, and leaves nothing behind."""

from __future__ import annotations

import tempfile

import numpy as np
import pytest
from small_runs import TRIPLETS, run

from sparsenet.kernels import get_float32_matmul_precision, set_float32_matmul_precision
from sparsenet.training import find_learning_rate, loop
from sparsenet.training.losses import Criterion
from sparsenet.training.rate_finder import _judged


def found(config, *overrides, **options):
    return find_learning_rate(config(*overrides), progress=False, say=lambda line: None, **options)


@pytest.mark.parametrize("overrides", [
    ["optimizer.max_gradient_norm=0.5", "schedule.warmup=3"], TRIPLETS,
    ["optimizer.kind=adamw", "optimizer.momentum=0.99", "optimizer.dampening=0.99", "network.freeze=['convolution1']"],
    ["network.init_from={best}"],
], ids=["sgd", "triplets", "adamw", "fine-tuning"])
def test_its_losses_are_those_of_a_training_at_these_rates(config, tmp_path, monkeypatch, whole, overrides):
    """An epoch has 4 batches, of triplets 2, so the steps below are of several epochs."""
    overrides = [one.format(best=(whole[1] / "best.h5").as_posix()) for one in overrides]
    rates = np.geomspace(1e-4, 0.5, 10)
    result = found(config, *overrides, lowest=1e-4, highest=0.5, steps=10)
    real, events = loop.build_optimizer, []

    def build_optimizer(*arguments):
        optimizer, _ = real(*arguments)
        steps = 2 if overrides == TRIPLETS else 4
        return optimizer, lambda epoch, share: rates[min(round(epoch * steps + share * steps) - 1, 9)]

    monkeypatch.setattr(loop, "build_optimizer", build_optimizer)
    run(config(*overrides, "training.epochs=5"), tmp_path, callback=events.append)
    losses = [event.figures["loss"] for event in events if event.kind == "step"]
    assert result.losses.tolist() == losses[:10] and not result.diverged
    np.testing.assert_array_equal(result.rates, rates)


def test_it_ends_where_the_loss_diverges(config):
    result = found(config, highest=1e8, steps=40)
    assert result.diverged and 10 < len(result.losses) < 40 and np.isfinite(result.losses).all()
    assert len(result.rates) == len(result.smoothed) == len(result.losses)
    assert "the loss diverged" in result.table()


def test_it_ends_where_the_mean_weighted_towards_the_last_steps_is_four_times_its_least(config, monkeypatch):
    values = [1.0] * 20 + [6.0] * 20
    means = [np.average(values[:n], weights=0.9 ** np.arange(n)[::-1]) for n in range(1, len(values) + 1)]
    real, told = Criterion.loss, iter(values)
    monkeypatch.setattr(Criterion, "loss", lambda *arguments: (real(*arguments)[0], np.array([next(told)])))
    result = found(config, steps=40)
    assert result.diverged and len(result.losses) == next(n for n, mean in enumerate(means) if mean > 4) == 27


def test_it_leaves_nothing_behind_and_changes_nothing(config, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    before = get_float32_matmul_precision()
    set_float32_matmul_precision("tf32")
    try:
        parametric = ["data.path=''", "data.parametric_train=2", "data.parametric_test=1", "data.render_size=8"]
        one, two = (found(config, *parametric, steps=10) for _ in range(2))
        assert get_float32_matmul_precision() == "tf32"
    finally:
        set_float32_matmul_precision(before)
    assert list(tmp_path.iterdir()) == []
    assert one.losses.tolist() == two.losses.tolist() and one.lowest_at == two.lowest_at


def curve(*values):
    return np.geomspace(1e-5, 10, len(values)), np.array(values, float)


def test_the_suggestion_is_a_tenth_of_the_rate_of_the_lowest_loss():
    rates, losses = curve(*[2.0] * 20, *np.linspace(2, 1, 20), *np.linspace(1, 3, 11)[1:])
    result = _judged(rates, losses + 0.01 * np.cos(np.arange(50)), True)
    assert abs(np.log(result.lowest_at / rates[39])) < 3 * np.log(rates[1] / rates[0])
    assert result.suggestion == result.lowest_at / 10
    table = result.table().splitlines()
    assert [table[row].split()[0] for row in (1, -3)] == [f"{rates[place]:.3g}" for place in (0, -1)]
    assert len(table) <= 24 and sum(line.endswith("<- lowest") for line in table) == 1
    assert table[-1].startswith(f"suggestion: optimizer.lr = {result.suggestion:.2g}, a tenth")
    middle = slice(10, 40)
    expected = np.array([losses[i - 2:i + 3].mean() for i in range(10, 40)])
    np.testing.assert_allclose(_judged(rates, losses, True).smoothed[middle], expected)


@pytest.mark.parametrize("seed", range(10))
def test_a_loss_that_does_not_fall_suggests_nothing(seed):
    rates, losses = curve(*np.random.default_rng(seed).normal(2, 0.3, 60))
    result = _judged(rates, losses, False)
    assert result.suggestion is None and result.lowest_at is None
    assert "the loss did not diverge" in result.table() and "suggestion: none" in result.table()


@pytest.mark.parametrize(("options", "message"), [
    ({"lowest": 0}, "rates from 0 to 10.0, expected finite ones"), ({"lowest": 2, "highest": 1}, "from 2 to 1"),
    ({"highest": float("inf")}, "to inf"), ({"steps": 9}, "steps is 9, expected at least 10"),
])
def test_what_cannot_be_searched_is_refused(config, options, message):
    with pytest.raises(ValueError, match=f"find_learning_rate: .*{message}"):
        found(config, **options)
