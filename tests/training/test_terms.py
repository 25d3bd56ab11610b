"""Losses of several terms from a config: what they train, save, resume with the same bits, and evaluate."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from small_runs import TRIPLETS, bits, interrupt, make, run, stop_in_step

from sparsenet import ops
from sparsenet.data import ClassBalancedSampler, SparseDataset
from sparsenet.retrieval import embed
from sparsenet.retrieval.embedding import descriptor_layer
from sparsenet.training import Event, describe_keys, load_checkpoint, load_network, train
from sparsenet.training.build import build_batching, build_network, build_optimizer
from sparsenet.training.config import ConfigError, load_config, parse_config
from sparsenet.training.evaluation import ranking_metric
from sparsenet.training.losses import Criterion, classifies
from sparsenet.training.schema import LossConfig
from sparsenet.training.terms import TERMS, sampling_of, terms_of

COSINE = '{kind = "cosine_softmax", scale = 8, margin = 0.2}'
CONTRASTIVE = '{kind = "contrastive", weight = 0.5, temperature = 0.2}'
BALANCED = ["training.batch_size=9", "loss.classes_per_batch=3"]
DESCRIPTORS = [f"loss.terms=[{COSINE}, {CONTRASTIVE}]", *BALANCED]
LEARNING = ["loss.terms=[{kind = 'softmax'}, {kind = 'centre', weight = 0.1, lr_factor = 3}, "
            "{kind = 'proxy_anchor', weight = 0.2}, {kind = 'contrastive'}]", "network.projection=5",
            "loss.pose_weight=0.3", *BALANCED]
COMBINED = {
    "descriptors": DESCRIPTORS,
    "learning": LEARNING,
    "no classifier": ["loss.terms=[{kind = 'triplet_centre', margin = 1}, {kind = 'triplet', mining = 'hard'}]",
                      *BALANCED],
    "arcface": ["loss.terms=[{kind = 'cosine_softmax', variant = 'arcface'}]", "optimizer.ema=0.9"],
    "pose alone": ["loss.pose_weight=0.2"],
}


@pytest.mark.parametrize("name", COMBINED)
def test_stopped_and_resumed_it_gives_the_same_bits(name, config, tmp_path, monkeypatch):
    settings = config(*COMBINED[name], "optimizer.max_gradient_norm=1.0", "optimizer.decay_norms_and_biases=false")
    run(settings, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_in_step(patch, 3, interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(settings, tmp_path / "stopped")
    half = load_checkpoint(tmp_path / "stopped" / "last.h5").loss
    run(settings, tmp_path / "stopped", resume=True)
    assert bits(tmp_path / "stopped") == bits(tmp_path / "whole")
    whole, stopped = (load_checkpoint(tmp_path / one / "last.h5") for one in ("whole", "stopped"))
    assert {name: array.tobytes() for name, array in stopped.loss.items()} == {
        name: array.tobytes() for name, array in whole.loss.items()}
    assert all(not np.array_equal(half[name], array) for name, array in whole.loss.items())
    assert {f"loss.{name}" for name in whole.loss} <= set(whole.momentum)


def test_what_a_loss_learns_is_named_in_the_checkpoint_and_starts_by_the_seed(config, tmp_path, path):
    run(config(*LEARNING), tmp_path)
    state = load_checkpoint(tmp_path / "best.h5")
    assert {name: array.shape for name, array in state.loss.items()} == {
        "centre.centres": (3, 8), "proxy_anchor.proxies": (3, 8), "projection.weight": (8, 5), "projection.bias": (5,),
        "pose.weight": (8, 2), "pose.bias": (2,)}
    assert not any("proxies" in name or "projection" in name for name in state.weights)
    with SparseDataset.open(path) as shapes:
        training = shapes.subset("train")
        first = [Criterion(settings, build_network(settings, 3), training).state_dict()
                 for settings in (config(*LEARNING), config(*LEARNING), config(*LEARNING, "training.seed=1"))]
    assert all(np.array_equal(first[0][name], first[1][name]) for name in first[0])
    assert not any(np.array_equal(first[0][name], first[2][name]) for name in first[0] if not name.endswith("bias"))


def test_the_loss_is_the_weighted_sum_of_its_terms(config, path):
    settings = config(*LEARNING)
    with SparseDataset.open(path) as shapes:
        training = shapes.subset("train")
        net = build_network(settings, 3).eval()
        criterion = Criterion(settings, net, training)
        batch = next(training.batches(**build_batching(settings, training, net)))
        poses = training.pose[batch.sample_ids]
    loss, figures = criterion.loss(net, batch)
    x, labels = net.run(batch, 0, criterion.place), batch.labels
    expected = [ops.softmax_cross_entropy(net(batch), labels), ops.centre_loss(x, criterion.centre.centres, labels),
                ops.proxy_anchor(x, criterion.proxy_anchor.proxies, labels),
                ops.supervised_contrastive(criterion.projection(x), labels),
                ops.softmax_cross_entropy(criterion.pose(x), poses)]
    assert criterion.figures == ("loss", "loss_softmax", "loss_centre", "loss_proxy_anchor", "loss_contrastive",
                                 "loss_pose", "right")
    found = dict(zip(criterion.figures, figures.tolist(), strict=True))
    assert list(found.values())[1:6] == pytest.approx([value.item() for value in expected], rel=1e-6)
    weighted = np.dot([1, 0.1, 0.2, 1, 0.3], [value.item() for value in expected])
    assert loss.item() == pytest.approx(weighted, rel=1e-6) and found["loss"] == pytest.approx(weighted, rel=1e-6)
    assert found["right"] == (net(batch).numpy().argmax(axis=1) == labels).sum()
    loss.backward()
    parameters = [*net.parameters(), *criterion.parameters()]
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in parameters)


def test_each_term_is_recorded(config, tmp_path):
    steps, lines = [], []
    result = run(config(*DESCRIPTORS), tmp_path, callback=steps.append, say=lines.append)
    row = result.history[-1]
    assert row["loss"] == pytest.approx(row["loss_cosine_softmax"] + 0.5 * row["loss_contrastive"], rel=1e-5)
    with open(tmp_path / "metrics.csv", encoding="utf-8") as file:
        assert list(csv.DictReader(file))[-1].keys() >= {"loss", "loss_cosine_softmax", "loss_contrastive", "accuracy"}
    assert isinstance(steps[0], Event) and 0 <= steps[0].figures["accuracy"] <= 1
    assert steps[0].figures.keys() == {"loss", "loss_cosine_softmax", "loss_contrastive", "lr", "accuracy"}


def test_it_learns_to_classify_and_to_retrieve(config, tmp_path):
    result = run(config(*DESCRIPTORS, "training.epochs=20", "optimizer.lr=0.5"), tmp_path)
    assert result.history[-1]["loss"] < 0.6 * result.history[0]["loss"]
    assert result.figures["test_accuracy"] > 0.8 and result.figures["test_mAP"] > 0.7


def test_the_checkpoint_of_a_cosine_classifier_predicts_without_the_margin_and_embeds_before_it(config, tmp_path, path):
    result = run(config(*DESCRIPTORS), tmp_path)
    net, state = load_network(tmp_path / "best.h5")
    assert net.names()[-2:] == ["dropout1", "cosine_linear1"] and net.layers[-1].scale == 8
    place = len(net.layers) - 2
    assert descriptor_layer(net) == place
    with SparseDataset.open(path) as shapes:
        test = shapes.subset("test")
        batch = next(test.batches(64, field=net.field))
        rows, probabilities = embed(net, test), net.predict(test)
    features = net.run(batch, 0, place).numpy()
    assert rows.tobytes() == features.tobytes()
    weight = state.weights["cosine_linear1.weight"]
    cosines = (features @ weight) / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-30)
    exponentials = np.exp(8 * cosines / np.linalg.norm(weight, axis=0))
    np.testing.assert_allclose(probabilities, exponentials / exponentials.sum(axis=1, keepdims=True), rtol=1e-4)
    assert result.figures["test_accuracy"] == pytest.approx((probabilities.argmax(axis=1) == batch.labels).mean())


def test_fine_tuning_takes_the_columns_of_a_cosine_classifier_by_class(config, tmp_path):
    run(config(*DESCRIPTORS), tmp_path / "first")
    lines = []
    tuned = config(*DESCRIPTORS, f"network.init_from={tmp_path / 'first' / 'best.h5'}", "training.epochs=1")
    run(tuned, tmp_path / "second", say=lines.append)
    assert any("network.init_from: 7 of 7 arrays" in line for line in lines)


# ---- sampling ----


@pytest.mark.parametrize(("overrides", "sampling"), [
    ([], "shuffled"), (["loss.sampling=balanced", *BALANCED], "balanced"), (TRIPLETS, "triplets"),
    ([*TRIPLETS, "loss.mining=hard", *BALANCED], "balanced"), (DESCRIPTORS, "balanced"),
    ([*DESCRIPTORS, "loss.sampling=shuffled"], "shuffled"), (COMBINED["arcface"], "shuffled"),
    (["loss.terms=[{kind = 'proxy_anchor'}]"], "shuffled"),
])
def test_batches_are_balanced_where_samples_are_compared_or_the_config_says_so(overrides, sampling, config, path):
    settings = config(*overrides)
    assert sampling_of(settings.loss) == sampling
    with SparseDataset.open(path) as shapes:
        training = shapes.subset("train")
        batching = build_batching(settings, training, build_network(settings, 3))
        if sampling == "balanced":
            assert isinstance(batching["sampler"], ClassBalancedSampler)
            labels = next(training.batches(**batching)).labels
            assert np.bincount(labels).tolist() == [3, 3, 3]
        assert ("sampler" in batching) == (sampling != "shuffled")


# ---- poses ----


def test_the_pose_that_was_drawn_is_predicted(config, path, tmp_path):
    """Bars along an axis in pose 0, plates across it in pose 1, regardless of class: only the pose can be seen."""
    from sparsenet.data.sample import Sample

    def cells(pose, rng):
        grid = np.zeros((8, 8, 8), bool)
        grid[(rng.integers(2, 6), slice(None)) if pose == 0 else (slice(None), slice(None), rng.integers(2, 6))] = True
        return np.argwhere(grid).astype(np.int32)

    rng = np.random.default_rng(1)
    samples = (Sample(cells(pose, rng), number % 3, f"{split}/{number}", split, number, pose)
               for number in range(30) for pose in (0, 1) for split in ["train" if number < 24 else "test"])
    SparseDataset.create(tmp_path / "posed.h5", samples, (8, 8, 8), 8, ["a", "b", "c"]).close()
    result = run(config(f"data.path={tmp_path / 'posed.h5'}", "loss.pose_weight=1.0", "network.dropout=0.0",
                        "training.epochs=15", "optimizer.lr=0.5", "data.validation_share=0"), tmp_path / "run")
    assert result.history[-1]["loss_pose"] < 0.1 < 0.5 < result.history[0]["loss_pose"]
    assert result.history[-1]["loss_softmax"] > 0.5


def test_pose_needs_several_that_stay_what_they_are(config, tmp_path):
    with pytest.raises(ConfigError, match=r"loss.pose_weight is set, and augmentation.quarter_turns turns each pose"):
        config("loss.pose_weight=1.0", "augmentation.quarter_turns=true")
    path = make(tmp_path / "shapes.h5", train=12, test=6)
    with SparseDataset.open(path) as shapes:
        one = shapes.select(shapes.first_poses)
        settings = config("loss.pose_weight=1.0")
        with pytest.raises(ConfigError, match="are stored in one pose, so there is none to predict"):
            Criterion(settings, build_network(settings, 3), one)


# ---- the config ----


def test_terms_are_written_out_with_all_their_keys_and_read_back(config):
    settings = config(*LEARNING)
    assert settings.loss.kind == "terms"
    assert 'kind = "centre", weight = 0.1, lr_factor = 3.0' in settings.text()
    assert parse_config(settings.text(), "its text") == settings
    assert config("loss.terms=[{kind='softmax'}]") == config("loss.terms=[{kind='softmax', weight=1}]")


def test_arrays_of_tables_are_terms_too(path):
    text = f"""
