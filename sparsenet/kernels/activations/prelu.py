"""PReLU: y = x if x > 0, else slope * x, with a learned slope for each channel, or one for all of them.

    dx = gradient if x > 0, else slope * gradient
    dslope = sum over rows and background of x * gradient where x <= 0         over the channels, too, for one slope

    rows       | block 0 | block 1 | ... |        cut by N and C alone; one thread takes a block
    a block    | 4 rows | 4 rows | ... |          whose sums stay in registers, in float64
    joined     block after block, then the background

With one slope a block is a run of numbers, whatever the rows are.  x and gradient are read once for both gradients.
"""

from __future__ import annotations

import numpy as np

from sparsenet.kernels.activations.contract import PRELU_BACKWARD as BACKWARD
from sparsenet.kernels.activations.contract import PRELU_FORWARD as FORWARD
from sparsenet.kernels.cpu.lanes import doubles, fma, load, load_some, select, spread, store, store_some
from sparsenet.kernels.cpu.lanes_joined import total_of
from sparsenet.kernels.cpu.numba_cache import compiled
from sparsenet.kernels.cpu.threads import run_rows

_BLOCK = 1 << 16  # elements
_ROWS = 4  # rows whose sums stay in registers; see norm/cpu.py
_WIDTH = 16  # numbers side by side


@FORWARD.implementation("cpu")
def _forward_cpu(x, slope, background):
    """(N, C); with a background, (N, C) and (G, C)."""
    out = np.empty(x.shape, x.dtype)
    source, target, step = _blocks(x, slope), _blocks(out, slope), _step(x, slope)
    run_rows(lambda start, stop: _forward(source[start:stop], slope, target[start:stop]), len(source), step)
    return out if background is None else (out, _forward_cpu(background, slope, None))


@BACKWARD.implementation("cpu")
def _backward_cpu(x, gradient, slope, background, background_gradient):
    """((N, C), (G, C) or None, (S,)): the gradients of x, background and slope; the last is summed in float64 and
    rounded once."""
    out, total = _through(x, gradient, slope)
    below = None
    if background is not None:
        below, more = _through(background, background_gradient, slope)
        total = total + more
    return out, below, total.astype(slope.dtype)


def _through(x, gradient, slope):
    """The gradient of x, and of the slopes by these rows (S,) float64."""
    out, step = np.empty(x.shape, x.dtype), _step(x, slope)
    source, given, target = (_blocks(array, slope) for array in (x, gradient, out))
    partial = np.zeros((-(-len(source) // step), len(slope)))
    loop = _backward_shared if source.ndim == 1 else _backward
    run_rows(lambda start, stop: loop(source[start:stop], given[start:stop], slope, target[start:stop],
                                      partial[start // step]), len(source), step)
    return out, partial.sum(axis=0)  # block after block


def _blocks(array: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """The array that is cut into blocks: rows, or numbers if there is one slope."""
    return array.reshape(-1) if len(slope) == 1 else array


def _step(x: np.ndarray, slope: np.ndarray) -> int:
    """Rows or numbers of a block."""
    return _BLOCK if len(slope) == 1 else max(_ROWS, _BLOCK // max(1, x.shape[1]))


@compiled
def _forward(x, slope, out):
    if x.ndim == 1:
        for i in range(x.size):
            out[i] = x[i] if x[i] > 0 else x[i] * slope[0]
    else:
        for row in range(x.shape[0]):
            for c in range(x.shape[1]):
                out[row, c] = x[row, c] if x[row, c] > 0 else x[row, c] * slope[c]


@compiled
def _backward_shared(x, gradient, slope, out, sums):
    """Add the slope's gradient to sums[0]."""
    nothing = x.dtype.type(0)
    total = spread(0.0, _WIDTH)
    for i in range(0, x.size, _WIDTH):
        rest = x.size - i
        values, gradients = load_some(x, i, rest, nothing, _WIDTH), load_some(gradient, i, rest, nothing, _WIDTH)
        store_some(out, i, rest, select(values > nothing, gradients, gradients * slope[0]))
        total = fma(doubles(select(values > nothing, nothing, values)), doubles(gradients), total)
    sums[0] += total_of(total)


@compiled
def _backward(x, gradient, slope, out, sums):
    """Add the slopes' gradients to sums (C,)."""
    channels, nothing = x.shape[1], x.dtype.type(0)
    for above in range(0, x.shape[0], _ROWS):
        below = min(above + _ROWS, x.shape[0])
        for first in range(0, channels, _WIDTH):
            rest = channels - first
            if rest >= _WIDTH:
                slopes, total = load(slope, first, _WIDTH), load(sums, first, _WIDTH)
                for row in range(above, below):
                    values, gradients = load(x, (row, first), _WIDTH), load(gradient, (row, first), _WIDTH)
                    store(out, (row, first), select(values > nothing, gradients, gradients * slopes))
                    total = fma(doubles(select(values > nothing, nothing, values)), doubles(gradients), total)
                store(sums, first, total)
            else:
                slopes = load_some(slope, first, rest, nothing, _WIDTH)
                total = load_some(sums, first, rest, 0.0, _WIDTH)
                for row in range(above, below):
                    values = load_some(x, (row, first), rest, nothing, _WIDTH)
                    gradients = load_some(gradient, (row, first), rest, nothing, _WIDTH)
                    store_some(out, (row, first), rest, select(values > nothing, gradients, gradients * slopes))
                    total = fma(doubles(select(values > nothing, nothing, values)), doubles(gradients), total)
                store_some(sums, first, rest, total)
