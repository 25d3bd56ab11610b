"""Intersection over union of predicted and true labels of sites.

    IoU of a class = sites of it that are predicted as it / sites that are of it, predicted as it, or both

Sites whose true label is ignored count nowhere.  A class that neither occurs nor is predicted has no IoU, NaN, and is
left out of means.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sparsenet.inspect.confusion import confusion_counts
from sparsenet.wording import aligned


@dataclass(frozen=True)
class SegmentationEvaluation:
    """The result of `evaluate`.  Prints as a table.

    classes : names of the C classes
    confusion : (C, C) int64, the number of sites of class [row] that are predicted as class [column]
    shape_IoU : (S,) float64, for each shape the mean IoU over the classes that it has or is predicted to have; NaN
        for a shape without a labelled site
    """

    classes: list[str]
    confusion: np.ndarray
    shape_IoU: np.ndarray

    @property
    def IoU(self) -> np.ndarray:
        """(C,) float64, of each class over the sites of all shapes together."""
        return _overlap(self.confusion)

    @property
    def mIoU(self) -> float:
        """The mean of `IoU` over the classes; NaN without a labelled site."""
        return _mean(self.IoU)

    @property
    def shape_mIoU(self) -> float:
        """The mean of `shape_IoU` over the shapes; NaN without a labelled site."""
        return _mean(self.shape_IoU)

    @property
    def accuracy(self) -> float:
        """The share of the labelled sites that are predicted as their class; NaN without one."""
        return float(_ratio(np.trace(self.confusion), self.confusion.sum()))

    @property
    def recall(self) -> np.ndarray:
        """(C,) float64, the share of a class's sites that are predicted as it."""
        return _ratio(np.diag(self.confusion), self.confusion.sum(axis=1))

    @property
    def precision(self) -> np.ndarray:
        """(C,) float64, the share of the sites predicted as a class that are of it."""
        return _ratio(np.diag(self.confusion), self.confusion.sum(axis=0))

    def figures(self) -> dict[str, Any]:
        """All figures, for JSON: None for NaN."""
        columns = zip(self.classes, self.confusion.sum(axis=1).tolist(), self.IoU, self.recall, self.precision,
                      strict=True)
        return {"mIoU": _finite(self.mIoU), "shape_mIoU": _finite(self.shape_mIoU),
                "accuracy": _finite(self.accuracy), "shapes": len(self.shape_IoU),
                "sites": int(self.confusion.sum()),
                "per_class": {name: {"sites": sites, "IoU": _finite(overlap), "recall": _finite(recall),
                                     "precision": _finite(precision)}
                              for name, sites, overlap, recall, precision in columns}}

    def __str__(self) -> str:
        of_class = zip(self.classes, self.confusion.sum(axis=1), self.IoU, self.recall, self.precision, strict=True)
        rows = [(name, f"{sites:,}", *map(_percent, values)) for name, sites, *values in of_class]
        means = map(_percent, (self.mIoU, _mean(self.recall), _mean(self.precision)))
        table = aligned([("class", "sites", "IoU, %", "recall, %", "precision, %"), *rows,
                         ("mean", f"{self.confusion.sum():,}", *means)], left=(0,), rules=(1, -1))
        return (f"{table}\naccuracy {_percent(self.accuracy)}%, mean IoU of a shape {_percent(self.shape_mIoU)}%, over "
                f"{len(self.shape_IoU)} shapes")


class Tally:
    """Counts of true and predicted labels, shape by shape.

    classes : their names
    ignore_label : sites with this label count nowhere
    """

    def __init__(self, classes: Sequence[str], ignore_label: int = -1):
        self.classes = list(classes)
        self.ignore_label = ignore_label
        self.confusion = np.zeros((len(classes), len(classes)), np.int64)
        self.shape_IoU: list[float] = []

    def add(self, predicted: Any, labels: Any) -> None:
        """Count the sites of a shape.  predicted : (N,) labels or (N, C) scores;  labels : (N,) integers

        Raises ValueError if there is not one of each for every site, or a label is no class and not ignored.
        """
        predicted, labels = np.asarray(predicted), np.asarray(labels)
        predicted = predicted.argmax(axis=1) if predicted.ndim == 2 else predicted
        if predicted.shape != labels.shape or labels.ndim != 1:
            raise ValueError(f"segmentation: predicted have shape {predicted.shape}, labels {labels.shape}: expected "
                             "one of each for every site")
        kept = labels != self.ignore_label
        counts = confusion_counts(labels[kept], predicted[kept], len(self.classes))
        self.confusion += counts
        self.shape_IoU.append(_mean(_overlap(counts)))

    def evaluation(self) -> SegmentationEvaluation:
        """The figures of all shapes so far."""
        return SegmentationEvaluation(self.classes, self.confusion.copy(), np.array(self.shape_IoU, np.float64))


def evaluate(predicted: Any, labels: Any, classes: Sequence[str] | int, ignore_label: int = -1
             ) -> SegmentationEvaluation:
    """Compare predicted with true labels.

    Parameters
    ----------
    predicted : for each shape (N,) integer labels or (N, C) scores, such as logits; a list of arrays, or one array
    labels : for each shape (N,) integers, 0 to C - 1 or ignore_label; a list of arrays, or one array
    classes : names of the C classes, or their number
    ignore_label : sites with this label count nowhere

    Raises
    ------
    ValueError : the lists have different lengths, there is not one of each label for every site, or a label is no
        class.

    Example
    -------
    >>> found = evaluate([0, 0, 1, 1, 1], [0, 0, 0, 1, -1], ["seat", "leg"])
    >>> found.IoU.round(3).tolist(), round(found.mIoU, 3), found.accuracy
    ([0.667, 0.5], 0.583, 0.75)
    """
    names = [str(number) for number in range(classes)] if isinstance(classes, int) else list(classes)
    if not _several(labels):
        predicted, labels = [predicted], [labels]
    if len(predicted) != len(labels):
        raise ValueError(f"segmentation: predicted are of {len(predicted)} shapes, labels of {len(labels)}")
    tally = Tally(names, ignore_label)
    for found, true in zip(predicted, labels, strict=True):
        tally.add(found, true)
    return tally.evaluation()


def _several(labels: Any) -> bool:
    """Whether it is a list of arrays, one for each shape."""
    return isinstance(labels, list | tuple) and (not labels or np.ndim(labels[0]) > 0)


def _overlap(confusion: np.ndarray) -> np.ndarray:
    right = np.diag(confusion)
    return _ratio(right, confusion.sum(axis=0) + confusion.sum(axis=1) - right)


def _ratio(part: Any, whole: Any) -> np.ndarray:
    """part / whole, NaN where the whole is 0."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def _percent(value: float) -> str:
    return "" if np.isnan(value) else f"{100 * value:.2f}"


def _finite(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
