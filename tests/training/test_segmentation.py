"""Trainings of labels of sites: what they learn, same bits, evaluation from a checkpoint, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from small_runs import bits, interrupt, run, shape, stop_in_step

import sparsenet as sn
from sparsenet.cli import main
from sparsenet.data import Sample, SparseDataset
from sparsenet.segmentation import evaluate
from sparsenet.training import load_checkpoint, load_network, loop
from sparsenet.training.build import build_network
from sparsenet.training.config import ConfigError, parse_config
from sparsenet.training.losses import site_counts

PARTS = ["lone", "end", "inner"]
TEXT = """
[data]
path = "{path}"
render_size = 8
workers = 0
validation_share = 0.2
[network]
kind = "unet"
channels = [6, 8]
dropout = 0.1
[training]
epochs = 2
batch_size = 8
[loss]
kind = "segmentation"
[optimizer]
lr = 0.1
momentum = 0.9
dampening = 0.0
[augmentation]
shift = 0.1
quarter_turns = true
"""
LISTED = ["network.kind=layers", "network.channels=[32, 64, 96, 128, 160, 192]", "network.field=8",
          "network.layers=[{kind='submanifold', channels=4, size=3}, 'batch_norm', 'relu', {kind='skip', layers=["
          "{kind='max_pool', size=2}, {kind='inverse_convolution', channels=4, layer='max_pool1'}]}]"]


def parts_of(cells):
    """The part of each cell: how many cells above and below it are active; every ninth is unknown."""
    known = set(map(tuple, cells.tolist()))
    around = np.array([((x, y, z - 1) in known) + ((x, y, z + 1) in known) for x, y, z in cells.tolist()], int)
    return np.where(cells.sum(axis=1) % 9 == 0, -1, around)


def make_dataset(path, train=40, test=12, parts=parts_of, labels=(0, -1, -1), names=PARTS):
    rng = np.random.default_rng(1)

    def samples():
        for split, several in (("train", train), ("test", test)):
            for number in range(several):
                cells = shape(number % 3, rng) if number else np.zeros((0, 3), np.int32)
                yield Sample(cells, labels[number % 3], f"{split}/{number:02d}", split, site_labels=parts(cells))

    SparseDataset.create(path, samples(), (8, 8, 8), 8, ["bar"], part_classes=names).close()
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """40 shapes for training, of which most have no class, and 12 to test on; the first of each has no cell."""
    return make_dataset(tmp_path_factory.mktemp("parts") / "shapes.h5")


@pytest.fixture
def config(path):
    return lambda *overrides: parse_config(TEXT.format(path=path), "test", overrides)


@pytest.fixture(scope="module")
def trained(path, tmp_path_factory):
    """A run of twelve epochs: its result, its folder and its lines."""
    out, lines = tmp_path_factory.mktemp("run"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "draw_figures", lambda *_: None)
        result = run(parse_config(TEXT.format(path=path), "test", ["training.epochs=12"]), out, say=lines.append)
    return result, out, lines


def test_it_learns_and_says_how_well(trained):
    result, _, lines = trained
    figures = result.figures
    assert set(figures) == {"test_mIoU", "test_shape_mIoU", "test_accuracy", "test_loss"}
    assert figures["test_mIoU"] > 0.8 and figures["test_accuracy"] > 0.9
    assert set(result.history[0]) >= {"validation_mIoU", "validation_shape_mIoU", "validation_accuracy",
                                      "validation_loss", "accuracy", "loss"}
    assert 0 < result.history[0]["accuracy"] < result.history[-1]["accuracy"] <= 1
    assert lines[0].startswith("data: 32 shapes of 3 parts for training, 8 for validation (held out of 'train'), 12")
    first = next(line for line in lines if line.startswith("epoch 1/"))
    assert f"validation mIoU {100 * result.history[0]['validation_mIoU']:.2f}%" in first
    assert lines[-2].splitlines()[0].split()[:2] == ["class", "sites"] and "lone" in lines[-2]
    assert lines[-1].startswith(f"final: test mIoU {100 * figures['test_mIoU']:.2f}%, test shape mIoU")
    assert result.evaluation is None


def test_the_best_epoch_has_the_best_mean_overlap(trained):
    result, out, _ = trained
    overlaps = [row["validation_mIoU"] for row in result.history]
    assert load_checkpoint(out / "best.h5").epoch == 1 + int(np.argmax(overlaps))


def test_the_evaluation_is_that_of_its_predictions(trained, path):
    result, out, _ = trained
    net, state = load_network(out / "best.h5")
    assert state.classes == PARTS and state.class_counts == [] and not net.training
    with SparseDataset.open(path) as dataset:
        test = dataset.subset("test")
        labels = [test.site_labels(number) for number in range(len(test))]
        found = evaluate(net.predict_sites(test), labels, state.classes)
        logits = np.concatenate(net.predict_sites(test, output="raw")).astype(np.float64)
    assert (found.mIoU, found.shape_mIoU, found.accuracy) == tuple(
        result.figures[f"test_{name}"] for name in ("mIoU", "shape_mIoU", "accuracy"))
    labels = np.concatenate(labels)
    loss = sn.ops.softmax_cross_entropy(sn.Tensor(logits), labels, ignore_label=-1).item()
    assert result.figures["test_loss"] == pytest.approx(loss, rel=1e-6)


@pytest.mark.parametrize("options", [[], LISTED, ["loss.class_weights=balanced", "loss.label_smoothing=0.1"],
                                     ["optimizer.ema=0.9", "data.workers=2"]], ids=["unet", "layers", "weights", "ema"])
def test_stopped_and_resumed_it_gives_the_same_bits(options, config, tmp_path, monkeypatch):
    run(config(*options), tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_in_step(patch, 5, interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(config(*options), tmp_path / "stopped")
    run(config(*options), tmp_path / "stopped", resume=True)
    assert bits(tmp_path / "stopped") == bits(tmp_path / "whole")


def test_balanced_weights_count_sites(config, path):
    with SparseDataset.open(path) as dataset:
        counts = site_counts(dataset)
        labels = np.concatenate([dataset.site_labels(number) for number in range(len(dataset))])
        np.testing.assert_array_equal(counts, np.bincount(labels[labels >= 0], minlength=3))
        criterion = loop.Criterion(settings := config("loss.class_weights=balanced"), build_network(settings, 3),
                                   dataset)
        np.testing.assert_allclose(criterion.class_weights, counts.sum() / (3 * counts))


def test_the_command_evaluates_a_checkpoint(trained, path, tmp_path, capsys):
    result, out, _ = trained
    checkpoint = str(out / "best.h5")
    command = ["evaluate", checkpoint, "--quiet", "--json", str(tmp_path / "e.json")]
    assert main([*command, "--confusion", str(tmp_path / "c.png")]) == 0
    printed = capsys.readouterr().out
    assert f"accuracy {100 * result.figures['test_accuracy']:.2f}%" in printed and "inner" in printed
    figures = json.loads((tmp_path / "e.json").read_text())
    assert figures["mIoU"] == result.figures["test_mIoU"] == figures["test_mIoU"]
    assert figures["per_class"]["end"]["IoU"] > 0 and (tmp_path / "c.png").stat().st_size > 1000
    for option in ("--predictions", "--picture"):
        assert main(["evaluate", checkpoint, option, str(tmp_path / "x.png")]) == 1
        assert "needs a class for each shape, and this network labels sites" in capsys.readouterr().err


def test_parts_of_other_data_are_matched_by_name(trained, path, tmp_path, capsys):
    result, out, _ = trained
    other = make_dataset(tmp_path / "other.h5", names=["inner", "end", "extra"],
                         parts=lambda cells: np.array([2, 1, 0, -1])[parts_of(cells)])
    assert main(["evaluate", str(out / "best.h5"), "--dataset", str(other), "--quiet", "--json",
                 str(tmp_path / "e.json")]) == 0
    assert "left out: sites of parts that the network does not know: extra" in capsys.readouterr().out
    figures = json.loads((tmp_path / "e.json").read_text())
    assert figures["per_class"]["lone"]["sites"] == 0 and figures["unknown_parts"] == ["extra"]
    assert figures["per_class"]["inner"]["recall"] == evaluate_again(out, path).recall[2]
    none = make_dataset(tmp_path / "none.h5", names=["x", "y", "z"])
    assert main(["evaluate", str(out / "best.h5"), "--dataset", str(none), "--quiet"]) == 1
    assert "no site here is of a part that the network knows, lone, end, inner" in capsys.readouterr().err


def evaluate_again(out, path):
    net, state = load_network(out / "best.h5")
    with SparseDataset.open(path) as dataset:
        test = dataset.subset("test")
        return evaluate(net.predict_sites(test), [test.site_labels(i) for i in range(len(test))], state.classes)


def test_it_embeds_before_its_classifier(trained, path, tmp_path):
    _, out, _ = trained
    assert main(["embed", str(out / "best.h5"), str(tmp_path / "d.h5"), "--quiet"]) == 0
    net, _ = load_network(out / "best.h5")
    with SparseDataset.open(path) as dataset:
        assert sn.retrieval.embed(net, dataset.subset("test")).shape == (12, 6)


def test_weights_of_parts_are_taken_by_name(trained, config, tmp_path):
    _, out, _ = trained
    weights = load_checkpoint(out / "best.h5").weights
    result = run(config(f"network.init_from={out / 'best.h5'}", "training.epochs=1", "optimizer.lr=1e-9",
                        "augmentation.shift=0"), tmp_path / "again")
    name = next(name for name in weights if name.startswith("submanifold2"))
    np.testing.assert_allclose(result.net.get_weights()[name], weights[name], atol=1e-6)


def test_the_parametric_shapes_train(tmp_path):
    text = TEXT.replace('path = "{path}"', "parametric_train = 2\nparametric_test = 1").format()
    result = run(parse_config(text, "test", ["training.epochs=1"]), tmp_path)
    assert 0 < result.figures["test_accuracy"] < 1
    with SparseDataset.open(tmp_path / "shapes.h5") as dataset:
        assert dataset.has_site_labels and not dataset.has_meshes
    run(parse_config(text, "test", ["training.epochs=1", "augmentation.rotation=upright"]), tmp_path / "turned")


@pytest.mark.parametrize(("overrides", "message"), [
    (["network.kind=resnet"], "a network of kind resnet gives one row for each sample: set network.kind to unet"),
    (["loss.pose_weight=1"], "a segmentation has no terms beside it"),
    (["evaluation.protocol=paper"], "evaluation.protocol has no effect on a segmentation: leave it out"),
    (["evaluation.repetitions=2"], "evaluation.repetitions has no effect on a segmentation"),
    (["data.classes=shared"], "data.classes has no effect on a segmentation"),
    (["loss.kind=terms", "loss.terms=[{kind='segmentation'}, {kind='softmax'}]"],
     "several of loss.terms train a classifier"),
    (["loss.kind=terms", "loss.terms=[{kind='segmentation'}, {kind='contrastive'}]"],
     "a segmentation has no terms beside it"),
])
def test_keys_that_contradict_it_are_refused(overrides, message, config):
    with pytest.raises(ConfigError, match=message):
        config(*overrides)


@pytest.mark.parametrize(("layers", "message"), [
    ("['global_pool']", "network.layers give one row for each sample: leave out the layers from the global pooling"),
    ("[{kind='convolution', channels=3, size=3, padding=1}]", r"segmentation: the network gives \d+ sites for the \d+"),
])
def test_layers_that_do_not_keep_the_sites_are_refused(layers, message, config, tmp_path):
    with pytest.raises(ValueError, match=message):
        run(config(*LISTED[:3], f"network.layers={layers}"), tmp_path)


def test_data_without_labels_of_sites_are_refused(config, tmp_path):
    plain = tmp_path / "plain.h5"
    samples = [Sample(np.zeros((1, 3), int), 0, split, split) for split in ("train", "test")]
    SparseDataset.create(plain, samples, (8, 8, 8), 8, ["a"]).close()
    with pytest.raises(ConfigError, match="loss.kind is segmentation, and .* has no site labels"):
        run(config(f"data.path={plain}"), tmp_path / "a")
    unknown = make_dataset(tmp_path / "unknown.h5", parts=lambda cells: np.full(len(cells), -1))
    with pytest.raises(ConfigError, match="the training data of .* have no site whose part is known"):
        run(config(f"data.path={unknown}"), tmp_path / "b")
