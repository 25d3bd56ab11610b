"""Evaluate a trained network on a dataset: accuracy and retrieval, or the overlap of labelled parts; or descriptors as
queries against a gallery."""

from __future__ import annotations

import argparse
import csv
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sparsenet.cli.parser import command_parser
from sparsenet.cli.poses import add_poses

if TYPE_CHECKING:
    from sparsenet.retrieval import Evaluation
    from sparsenet.training.evaluation import NetworkEvaluation

EXAMPLES = """examples:
  sparsenet evaluate runs/quickstart/best.h5
  sparsenet evaluate runs/modelnet40/best.h5 --protocol paper --poses mean --json result.json
  sparsenet evaluate runs/modelnet40/best.h5 --confusion confusion.png --predictions predictions.csv
  sparsenet evaluate runs/modelnet40/best.h5 --dataset psb.h5 --split all
  sparsenet evaluate runs/psb/best.h5 --metric cosine --picture precision_recall.png
  sparsenet evaluate --queries scans.h5 --gallery catalogue.h5

Classes are matched by name.  The accuracy is over the shapes whose class the network knows: top 1, top 5, the mean
over the classes, and each class.  The retrieval is over all shapes of any class: by the descriptors, and by the class
probabilities of a classifier, which say little of shapes of other classes.  Shapes without a label are left out.  The
numbers left out are printed and included in the JSON.

A network that labels sites (loss.kind = "segmentation") is evaluated by the intersection over union of each part, and
its mean, over all sites whose part it knows; parts are matched by name.

Each shape is a query once and ranks all others; with --queries and --gallery, files of `sparsenet embed`, each shape of
the first ranks all of the second.  The figures, in percent: mAP, mean average precision, beside that of a random
ranking (chance); AUC, area under the precision-recall curve; NN, the nearest neighbour is of the query's class; FT and
ST, first and second tier, the recall at ranks R and 2R if R other shapes are of its class; E, E-measure at rank 32;
NDCG, normalized discounted cumulative gain; precision at k, and at R (R-precision).

Exit code: 0, or 1 after an error, 2 after a wrong command line, 130 after Ctrl-C, 143 after SIGTERM."""

CHOICES = {
    "descriptor": (("layer", "probabilities"), "draw the curve of the layer's descriptors or the class probabilities"),
    "protocol": (("none", "paper", "3dshapenets"), "shapes to rank: 'paper': the first 20 of each class by name; "
                                                   "'3dshapenets': all poses of these, each a query; 'none': all"),
    "metric": (("auto", "cosine", "l2"), "distance for ranking; auto: l2 for a classifier's descriptors, cosine for "
                                         "triplets and for class probabilities"),
}
NETWORK_ONLY = ("dataset", "split", "descriptor", "protocol", "poses", "prior", "confusion", "predictions")


def main(arguments: list[str]) -> None:
    from sparsenet.inspect.figures import check_picture

    parser = command_parser("evaluate", __doc__, EXAMPLES)
    parser.add_argument("checkpoint", nargs="?", metavar="CHECKPOINT",
                        help="best.h5 or last.h5 of a run, or a model's name")
    parser.add_argument("--dataset", metavar="FILE", help="dataset file (default: the training dataset)")
    parser.add_argument("--split", metavar="NAME", help="its split, or 'all' (default: the test split)")
    for name, (choices, meaning) in CHOICES.items():
        parser.add_argument(f"--{name}", choices=choices, help=f"{meaning} (default: as in the run's config)")
    add_poses(parser, None, "as in the run's config")
    parser.add_argument("--prior", type=float, metavar="TAU",
                        help="subtract TAU times the log of each class's share in training from its logit (default: as "
                             "in the run's config)")
    parser.add_argument("--queries", metavar="FILE", help="rank --gallery for each shape of this descriptor file")
    parser.add_argument("--gallery", metavar="FILE", help="the descriptor file to rank")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file")
    parser.add_argument("--picture", type=Path, metavar="FILE",
                        help="draw precision against recall (.png, .pdf or .svg; needs matplotlib)")
    parser.add_argument("--confusion", type=Path, metavar="FILE",
                        help="draw the confusion matrix (.png, .pdf or .svg; needs matplotlib)")
    parser.add_argument("--predictions", type=Path, metavar="FILE",
                        help="write each shape's three most probable classes to this CSV file")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    args = parser.parse_args(arguments)
    separate = args.queries is not None or args.gallery is not None
    if separate and (args.queries is None or args.gallery is None):
        parser.error("--queries and --gallery belong together: give both")
    if separate == (args.checkpoint is not None):
        parser.error("give a CHECKPOINT, or --queries and --gallery")
    if separate and (given := [name for name in NETWORK_ONLY if getattr(args, name) is not None]):
        parser.error(f"argument --{given[0]}: not allowed with --queries and --gallery")
    for picture in filter(None, (args.picture, args.confusion)):
        check_picture(picture)
    (_evaluate_descriptors if separate else _evaluate_checkpoint)(args)


