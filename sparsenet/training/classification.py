"""Measures of a classifier, from its class probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

TOP_K = 5


def accuracy_and_loss(probabilities: np.ndarray, labels: np.ndarray, part: str) -> dict[str, float]:
    """PART_accuracy, the share of samples whose label is the most probable class, and PART_loss, the mean of -log p of
    the label.

    probabilities : (S, classes) floats;  labels : (S,) int, 0 to classes - 1
    """
    of_label = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return {f"{part}_accuracy": float((probabilities.argmax(axis=1) == labels).mean()),
            f"{part}_loss": 0.0 - float(np.log(np.maximum(of_label, np.finfo(np.float32).tiny)).mean())}  # no -0.0


def top_k_accuracy(probabilities: np.ndarray, labels: np.ndarray, k: int = TOP_K) -> float:
    """The share of samples whose label is among the k most probable classes.

    Equally probable classes rank in their order, as in `argmax`, so k = 1 gives the accuracy.
    """
    of_label = np.take_along_axis(probabilities, labels[:, None], axis=1)
    earlier = np.arange(probabilities.shape[1]) < labels[:, None]
    ahead = (probabilities > of_label) | ((probabilities == of_label) & earlier)
    return float((ahead.sum(axis=1) < k).mean())


def class_accuracies(probabilities: np.ndarray, labels: np.ndarray, classes: Sequence[str]
                     ) -> dict[str, tuple[int, float]]:
    """Name of each class with samples -> their number, and the share of them that is classified correctly."""
    right = probabilities.argmax(axis=1) == labels
    return {classes[label]: (int(np.count_nonzero(labels == label)), float(right[labels == label].mean()))
            for label in np.unique(labels).tolist()}
