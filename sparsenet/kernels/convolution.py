"""Sparse convolution: gather + matrix product, block by block of output rows.

    out[m] = sum_k  W[k]^T features[neighbours[m, k]]  + constant          (rows of -1 add nothing)

Two ways to do a block, chosen from the rulebook's share of filled entries (`_full_is_cheaper`):

full table    gather a (rows, K * C_in) buffer with zeros where no site is, one product with the
              (K * C_in, C_out) weights.  Deep products run near the machine's matrix rate.

pairs         gather the existing pairs only, grouped by offset, one product for each offset,
              add the results to their output rows, for each row in the order of the offsets.

       neighbours (rows, K)        buffer (rows, K * C_in)           out (rows, C_out)
       [ 4 -1  7 ...]      ->      [x4 | 0 | x7 | ...]     x  W  ->   [.......]

The input gradient is the same kernel over the transposed neighbours and transposed weights.
The weight gradient multiplies the same buffers by the output's gradient and adds up partial
sums over a fixed partition of the rows.  Block borders depend on sizes only, BLAS runs on one
thread inside a block: results do not depend on the number of threads.
"""

from __future__ import annotations

import threading

import numba
import numpy as np

from sparsenet.kernels import convolution_cuda
from sparsenet.kernels.table import Array, declare
from sparsenet.kernels.threads import run_blocks, single_threaded_blas

_FULL_BYTES = 1 << 20  # gathered buffer of a block: stays in a core's L2 cache
_PAIR_BYTES = 4 << 20
_PARTIALS = 8  # partial weight gradients, and so threads that can help with one
_scratch = threading.local()

FORWARD = declare(
    "convolution_forward",
    features=Array("feature", "N C_in"),
    weights=Array("feature", "K C_in C_out"),
    neighbours=Array("int32", "M K"),
    constant=Array("feature", "C_out", optional=True),
)
WEIGHT_GRADIENT = declare(
    "convolution_weight_gradient",
    features=Array("feature", "N C_in"),
    gradient=Array("feature", "M C_out"),
    neighbours=Array("int32", "M K"),
)