def _evaluate_checkpoint(args: argparse.Namespace) -> None:
    from sparsenet.models import model_path
    from sparsenet.retrieval.progress import Watched
    from sparsenet.toml import as_toml
    from sparsenet.training import load_network, open_shapes, parse_config
    from sparsenet.training.build import check_field
    from sparsenet.training.evaluation import NO_RETRIEVAL, check_evaluation, evaluate_network
    from sparsenet.training.known_classes import select_shapes
    from sparsenet.training.losses import classifies, segments
    from sparsenet.training.trained import check_output

    args.checkpoint = model_path(args.checkpoint)
    outputs = [path for path in (args.json, args.predictions, args.confusion, args.picture) if path]
    for path in outputs:
        check_output(path, args.checkpoint)
    net, state = load_network(args.checkpoint)
    changes = [f"evaluation.{name}={as_toml(getattr(args, name))}" for name in (*CHOICES, "poses", "prior")
               if getattr(args, name) is not None]
    config = parse_config(state.config, args.checkpoint, [*changes, f"training.device={args.device}"])
    if (args.confusion or args.predictions) and not classifies(config):
        raise ValueError(f"{args.checkpoint}: --confusion and --predictions need a classifier, and this network was "
                         f"trained with loss.kind {config.loss.kind!r}")
    if segments(config):
        return _evaluate_segmentation(args, net.to(args.device), state, config)
    with open_shapes(config, args.checkpoint, args.dataset, args.split) as dataset:
        for path in outputs:
            check_output(path, dataset.path)
        selection = select_shapes(dataset, state, config)
        check_evaluation(selection.shapes, config)
        check_field(config, selection.shapes, net)
        source = selection.shapes if args.quiet else Watched(selection.shapes, "evaluate")
        found = evaluate_network(net.to(args.device), source, config, state.classes, state.class_counts or None)
        names = selection.shapes.names[selection.shapes.first_poses]
    true_names = [selection.shapes.classes[label] for label in selection.shapes.object_labels]
    print("\n".join([*_accuracy_lines(found, selection.known), *selection.remarks(classifies=classifies(config)),
                     *_retrieval_lines(found, NO_RETRIEVAL), *_class_lines(found, state.classes)]))
    if args.json:
        rows = {name: None if part is None else part.figures(selection.shapes.classes)
                for name, part in (("retrieval", found.descriptor), ("posterior", found.posterior))}
        _write_json(args.json, {**found.figures, **selection.figures(), **rows,
                                "per_class_accuracy": _class_figures(found, state.classes),
                                "checkpoint": state.digest})
    if args.predictions:
        _write_predictions(args.predictions, found, names, true_names, state.classes)
    if args.confusion:
        _draw_confusion(args.confusion, found, state.classes)
    if args.picture:
        name = Path(args.checkpoint).parent.name or "retrieval"
        _draw_curve(args.picture, name, found.evaluation, NO_RETRIEVAL)


def _evaluate_segmentation(args: argparse.Namespace, net: Any, state: Any, config: Any) -> None:
    from sparsenet.inspect.confusion import confusion_figure
    from sparsenet.inspect.figures import save_figure
    from sparsenet.retrieval.progress import Watched
    from sparsenet.training import open_shapes
    from sparsenet.training.build import check_field
    from sparsenet.training.evaluation import evaluate_network
    from sparsenet.training.trained import check_output

    for name in ("predictions", "picture"):
        if getattr(args, name):
            raise ValueError(f"{args.checkpoint}: --{name} needs a class for each shape, and this network labels sites "
                             "(SparseNetwork.predict_sites gives its labels)")
    with open_shapes(config, args.checkpoint, args.dataset, args.split) as shapes:
        for path in filter(None, (args.json, args.confusion)):
            check_output(path, shapes.path)
        if not shapes.part_classes:
            raise ValueError(f"{shapes.path}: it has no site labels, so nothing can be evaluated")
        check_field(config, shapes, net)
        source = shapes if args.quiet else Watched(shapes, "evaluate")
        found = evaluate_network(net, source, config, state.classes)
        unknown = [name for name in shapes.part_classes if name not in state.classes]
    assert found.segmentation is not None
    print(found.segmentation)
    if unknown:
        print(f"left out: sites of parts that the network does not know: {', '.join(unknown)}")
    if args.json:
        _write_json(args.json, {**found.figures, **found.segmentation.figures(), "unknown_parts": unknown,
                                "checkpoint": state.digest})
    if args.confusion:
        save_figure(confusion_figure(found.segmentation.confusion, state.classes), args.confusion)
        print(f"confusion matrix: {args.confusion}")


