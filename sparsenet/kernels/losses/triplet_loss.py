"""Triplet loss and its gradients: mean over the rows of max(0, margin + d(a, p) - d(a, n)).

    SQUARED_L2   d = |a - b|^2       d/da = 2 (a - b)
    L2           d = |a - b|         d/da = (a - b) / d, 0 where d is 0
    COSINE       d = |u - v|^2 / 2   d/da = (u - v - d u) / |a|       u = a / |a|, v = b / |b|

and for d/db a and b are exchanged.  Half the squared chord between u and v is 1 - cosine, and accurate if that is
small; (u - v) u = d.  With COSINE, d is 1 and its gradient 0 if a or b is 0, and rows are divided by their largest
number first, so that no square over- or underflows.  Everything is computed in float64 and rounded at the end.
"""

from __future__ import annotations

import math

import numpy as np

from sparsenet.kernels.cpu.numba_cache import compiled
from sparsenet.kernels.cpu.threads import run_rows
from sparsenet.kernels.losses.contract import COSINE, L2, TRIPLET_LOSS
from sparsenet.kernels.losses.mean import mean_on_host

_BLOCK = 1 << 14  # numbers of one of the three: whole rows, at least one


@TRIPLET_LOSS.implementation("cpu")
def _cpu(anchor, positive, negative, margin, distance, with_gradient):
    """loss (), figures (2,) float64 and gradient (3, T, C) by anchor, positive and negative, or None without
    with_gradient.

    figures : the loss again, and the number of terms above 0
    The gradient is 0 if the term is 0 or below.  The loss of no triplets is 0.
    """
    triplets, channels = anchor.shape
    step = max(1, _BLOCK // max(1, channels))  # rows of a block
    sums = np.zeros((-(-triplets // step), 2))
    gradient = np.empty((3, *anchor.shape), anchor.dtype) if with_gradient else None
    no_gradient = np.empty((3, 0, channels), anchor.dtype)

    def add_rows(start: int, stop: int) -> None:
        _rows(anchor[start:stop], positive[start:stop], negative[start:stop], float(margin), int(distance),
              1 / triplets, gradient[:, start:stop] if with_gradient else no_gradient, sums[start // step])

    run_rows(add_rows, triplets, step)
    return *mean_on_host(sums, triplets, anchor.dtype), gradient


@compiled
def _rows(anchor, positive, negative, margin, distance, share, gradient, sums):
    """Add the terms to sums[0] and the number of those above 0 to sums[1]; no gradient if `gradient` has no rows."""
    for i in range(anchor.shape[0]):
        a, p, n = anchor[i], positive[i], negative[i]
        near, far = 0.0, 0.0
        if distance == COSINE:
            lengths = _length(a), _length(p), _length(n)
            for c in range(a.size):
                u, v, w = _unit(a[c], lengths[0]), _unit(p[c], lengths[1]), _unit(n[c], lengths[2])
                near += (u - v) ** 2
                far += (u - w) ** 2
            near_known = lengths[0][0] != 0 and lengths[1][0] != 0
            far_known = lengths[0][0] != 0 and lengths[2][0] != 0
            near, far = near / 2 if near_known else 1.0, far / 2 if far_known else 1.0
        else:
            for c in range(a.size):
                here = np.float64(a[c])
                near += (here - p[c]) ** 2
                far += (here - n[c]) ** 2
            if distance == L2:
                near, far = math.sqrt(near), math.sqrt(far)
        term = margin + near - far
        counts = not term <= 0  # NaN counts
        if counts:
            sums[0] += term
        if term > 0:
            sums[1] += 1
        if gradient.shape[1] == 0:
            continue
        if not counts:
            gradient[:, i] = 0
        elif distance == COSINE:
            _angular(a, p, n, lengths, near, far, share if near_known else 0.0, share if far_known else 0.0,
                    gradient[:, i])
        elif distance == L2:
            _straight(a, p, n, share / near if near != 0 else 0.0, share / far if far != 0 else 0.0, gradient[:, i])
        else:
            _straight(a, p, n, 2 * share, 2 * share, gradient[:, i])


@compiled
def _straight(a, p, n, by_p, by_n, gradient):
    """The gradients of L2 and SQUARED_L2: along the differences of the rows."""
    for c in range(a.size):
        here = np.float64(a[c])
        to_p, to_n = by_p * (here - p[c]), by_n * (here - n[c])
        gradient[0, c], gradient[1, c], gradient[2, c] = to_p - to_n, -to_p, to_n


@compiled
def _angular(a, p, n, lengths, near, far, by_p, by_n, gradient):
    """The gradients of COSINE; 0 if a row or its partner is zero: by_p or by_n is 0 then."""
    of_a, of_p, of_n = lengths
    for c in range(a.size):
        u, v, w = _unit(a[c], of_a), _unit(p[c], of_p), _unit(n[c], of_n)
        from_p, from_n = by_p * (u - v - near * u), by_n * (u - w - far * u)
        gradient[0, c] = (from_p - from_n) * _inverse(of_a)
        gradient[1, c] = by_p * (v - u - near * v) * _inverse(of_p)
        gradient[2, c] = by_n * (u - w + far * w) * _inverse(of_n)


@compiled
def _length(x):
    """(largest number, length of x divided by it): the length is their product; (0, 1) for zeros."""
    largest, squares = 0.0, 0.0
    for c in range(x.size):
        size = abs(np.float64(x[c]))
        if size > largest or size != size:
            largest = size
    if largest == 0:
        return 0.0, 1.0
    for c in range(x.size):
        squares += (x[c] / largest) ** 2
    return largest, math.sqrt(squares)


@compiled
def _unit(value, length):
    return value / length[0] / length[1] if length[0] != 0 else 0.0


@compiled
def _inverse(length):
    return 1 / (length[0] * length[1]) if length[0] != 0 else 0.0
