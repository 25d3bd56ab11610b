"""Training: it learns, it can stop anywhere and go on with the same bits, and it leaves whole files."""

from __future__ import annotations

import csv
import os
import shutil
import signal
from itertools import count

import numpy as np
import pytest

from sparsenet import kernels
from sparsenet.data import SparseDataset
from sparsenet.data.sample import Sample
from sparsenet.training import loop
from sparsenet.training.build import build_network, build_optimizer, load_network
from sparsenet.training.checkpoint import CheckpointError, load_checkpoint
from sparsenet.training.config import ConfigError, parse_config

CLASSES = ["bar", "plate", "cross"]
TEXT = """
[data]
path = "{path}"
render_size = 0
workers = 0
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


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A dataset of 30 objects in two poses to train on, 21 to test on; one of them is empty."""
    rng = np.random.default_rng(5)
    numbers = count()

    def samples():
        for split, objects in (("train", 30), ("test", 21)):
            for i in range(objects):
                number, label = next(numbers), i % 3
                for pose in range(2):
                    cells = shape(label, rng) if i else np.zeros((0, 3), np.int32)
                    yield Sample(cells, label, f"{CLASSES[label]}_{i:02d}", split, number, pose)

    path = tmp_path_factory.mktemp("data") / "shapes.h5"
    SparseDataset.create(path, samples(), (8, 8, 8), 8, CLASSES).close()
    return path


@pytest.fixture(autouse=True)
def no_pictures(request, monkeypatch):
    """Pictures take longer than these trainings do: one test draws them."""
    if request.function is not test_curves_are_drawn:
        monkeypatch.setattr(loop, "draw_figures", lambda *_: None)


@pytest.fixture
def config(path):
    return lambda *overrides: parse_config(TEXT.format(path=path), "test", overrides)


def run(config, out, **options):
    options.setdefault("say", lambda line: None)
    return loop.train(config, out, progress=False, **options)


def bits(out):
    """All that a run's end depends on: weights, momentum and the losses, exactly."""
    state = load_checkpoint(out / "last.h5")
    arrays = {f"{part}/{name}": array.tobytes() for part in ("weights", "momentum")
              for name, array in getattr(state, part).items()}
    figures = [{name: value for name, value in row.items() if name in ("loss", "accuracy", "lr", "test_loss",
                                                                       "test_accuracy", "test_mAP")}
               for row in state.history]
    return arrays, figures, state.epoch, state.step


