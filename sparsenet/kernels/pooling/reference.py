"""Pooling over the windows of a rulebook, and its gradients."""

from __future__ import annotations

import numpy as np

from sparsenet.kernels.rows.reference import of_sites, segment_sum
from sparsenet.kernels.table import formula_of


@formula_of("max_pool_forward", reads=("windows",))
def max_pool_forward(features, background, windows, output_coordinates, relative):
    """(out, argmax int16): a window's largest value, its first offset (of NaN the last); -1 background, -2 no cell."""
    (outputs, offsets), counts, inactive = windows.shape, windows >= 0, windows == -1
    if background is not None:
        counts |= inactive & (inactive.cumsum(axis=1) == 1)
    below = np.zeros((1, features.shape[1]), features.dtype) if background is None else background
    sample = output_coordinates[:, :1] if len(below) > 1 else 0
    values, rows = np.concatenate([features, below]), np.where(windows < 0, len(features) + sample, windows)
    first = counts.argmax(axis=1)
    out, argmax = values[rows[np.arange(outputs), first]], np.tile(first.astype(np.int16)[:, None], below.shape[1])
    for k in range(offsets):
        value = values[rows[:, k]]
        wins = counts[:, k : k + 1] & ((value > out) | np.isnan(value))
        out[wins], argmax[wins] = value[wins], k
    return out - of_sites(below, output_coordinates) if relative else out, argmax


@formula_of("max_pool_backward", reads=("neighbours",))
def max_pool_backward(gradient, argmax, rulebook, batch_splits):
    """((N, C), (B, C)): each output's gradient goes to the cell that won, a site or the background of the sample."""
    neighbours, inputs, channels = rulebook.neighbours, rulebook.shape[0], gradient.shape[1]
    splits = [0, len(gradient)] if batch_splits is None else batch_splits
    sample = np.repeat(np.arange(len(splits) - 1), np.diff(splits))[:, None]
    winners = np.take_along_axis(np.where(neighbours < 0, inputs + sample, neighbours), argmax.astype(np.int64), axis=1)
    out = np.zeros((inputs + len(splits) - 1, channels), gradient.dtype)
    np.add.at(out.reshape(-1), (winners * channels + np.arange(channels)).reshape(-1), gradient.reshape(-1))
    return out[:inputs], out[inputs:].copy()


@formula_of("sum_pool_forward", reads=("windows",))
def sum_pool_forward(features, background, windows, output_coordinates, mean):
    """(M, C): sums over a window's cells, without a background its sites; a mean by their number.  -2 is no cell."""
    zeros = np.zeros((1, features.shape[1]), features.dtype)
    counted, values, rows = windows >= 0, np.concatenate([features, zeros]), windows
    if background is not None:  # its rows follow those of the sites
        sample = output_coordinates[:, :1] if len(background) > 1 else 0
        counted, values = windows > -2, np.concatenate([features, background, zeros])
        rows = np.where(windows == -1, len(features) + sample, windows)
    out = values[np.where(counted, rows, len(values) - 1)].sum(axis=1)
    return out / counted.sum(axis=1, keepdims=True, dtype=features.dtype).clip(1) if mean else out


@formula_of("sum_pool_backward", reads=("windows",))
def sum_pool_backward(gradient, rulebook, batch_splits, mean, with_background, to_background):
    """((N, C), (B, C) or None): each window's gradient, for a mean its share, goes to each of its cells."""
    windows, out = rulebook.windows, np.zeros((rulebook.shape[0], gradient.shape[1]), gradient.dtype)
    counted = windows > -2 if with_background else windows >= 0
    share = gradient / counted.sum(axis=1, keepdims=True, dtype=gradient.dtype).clip(1) if mean else gradient
    m, k = np.nonzero(windows >= 0)
    np.add.at(out, windows[m, k], share[m])
    below = (windows == -1).sum(axis=1, keepdims=True, dtype=gradient.dtype) * share
    return out, segment_sum(below, batch_splits) if to_background else None
