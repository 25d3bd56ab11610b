"""`sparsenet evaluate` on data whose classes are not the network's: mug, stool, table."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sparsenet.data import SparseDataset
from sparsenet.retrieval import embed, evaluate
from sparsenet.training import load_network


@pytest.fixture
def evaluated(tool, tmp_path):
    """Evaluates a checkpoint on a file -> (the printed lines, the figures in the JSON)."""

    def evaluate(checkpoint, dataset, *options):
        code, out, err = tool("evaluate", checkpoint, "--dataset", dataset, "--quiet", "--json", tmp_path / "e.json",
                              *options)
        assert (code, err) == (0, "")
        return out.splitlines(), json.loads((tmp_path / "e.json").read_text())

    return evaluate


def expected(checkpoint, dataset):
    """Accuracy over the shapes of classes that the network knows, by name, and the mAP over all labelled shapes."""
    net, state = load_network(checkpoint)
    with SparseDataset.open(dataset) as shapes:
        probabilities, vectors = net.predict(shapes), embed(net, shapes)
        labels, names = shapes.object_labels, shapes.classes
    right = [state.classes[row.argmax()] == names[label] for row, label in zip(probabilities, labels, strict=True)
             if label >= 0 and names[label] in state.classes]
    return np.mean(right), evaluate(vectors[labels >= 0], labels[labels >= 0], "l2").mAP


def test_accuracy_is_over_the_known_classes_and_retrieval_over_all_shapes(evaluated, experiment, make_shapes, tmp_path):
    data = make_shapes(tmp_path / "d.h5", {"table": 4, "apple": 3, "stool": 3, "mug": 2})
    lines, figures = evaluated(experiment.checkpoint, data)
    accuracy, mean_precision = expected(experiment.checkpoint, data)
    assert figures["test_accuracy"] == accuracy and figures["test_mAP"] == pytest.approx(mean_precision, abs=1e-6)
    mean = figures["test_class_mean_accuracy"]
    assert lines[0] == (f"accuracy {100 * accuracy:.2f}%, mean over classes {100 * mean:.2f}%, loss "
                        f"{figures['test_loss']:.4f}, over 9 shapes")
    assert lines[1] == "left out of the accuracy: 3 of 12 shapes, of classes that the network does not know (apple)"
    assert "12 queries of 4 classes, each ranks 11 shapes by l2" in lines
    assert (figures["shapes"], figures["shapes_of_unknown_classes"], figures["unknown_classes"]) == (12, 3, ["apple"])
    assert set(figures["retrieval"]["per_class"]) == {"table", "apple", "stool", "mug"}


def test_the_numbers_of_the_labels_do_not_matter(evaluated, experiment, make_shapes, tmp_path):
    one = evaluated(experiment.checkpoint, make_shapes(tmp_path / "a.h5", {"mug": 3, "stool": 3, "table": 3}))[1]
    other = evaluated(experiment.checkpoint, make_shapes(tmp_path / "b.h5", {"table": 3, "mug": 3, "stool": 3}))[1]
    for name in ("test_accuracy", "test_loss", "test_mAP", "test_NDCG"):
        assert one[name] == pytest.approx(other[name], abs=1e-6)
    for name, of_class in one["retrieval"]["per_class"].items():
        assert of_class == pytest.approx(other["retrieval"]["per_class"][name], abs=1e-6)


def test_data_may_lack_a_class_of_the_network(evaluated, experiment, make_shapes, tmp_path):
    data = make_shapes(tmp_path / "d.h5", {"stool": 4, "mug": 3})
    lines, figures = evaluated(experiment.checkpoint, data)
    assert figures["test_accuracy"] == expected(experiment.checkpoint, data)[0]
    assert "over 7 shapes" in lines[0] and not any("left out" in line for line in lines)
    assert figures["shapes_of_unknown_classes"] == 0


def test_without_a_known_class_the_retrieval_alone_is_evaluated(evaluated, experiment, make_shapes, tmp_path):
    lines, figures = evaluated(experiment.checkpoint, make_shapes(tmp_path / "d.h5", {"pear": 3, "apple": 3}))
    assert lines[0] == ("no accuracy: the network knows none of the classes (apple, pear); only retrieval is "
                        "evaluated")
    assert "test_accuracy" not in figures and figures["retrieval"]["queries"] == 6


def test_a_ranking_of_one_class_gets_a_remark(evaluated, experiment, make_shapes, tmp_path):
    lines, figures = evaluated(experiment.checkpoint, make_shapes(tmp_path / "d.h5", {"mug": 3, "pear": 0}))
    assert lines[1] == "note: all shapes are of one class, 'mug': any ranking is 100% right about it"
    assert figures["test_mAP"] == 1 and "3 queries of 1 class, each ranks 2 shapes by l2" in lines


def test_unlabelled_shapes_are_counted_and_left_out(evaluated, experiment, make_shapes, tmp_path):
    data = make_shapes(tmp_path / "d.h5", {"mug": 3, "pear": 2}, unlabelled=4)
    lines, figures = evaluated(experiment.checkpoint, data)
    assert "left out: 4 shapes without a label" in lines and "over 3 shapes" in lines[0]
    assert figures["unlabelled"] == 4 and figures["shapes"] == 5
    assert figures["test_mAP"] == pytest.approx(expected(experiment.checkpoint, data)[1], abs=1e-6)


def test_new_classes_of_a_triplet_network_are_reported(evaluated, triplet_experiment, make_shapes, tmp_path):
    data = make_shapes(tmp_path / "d.h5", {"mug": 3, **{f"new{i}": 2 for i in range(7)}})
    lines, figures = evaluated(triplet_experiment.checkpoint, data)
    assert lines[0] == ("14 of 17 shapes are of classes that the network was not trained on (new0, new1, new2, new3, "
                        "new4 and 2 more)")
    assert figures["retrieval"]["queries"] == 17 and not any("accuracy" in line for line in lines)


def test_shapes_that_are_alone_in_their_classes_have_an_accuracy_and_no_retrieval(evaluated, experiment, make_shapes,
                                                                                  tmp_path):
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    data = make_shapes(tmp_path / "d.h5", {"mug": 1, "table": 1, "pear": 1})
    lines, figures = evaluated(experiment.checkpoint, data, "--picture", tmp_path / "p.png")
    assert "over 2 shapes" in lines[0] and lines[2] == "no class has two test objects: retrieval is not evaluated"
    assert figures["retrieval"] is None and "test_mAP" not in figures
    assert lines[-1].startswith("no picture: ") and not (tmp_path / "p.png").exists()


@pytest.mark.parametrize(("counts", "unlabelled", "message"), [
    ({"mug": 0}, 3, "none of its 3 shapes here has a label, so nothing can be evaluated"),
    ({"pear": 1, "apple": 1}, 0, "the network knows none of the classes, and no class has two shapes here, so "
                                 "nothing can be evaluated; the classes are apple, pear"),
])
def test_nothing_to_evaluate_is_said(tool, experiment, make_shapes, tmp_path, counts, unlabelled, message):
    data = make_shapes(tmp_path / "d.h5", counts, unlabelled)
    code, out, err = tool("evaluate", experiment.checkpoint, "--dataset", data, "--quiet")
    assert (code, out) == (1, "") and message in err and err.count("\n") == 1


def test_a_missing_split_names_those_there_are_and_all(tool, experiment, make_shapes, tmp_path):
    data = make_shapes(tmp_path / "d.h5", {"mug": 2}, split="dev")
    for name, arguments in (("evaluate", []), ("embed", [tmp_path / "e.h5"])):
        code, _, err = tool(name, experiment.checkpoint, *arguments, "--dataset", data, "--quiet")
        assert code == 1 and "there is 'dev': name one with --split, or --split all" in err


def test_of_the_dataset_trained_on_the_classes_are_those_trained_on(tool, experiment, make_shapes, tmp_path):
    """A training with data.classes = 'shared' had left a class out: its figures come out again."""
    from dataclasses import replace

    from sparsenet.training import save_checkpoint

    data = make_shapes(tmp_path / "d.h5", {"mug": 3, "pear": 2, "table": 3, "stool": 2}, unlabelled=4)
    _, state = load_network(experiment.checkpoint)
    with SparseDataset.open(data) as shapes:
        digest = shapes.digest
    config = state.config.replace('classes = "all"', 'classes = "shared"')
    save_checkpoint(tmp_path / "shared.h5", replace(state, config=config, dataset=digest))
    _, out, _ = tool("evaluate", tmp_path / "shared.h5", "--dataset", data, "--quiet")
    assert "8 queries of 3 classes" in out
    assert "left out: 2 shapes of classes that are not in both splits (data.classes is 'shared')\n" in out
    assert "left out: 4 shapes without a label\n" in out
    save_checkpoint(tmp_path / "other.h5", replace(state, config=config, dataset="another"))
    assert "10 queries of 4 classes" in tool("evaluate", tmp_path / "other.h5", "--dataset", data, "--quiet")[1]
