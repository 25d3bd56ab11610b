"""`sparsenet evaluate`, `embed` and `search`: predictions, confusion matrix, class posterior, queries and gallery."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from sparsenet.data import SparseDataset
from sparsenet.retrieval import Descriptors, embed, evaluate
from sparsenet.training import load_network


@pytest.fixture(scope="module")
def predicted(experiment):
    """Probabilities and labels of the test split."""
    net, _ = load_network(experiment.checkpoint)
    with SparseDataset.open(experiment.dataset) as dataset:
        test = dataset.subset("test")
        return net.predict(test), test.object_labels, test.names


def test_accuracies_of_classes_predictions_and_confusion_matrix(tool, experiment, predicted, tmp_path):
    pytest.importorskip("matplotlib")
    code, out, err = tool("evaluate", experiment.checkpoint, "--confusion", tmp_path / "c.png", "--predictions",
                          tmp_path / "p.csv", "--json", tmp_path / "e.json", "--quiet")
    assert code == 0 and not err
    probabilities, labels, names = predicted
    right = probabilities.argmax(axis=1) == labels
    figures = json.loads((tmp_path / "e.json").read_text())
    for label, name in enumerate(["mug", "stool", "table"]):
        accuracy = right[labels == label].mean()
        assert figures["per_class_accuracy"][name] == {"shapes": 5, "accuracy": accuracy}
        assert [name, "5", f"{100 * accuracy:.2f}"] in [line.split() for line in out.splitlines()]
    assert f"accuracy {100 * right.mean():.2f}%, mean over classes {100 * right.mean():.2f}%, loss" in out
    rows = list(csv.DictReader((tmp_path / "p.csv").read_text().splitlines()))
    assert [row["name"] for row in rows] == names.tolist()
    for row, values, label in zip(rows, probabilities, labels, strict=True):
        order = np.argsort(-values, kind="stable")
        assert row["class"] == ["mug", "stool", "table"][label]
        for rank, best in enumerate(order, 1):
            assert row[f"predicted_{rank}"] == ["mug", "stool", "table"][best]
            assert float(row[f"probability_{rank}"]) == pytest.approx(values[best], abs=1e-6)
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    assert f"predictions: {tmp_path / 'p.csv'}\n" in out and f"confusion matrix: {tmp_path / 'c.png'}\n" in out


def test_both_kinds_of_descriptors_are_printed_with_their_chance_level(tool, experiment, predicted, tmp_path):
    code, out, _ = tool("evaluate", experiment.checkpoint, "--json", tmp_path / "e.json", "--quiet")
    assert code == 0 and out.index("by descriptors:") < out.index("by class probabilities:")
    assert "each ranks 14 shapes by l2" in out and "each ranks 14 shapes by cosine" in out
    posterior = evaluate(predicted[0], predicted[1])
    figures = json.loads((tmp_path / "e.json").read_text())
    assert figures["posterior"]["mAP"] == figures["test_posterior_mAP"] == posterior.mAP
    assert figures["retrieval"]["chance"] == figures["posterior"]["chance"] == posterior.chance
    lines = [line.split() for line in out.splitlines() if line.startswith("mean over queries")]
    assert [line[4] for line in lines] == 2 * [f"{100 * posterior.chance:.2f}"]


def test_a_triplet_network_has_neither_predictions_nor_probabilities(tool, triplet_experiment, tmp_path):
    for option in ("--confusion", "--predictions"):
        code, out, err = tool("evaluate", triplet_experiment.checkpoint, option, tmp_path / "x.png")
        assert (code, out) == (1, "") and "need a classifier" in err and not list(tmp_path.iterdir())
    code, _, err = tool("embed", triplet_experiment.checkpoint, tmp_path / "d.h5", "--descriptor", "probabilities")
    assert code == 1 and "not a classifier" in err and not list(tmp_path.iterdir())
    code, _, err = tool("evaluate", triplet_experiment.checkpoint, "--prior", "1")
    assert code == 1 and "evaluation.prior is 1.0" in err


def test_a_prior_needs_the_counts_of_the_checkpoint(tool, experiment):
    code, _, err = tool("evaluate", experiment.checkpoint, "--prior", "1", "--quiet")
    assert code == 1 and "the checkpoint does not state how many training samples" in err


@pytest.mark.parametrize("poses", ["last", "0,0", "1,-2", "", "0;4"])
def test_poses_are_words_or_distinct_numbers(tool, experiment, poses, tmp_path):
    for name, output in (("evaluate", []), ("embed", [tmp_path / "d.h5"])):
        code, _, err = tool(name, experiment.checkpoint, *output, f"--poses={poses}")
        assert code == 2 and "is none of first, mean, max, nor distinct pose numbers" in err


def test_a_pose_that_shapes_lack_is_named(tool, experiment):
    code, _, err = tool("evaluate", experiment.checkpoint, "--poses", "0,4", "--quiet")
    assert code == 1 and "evaluation.poses: the object 'mug/test0' has no pose 4, only 0" in err
    assert tool("evaluate", experiment.checkpoint, "--poses", "0", "--quiet")[0] == 0


def test_class_probabilities_are_embedded_and_searched(tool, experiment, predicted, tmp_path):
    code, out, _ = tool("embed", experiment.checkpoint, tmp_path / "d.h5", "--descriptor", "probabilities", "--quiet")
    assert code == 0 and out.endswith("3 numbers each, the class probabilities\n")
    loaded = Descriptors.load(tmp_path / "d.h5")
    assert (loaded.output, loaded.layer) == ("probabilities", 0) and np.array_equal(loaded.vectors, predicted[0])
    query = experiment.write_mesh(6, tmp_path / "query.off")
    code, from_file, _ = tool("search", experiment.checkpoint, query, "-k", 3, "--descriptors", tmp_path / "d.h5")
    assert code == 0 and "stool/test1" in from_file.splitlines()[1] and "0.000000" in from_file.splitlines()[1]
    code, embedded, _ = tool("search", experiment.checkpoint, query, "-k", 3, "--descriptor", "probabilities",
                             "--quiet")
    assert code == 0 and embedded == from_file
    for option, value in (("--descriptor", "layer"), ("--poses", "mean")):
        code, _, err = tool("search", experiment.checkpoint, query, "--descriptors", tmp_path / "d.h5", option, value)
        assert code == 2 and f"argument {option}: not allowed with --descriptors" in err
    code, _, err = tool("embed", experiment.checkpoint, tmp_path / "e.h5", "--layer", 3, "--descriptor",
                        "probabilities")
    assert code == 2 and "--layer: not allowed" in err


# ---- queries and gallery ----


@pytest.fixture
def files(tool, experiment, tmp_path):
    """Descriptors of the test split (queries) and of the training split (gallery)."""
    for split in ("test", "train"):
        assert tool("embed", experiment.checkpoint, tmp_path / f"{split}.h5", "--split", split, "--quiet")[0] == 0
    return tmp_path / "test.h5", tmp_path / "train.h5"


def test_queries_rank_a_gallery(tool, experiment, files, tmp_path):
    pytest.importorskip("matplotlib")
    code, out, err = tool("evaluate", "--queries", files[0], "--gallery", files[1], "--metric", "l2",
                          "--json", tmp_path / "e.json", "--picture", tmp_path / "pr.png")
    assert code == 0 and not err
    net, _ = load_network(experiment.checkpoint)
    with SparseDataset.open(experiment.dataset) as dataset:
        test, train = dataset.subset("test"), dataset.subset("train")
        expected = evaluate(embed(net, train), train.object_labels, "l2",
                            queries=(embed(net, test), test.object_labels))
    assert str(expected) in out and "each ranks 15 shapes" in out
    figures = json.loads((tmp_path / "e.json").read_text())
    assert figures["retrieval"]["mAP"] == expected.mAP and figures["queries_in_gallery"] == 0
    assert set(figures["retrieval"]["per_class"]) == {"mug", "stool", "table"}
    assert (tmp_path / "pr.png").read_bytes().startswith(b"\x89PNG")


def test_classes_of_queries_and_gallery_are_matched_by_name(tool, files, tmp_path):
    before = tool("evaluate", "--queries", files[0], "--gallery", files[1])[1]
    queries = Descriptors.load(files[0])
    queries.classes = [*reversed(queries.classes), "vase"]
    queries.labels = 2 - queries.labels
    queries.save(tmp_path / "renumbered.h5")
    assert tool("evaluate", "--queries", tmp_path / "renumbered.h5", "--gallery", files[1])[1] == before
    queries.labels[:] = 3
    queries.save(tmp_path / "vases.h5")
    code, _, err = tool("evaluate", "--queries", tmp_path / "vases.h5", "--gallery", files[1])
    assert code == 1 and "none of the 15 queries shares its class with one of the 15 shapes of the gallery" in err


def test_queries_that_are_in_the_gallery_are_noted(tool, files):
    code, out, _ = tool("evaluate", "--queries", files[0], "--gallery", files[0])
    assert code == 0 and "note: 15 of the queries are in the gallery, too" in out


def test_queries_and_gallery_are_of_one_network_and_kind(tool, experiment, triplet_experiment, files, tmp_path):
    assert tool("embed", triplet_experiment.checkpoint, tmp_path / "t.h5", "--quiet")[0] == 0
    assert tool("embed", experiment.checkpoint, tmp_path / "l.h5", "--layer", 2, "--quiet")[0] == 0
    for other, word in (("t.h5", "checkpoint"), ("l.h5", "layer")):
        code, _, err = tool("evaluate", "--queries", files[0], "--gallery", tmp_path / other)
        assert code == 1 and f"do not have the same {word}" in err


@pytest.mark.parametrize(("arguments", "message"), [
    (["--queries", "a.h5"], "--queries and --gallery belong together"),
    (["best.h5", "--queries", "a.h5", "--gallery", "b.h5"], "give a CHECKPOINT, or --queries and --gallery"),
    ([], "give a CHECKPOINT, or --queries and --gallery"),
    (["--queries", "a.h5", "--gallery", "b.h5", "--protocol", "paper"], "--protocol: not allowed with --queries"),
    (["--queries", "a.h5", "--gallery", "b.h5", "--confusion", "c.png"], "--confusion: not allowed with --queries"),
])
def test_a_wrong_command_line_is_told(tool, arguments, message):
    code, out, err = tool("evaluate", *arguments)
    assert (code, out) == (2, "") and message in err
