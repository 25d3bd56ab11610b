"""Training: the network learns, figures are reported, files are whole."""

from __future__ import annotations

import csv
import os

import numpy as np
import pytest
from small_runs import CLASSES, MINED, TRIPLETS, bits, run

from sparsenet import kernels
from sparsenet.data import SparseDataset
from sparsenet.training.build import build_network, build_optimizer, load_network
from sparsenet.training.config import ConfigError, parse_config
from sparsenet.training.losses import class_weights_of


def test_it_learns_and_says_how_well(config, tmp_path):
    lines = []
    result = run(config("training.epochs=20", "optimizer.lr=0.5"), tmp_path, say=lines.append)
    assert result.finished
    assert result.history[-1]["loss"] < 0.5 * result.history[0]["loss"]
    assert result.figures["test_accuracy"] > 0.8 and result.figures["test_mAP"] > 0.6
    lines = [line for line in lines if not line.startswith("compiling")]
    assert lines[0] == ("data: 30 shapes of 3 classes for training, 9 for validation (held out of 'train'), 21 for "
                        "testing")
    assert len(lines) == 22 and "test accuracy" in lines[-1] and "samples/s" in lines[1]


def test_triplets_lower_their_loss(config, tmp_path):
    result = run(config(*TRIPLETS, "training.epochs=8", "optimizer.lr=0.5", "loss.triplets_per_batch=10",
                        "loss.batches_per_epoch=10", "schedule.kind=constant"), tmp_path)
    assert result.history[-1]["loss"] < 0.7 * result.history[0]["loss"]
    assert "test_accuracy" not in result.figures and "accuracy" not in result.history[0]
    assert result.evaluation.metric == "cosine"


@pytest.mark.parametrize("mining", ["hard", "semi_hard"])
def test_triplets_can_be_mined(config, tmp_path, mining):
    result = run(config(*TRIPLETS, *MINED, f"loss.mining={mining}", "training.epochs=1"), tmp_path)
    assert result.net.out_channels == 8 and 0 < result.figures["test_mAP"] <= 1


