"""Instance and group norm: y = (x - mean) / sqrt(variance + eps) * weight + bias, over rows (N, C), with the mean and
variance of a group of neighbouring channels in one sample.

Statistics are over the sites of a sample, or over all cells of its grid: the background then counts once for each
inactive cell.  A sample without a site is its background alone, and is normalised by the statistics of its grid.

    rows       | sample 0        | sample 1 |       | sample 3 ...
    chunks     | 0     | 1   | 2 | 3        |       | 4 ...         each of one sample, cut from its beginning on
    sums       of each channel, in float64; chunk after chunk, then the background, then the channels of a group

Distances, and their squares, are taken from the first row of the sample, so that nothing cancels, whatever the mean;
those from the background, and from channel to channel, are joined by the rule of Chan, Golub and LeVeque (1979).
Nothing that a sample's result depends on lies outside the sample: it has the same bits in any batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from sparsenet.kernels.cpu.chunks import Chunks, chunks_of
from sparsenet.kernels.cpu.numba_cache import compiled
from sparsenet.kernels.cpu.threads import run_rows
from sparsenet.kernels.norm.contract import SAMPLE_NORM_BACKWARD as BACKWARD
from sparsenet.kernels.norm.contract import SAMPLE_NORM_FORWARD as FORWARD
from sparsenet.kernels.norm.loops import join_chunks, normalise, rows_of_block, sum_distances, sum_slopes


class _Slopes(NamedTuple):
    """(B, C) each: result = gradient * scale - share - (x - mean) * slope"""

    mean: np.ndarray
    scale: np.ndarray
    share: np.ndarray
    slope: np.ndarray


@FORWARD.implementation("cpu")
@np.errstate(all="ignore")
def _forward_cpu(features, background, batch_splits, cells, weight, bias, groups, eps):
    """(N, C), (B, C) or None, and (2, B, groups) float64: the results for features and background, and the mean and
    variance of each group, 0 and 1 if it has no values."""
    chunks = _cut(batch_splits, features)
    shift = _first_rows(features, batch_splits)
    sums = _summed(chunks, len(shift), features, lambda first, last, partial: _sum_distances(
        features, shift, *chunks, first, last, partial))
    active, inactive = _counts(background, batch_splits, cells)
    moments = _moments(shift, sums, active, background, inactive, groups)
    mean, scale = _by_channel(moments[0], weight), _by_channel(1 / np.sqrt(moments[1] + eps), weight) * weight
    mean, scale = mean.astype(features.dtype), scale.astype(features.dtype)
    out = np.empty_like(features)
    _run(chunks, features, lambda first, last: _normalise(features, mean, scale, bias, chunks, first, last, out))
    return out, None if background is None else (background - mean) * scale + bias, moments


@BACKWARD.implementation("cpu")
@np.errstate(all="ignore")
def _backward_cpu(features, background, gradient, background_gradient, batch_splits, cells, moments, weight, eps):
    """((N, C), (G, C) or None, (2, C) float64): the gradients of features and background, then those of bias and
    weight: the sums over all rows of the gradient, and of the gradient times the normalised value."""
    chunks, dtype, (_, samples, groups) = _cut(batch_splits, features), features.dtype, moments.shape
    mean, inverse = _by_channel(moments[0], weight), _by_channel(1 / np.sqrt(moments[1] + eps), weight)
    sums = _summed(chunks, samples, features, lambda first, last, partial: _sum_slopes(
        features, gradient, mean, *chunks, first, last, partial))
    if background is not None:
        sums[:, 0] += background_gradient
        sums[:, 1] += background_gradient * (background - mean)
    sums[:, 1] *= inverse
    active, inactive = _counts(background, batch_splits, cells)
    shares = (sums * weight).reshape(samples, 2, groups, -1).sum(axis=3)
    shares /= (np.maximum(active + inactive, 1) * (len(weight) // groups))[:, :, None]
    share, slope = _by_channel(shares[:, 0], weight) * inverse, _by_channel(shares[:, 1], weight) * inverse**2
    slopes = _Slopes(*(rows.astype(dtype) for rows in (mean, inverse * weight, share, slope)))
    out = np.empty_like(features)
    _run(chunks, features, lambda first, last: _differentiate(features, gradient, slopes, chunks, first, last, out))
    if background is None:
        return out, None, sums.sum(axis=0)
    through = inactive * (share + (background - mean) * slope)
    to_background = background_gradient * (weight * inverse) - through
    if len(background) == 1:
        to_background = to_background.sum(axis=0, keepdims=True)
    return out, to_background.astype(dtype), sums.sum(axis=0)


def _counts(background, batch_splits, cells) -> tuple[np.ndarray, np.ndarray]:
    """(B, 1) float64 each: the sites of a sample, and how many times its background counts."""
    active = np.diff(batch_splits)[:, None]
    inactive = np.zeros_like(active) if background is None else np.maximum(np.maximum(cells, active), 1) - active
    return active.astype(np.float64), inactive.astype(np.float64)


def _moments(shift, sums, active, background, inactive, groups) -> np.ndarray:
    """(2, B, groups) from the sums (B, 2, C) of distances from `shift` (B, C) and of their squares."""
    count = np.maximum(active + inactive, 1)
    mean = sums[:, 0] / np.maximum(active, 1)
    squares = np.maximum(sums[:, 1] - active * mean**2, 0)  # of distances from the mean
    mean += shift
    if background is not None:
        distance = background - mean
        mean += distance * (inactive / count)
        squares += distance**2 * (active * inactive / count)
    mean, squares = (rows.reshape(len(rows), groups, -1) for rows in (mean, squares))
    mean_of_group = mean.mean(axis=2)
    squares = squares + count[:, :, None] * (mean - mean_of_group[:, :, None]) ** 2
    variance = squares.sum(axis=2) / (count * mean.shape[2])
    variance[(active + inactive)[:, 0] == 0] = 1
    return np.stack([mean_of_group, variance])


def _by_channel(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(B, C): the value of its group for each channel."""
    return np.repeat(values, len(weight) // values.shape[1], axis=1)


def _first_rows(features, batch_splits) -> np.ndarray:
    """(B, C) float64: the first row of each sample, zeros if it has none."""
    rows = np.zeros((len(batch_splits) - 1, features.shape[1]))
    filled = np.flatnonzero(np.diff(batch_splits))
    rows[filled] = features[batch_splits[filled]]
    return rows


def _cut(batch_splits, features) -> Chunks:
    return chunks_of(batch_splits, rows_of_block(features.shape[1]))


def _run(chunks: Chunks, features, function: Callable[[int, int], None]) -> None:
    """Call `function(first, last)` for blocks of chunks, of about as many rows as the largest chunk."""
    length, rows = len(chunks.starts), max(1, len(features))
    run_rows(function, length, max(1, length * rows_of_block(features.shape[1]) // rows))


def _summed(chunks: Chunks, samples: int, features, function: Callable[[int, int, np.ndarray], object]) -> np.ndarray:
    """(B, 2, C) float64: the sums that `function(first, last, partial)` adds up for chunks, of each sample."""
    partial = np.zeros((len(chunks.starts), 2, features.shape[1]))
    _run(chunks, features, lambda first, last: function(first, last, partial))
    out = np.zeros((samples, 2, features.shape[1]))
    join_chunks(partial, chunks.owners, out)
    return out


@compiled
def _sum_distances(values, shift, starts, stops, owners, first, last, partial):
    for chunk in range(first, last):
        sum_distances(values, shift[owners[chunk]], starts[chunk], stops[chunk], partial[chunk])


@compiled
def _normalise(values, mean, scale, bias, chunks, first, last, out):
    starts, stops, owners = chunks
    for chunk in range(first, last):
        own = owners[chunk]
        normalise(values, mean[own], scale[own], bias, starts[chunk], stops[chunk], out)


@compiled
def _sum_slopes(values, gradient, mean, starts, stops, owners, first, last, partial):
    for chunk in range(first, last):
        sum_slopes(values, gradient, mean[owners[chunk]], starts[chunk], stops[chunk], partial[chunk])


@compiled
def _differentiate(values, gradient, slopes, chunks, first, last, out):
    mean, scale, share, slope = slopes
    starts, stops, owners = chunks
    for chunk in range(first, last):
        own = owners[chunk]
        for row in range(starts[chunk], stops[chunk]):
            for c in range(values.shape[1]):
                distance = values[row, c] - mean[own, c]
                out[row, c] = gradient[row, c] * scale[own, c] - share[own, c] - distance * slope[own, c]
