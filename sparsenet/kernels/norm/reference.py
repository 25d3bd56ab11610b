"""Normalization, by the statistics of a batch, of each sample and of each row; sums in float64."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import pairwise

import numpy as np

from sparsenet.kernels.table import formula_of


@formula_of("batch_norm_statistics")
def batch_norm_statistics(features, background, batch_splits, cells, running_mean, running_variance, momentum):
    """(2, C) float64: mean and variance of the sites and, once for each inactive cell, the background.  In place:
    running = (1 - momentum) * running + momentum * found, with a variance that divides by count - 1."""
    rows, times = _with_background(features, background, batch_splits, cells)
    mean = (times * rows).sum(axis=0) / times.sum()
    variance = (times * (rows - mean) ** 2).sum(axis=0) / times.sum()
    if running_mean is not None:
        running_mean[:] = (1 - momentum) * running_mean + momentum * mean
        running_variance[:] = (1 - momentum) * running_variance + momentum * variance * times.sum() / (times.sum() - 1)
    return np.stack([mean, variance])


def _with_background(features, background, batch_splits, cells) -> tuple[np.ndarray, np.ndarray]:
    """Rows (N+G, C) of the sites and of the background, in float64, and how many cells hold each (N+G, 1)."""
    rows = features if background is None else np.concatenate([features, background])
    times = np.ones((len(rows), 1))
    if len(rows) > len(features):
        inactive = cells - np.diff(batch_splits) if cells else np.zeros(1)
        times[len(features) :, 0] = inactive if len(background) == len(inactive) else inactive.sum()
    return rows.astype(np.float64), times


@formula_of("batch_norm_forward")
def batch_norm_forward(features, background, moments, weight, bias, eps):
    """(x - mean) / sqrt(variance + eps) * weight + bias; with a background, both."""
    rows, _ = _with_background(features, background, None, 0)
    out = ((rows - moments[0]) / np.sqrt(moments[1] + eps) * weight + bias).astype(features.dtype)
    return out if background is None else (out[: len(features)], out[len(features) :])


@formula_of("batch_norm_backward")
def batch_norm_backward(features, background, gradient, background_gradient, batch_splits, cells, moments, weight, eps,
                        of_batch):
    """Gradients of features (N, C) and background (G, C); (2, C) float64, the gradients of bias and weight."""
    rows, times = _with_background(features, background, batch_splits, cells)
    gradients, _ = _with_background(gradient, background_gradient, None, 0)
    inverse = 1 / np.sqrt(moments[1] + eps)
    normalised = (rows - moments[0]) * inverse
    sums = np.stack([gradients.sum(axis=0), (gradients * normalised).sum(axis=0)])
    if of_batch:  # mean and variance depend on each row, as many times as it occurs
        gradients -= times * (sums[0] + normalised * sums[1]) / times.sum()
    out = (gradients * weight * inverse).astype(features.dtype)
    return out[: len(features)], None if background is None else out[len(features) :], sums


@formula_of("sample_norm_forward")
def sample_norm_forward(features, background, batch_splits, cells, weight, bias, groups, eps):
    """Results (N, C), (B, C); (2, B, groups) float64: mean and variance of a sample's cells, or 0 and 1 of none."""
    width, below = len(weight) // groups, []
    out, moments = np.empty_like(features), np.zeros((2, len(batch_splits) - 1, groups))
    for b, (start, stop, rows, times) in enumerate(_samples(features, background, batch_splits, cells)):
        grouped, times, count = rows.reshape(-1, groups, width), times[:, :, None], times.sum() * width
        mean = (times * grouped).sum(axis=(0, 2)) / count
        variance = (times * (grouped - mean[:, None]) ** 2).sum(axis=(0, 2)) / count
        moments[:, b] = (mean, variance) if count else np.array([[0], [1]])
        normalised = (grouped - mean[:, None]) / np.sqrt(variance + eps)[:, None]
        result = (normalised.reshape(rows.shape) * weight + bias).astype(features.dtype)
        out[start:stop], below = result[: stop - start], [*below, *result[stop - start :]]
    return out, None if background is None else np.reshape(below, (-1, len(weight))), moments