def stop_in_step(monkeypatch, number, how):
    """Make `how()` happen in the middle of the step of that number, counted from 1."""
    real, calls = loop.loss_of, count(1)

    def loss_of(*arguments):
        if next(calls) == number:
            how()
        return real(*arguments)

    monkeypatch.setattr(loop, "loss_of", loss_of)


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def test_it_learns_and_says_how_well(config, tmp_path):
    lines = []
    result = run(config("training.epochs=20", "optimizer.lr=0.5"), tmp_path, say=lines.append)
    assert result.finished
    assert result.history[-1]["loss"] < 0.5 * result.history[0]["loss"]
    assert result.figures["test_accuracy"] > 0.8 and result.figures["test_mAP"] > 0.6
    assert len(lines) == 21 and "test accuracy" in lines[-1] and "samples/s" in lines[0]


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
    assert set(rows[0]) == {"epoch", "lr", "loss", "accuracy", "dropped", "samples_per_second", "test_loss",
                            "test_accuracy", "waiting", "forward", "backward", "update", "loading", "rulebooks",
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


@pytest.mark.parametrize(("overrides", "stop", "at"), [
    ([], 1, (0, 1)), ([], 4, (0, 4)), (["schedule.warmup=1.5", "optimizer.max_gradient_norm=0.5"], 6, (1, 2)),
    (TRIPLETS, 1, (0, 1)), (TRIPLETS, 4, (1, 2)), ([*TRIPLETS, *MINED], 5, (1, 1)),
])
def test_stopped_anywhere_and_resumed_it_gives_the_same_bits(config, tmp_path, monkeypatch, overrides, stop, at):
    """An epoch has 4 batches of 8, of triplets 2, mined 4: stopped in the middle and at the end of an epoch."""
    run(config(*overrides), tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_in_step(patch, stop, interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(config(*overrides), tmp_path / "stopped")
    stopped = load_checkpoint(tmp_path / "stopped" / "last.h5")
    assert (stopped.epoch, stopped.step) == at
    run(config("data.workers=2", *overrides), tmp_path / "stopped", resume=True)
    assert bits(tmp_path / "stopped") == bits(tmp_path / "whole")


def test_stopped_while_validating_it_gives_the_same_bits(config, tmp_path, monkeypatch):
    run(config(), tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(loop, "judge", lambda *_: interrupt())
        with pytest.raises(KeyboardInterrupt):
            run(config(), tmp_path / "stopped")
    stopped = load_checkpoint(tmp_path / "stopped" / "last.h5")
    assert (stopped.epoch, stopped.step) == (0, 4)
    run(config(), tmp_path / "stopped", resume=True)
    assert bits(tmp_path / "stopped") == bits(tmp_path / "whole")


def test_max_seconds_stops_resumably_and_evaluates(config, tmp_path):
    run(config(), tmp_path / "whole")
    result = run(config("training.max_seconds=1e-9"), tmp_path / "stopped")
    assert not result.finished and result.history == [] and "test_mAP" in result.figures
    assert load_checkpoint(tmp_path / "stopped" / "last.h5").step == 1
    result = run(config(), tmp_path / "stopped", resume=True)
    assert result.finished and bits(tmp_path / "stopped") == bits(tmp_path / "whole")


def test_after_a_resume_the_csv_has_each_epoch_once(config, tmp_path):
    run(config("training.epochs=1"), tmp_path)
    with open(tmp_path / "metrics.csv", "a") as file:
        file.write("99,a line that a crash left\n")
    run(config("training.epochs=3"), tmp_path, resume=True)
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["epoch", "1", "2", "3"]


def test_a_checkpoint_is_written_when_its_time_has_come(config, tmp_path, monkeypatch):
    written = []
    real = loop.save_checkpoint

    def save(path, state):
        written.append((path.name, state.epoch, state.step))
        real(path, state)

    monkeypatch.setattr(loop, "save_checkpoint", save)
    run(config("training.checkpoint_seconds=1e-9", "training.epochs=1"), tmp_path)
    assert written == [("last.h5", 0, 1), ("last.h5", 0, 2), ("last.h5", 0, 3), ("last.h5", 0, 4), ("last.h5", 0, 4),
                       ("last.h5", 1, 0), ("best.h5", 1, 0)]


def test_best_is_the_epoch_that_validated_best(config, tmp_path, monkeypatch):
    accuracies = iter([0.5, 0.9, 0.7, 0.9])
    monkeypatch.setattr(loop, "judge", lambda *_: {"test_accuracy": next(accuracies)})
    run(config("training.epochs=4"), tmp_path)
    assert load_checkpoint(tmp_path / "best.h5").epoch == 2
    assert load_checkpoint(tmp_path / "last.h5").epoch == 4


def test_validation_may_be_rare_or_absent(config, tmp_path):
    history = run(config("training.epochs=3", "training.validate_every=2"), tmp_path / "rare").history
    assert ["test_accuracy" in row for row in history] == [False, True, True]  # the last one in any case
    result = run(config("training.epochs=1", "training.validate_every=0"), tmp_path / "absent")
    assert "test_accuracy" in result.figures and result.history[0].keys().isdisjoint({"test_accuracy", "test_loss"})


@pytest.mark.parametrize("overrides", [["training.validate_every=0"], ["training.validate_every=9"],
                                       ["training.max_seconds=1e-9"]])
def test_there_is_always_a_best(config, tmp_path, overrides):
    result = run(config("training.epochs=1", *overrides), tmp_path)
    best = load_checkpoint(tmp_path / "best.h5").weights
    assert all((array == best[name]).all() for name, array in result.net.get_weights().items())


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


def test_a_run_is_never_overwritten_unasked(config, tmp_path):
    run(config("training.epochs=1"), tmp_path)
    with pytest.raises(CheckpointError, match="last.h5 is there already"):
        run(config(), tmp_path)
    (tmp_path / "last.h5").unlink()
    with pytest.raises(CheckpointError, match="best.h5 is there already"):
        run(config(), tmp_path)
    assert len(run(config(), tmp_path, overwrite=True).history) == 2


def test_starting_anew_removes_what_the_old_run_wrote_and_nothing_else(config, tmp_path, monkeypatch):
    old = ["best.h5", "last.h5", "metrics.csv", "evaluation.csv", "curves.png", "precision_recall.png"]
    for name in [*old, "notes.txt"]:
        (tmp_path / name).write_text("old")
    with pytest.raises(ConfigError):  # what cannot be trained removes nothing
        run(config("network.channels=[4]"), tmp_path, overwrite=True)
    assert set(os.listdir(tmp_path)) == {*old, "notes.txt"}
    stop_in_step(monkeypatch, 1, interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(config(), tmp_path, overwrite=True)
    assert set(os.listdir(tmp_path)) == {"last.h5", "config.toml", "notes.txt"}
    assert load_checkpoint(tmp_path / "last.h5").step == 1


def test_resuming_without_a_checkpoint_or_with_another_config_says_so(config, tmp_path):
    with pytest.raises(CheckpointError, match="last.h5: no such file"):
        run(config(), tmp_path, resume=True)
    run(config("training.epochs=1"), tmp_path)
    with pytest.raises(ConfigError, match="optimizer.lr, loss.kind|loss.kind, optimizer.lr"):
        run(config("optimizer.lr=0.3", "loss.kind=triplet"), tmp_path, resume=True)


def test_a_cosine_schedule_is_not_resumed_for_more_epochs(config, tmp_path):
    run(config("schedule.kind=cosine"), tmp_path)
    with pytest.raises(ConfigError, match="training.epochs differ .*cosine schedule's rates depend on it"):
        run(config("schedule.kind=cosine", "training.epochs=3"), tmp_path, resume=True)


def test_a_training_is_not_resumed_on_another_dataset(config, tmp_path, path):
    run(config("training.epochs=1"), tmp_path)
    shutil.copy(path, tmp_path / "moved.h5")
    assert len(run(config(f"data.path={tmp_path / 'moved.h5'}"), tmp_path, resume=True).history) == 2
    with SparseDataset.open(path) as dataset:
        others = [dataset[number] for number in range(len(dataset) - 1)]
    SparseDataset.create(tmp_path / "other.h5", others, (8, 8, 8), 8, CLASSES).close()
    with pytest.raises(ConfigError, match="was trained on another dataset than .*other.h5 holds"):
        run(config(f"data.path={tmp_path / 'other.h5'}", "training.epochs=3"), tmp_path, resume=True)


def test_shapes_larger_than_the_network_s_grid_are_refused(config, tmp_path):
    with pytest.raises(ConfigError, match="data.render_size is 8.*of 1 channels has sides of 2.*cut off"):
        run(config("network.channels=[4]"), tmp_path)


def test_cells_that_augmentation_moves_out_of_the_grid_are_counted(config, tmp_path):
    lines = []
    assert run(config("training.epochs=1"), tmp_path / "a", say=lines.append).history[0]["dropped"] == 0
    lost = run(config("training.epochs=1", "augmentation.shift=0.9"), tmp_path / "b", say=lines.append).history[0]
    assert lost["dropped"] > 0 and "dropped" not in lines[0]
    assert f"{lost['dropped']:,.0f} cells lay outside the grid and were dropped" in lines[2]


@pytest.mark.parametrize("kind", ["softmax", "triplet"])
def test_a_classifier_needs_no_class_with_two_test_objects(config, tmp_path, path, kind):
    with SparseDataset.open(path) as dataset:
        train = [dataset[int(row)] for row in np.flatnonzero(dataset.splits == "train")]
        tested = dataset.splits == "test"
        test = [dataset[int(np.flatnonzero(tested & (dataset.labels == label))[0])] for label in range(3)]
    SparseDataset.create(tmp_path / "few.h5", [*train, *test], (8, 8, 8), 8, CLASSES).close()
    lines, few = [], [f"data.path={tmp_path / 'few.h5'}", "training.epochs=1", f"loss.kind={kind}"]
    if kind == "triplet":
        with pytest.raises(ConfigError, match="there is nothing to retrieve"):
            run(config(*few), tmp_path / "run")
        return
    result = run(config(*few), tmp_path / "run", say=lines.append)
    assert result.evaluation is None and set(result.figures) == {"test_accuracy", "test_loss"}
    assert lines[-1].endswith("no class has two test objects: retrieval is not evaluated")


def test_a_training_that_diverges_says_what_to_lower(config, tmp_path, monkeypatch):
    real = loop.loss_of

    def loss_of(*arguments):
        loss, figures = real(*arguments)
        return loss * np.inf, np.full_like(figures, np.inf)

    monkeypatch.setattr(loop, "loss_of", loss_of)
    with pytest.raises(RuntimeError, match="the loss is inf at epoch 1, batch 1: lower optimizer.lr, which is 0.2"):
        run(config("training.checkpoint_seconds=1e-9"), tmp_path)
    assert not (tmp_path / "last.h5").exists()


@pytest.mark.parametrize(("overrides", "words"), [
    (["evaluation.protocol=paper"], "takes 20 objects of each class.*has 7 of 'bar'"),
    (["evaluation.repetitions=3"], "without augmentation.rotation"),
    (["augmentation.rotation=upright"], "needs meshes"),
    (["data.test_split=validation"], "'validation' has no sample"),
    (["data.path=nowhere.h5"], "nowhere.h5"),
])
def test_what_the_dataset_cannot_give_is_told_before_training(config, tmp_path, overrides, words):
    with pytest.raises((ValueError, OSError), match=words):
        run(config(*overrides), tmp_path)
    assert not (tmp_path / "last.h5").exists()


def test_memory_does_not_grow_from_epoch_to_epoch(config, tmp_path):
    history = run(config("training.epochs=12", "training.validate_every=0"), tmp_path).history
    assert history[-1]["resident_MB"] - history[2]["resident_MB"] < 5
