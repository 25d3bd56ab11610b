"""Table 2: classification and retrieval on ModelNet40, one training for each row; and Figure 3, their curves.  The same
rows on ModelNet10 and on the Princeton Shape Benchmark."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sparsenet.files import write_text
from sparsenet.retrieval import evaluate

if TYPE_CHECKING:
    from sparsenet.data import SparseDataset
    from sparsenet.reproduction.published import Figures
    from sparsenet.training.schema import Config

# Row of the table -> its config
RUNS = {
    "S3DCNN": "paper/s3dcnn", "S3DCNN + triplet": "paper/s3dcnn_triplet", "S3DCNN, our schedule": "modelnet40",
    "S3DCNN + triplet, our schedule": "modelnet40_triplet", "VoxNet's layers": "paper/voxnet",
    "3DShapeNets' layers": "paper/shapenets", "MVCNN's idea, from scratch": "paper/mvcnn",
    "cosine softmax + contrastive": "modelnet40_descriptors",
}
HEADER = ("network", "accuracy, %", "AUC, %", "mAP, %", "mAP by class posterior, %", "mAP over all objects, %",
          "posterior over all, %", "mAP of the 3DShapeNets protocol, %", "accuracy without duplicates, %",
          "mAP without duplicates, %", "chance mAP, %")


@dataclass(frozen=True)
class Collection:
    """A dataset that the rows are trained on.

    folder : of the trainings;  title, words : of the table
    overrides : `section.key=value` of every config
    side : cells of the smallest grid that holds its shapes
    balanced : whether each class has the 20 test objects that the protocols of the paper and of 3DShapeNets take
    """

    folder: str
    title: str
    words: str
    overrides: tuple[str, ...] = ()
    side: int = 0
    balanced: bool = True


MODELNET40 = Collection("table2", "Table 2: ModelNet40", (
    "Trained on all of the training split, tested once, after the last epoch; each object's 12 poses averaged, "
    "descriptors as unit vectors, ranked by cosine. AUC and mAP follow the paper's protocol: the first 20 test objects "
    "of each class by name, 800 queries. Duplicates are test objects whose grid equals one of the training split. The "
    "voxels are filled solids of 24 cells, turned about the vertical alone; the published rows were measured by their "
    "authors on data of their own preparation."))
MODELNET10 = Collection("table2_modelnet10", "The networks of Table 2 on ModelNet10", (
    "As Table 2, on surfaces of 32 cells in one pose each, so that grids smaller than 32 have 32 cells, and shapes are "
    "mirrored but not shifted in training. AUC and mAP follow the paper's protocol: the first 20 test objects of each "
    "class by name, 200 queries. The published rows were measured by their authors on data of their own preparation."),
    ("augmentation.shift=0.0",), 32)
PSB = Collection("table2_psb", "The networks of Table 2 on the Princeton Shape Benchmark", (
    "The 21 classes of both splits, 369 meshes to train on and 370 to test on, as surfaces of 24 cells, turned about "
    "the vertical in training; 100 epochs. Trained on all of the training split, tested once, after the last epoch; "
    "descriptors as unit vectors, ranked by cosine; AUC and all mAP are over the 370 test shapes, as some classes have "
    "fewer than the 20 that the paper's protocol takes."),
    ("data.classes=shared", "data.render_size=24", "augmentation.rotation=upright", "training.epochs=100",
     "evaluation.protocol=none", "evaluation.poses=first"), balanced=False)


@dataclass(frozen=True)
class Run:
    """The evaluation of one network.

    figures : the columns of the table as numbers in percent, None if there is none;  recall, precision : of its curve
    """

    name: str
    figures: list[float | None]
    recall: list[float]
    precision: list[float]


def compare(dataset: Path, work: Path, names: list[str], seconds: float | None, say: Callable[[str], None],
            overrides: tuple[str, ...] = (), collection: Collection = MODELNET40) -> list[Run]:
    """Train and evaluate the networks of these rows, in folders of their own below `work`; a run that is finished is
    read, one that was stopped goes on.

    seconds : for each training; one that is not finished by then is left out, and goes on next time
    """
    from sparsenet.training import train

    found = []
    for name in names:
        folder = work / RUNS[name].replace("/", "_")
        result = folder / "figures.json"
        if not result.exists():
            limit = [] if seconds is None else [f"training.max_seconds={seconds}"]
            config = config_of(name, collection, [f'data.path="{dataset}"', *limit, *overrides])
            say(f"{name}: {folder}")
            if not train(config, folder, resume=(folder / "last.h5").exists(), say=say).finished:
                say(f"{name}: stopped after {seconds:.0f} s, to be continued")
                continue
            write_text(result, json.dumps(vars(_evaluated(name, folder, collection.balanced)), indent=1))
        found.append(Run(**json.loads(result.read_text(encoding="utf-8"))))
    return found


def config_of(name: str, collection: Collection, overrides: Sequence[str] = ()) -> Config:
    """The config of a row on a collection, whose shapes fit into its grid."""
    from sparsenet.training.config import load_config

    config = load_config(RUNS[name], ["data.validation_share=0.0", *collection.overrides, *overrides])
    if config.network.kind == "layers" and config.network.field < collection.side:
        config = replace(config, network=replace(config.network, field=collection.side))
    return config


def _evaluated(name: str, folder: Path, balanced: bool) -> Run:
    """The figures of a run's last epoch on the test split, over all stored poses, unit vectors ranked by cosine.

    balanced : whether the test split has the objects that the protocols take
    """
    from sparsenet.retrieval.embedding import embed
    from sparsenet.training import load_network, open_shapes, parse_config
    from sparsenet.training.losses import classifies

    net, state = load_network(folder / "last.h5")
    config = parse_config(state.config, str(folder))
    with open_shapes(config, folder / "last.h5") as test:
        shapes = test.only_classes(state.classes)
        labels, objects = shapes.object_labels, shapes.names[shapes.first_poses]
        options: dict[str, Any] = {"batch_size": config.evaluation.batch_size, "workers": config.data.workers,
                                   "render_size": config.data.render_size or None}
        each = embed(net, shapes, poses="all", unit=True, **options)
        mean = np.stack([each[samples].mean(axis=0) for samples in shapes.object_samples])
        posterior = embed(net, shapes, poses="mean", output="probabilities", **options) if classifies(config) else None
        unique = ~_duplicates(shapes)
        every = evaluate(mean, labels, "cosine")
        paper = evaluate(mean, labels, "cosine", "paper", objects) if balanced else every
        all_poses = evaluate(each, shapes.labels, "cosine", "3dshapenets", shapes.names).mAP if balanced else None
        rest = np.flatnonzero(unique)
        without = evaluate(mean[rest], labels[rest], "cosine")

    def by_class(protocol: str | None) -> float | None:
        if posterior is None:
            return None
        protocol = protocol if balanced else None
        return evaluate(posterior, labels, "cosine", protocol, objects if protocol else None).mAP

    right = None if posterior is None else posterior.argmax(axis=1) == labels
    figures = [None if right is None else right.mean(), paper.AUC, paper.mAP, by_class("paper"),
               every.mAP, by_class(None), all_poses,
               None if right is None else right[rest].mean(), without.mAP, paper.chance]
    return Run(name, [None if value is None else round(100 * float(value), 2) for value in figures],
               [float(r) for r in paper.recall], [float(p) for p in paper.precision])


def _duplicates(test: SparseDataset) -> np.ndarray:
    """(O,) bool: the test objects whose first pose has the same cells as some sample of the training split."""
    from sparsenet.data import SparseDataset

    with SparseDataset.open(test.path) as whole:
        training = whole.subset("train")
        seen = {training.voxels(int(row))[0].tobytes() for row in training.first_poses}
    return np.array([test.voxels(int(row))[0].tobytes() in seen for row in test.first_poses], bool)


def table_rows(runs: list[Run], published: dict[str, Figures]) -> list[list[str]]:
    """The measured rows, and the published ones."""
    rows = [[run.name, *("-" if value is None else f"{value:.2f}" for value in run.figures)] for run in runs]
    blank = [""] * (len(HEADER) - 4)
    return rows + [[f"published: {name}", *("-" if value is None else f"{value:g}" for value in values), *blank]
                   for name, values in published.items()]


def curves(runs: list[Run]) -> Any:
    """Figure 3: precision against recall of each run, a matplotlib figure."""
    from sparsenet.inspect.style import COLOURS, label_axes, new_figure

    figure = new_figure(5.6, 4.6)
    axes = figure.subplots()
    for run, colour in zip(runs, COLOURS, strict=False):
        label = f"{run.name}: AUC {run.figures[1]:.1f}%, mAP {run.figures[2]:.1f}%"
        axes.plot(run.recall, run.precision, color=colour, linewidth=1.6, label=label)
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    label_axes(axes, "ModelNet40, the paper's protocol", "recall", "precision")
    axes.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.13), frameon=False)
    return figure