[data]
path = "{path}"
[[loss.terms]]
kind = "cosine_softmax"
[[loss.terms]]
kind = "contrastive"
weight = 0.5
"""
    terms = terms_of(parse_config(text, "a.toml").loss)
    assert [(type(one), one.weight) for one in terms] == [(TERMS["cosine_softmax"], 1.0), (TERMS["contrastive"], 0.5)]


def test_the_kinds_that_are_shorthands_have_the_defaults_of_their_terms():
    for kind in ("softmax", "triplet"):
        (of_loss,) = terms_of(LossConfig(kind=kind))
        own = TERMS[kind]()
        names = set(vars(own)) - {"mining"}  # a list has no unmined triplets
        assert {name: getattr(of_loss, name) for name in names} == {name: getattr(own, name) for name in names}


def test_the_reference_of_keys_lists_each_kind():
    text = describe_keys()
    for kind in TERMS:
        assert f"#     {kind}: weight = 1.0" in text


@pytest.mark.parametrize(("overrides", "message"), [
    (["loss.kind=terms"], "loss.kind is terms, and loss.terms is empty: list them"),
    (["loss.kind=triplet", f"loss.terms=[{COSINE}]"], "loss.kind is triplet, and loss.terms is set"),
    (["loss.terms=3"], r"loss.terms is 3, expected a list of tables \[\[loss.terms\]\]"),
    (["loss.terms=[3]"], "loss.terms: term 1 is 3, expected a table of kind, weight and settings"),
    (["loss.terms=[{weight = 1}]"], "loss.terms: term 1 is a table, expected a table of kind"),
    ([f"loss.terms=[{COSINE}, {{kind = 'contrastve'}}]"],
     "kind of term 2 is 'contrastve', expected one of softmax, .*: did you mean contrastive"),
    (["loss.terms=[{kind = 'contrastive', temprature = 1}]"],
     r"loss.terms, term 1 \(contrastive\).temprature is not a key: did you mean .*temperature"),
    (["loss.terms=[{kind = 'contrastive', temperature = 0}]"],
     r"loss.terms, term 1 \(contrastive\).temperature is 0.0, expected more than 0"),
    (["loss.terms=[{kind = 'contrastive', temperature = 'x'}]"], "temperature is 'x', expected a number"),
    (["loss.terms=[{kind = 'softmax'}, {kind = 'cosine_softmax'}]"], "several of loss.terms train a classifier"),
    (["loss.terms=[{kind = 'cosine_softmax', variant = 'normface'}]"],
     r"loss.terms, term 1 \(cosine_softmax\): margin is 0.1, and normface has none"),
    (["loss.terms=[{kind = 'cosine_softmax', variant = 'arcface', margin = 4}]"], "an angle of at most pi"),
    (["loss.terms=[{kind = 'triplet', mining = 'none'}]"], "mining is 'none', expected one of hard, semi_hard"),
    (["loss.terms=[{kind = 'triplet', margin = 0}]"], r"term 1 \(triplet\): margin is 0, semi-hard"),
    ([*DESCRIPTORS, "loss.margin=0.3"], "loss.margin has no effect on loss.terms: set it in a term"),
    ([*DESCRIPTORS, "training.batch_size=10"], "training.batch_size is 10, expected a multiple of loss.classes_per"),
    (["loss.sampling=balanced", "training.batch_size=11"], "batch_size is 11, expected a multiple"),
    ([*DESCRIPTORS, "training.batch_size=3"], "so a batch has one object of each class and the loss none to compare"),
    ([*TRIPLETS, "loss.sampling=balanced"], "a triplet loss without mining draws triplets"),
    (["network.projection=4"], "network.projection is 4, and no term of the loss is contrastive"),
])
def test_what_is_wrong_with_a_loss_is_named(overrides, message, config):
    with pytest.raises(ConfigError, match=message):
        config(*overrides)


@pytest.mark.parametrize(("overrides", "classifier", "metric"), [
    ([], True, "l2"), (TRIPLETS, False, "cosine"), (DESCRIPTORS, True, "cosine"), (LEARNING, True, "cosine"),
    (["loss.terms=[{kind = 'softmax'}, {kind = 'centre'}]"], True, "l2"),
    (["loss.terms=[{kind = 'triplet_centre'}]"], False, "l2"),
])
def test_the_terms_say_whether_it_classifies_and_how_descriptors_are_ranked(overrides, classifier, metric, config):
    settings = config(*overrides)
    assert classifies(settings) is classifier
    assert ranking_metric(settings, "layer") == metric and ranking_metric(settings, "probabilities") == "cosine"


def test_vectors_of_classes_have_a_learning_rate_of_their_own_and_do_not_decay(config, path):
    settings = config(*LEARNING, "optimizer.weight_decay=0.01")
    net = build_network(settings, 3)
    with SparseDataset.open(path) as shapes:
        criterion = Criterion(settings, net, shapes.subset("train"))
    optimizer, _ = build_optimizer(settings, net, criterion)
    optimizer.lr = 0.5
    groups = {name: (one.lr, one.weight_decay) for one in optimizer.optimizers for name in one.parameters}
    assert groups["loss.centre.centres"] == (pytest.approx(1.5), 0) and groups["loss.proxy_anchor.proxies"] == (0.5, 0)
    assert groups["loss.projection.weight"] == groups["convolution1.weight"] == (0.5, 0.01)
    assert set(groups) == {name for name, _ in net.named_parameters()} | {
        f"loss.{name}" for name, _ in criterion.named_parameters()}


# ---- the config of descriptors that ships ----


def test_the_recipe_for_descriptors_trains_on_voxels_of_its_form(tmp_path):
    """Two steps of 16 classes x 4, in 12 poses of 24 cells, from the shipped config."""
    rng = np.random.default_rng(0)
    from sparsenet.data.sample import Sample

    def samples():
        for number in range(96):
            split = "train" if number < 64 else "test"
            for pose in range(12):
                cells = np.unique(rng.integers(0, 24, (60, 3)), axis=0).astype(np.int32)
                yield Sample(cells, number % 16, f"{split}/{number}", split, number, pose)

    names = [f"class_{label:02d}" for label in range(16)]
    SparseDataset.create(tmp_path / "shapes.h5", samples(), (24, 24, 24), 24, names).close()
    settings = load_config("modelnet40_descriptors", [
        f"data.path={tmp_path / 'shapes.h5'}", "training.epochs=1", "data.workers=0", "data.validation_share=0",
        "loss.batches_per_epoch=2", "evaluation.protocol=none", "evaluation.poses=first"])
    result = train(settings, tmp_path / "run", progress=False, say=lambda line: None)
    net = result.net
    assert net.field == (31, 31, 31) and net.spatial_sizes() == [(n,) * 3 for n in (31, 31, 15, 15, 7, 7, 3, 1)]
    assert net.names()[-3:] == ["batch_norm7", "global_pool1", "cosine_linear1"]
    assert net.layers[-1].weight.shape == (256, 16) and 3.4e6 < net.parameter_count() < 3.6e6
    assert result.history[0]["loss_cosine_softmax"] > 0 and result.history[0]["loss_contrastive"] > 0
    assert ranking_metric(settings) == "cosine" and np.isfinite(result.figures["test_mAP"])
