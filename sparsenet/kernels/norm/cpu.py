"""Batch norm: y = (x - mean) / sqrt(variance + eps) * weight + bias, over rows (N, C), channel by channel.

Statistics are over the sites, or over all cells of the grids: the background then counts once for each inactive
cell (`cells` of a grid minus its sites); it has one row for all samples or one for each.

    rows       | block 0 | block 1 | ... |        cut by N and C alone; one thread takes a block
    a block    | 4 rows | 4 rows | ... |        whose sums stay in registers, in float64
    joined     block after block, then the background

Distances, and their squares, are taken from one row: the background if it counts, else the first row.  So no square is
larger than the number of rows times the sum of squared distances from the mean, and nothing cancels, whatever the mean.
Each number is read once for the statistics and once for the result.
"""

from __future__ import annotations

import numpy as np

from sparsenet.kernels.cpu.threads import run_rows
from sparsenet.kernels.norm import row_norm, sample_norm  # noqa: F401  (register their kernels)
from sparsenet.kernels.norm.contract import BATCH_NORM_BACKWARD as BACKWARD
from sparsenet.kernels.norm.contract import BATCH_NORM_FORWARD as FORWARD
from sparsenet.kernels.norm.contract import BATCH_NORM_STATISTICS as STATISTICS
from sparsenet.kernels.norm.loops import differentiate, normalise, rows_of_block, sum_distances, sum_slopes


@STATISTICS.implementation("cpu")
def _statistics_cpu(features, background, batch_splits, cells, running_mean, running_variance, momentum):
    """(2, C) float64: the mean, and the variance as the mean of squared distances from it; NaN if there are no values.

    The running statistics are updated in place by `momentum`, with a variance that divides by count - 1.
    """
    rows, channels = features.shape
    step = rows_of_block(channels)
    backgrounds, inactive = _counted(features, background, batch_splits, cells)
    counts_background = cells and len(backgrounds)
    shift = (backgrounds if counts_background else features if rows else np.zeros((1, channels)))[0].astype(np.float64)
    partial = np.zeros((-(-rows // step), 2, channels))
    run_rows(lambda start, stop: sum_distances(features, shift, start, stop, partial[start // step]), rows, step)
    count, distance = rows + inactive.sum(), backgrounds - shift
    sums = partial.sum(axis=0) + (inactive @ distance, inactive @ distance**2)
    with np.errstate(all="ignore"):
        mean, square = sums / count
        moments = np.stack([shift + mean, np.maximum(square - mean**2, 0)])
    if running_mean is not None:
        unbiased = moments[1] * (count / (count - 1)) if count > 1 else moments[1] * np.nan
        for running, found in ((running_mean, moments[0]), (running_variance, unbiased)):
            running[:] = (1 - momentum) * running + momentum * found
    return moments


@FORWARD.implementation("cpu")
def _forward_cpu(features, background, moments, weight, bias, eps):
    """(N, C); with a background, (N, C) and (G, C)."""
    mean = moments[0].astype(features.dtype)
    scale = (weight / np.sqrt(moments[1] + eps)).astype(features.dtype)
    step = rows_of_block(features.shape[1])

    def normalised(values):
        out = np.empty(values.shape, values.dtype)
        run_rows(lambda start, stop: normalise(values, mean, scale, bias, start, stop, out), len(values), step)
        return out

    return normalised(features) if background is None else (normalised(features), normalised(background))


@BACKWARD.implementation("cpu")
def _backward_cpu(features, background, gradient, background_gradient, batch_splits, cells, moments, weight, eps,
                  of_batch):
    """((N, C), (G, C) or None, (2, C) float64): the gradients of features and background, then those of bias and
    weight: the sums over all rows of the gradient, and of the gradient times the normalised value."""
    (rows, channels), dtype = features.shape, features.dtype
    step, mean, inverse = rows_of_block(channels), moments[0], 1 / np.sqrt(moments[1] + eps)
    partial = np.zeros((-(-rows // step), 2, channels))
    run_rows(lambda start, stop: sum_slopes(features, gradient, mean, start, stop, partial[start // step]), rows, step)
    sums = partial.sum(axis=0)  # block after block
    _, inactive = _counted(features, background, batch_splits, cells)
    if background is not None:
        sums += (background_gradient.sum(axis=0, dtype=np.float64),
                 (background_gradient * (background - mean)).sum(axis=0))
    sums[1] *= inverse
    count = rows + inactive.sum()
    shares = sums / count if of_batch and count else np.zeros_like(sums)
    shares[1] *= inverse
    scale, constants = (weight * inverse).astype(dtype), (mean.astype(dtype), *shares.astype(dtype))
    out = np.empty(features.shape, dtype)
    run_rows(lambda start, stop: differentiate(features, gradient, *constants, scale, start, stop, out), rows, step)
    if background is None:
        return out, None, sums
    through = inactive[:, None] * (shares[0] + (background - mean) * shares[1])
    return out, ((background_gradient - through) * (weight * inverse)).astype(dtype), sums


def _counted(features, background, batch_splits, cells):
    """Rows of backgrounds (G, C), and how many inactive cells count for each (G,) float64."""
    if background is None:
        return np.zeros((0, features.shape[1]), features.dtype), np.zeros(0)
    if not cells:
        return background, np.zeros(len(background))
    if len(background) == 1:
        return background, np.array([cells * (len(batch_splits) - 1.0) - len(features)])
    return background, cells - np.diff(batch_splits).astype(np.float64)
