"""The parts of the data: for training, for choosing the best epoch, and for the final evaluation."""

from __future__ import annotations

import numpy as np
import pytest
from small_runs import CLASSES, TRIPLETS, bits, make, run, validating

from sparsenet.data import SparseDataset
from sparsenet.training import loop
from sparsenet.training.build import load_network
from sparsenet.training.checkpoint import load_checkpoint
from sparsenet.training.config import ConfigError


@pytest.mark.parametrize(("figures", "best"), [
    ([(0.5, 1), (0.9, 1), (0.7, 1), (0.9, 1)], 2), ([(0.9, 3), (0.9, 1), (0.9, 2), (0.8, 0)], 2),
    ([(0.1, 1), (0.2, 1), (0.3, 1), (0.4, 9)], 4), ([(0, 1), (0, 1), (0, 1), (0, 1)], 1),
])
def test_best_is_the_epoch_of_the_best_accuracy_and_among_equals_of_the_least_loss(config, tmp_path, monkeypatch,
                                                                                   figures, best):
    validating(monkeypatch, *figures)
    result = run(config("training.epochs=4"), tmp_path)
    chosen = load_checkpoint(tmp_path / "best.h5")
    assert chosen.epoch == best and load_checkpoint(tmp_path / "last.h5").epoch == 4
    assert all((array == chosen.weights[name]).all() for name, array in result.net.get_weights().items())


def test_the_final_figures_are_of_the_best_epoch(config, tmp_path, monkeypatch, path):
    validating(monkeypatch, (0.9, 1), (0.1, 1), (0.1, 1))
    result = run(config("training.epochs=3", "optimizer.lr=0.5"), tmp_path)
    net, _ = load_network(tmp_path / "best.h5")
    with SparseDataset.open(path) as dataset:
        test = dataset.subset("test")
        accuracy = (net.predict(test).argmax(axis=1) == test.object_labels).mean()
    assert result.figures["test_accuracy"] == accuracy


def test_the_test_split_chooses_nothing(config, tmp_path, path):
    """Another test split, other figures, and the same bits of last.h5 and best.h5."""
    def others():
        with SparseDataset.open(path) as dataset, SparseDataset.open(make(tmp_path / "b.h5", 7, test=21)) as other:
            yield from (dataset[int(row)] for row in np.flatnonzero(dataset.split == "train"))
            for sample in other:
                sample.object += 100
                sample.label = (sample.label + 1) % 3
                yield sample

    SparseDataset.create(tmp_path / "other.h5", others(), (8, 8, 8), 8, CLASSES).close()
    first = run(config("training.epochs=4"), tmp_path / "first")
    second = run(config("training.epochs=4", f"data.path={tmp_path / 'other.h5'}"), tmp_path / "second")
    assert first.figures != second.figures
    for name in ("last.h5", "best.h5"):
        assert bits(tmp_path / "first", name) == bits(tmp_path / "second", name)


def test_the_test_split_is_looked_at_once(config, tmp_path, monkeypatch):
    evaluated = []
    real, really = loop.validate, loop.evaluate_network
    monkeypatch.setattr(loop, "validate", lambda *a: evaluated.append(("validation", set(a[1].split))) or real(*a))
    monkeypatch.setattr(loop, "evaluate_network", lambda *a: evaluated.append(("test", set(a[1].split))) or really(*a))
    run(config(), tmp_path)
    assert evaluated == [("validation", {"train"}), ("validation", {"train"}), ("test", {"test"})]


@pytest.mark.parametrize("name", ["val", "valid", "validation", "evaluation"])
def test_a_validation_split_of_the_data_is_used_and_all_of_train_is_trained_on(config, tmp_path, name):
    lines = []
    make(tmp_path / "three.h5", train=30, test=6, **{name: 9}, holdout=3)
    run(config(f"data.path={tmp_path / 'three.h5'}"), tmp_path / "run", say=lines.append)
    assert lines[0] == "data: 30 shapes of 3 classes for training, 9 for validation, 6 for testing"
    assert lines[1] == "note: 6 samples are in unused splits: 'holdout' 6"


def test_any_split_can_be_named_to_validate_on_but_the_test_split(config, tmp_path):
    lines, three = [], f"data.path={make(tmp_path / 'three.h5', train=30, test=6, dev=9)}"
    run(config(three, "data.validation_split=dev", "training.epochs=1"), tmp_path / "run", say=lines.append)
    assert "30 shapes of 3 classes for training, 9 for validation, 6 for testing" in lines[0]
    with pytest.raises(ConfigError, match="data.validation_split is 'test', which is the test split"):
        run(config(three, "data.validation_split=test"), tmp_path / "run", overwrite=True)
    with pytest.raises(ValueError, match="data.validation_split is 'absent', which has no sample"):
        run(config(three, "data.validation_split=absent"), tmp_path / "run", overwrite=True)


