"""Losses, each with its gradient."""

from __future__ import annotations

from functools import partial

import numpy as np

from sparsenet.kernels.losses.contract import COSINE, L2
from sparsenet.kernels.table import formula_of


@formula_of("softmax_cross_entropy")
def softmax_cross_entropy(logits, labels, with_gradient):
    """loss () = mean of log(sum of e^logits) - logits[label], in float64; NaN for a label that is not a class.  Also
    (loss, number of rows whose label is the first of the largest logits), and the gradient (B, C) if with_gradient."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    log_share = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    labelled = labels[:, None] == np.arange(logits.shape[1])
    losses = np.where(labelled.any(axis=1), -np.where(labelled, log_share, 0).sum(axis=1), np.nan)
    loss, right = np.array(losses.sum() / max(1, len(logits)), logits.dtype), (logits.argmax(axis=1) == labels).sum()
    gradient = ((np.exp(log_share) - labelled) / max(1, len(logits))).astype(logits.dtype)
    return loss, np.array([loss, right], np.float64), gradient if with_gradient else None


@formula_of("triplet_loss")
def triplet_loss(anchor, positive, negative, margin, distance, with_gradient):
    """Mean of max(0, margin + d(a, p) - d(a, n)); (it, number of terms above 0); gradient (3, T, C) by a, p, n."""
    a, p, n = (rows.astype(np.float64) for rows in (anchor, positive, negative))
    (near, near_by_a, near_by_p), (far, far_by_a, far_by_n) = _distance(a, p, distance), _distance(a, n, distance)
    terms = margin + near - far
    counted = ~(terms <= 0)  # NaN counts
    gradient = np.where(counted, np.stack([near_by_a - far_by_a, near_by_p, -far_by_n]), 0) / max(1, len(a))
    loss = np.array(terms[counted].sum() / max(1, len(a)), anchor.dtype)
    figures = np.array([loss, (terms > 0).sum()], np.float64)
    return loss, figures, gradient.astype(anchor.dtype) if with_gradient else None


def _distance(a: np.ndarray, b: np.ndarray, distance: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distances (T, 1) of rows and their gradients by a and by b (T, C); see the formulas in losses/triplet_loss.py."""
    length = partial(np.hypot.reduce, axis=1, keepdims=True)  # no square over- or underflows
    if distance == COSINE:
        of_a, of_b = length(a), length(b)
        u, v, known = a / of_a, b / of_b, (of_a != 0) & (of_b != 0)
        d = np.where(known, length(u - v) ** 2 / 2, 1)
        return d, np.where(known, (u - v - d * u) / of_a, 0), np.where(known, (v - u - d * v) / of_b, 0)
    d = length(a - b)
    by_a = np.where(d != 0, (a - b) / d, 0) if distance == L2 else 2 * (a - b)
    return d if distance == L2 else d**2, by_a, -by_a


@formula_of("scale_gradient")
def scale_gradient(gradient, factor):
    """gradient *= factor, in place."""
    gradient *= factor
