"""The final evaluation: a classifier's figures, both kinds of descriptors, poses, prior, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, top_k_accuracy_score
from small_runs import TEXT, TRIPLETS, bits, make, run

from sparsenet.data import SparseDataset
from sparsenet.retrieval import embed, evaluate
from sparsenet.training import load_network, loop, parse_config, save_checkpoint
from sparsenet.training.checkpoint import CheckpointError, load_checkpoint
from sparsenet.training.classification import class_accuracies, top_k_accuracy
from sparsenet.training.config import ConfigError
from sparsenet.training.evaluation import check_evaluation, evaluate_network, ranking_metric


@pytest.fixture(scope="module")
def trained(path, tmp_path_factory):
    """The network of a short training, its checkpoint, and the test split."""
    out = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "draw_figures", lambda *_: None)
        result = run(parse_config(TEXT.format(path=path), "test"), out)
    net, state = load_network(out / "best.h5")
    with SparseDataset.open(path) as dataset:
        yield net, state, dataset.subset("test"), result


# ---- a classifier's measures ----


def test_top_k_and_class_accuracies_are_scikit_learns(rng):
    labels = rng.integers(0, 7, 200)
    probabilities = rng.dirichlet(np.ones(7), 200)
    probabilities[np.arange(200), labels] += rng.random(200)
    for k in range(1, 7):
        expected = top_k_accuracy_score(labels, probabilities, k=k)
        assert top_k_accuracy(probabilities, labels, k) == pytest.approx(expected, abs=1e-15)
    of_classes = class_accuracies(probabilities, labels, "abcdefg")
    assert np.mean([accuracy for _, accuracy in of_classes.values()]) == pytest.approx(
        balanced_accuracy_score(labels, probabilities.argmax(axis=1)), abs=1e-15)
    assert {name: count for name, (count, _) in of_classes.items()} == {
        "abcdefg"[label]: (labels == label).sum() for label in range(7)}


def test_equally_probable_classes_rank_in_their_order():
    equal, labels = np.full((4, 4), 0.25), np.arange(4)
    assert [top_k_accuracy(equal, labels, k) for k in (1, 2, 3, 4)] == [0.25, 0.5, 0.75, 1]
    assert top_k_accuracy(equal, labels, 1) == accuracy_score(labels, equal.argmax(axis=1))


def test_classes_without_a_sample_are_left_out():
    assert class_accuracies(np.eye(3), np.array([0, 2, 2]), ["a", "b", "c"]) == {"a": (1, 1.0), "c": (2, 0.5)}


# ---- both rows ----


def test_a_classifier_is_evaluated_by_descriptors_and_by_class_probabilities(trained, config):
    net, _, test, result = trained
    probabilities = net.predict(test)
    labels = test.object_labels
    by_layer, by_class = evaluate(embed(net, test), labels, "l2"), evaluate(probabilities, labels, "cosine")
    assert result.evaluation.mAP == result.figures["test_mAP"] == by_layer.mAP
    assert result.figures["test_posterior_mAP"] == by_class.mAP and result.figures["test_posterior_NN"] == by_class.NN
    assert result.figures["test_chance"] == by_layer.chance
    assert result.figures["test_class_mean_accuracy"] == balanced_accuracy_score(labels, probabilities.argmax(axis=1))
    found = evaluate_network(net, test, config("evaluation.descriptor=probabilities"))
    assert found.figures == result.figures and found.evaluation.mAP == by_class.mAP
    assert (found.evaluation.metric, found.descriptor.metric) == ("cosine", "l2")
    assert np.array_equal(found.probabilities, probabilities) and np.array_equal(found.labels, labels)


def test_descriptors_of_triplets_have_no_class_probabilities(config, tmp_path):
    result = run(config("training.epochs=1", *TRIPLETS), tmp_path)
    assert not any("posterior" in name or "accuracy" in name for name in result.figures)
    assert result.figures["test_chance"] == result.evaluation.chance


@pytest.mark.parametrize(("poses", "of_classes"), [((1,), (1,)), ("max", "mean"), ("mean", "mean"), ((1, 0), (0, 1))])
def test_poses_of_the_evaluation(trained, config, poses, of_classes):
    net, _, test, _ = trained
    words = poses if isinstance(poses, str) else list(poses)
    found = evaluate_network(net, test, config(f"evaluation.poses={words}"))
    labels = test.object_labels
    assert found.descriptor.mAP == evaluate(embed(net, test, poses=poses), labels, "l2").mAP
    assert np.array_equal(found.probabilities, net.predict(test, poses=of_classes))
    expected = evaluate(embed(net, test, output="probabilities", poses=poses), labels, "cosine").mAP
    assert found.posterior.mAP == expected


def test_poses_are_averaged_as_directions_if_they_are_ranked_by_cosine(trained, config):
    net, _, test, _ = trained
    found = evaluate_network(net, test, config("evaluation.poses=mean", "evaluation.metric=cosine"))
    expected = evaluate(embed(net, test, poses="mean", unit=True), test.object_labels, "cosine")
    assert found.descriptor.mAP == expected.mAP
    assert np.array_equal(found.descriptor.precision, expected.precision)


def test_3dshapenets_protocol_keeps_each_pose_as_an_item(trained, config, tmp_path):
    net = trained[0]
    make(tmp_path / "many.h5", 3, train=3, test=63)
    with SparseDataset.open(tmp_path / "many.h5") as dataset:
        test = dataset.subset("test")
        found = evaluate_network(net, test, config("evaluation.protocol=3dshapenets"))
        assert found.descriptor.queries == found.posterior.queries == 120 == found.descriptor.hits.size
        expected = evaluate(embed(net, test, poses="all"), test.labels, "l2", "3dshapenets", test.names)
        assert found.figures["test_mAP"] == expected.mAP
        assert found.figures["test_interpolated_mAP"] == expected.interpolated_mAP >= expected.mAP


# ---- the prior ----


def test_a_checkpoint_counts_the_training_samples_of_each_class(trained, path):
    with SparseDataset.open(path) as dataset:
        training, _ = dataset.subset("train").split(0.2, 0)
        assert trained[1].class_counts == np.bincount(training.object_labels).tolist() == [10, 10, 10]


def test_the_prior_is_taken_out_of_the_logits(trained, config):
    net, _, test, _ = trained
    counts = [5, 20, 75]
    plain = evaluate_network(net, test, config()).probabilities.astype(np.float64)
    found = evaluate_network(net, test, config("evaluation.prior=0.5"), class_counts=counts)
    expected = plain * (np.array(counts) / 100) ** -0.5
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found.probabilities, expected, rtol=1e-5)
    assert found.figures["test_accuracy"] == (expected.argmax(axis=1) == test.object_labels).mean()
    assert found.posterior.mAP == pytest.approx(evaluate(expected, test.object_labels).mAP, abs=1e-6)
    assert found.descriptor.mAP == evaluate_network(net, test, config()).descriptor.mAP


def test_a_prior_needs_the_counts_of_the_checkpoint(trained, config, tmp_path):
    net, state, test, _ = trained
    with pytest.raises(ConfigError, match="evaluation.prior is 1, but the checkpoint does not state"):
        evaluate_network(net, test, config("evaluation.prior=1"))
    save_checkpoint(tmp_path / "old.h5", replace(state, class_counts=[]))
    assert load_checkpoint(tmp_path / "old.h5").class_counts == []
    save_checkpoint(tmp_path / "bad.h5", replace(state, class_counts=[3, 4]))
    with pytest.raises(CheckpointError, match="class_counts are .3, 4., expected a number of samples for each class"):
        load_checkpoint(tmp_path / "bad.h5")
    with h5py.File(tmp_path / "old.h5") as file:
        assert "class_counts" not in file


# ---- before training ----


@pytest.mark.parametrize(("overrides", "message"), [
    (["evaluation.poses=[0,2]"], "evaluation.poses: the object '.*' has no pose 2, only 0, 1"),
    (["evaluation.poses=[1,1]"], "evaluation.poses: poses is .1, 1., expected .* distinct pose numbers"),
    (["evaluation.protocol=3dshapenets"], "evaluation.protocol '3dshapenets' takes 20 objects of each class"),
    ([*TRIPLETS, "evaluation.descriptor=probabilities"], "evaluation.descriptor is 'probabilities', but a "),
    ([*TRIPLETS, "evaluation.prior=1"], "evaluation.prior is 1.0, but a network trained with loss.kind 'triplet'"),
])
def test_what_would_fail_in_the_end_is_refused_before_training(trained, config, overrides, message):
    with pytest.raises(ConfigError, match=message):
        check_evaluation(trained[2], config(*overrides))


def test_of_the_classes_that_are_there_the_one_with_the_fewest_objects_is_named(config):
    few = SimpleNamespace(object_labels=np.array([0, 0, 0, 2, 2]), classes=["foo", "none", "bar"], path="few.h5")
    with pytest.raises(ConfigError, match="takes 20 objects of each class, and few.h5 has 2 of 'bar' to test on"):
        check_evaluation(few, config("evaluation.protocol=paper"))


@pytest.mark.parametrize(("overrides", "output", "metric"), [
    ([], None, "l2"), ([], "probabilities", "cosine"), (["evaluation.descriptor=probabilities"], None, "cosine"),
    (["evaluation.descriptor=probabilities"], "layer", "l2"), (TRIPLETS, None, "cosine"),
    (["evaluation.metric=l2"], "probabilities", "l2"),
])
def test_the_metric_follows_what_is_ranked(config, overrides, output, metric):
    assert ranking_metric(config(*overrides), output) == metric


# ---- augmentation ----


def test_mirror_and_quarter_turns_train_on_stored_voxels_and_resume(config, tmp_path):
    turned = ["augmentation.mirror=true", "augmentation.quarter_turns=true"]
    run(config(*turned), tmp_path / "whole")
    run(config(*turned, "training.epochs=1"), tmp_path / "parts")
    run(config(*turned), tmp_path / "parts", resume=True)
    run(config(), tmp_path / "plain")
    assert bits(tmp_path / "whole") == bits(tmp_path / "parts") != bits(tmp_path / "plain")