def test_nothing_held_out_trains_on_all_and_the_last_epoch_is_the_best(config, tmp_path, path):
    lines = []
    result = run(config("data.validation_share=0"), tmp_path, say=lines.append)
    assert lines[0] == ("data: 39 shapes of 3 classes for training, none for validation (the last epoch is the best), "
                        "21 for testing")
    assert result.history[0].keys().isdisjoint({"validation_accuracy", "validation_loss"})
    assert bits(tmp_path, "best.h5") == bits(tmp_path) and load_checkpoint(tmp_path / "best.h5").epoch == 2
    run(config("data.validation_share=0", "training.epochs=3"), tmp_path, resume=True)
    assert bits(tmp_path, "best.h5") == bits(tmp_path) and load_checkpoint(tmp_path / "best.h5").epoch == 3


def test_what_is_held_out_takes_no_part_in_the_training(config, tmp_path, path):
    with SparseDataset.open(path) as dataset:
        stays, _ = dataset.subset("train").split(0.2, 0)
        rows = [*stays.rows, *np.flatnonzero(dataset.split == "test")]
        kept = [dataset[int(row)] for row in rows]
    SparseDataset.create(tmp_path / "kept.h5", kept, (8, 8, 8), 8, CLASSES).close()
    still = ["augmentation.shift=0", "training.validate_every=0"]  # shifts are drawn by the row in the file
    run(config(*still), tmp_path / "held out")
    run(config(*still, "data.validation_share=0", f"data.path={tmp_path / 'kept.h5'}"), tmp_path / "kept")
    assert bits(tmp_path / "held out") == bits(tmp_path / "kept")


def test_validation_may_be_rare_or_absent(config, tmp_path):
    history = run(config("training.epochs=3", "training.validate_every=2"), tmp_path / "rare").history
    assert ["validation_accuracy" in row for row in history] == [False, True, True]  # the last one in any case
    result = run(config("training.epochs=2", "training.validate_every=0"), tmp_path / "absent")
    assert "test_accuracy" in result.figures
    assert result.history[0].keys().isdisjoint({"validation_accuracy", "validation_loss"})
    assert load_checkpoint(tmp_path / "absent" / "best.h5").epoch == 2


@pytest.mark.parametrize("overrides", [["training.validate_every=0"], ["training.validate_every=9"],
                                       ["training.max_seconds=1e-9"]])
def test_there_is_always_a_best(config, tmp_path, overrides):
    result = run(config("training.epochs=1", *overrides), tmp_path)
    best = load_checkpoint(tmp_path / "best.h5").weights
    assert all((array == best[name]).all() for name, array in result.net.get_weights().items())


def test_a_class_without_a_training_sample_is_refused(config, tmp_path, path):
    with SparseDataset.open(path) as dataset:
        samples = [sample for sample in dataset if sample.split == "test" or sample.label != 1]
    SparseDataset.create(tmp_path / "few.h5", samples, (8, 8, 8), 8, [*CLASSES, "none"]).close()
    few = f"data.path={tmp_path / 'few.h5'}"
    with pytest.raises(ConfigError, match="few.h5 has no training sample .split 'train'. of 'plate', 'none': "):
        run(config(few), tmp_path / "run")
    lines = []
    run(config(few, "data.classes=shared", "training.epochs=1"), tmp_path / "run", say=lines.append)
    assert "of 2 classes for training" in lines[0]
    assert lines[1] == "note: 14 samples are left out: unlabelled, or of an unused class"


def test_data_without_labels_are_refused_as_such(config, tmp_path, path):
    with SparseDataset.open(path) as dataset:
        samples = list(dataset.subset("train"))
    for sample in samples:
        sample.label = -1
    SparseDataset.create(tmp_path / "plain.h5", samples, (8, 8, 8), 8, []).close()
    with pytest.raises(ConfigError, match="no sample of .*plain.h5 has a label"):  # rather than 'test' has no sample
        run(config(f"data.path={tmp_path / 'plain.h5'}"), tmp_path / "run")


def test_a_single_class_gets_a_remark(config, tmp_path, path):
    with SparseDataset.open(path) as dataset, dataset.only_classes(["bar"]) as bars:
        samples = list(bars)
    SparseDataset.create(tmp_path / "one.h5", samples, (8, 8, 8), 8, ["bar"]).close()
    lines = []
    result = run(config(f"data.path={tmp_path / 'one.h5'}", "training.epochs=1"), tmp_path / "run", say=lines.append)
    assert result.figures["test_accuracy"] == 1 and "test loss 0.0000" in lines[-1]  # not -0.0000
    remark = "note: there is one class, 'bar': any network is 100% right about it"
    assert remark in lines and lines[-1].endswith(remark)


def test_triplets_need_two_of_a_class_to_validate_on(config, tmp_path):
    with pytest.raises(ConfigError, match="raise data.validation_share, which is 0.1, or set it to 0"):
        run(config(*TRIPLETS, "data.validation_share=0.1"), tmp_path)
    run(config(*TRIPLETS, "data.validation_share=0", "training.epochs=1"), tmp_path)
