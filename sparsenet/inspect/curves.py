"""Curves as matplotlib figures: training metrics over epochs, precision against recall."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sparsenet.inspect.style import COLOURS, label_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sparsenet.retrieval import Evaluation

# Title of a panel -> words; a column belongs to the panel if its name contains one of them.
PANELS = {
    "loss": ("loss",),
    "accuracy and retrieval, %": ("accuracy", "mAP", "AUC"),
    "overlap, %": ("mIoU",),
    "learning rate": ("lr",),
    "samples per second": ("samples_per_second",),
}


def training_curves(path: str | Path) -> Figure:
    """The metrics of a run over its epochs, from the CSV file that it writes.

    There is one panel for each entry of PANELS with a column; empty fields are left out.

    Raises
    ------
    FileNotFoundError, ValueError : no such file; no column "epoch", no column to draw, or a field that is
        not a number.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    columns = _read_columns(Path(path))
    panels = {title: [name for name in columns if set(words) & _words(name)] for title, words in PANELS.items()}
    panels = {title: names for title, names in panels.items() if names}
    if not panels:
        raise ValueError(f"training_curves: {path} has no column to draw, only {', '.join(columns)}")
    figure = Figure(figsize=(4.6 * len(panels), 3.4), layout="constrained", facecolor="white")
    for axes, (title, names) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for name, colour in zip(names, COLOURS * len(names), strict=False):
            known = ~np.isnan(columns[name])
            values = columns[name][known] * (100 if title.endswith("%") else 1)
            axes.plot(columns["epoch"][known], values, color=colour, label=name.replace("_", " "),
                      marker="o" if values.size <= 30 else "", markersize=3, linewidth=1.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        label_axes(axes, "", "epoch", title)
        if len(names) > 1:
            axes.legend(fontsize=8, frameon=False)
    return figure


def rate_curve(rates: np.ndarray, losses: np.ndarray, smoothed: np.ndarray, suggestion: float | None) -> Figure:
    """The losses of `sparsenet.training.find_learning_rate` over the learning rate.

    rates, losses, smoothed : (n,) floats;  suggestion : a rate that is marked, or None
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 3.6), layout="constrained", facecolor="white")
    axes = figure.subplots()
    axes.plot(rates, losses, color=COLOURS[0], alpha=0.35, linewidth=1, label="loss of a batch")
    axes.plot(rates, smoothed, color=COLOURS[0], linewidth=1.8, label="smoothed")
    if suggestion is not None:
        axes.axvline(suggestion, color=COLOURS[1], linewidth=1.2, label=f"suggestion: {suggestion:.2g}")
    known = smoothed[np.isfinite(smoothed)]
    axes.set(xscale="log", ylim=(0, 1.15 * max(losses[:max(1, len(losses) // 4)].max(), known.min())))
    label_axes(axes, "", "learning rate", "loss")
    axes.legend(fontsize=8, frameon=False)
    return figure


def precision_recall(evaluations: Mapping[str, Evaluation]) -> Figure:
    """Precision against recall of one or more evaluations; the legend gives their names, AUC and mAP.

    Raises ValueError if there are none.
    """
    from matplotlib.figure import Figure

    if not evaluations:
        raise ValueError("precision_recall: evaluations is empty, expected at least one")
    figure = Figure(figsize=(5.2, 4.4), layout="constrained", facecolor="white")
    axes = figure.subplots()
    for (name, found), colour in zip(evaluations.items(), COLOURS * len(evaluations), strict=False):
        label = f"{name}: AUC {100 * found.AUC:.1f}%, mAP {100 * found.mAP:.1f}%"
        axes.plot(found.recall, found.precision, color=colour, linewidth=1.8, label=label)
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    label_axes(axes, "retrieval", "recall", "precision")
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14), frameon=False)
    return figure


def _words(column: str) -> set[str]:
    """The name of a column and its parts: "test_mAP" has the words test_mAP, test and mAP."""
    return {column, *column.split("_")}


def _read_columns(path: Path) -> dict[str, np.ndarray]:
    """Name -> (rows,) float64, NaN for empty fields."""
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        rows, names = list(reader), reader.fieldnames or []
    if "epoch" not in names:
        raise ValueError(f"training_curves: {path} has no column 'epoch': expected the metrics.csv of a run")
    try:
        return {name: np.array([float(row[name] or "nan") for row in rows]) for name in names}
    except ValueError as error:
        raise ValueError(f"training_curves: {path}: {error}") from None
