"""Confusion matrices: which classes are mistaken for which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sparsenet.inspect.style import ink_on, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MAX_NUMBERED = 16  # number of classes up to which every cell of the matrix shows its count


def confusion_counts(labels: Any, predictions: Any, classes: int) -> np.ndarray:
    """(classes, classes) int64: number of samples of class [row] predicted as class [column].

    labels : (S,) int, 0 to classes - 1;  predictions : (S,) int, or (S, classes) probabilities or logits

    Raises
    ------
    ValueError : lengths differ, or a class is out of range.
    """
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if predictions.ndim == 2:
        predictions = predictions.argmax(axis=1)
    if labels.shape != predictions.shape or labels.ndim != 1:
        raise ValueError(f"confusion_counts: labels have shape {labels.shape}, predictions {predictions.shape}: "
                         "expected one of each for every sample")
    for name, values in (("labels", labels), ("predictions", predictions)):
        if values.size and not (0 <= values.min() and values.max() < classes):
            raise ValueError(f"confusion_counts: {name} go from {values.min()} to {values.max()}, expected 0 to "
                             f"{classes - 1}: leave out samples without a label")
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (labels.astype(np.int64), predictions.astype(np.int64)), 1)
    return counts


def confusion_matrix(labels: Any, predictions: Any, classes: Sequence[str]) -> Figure:
    """One row for each true class, one column for each predicted class, coloured by the share of the row.

    With up to 16 classes each cell shows its count; with more, only the diagonal shows percentages.

    labels : (S,) int;  predictions : (S,) int, or (S, classes) probabilities or logits;  classes : names

    Raises
    ------
    ValueError : there are no samples, or see `confusion_counts`.
    """
    counts = confusion_counts(labels, predictions, len(classes))
    if not counts.sum():
        raise ValueError("confusion_matrix: labels is empty, expected at least one sample")
    return confusion_figure(counts, classes)


def confusion_figure(counts: np.ndarray, classes: Sequence[str]) -> Figure:
    """The figure of `confusion_matrix` from the counts (classes, classes) of `confusion_counts`."""
    of_class = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, of_class, out=np.zeros(counts.shape), where=of_class > 0)
    few, letters = len(classes) <= _MAX_NUMBERED, max(map(len, classes))
    side = len(classes) * (0.52 if few else 0.24)
    figure = new_figure(side + 0.09 * letters + 1.7, side + 0.09 * letters + 1.0)
    axes = figure.subplots()
    image = axes.imshow(100 * shares, cmap="Blues", vmin=0, vmax=100, interpolation="nearest")
    for row, column in np.argwhere(counts > 0 if few else np.eye(len(classes), dtype=bool)):
        word = str(counts[row, column]) if few else f"{100 * shares[row, column]:.0f}" if of_class[row, 0] else ""
        axes.text(column, row, word, ha="center", va="center", fontsize=9 if few else 6,
                  color=ink_on(image.cmap(shares[row, column])))
    size = 9 if few else 7
    axes.set_xticks(np.arange(len(classes)), classes, rotation=90, fontsize=size)
    axes.set_yticks(np.arange(len(classes)), classes, fontsize=size)
    axes.set_xlabel("predicted", fontsize=10)
    axes.set_ylabel("true", fontsize=10)
    right = np.trace(counts)
    axes.set_title(f"{right:,} of {counts.sum():,} right, {100 * right / counts.sum():.1f}%", fontsize=10)
    bar = figure.colorbar(image, ax=axes, fraction=0.045, pad=0.03)
    bar.set_label("share of the true class, %", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    return figure