def test_the_files_of_a_run(config, tmp_path):
    run(config(), tmp_path)
    assert {"last.h5", "best.h5", "metrics.csv", "config.toml", "evaluation.csv"} <= set(os.listdir(tmp_path))
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".part")]
    with open(tmp_path / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert set(rows[0]) == {"epoch", "lr", "loss", "accuracy", "dropped", "samples_per_second", "validation_loss",
                            "validation_accuracy", "waiting", "forward", "backward", "update", "loading", "rulebooks",
                            "seconds", "resident_MB"}
    assert float(rows[0]["resident_MB"]) > 10
    assert parse_config((tmp_path / "config.toml").read_text(), "config.toml") == config()


def test_curves_are_drawn(config, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: no curves")
    run(config("training.epochs=1"), tmp_path)
    for name in ("curves.png", "precision_recall.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_the_paper_s_rate_falls_by_epoch(config, tmp_path):
    rates = [row["lr"] for row in run(config("training.epochs=3"), tmp_path).history]
    np.testing.assert_allclose(rates, 0.2 * np.exp(-0.025 * np.arange(3)))


def test_a_warm_up_rises_evenly_to_the_schedule_batch_by_batch(config):
    settings = config("schedule.warmup=2", "schedule.kind=constant")
    _, learning_rate = build_optimizer(settings, build_network(settings, len(CLASSES)))
    assert [learning_rate(0, 0.25), learning_rate(1, 0.5), learning_rate(1, 1.0), learning_rate(5, 0.5)] == (
        pytest.approx([0.025, 0.15, 0.2, 0.2]))


def test_another_seed_gives_other_weights(config, tmp_path):
    run(config(), tmp_path / "a")
    run(config("training.seed=1"), tmp_path / "b")
    assert bits(tmp_path / "a") != bits(tmp_path / "b")


@pytest.mark.parametrize("overrides", [[], TRIPLETS], ids=["softmax", "triplet"])
def test_the_same_bits_with_any_threads_and_workers(config, tmp_path, overrides):
    before = kernels.get_num_threads()
    try:
        for threads, workers in ((1, 0), (2, 2)):
            kernels.set_num_threads(threads)
            run(config(f"data.workers={workers}", *overrides), tmp_path / f"{threads}")
    finally:
        kernels.set_num_threads(before)
    assert bits(tmp_path / "1") == bits(tmp_path / "2")


def test_the_network_of_a_checkpoint_predicts_as_the_trained_one(config, tmp_path, path):
    result = run(config("training.epochs=1"), tmp_path)
    net, state = load_network(tmp_path / "last.h5")
    assert state.classes == CLASSES and not net.training
    with SparseDataset.open(path) as dataset:
        np.testing.assert_array_equal(net.predict(dataset), result.net.predict(dataset))


def test_the_final_evaluation_can_average_over_poses(config, tmp_path):
    first = run(config("training.epochs=1"), tmp_path)
    every = run(config("training.epochs=1", "evaluation.poses=mean"), tmp_path, resume=True)
    assert first.history == every.history and first.figures != every.figures


def test_shapes_larger_than_the_network_s_grid_are_refused(config, tmp_path):
    with pytest.raises(ConfigError, match="data.render_size is 8.*grid has sides of 2.*cropped"):
        run(config("network.channels=[4]"), tmp_path)


def test_cells_that_augmentation_moves_out_of_the_grid_are_counted(config, tmp_path):
    lines = []
    def say(line):
        if line.startswith("epoch"):
            lines.append(line)

    assert run(config("training.epochs=1"), tmp_path / "a", say=say).history[0]["dropped"] == 0
    lost = run(config("training.epochs=1", "augmentation.shift=0.9"), tmp_path / "b", say=say).history[0]
    assert lost["dropped"] > 0 and "dropped" not in lines[0]
    assert f"{lost['dropped']:,.0f} cells lay outside the grid and were dropped" in lines[1]


@pytest.mark.parametrize("kind", ["softmax", "triplet"])
def test_a_classifier_needs_no_class_with_two_test_objects(config, tmp_path, path, kind):
    with SparseDataset.open(path) as dataset:
        train = [dataset[int(row)] for row in np.flatnonzero(dataset.split == "train")]
        tested = dataset.split == "test"
        test = [dataset[int(np.flatnonzero(tested & (dataset.labels == label))[0])] for label in range(3)]
    SparseDataset.create(tmp_path / "few.h5", [*train, *test], (8, 8, 8), 8, CLASSES).close()
    lines, few = [], [f"data.path={tmp_path / 'few.h5'}", "training.epochs=1", f"loss.kind={kind}"]
    if kind == "triplet":
        with pytest.raises(ConfigError, match="nothing can be retrieved"):
            run(config(*few), tmp_path / "run")
        return
    result = run(config(*few), tmp_path / "run", say=lines.append)
    assert result.evaluation is None and set(result.figures) == {"test_accuracy", "test_loss",
                                                                     "test_class_mean_accuracy"}
    assert lines[-1].endswith("no class has two test objects: retrieval is not evaluated")


@pytest.mark.parametrize(("overrides", "words"), [
    (["evaluation.protocol=paper"], "takes 20 objects of each class.*has 7 of 'bar'"),
    (["evaluation.repetitions=2"], "without augmentation.rotation"),
    (["augmentation.rotation=upright"], "needs meshes"),
    (["data.test_split=validation"], "test_split is 'validation', which has no sample.*there is 'test', 'train'"),
    (["data.path=nowhere.h5"], "nowhere.h5"),
])
def test_settings_that_the_dataset_does_not_support_are_refused_before_training(config, tmp_path, overrides, words):
    with pytest.raises((ValueError, OSError), match=words):
        run(config(*overrides), tmp_path)
    assert not (tmp_path / "last.h5").exists()


def test_memory_does_not_grow_from_epoch_to_epoch(config, tmp_path):
    history = run(config("training.epochs=12", "training.validate_every=0"), tmp_path).history
    assert history[-1]["resident_MB"] - history[2]["resident_MB"] < 5


def test_smoothed_labels_and_balanced_classes_are_a_config_away(config, path, tmp_path, whole):
    overrides = ["loss.label_smoothing=0.1", "loss.class_weights=balanced"]
    with SparseDataset.open(path) as shapes:
        training = shapes.subset("train")
        weights = class_weights_of(config(*overrides), training)
        counts = np.bincount(training.object_labels)
    np.testing.assert_allclose(weights, counts.sum() / (3 * counts))
    assert weights @ counts == pytest.approx(counts.sum()), "on average a sample counts 1"
    run(config(*overrides), tmp_path)
    assert bits(tmp_path) != bits(whole[1])
    with pytest.raises(ConfigError, match="loss.class_weights has no effect on the triplet loss"):
        config("loss.class_weights=balanced", *TRIPLETS)
