"""Rows of features: runs of them, one for each sample, those of a union of sites."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from sparsenet.kernels.table import formula_of


@formula_of("segment_sum")
def segment_sum(values, splits):
    """(S, C): the sum of each run of rows, in float64 and rounded once; without splits, the sum of all rows."""
    splits = [0, len(values)] if splits is None else splits
    out = np.zeros((len(splits) - 1, values.shape[1]))
    for s, (start, stop) in enumerate(pairwise(splits)):
        out[s] = values[start:stop].sum(axis=0, dtype=np.float64)
    return out.astype(values.dtype)


@formula_of("segment_max")
def segment_max(values, splits):
    """((S, C), (S, C) int64): the maximum of each run of rows, NaN wins, and its first row; -inf and -1 if empty."""
    out = np.full((len(splits) - 1, values.shape[1]), -np.inf, values.dtype)
    rows = np.full(out.shape, -1, np.int64)
    for s, (start, stop) in enumerate(pairwise(splits)):
        if start < stop:
            out[s], rows[s] = values[start:stop].max(axis=0), start + values[start:stop].argmax(axis=0)
    return out, rows


def of_sites(rows: np.ndarray, coordinates: np.ndarray) -> np.ndarray:
    """(N, C): for each site the row of its sample; one row serves all samples."""
    return rows if len(rows) == 1 else rows[coordinates[:, 0]]


formula_of("add_sample_rows")(lambda values, rows, coordinates: values + of_sites(rows, coordinates))
formula_of("subtract_sample_rows")(lambda values, rows, coordinates: values - of_sites(rows, coordinates))
formula_of("multiply_sample_rows")(lambda values, rows, coordinates: values * of_sites(rows, coordinates))


def on_union(values, rows, background, coordinates):
    """(M, C): the values at their rows of the union, elsewhere the background of the sample, or zeros."""
    if rows is None:
        return values
    out = np.zeros((len(coordinates), values.shape[1]), values.dtype)
    out += 0 if background is None else of_sites(background, coordinates)
    out[rows] = values
    return out


@formula_of("concatenate_rows")
def concatenate_rows(x, y, x_rows, y_rows, x_background, y_background, coordinates):
    """(M, C + E): x and y side by side."""
    return np.concatenate([on_union(x, x_rows, x_background, coordinates),
                           on_union(y, y_rows, y_background, coordinates)], axis=1)


def both_on_union(combine):
    """The formula that combines x and y at each site of the union, (M, C)."""
    return lambda x, y, x_rows, y_rows, x_background, y_background, coordinates: combine(
        on_union(x, x_rows, x_background, coordinates), on_union(y, y_rows, y_background, coordinates))


formula_of("add_rows")(both_on_union(np.add))
formula_of("subtract_rows")(both_on_union(np.subtract))
formula_of("multiply_rows")(both_on_union(np.multiply))


@formula_of("split_rows")
def split_rows(values, x_rows, y_rows, channels):
    """(X, channels) and (Y, the others)"""
    x, y = (values if rows is None else values[rows] for rows in (x_rows, y_rows))
    return x[:, :channels].copy(), y[:, channels:].copy()