def _evaluate_descriptors(args: argparse.Namespace) -> None:
    from sparsenet.retrieval import Descriptors, evaluate
    from sparsenet.training.trained import check_output

    for path in filter(None, (args.json, args.picture)):
        check_output(path, args.queries, args.gallery)
    queries, gallery = Descriptors.load(args.queries), Descriptors.load(args.gallery)
    same = ("checkpoint", "layer", "output")
    if (differing := [name for name in same if getattr(queries, name) != getattr(gallery, name)]):
        raise ValueError(f"{args.queries} and {args.gallery} do not have the same {differing[0]}: make both again with "
                         "`sparsenet embed`, with the same network, layer and descriptor")
    classes = list(dict.fromkeys([*gallery.classes, *queries.classes]))
    vectors, labels = [], []
    for descriptors in (queries, gallery):  # classes are matched by name
        number = np.array([*(classes.index(name) for name in descriptors.classes), -1])  # label -1 indexes the last
        vectors.append(descriptors.vectors)
        labels.append(number[descriptors.labels])
    metric = args.metric if args.metric in ("cosine", "l2") else "cosine"
    found = evaluate(vectors[1], labels[1], metric, queries=(vectors[0], labels[0]))
    print(found)
    shared = _shared_shapes(queries, gallery)
    if shared:
        print(f"note: {shared} of the queries are in the gallery, too, where each finds itself first")
    if args.json:
        _write_json(args.json, {"retrieval": found.figures(classes), "queries_in_gallery": shared,
                                "checkpoint": gallery.checkpoint})
    if args.picture:
        _draw_curve(args.picture, Path(args.queries).stem, found, "")


def _shared_shapes(queries: Any, gallery: Any) -> int:
    """The number of queries that are samples of the gallery, too."""
    if queries.dataset != gallery.dataset or not queries.dataset:
        return 0
    return int(np.isin(queries.samples, gallery.samples).sum())


def _accuracy_lines(found: NetworkEvaluation, known: int) -> list[str]:
    figures = found.figures
    if "test_accuracy" not in figures:
        return []
    top5 = (f"top 5 {100 * figures['test_top5_accuracy']:.2f}%, " if "test_top5_accuracy" in figures else "")
    return [f"accuracy {100 * figures['test_accuracy']:.2f}%, {top5}mean over classes "
            f"{100 * figures['test_class_mean_accuracy']:.2f}%, loss {figures['test_loss']:.4f}, over {known} shapes"]


def _retrieval_lines(found: NetworkEvaluation, nothing: str) -> list[str]:
    if found.descriptor is None:
        return [nothing]
    if found.posterior is None:
        return [str(found.descriptor)]
    return ["", "by descriptors:", str(found.descriptor), "", "by class probabilities:", str(found.posterior)]


def _known(found: NetworkEvaluation) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and labels of the shapes whose class the network knows."""
    assert found.probabilities is not None
    known = found.labels >= 0
    return found.probabilities[known], found.labels[known]


def _class_figures(found: NetworkEvaluation, classes: list[str]) -> dict[str, dict[str, float]]:
    from sparsenet.training.classification import class_accuracies

    if found.probabilities is None:
        return {}
    return {name: {"shapes": count, "accuracy": accuracy}
            for name, (count, accuracy) in class_accuracies(*_known(found), classes).items()}


def _class_lines(found: NetworkEvaluation, classes: list[str]) -> list[str]:
    """A table of the accuracy of each class."""
    from sparsenet.wording import aligned

    rows = [(name, str(of["shapes"]), f"{100 * of['accuracy']:.2f}")
            for name, of in _class_figures(found, classes).items()]
    return ["", aligned([("class", "shapes", "accuracy, %"), *rows], left=(0,), rules=())] if rows else []


def _write_json(path: Path, figures: dict[str, Any]) -> None:
    from sparsenet.files import write_text

    write_text(path, json.dumps(figures, indent=2, allow_nan=False) + "\n")
    print(f"figures: {path}")


def _write_predictions(path: Path, found: NetworkEvaluation, names: np.ndarray, true_names: list[str],
                       classes: list[str]) -> None:
    """A CSV file: a line for each shape, with its class and the three most probable ones."""
    from sparsenet.files import write_text

    assert found.probabilities is not None
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    ranks = range(1, min(3, len(classes)) + 1)
    columns = (f"{column}_{rank}" for rank in ranks for column in ("predicted", "probability"))
    writer.writerow(["name", "class", *columns])
    order = np.argsort(-found.probabilities, axis=1, kind="stable")[:, :len(ranks)]
    for name, true_name, row, best in zip(names.tolist(), true_names, found.probabilities, order, strict=True):
        writer.writerow([name, true_name, *(word for label in best for word in (classes[label], f"{row[label]:.6f}"))])
    write_text(path, text.getvalue())
    print(f"predictions: {path}")


def _draw_confusion(path: Path, found: NetworkEvaluation, classes: list[str]) -> None:
    from sparsenet.inspect.confusion import confusion_matrix
    from sparsenet.inspect.figures import save_figure

    probabilities, labels = _known(found)
    if not len(labels):
        print("no confusion matrix: the network knows none of the classes")
        return
    save_figure(confusion_matrix(labels, probabilities, classes), path)
    print(f"confusion matrix: {path}")


def _draw_curve(path: Path, name: str, evaluation: Evaluation | None, nothing: str) -> None:
    from sparsenet.inspect.curves import precision_recall
    from sparsenet.inspect.figures import save_figure

    if evaluation is None:
        print(f"no picture: {nothing}")
        return
    save_figure(precision_recall({name: evaluation}), path)
    print(f"picture: {path}")