def _samples(features, background, batch_splits, cells) -> Iterator[tuple]:
    """Each sample's first row, its end, its rows and the background's in float64, and how many cells hold each."""
    for b, (start, stop) in enumerate(pairwise(batch_splits)):
        own = None if background is None else background[[b % len(background)]]
        rows = _with_background(features[start:stop], own, np.array([start, stop]), max(cells, stop - start, 1))
        yield start, stop, *rows


@formula_of("sample_norm_backward")
def sample_norm_backward(features, background, gradient, background_gradient, batch_splits, cells, moments, weight,
                         eps):
    """Gradients of features (N, C) and background (G, C); (2, C) float64, the gradients of bias and weight."""
    out, sums = np.empty_like(features), np.zeros((2, len(weight)))
    to_background = None if background is None else np.zeros(background.shape)
    for b, (start, stop, rows, times) in enumerate(_samples(features, background, batch_splits, cells)):
        own = None if background is None else background_gradient[[b]]
        gradients = _with_background(gradient[start:stop], own, None, 0)[0]
        back, own_sums = _through_groups(rows, gradients, times, *moments[:, b], weight, eps)
        sums += own_sums
        out[start:stop] = back[: stop - start]
        if background is not None:
            to_background[b % len(background)] += back[-1]
    return out, None if background is None else to_background.astype(features.dtype), sums


def _through_groups(rows, gradients, times, mean, variance, weight, eps) -> tuple[np.ndarray, np.ndarray]:
    """The gradient of rows (n, C), each held by so many cells, that share mean and variance (groups,); (2, C)."""
    by_channel = partial(np.repeat, repeats=rows.shape[1] // len(mean), axis=-1)
    inverse = by_channel(1 / np.sqrt(variance + eps))
    normalised = (rows - by_channel(mean)) * inverse
    sums, slopes = np.stack([gradients, gradients * normalised]).sum(axis=1), gradients * weight
    count = max(times.sum(), 1) * rows.shape[1] // len(mean)
    share, slope = (by_channel(values.sum(axis=0).reshape(len(mean), -1).sum(axis=1) / count)
                    for values in (slopes, slopes * normalised))
    return (slopes - times * (share + normalised * slope)) * inverse, sums


@formula_of("row_norm_forward")
def row_norm_forward(features, weight, bias, groups, eps, with_moments):
    """(x - mean) / sqrt(variance + eps) * weight + bias, with those of each group of channels in a row; (2, groups, N)
    float64 or None: mean and 1 / sqrt(variance + eps)."""
    grouped = features.reshape(len(features), groups, features.shape[1] // groups).astype(np.float64)
    moments = np.array([grouped.mean(axis=2).T, 1 / np.sqrt(grouped.var(axis=2).T + eps)], order="C")
    out = (_row_groups(features, moments) * weight + bias).astype(features.dtype)
    return out, moments if with_moments else None


def _row_groups(features, moments) -> np.ndarray:
    """Rows (N, C) normalised in float64."""
    mean, inverse = (np.repeat(values.T, features.shape[1] // len(values), axis=1) for values in moments)
    return (features - mean) * inverse


@formula_of("row_norm_backward")
def row_norm_backward(features, gradient, moments, weight):
    """The gradient of features (N, C); (2, C) float64, the gradients of bias and weight."""
    normalised, slopes = _row_groups(features, moments), gradient.astype(np.float64) * weight
    (_, groups, rows), width = moments.shape, features.shape[1] // moments.shape[1]
    share, slope = (np.repeat(values.reshape(rows, groups, width).mean(axis=2), width, axis=1)
                    for values in (slopes, slopes * normalised))
    inverse = np.repeat(moments[1].T, width, axis=1)
    out = ((slopes - share - normalised * slope) * inverse).astype(features.dtype)
    return out, np.stack([gradient, gradient * normalised]).sum(axis=1, dtype=np.float64)