@FORWARD.implementation("cpu")
def _forward_cpu(features, weights, neighbours, constant):
    """(M, C_out): the sum over offsets, plus the constant row where one is given."""
    offsets, c_in, c_out = weights.shape
    rows = neighbours.shape[0]
    out = np.empty((rows, c_out), features.dtype)
    if rows == 0:
        return out
    if features.shape[0] == 0 or c_in == 0:
        out[...] = 0 if constant is None else constant
        return out
    row_bytes = offsets * c_in * features.itemsize
    density = _density(neighbours)
    if _full_is_cheaper(density, offsets, c_in, c_out):
        flat = weights.reshape(offsets * c_in, c_out)
        step = _rows_of_block(_FULL_BYTES, row_bytes, rows)

        def block(index: int) -> None:
            part = neighbours[index * step : (index + 1) * step]
            target = out[index * step : index * step + part.shape[0]]
            buffer = _buffer("gathered", (part.shape[0], offsets * c_in), features.dtype)
            _gather(features, part, buffer)
            np.matmul(buffer, flat, out=target)
            if constant is not None:
                target += constant
    else:
        row_bytes = density * offsets * (c_in + c_out) * features.itemsize
        step = _rows_of_block(_PAIR_BYTES, row_bytes, rows)

        def block(index: int) -> None:
            part = neighbours[index * step : (index + 1) * step]
            target = out[index * step : index * step + part.shape[0]]
            target[...] = 0 if constant is None else constant
            splits = _splits(part)
            gathered = _buffer("gathered", (splits[-1], c_in), features.dtype)
            products = _buffer("products", (splits[-1], c_out), features.dtype)
            _gather_inputs(features, part, splits[:-1].copy(), gathered)
            for k, chosen in _filled(splits):
                np.matmul(gathered[chosen], weights[k], out=products[chosen])
            _add_to_outputs(products, part, splits[:-1].copy(), target)

    with single_threaded_blas():
        run_blocks(block, -(-rows // step))
    return out


@WEIGHT_GRADIENT.implementation("cpu")
def _weight_gradient_cpu(features, gradient, neighbours):
    """(K, C_in, C_out): sum over m of features[neighbours[m, k]]^T gradient[m]."""
    (rows, offsets), c_in, c_out = neighbours.shape, features.shape[1], gradient.shape[1]
    if rows == 0 or features.shape[0] == 0:
        return np.zeros((offsets, c_in, c_out), features.dtype)
    density = _density(neighbours)
    full = _full_is_cheaper(density, offsets, c_in, c_out)
    if full:
        step = _rows_of_block(_FULL_BYTES, offsets * c_in * features.itemsize, rows)
    else:
        step = _rows_of_block(_PAIR_BYTES, density * offsets * (c_in + c_out) * features.itemsize, rows)
    blocks = -(-rows // step)
    partials = min(_PARTIALS, blocks)
    sums = np.zeros((partials, offsets, c_in, c_out), features.dtype)

    def partial(index: int) -> None:
        for b in range(index * blocks // partials, (index + 1) * blocks // partials):
            chosen = slice(b * step, (b + 1) * step)
            if full:
                _add_full(features, gradient[chosen], neighbours[chosen], sums[index])
            else:
                _add_pairs(features, gradient[chosen], neighbours[chosen], sums[index])

    with single_threaded_blas():
        run_blocks(partial, partials)
    total = sums[0]
    for other in sums[1:]:
        total += other
    return total.copy() if partials > 1 else total


@FORWARD.implementation("cuda")
def _forward_cuda(features, weights, neighbours, constant):
    return convolution_cuda.forward(features, weights, neighbours, constant)


@WEIGHT_GRADIENT.implementation("cuda")
def _weight_gradient_cuda(features, gradient, neighbours):
    return convolution_cuda.weight_gradient(features, gradient, neighbours)


def _add_full(features, gradient, neighbours, total) -> None:
    offsets, c_in, c_out = total.shape
    buffer = _buffer("gathered", (neighbours.shape[0], offsets * c_in), features.dtype)
    product = _buffer("products", (offsets * c_in, c_out), features.dtype)
    _gather(features, neighbours, buffer)
    np.matmul(buffer.T, gradient, out=product)
    total += product.reshape(total.shape)


def _add_pairs(features, gradient, neighbours, total) -> None:
    splits = _splits(neighbours)
    gathered = _buffer("gathered", (splits[-1], features.shape[1]), features.dtype)
    gradients = _buffer("products", (splits[-1], gradient.shape[1]), features.dtype)
    _gather_inputs(features, neighbours, splits[:-1].copy(), gathered)
    _gather_outputs(gradient, neighbours, splits[:-1].copy(), gradients)
    product = _buffer("product", total.shape[1:], features.dtype)
    for k, chosen in _filled(splits):
        np.matmul(gathered[chosen].T, gradients[chosen], out=product)
        total[k] += product


def _splits(neighbours):
    """(K+1,) int64: where each offset's pairs begin in the buffers of a block."""
    splits = np.zeros(neighbours.shape[1] + 1, np.int64)
    _count_pairs(neighbours, splits[1:])
    return splits.cumsum()


def _filled(splits):
    """(offset, slice of its pairs) for the offsets that have any."""
    borders = splits.tolist()
    return [(k, slice(*pair)) for k, pair in enumerate(zip(borders, borders[1:], strict=False))
            if pair[0] < pair[1]]


def _full_is_cheaper(density: float, offsets: int, c_in: int, c_out: int) -> bool:
    """Compare the two ways by multiply-adds and bytes per table entry.

    The full table multiplies every entry, at the rate of deep products.  Pairs multiply only
    the filled ones, in shallow products, and move each pair's output row three times more.  A
    multiply-add counts 1, a float moved in cache 8 (measured: sgemm does about 8 multiply-adds
    in the time of a gathered float).
    """
    full = c_in * c_out + 8 * c_in
    pairs = density * (1.25 * c_in * c_out + 8 * (c_in + 3 * c_out))
    return full <= pairs


def _density(neighbours) -> float:
    """Share of filled entries."""
    return _count(neighbours) / neighbours.size


def _rows_of_block(budget: int, row_bytes: float, rows: int) -> int:
    """Rows that fit the budget, a multiple of 16 between 64 and 8192, blocks of about one size."""
    most = int(min(max(budget / max(row_bytes, 1), 64), 8192)) // 16 * 16
    blocks = -(-rows // most)
    if blocks > 1:
        blocks += blocks % 2  # an even number shares out better
    return max(16, -(-rows // blocks) + 15) // 16 * 16


def _buffer(name: str, shape: tuple[int, int], dtype: np.dtype) -> np.ndarray:
    """Scratch memory of the calling thread, kept between blocks; contents are leftovers."""
    key = (name, np.dtype(dtype).char)
    size = shape[0] * shape[1]
    arrays = _scratch.__dict__.setdefault("arrays", {})
    if key not in arrays or arrays[key].size < size:
        arrays[key] = np.empty(size, dtype)
    return arrays[key][:size].reshape(shape)


@numba.njit(nogil=True, cache=True)
def _count(neighbours):
    total = 0
    for m in range(neighbours.shape[0]):
        for k in range(neighbours.shape[1]):
            if neighbours[m, k] >= 0:
                total += 1
    return total


@numba.njit(nogil=True, cache=True)
def _gather(features, neighbours, out):
    rows, offsets = neighbours.shape
    channels = features.shape[1]
    for m in range(rows):
        for k in range(offsets):
            n = neighbours[m, k]
            column = k * channels
            if n < 0:
                for c in range(channels):
                    out[m, column + c] = 0
            else:
                for c in range(channels):
                    out[m, column + c] = features[n, c]


# The pairs of a block lie in its buffers grouped by offset, by row within an offset.  Going through
# the rows in order, each offset's pairs are met in order too: one running position per offset is
# all the index there is.


@numba.njit(nogil=True, cache=True)
def _count_pairs(neighbours, counts):
    for m in range(neighbours.shape[0]):
        for k in range(neighbours.shape[1]):
            if neighbours[m, k] >= 0:
                counts[k] += 1


@numba.njit(nogil=True, cache=True)
def _gather_inputs(features, neighbours, position, out):
    for m in range(neighbours.shape[0]):
        for k in range(neighbours.shape[1]):
            n = neighbours[m, k]
            if n >= 0:
                p = position[k]
                position[k] = p + 1
                for c in range(features.shape[1]):
                    out[p, c] = features[n, c]


@numba.njit(nogil=True, cache=True)
def _gather_outputs(gradient, neighbours, position, out):
    for m in range(neighbours.shape[0]):
        for k in range(neighbours.shape[1]):
            if neighbours[m, k] >= 0:
                p = position[k]
                position[k] = p + 1
                for c in range(gradient.shape[1]):
                    out[p, c] = gradient[m, c]


@numba.njit(nogil=True, cache=True)
def _add_to_outputs(products, neighbours, position, out):
    for m in range(neighbours.shape[0]):
        for k in range(neighbours.shape[1]):
            if neighbours[m, k] >= 0:
                p = position[k]
                position[k] = p + 1
                for c in range(out.shape[1]):
                    out[m, c] += products[p, c]
