"""Products of rows with a matrix, each row on its own: the bits of a row depend on the row alone.

    out[target] += sum over c, upwards, of  source[row, c] * weights[k, c, :]        for each link [row, target]

A BLAS multiplies rows in groups, and the order of a row's sum may depend on their number and on its place among
them.  Here each element of a product is one chain of multiply-adds from zero, fused if the processor has the
instruction, and the chain is then added to what is there already; deep products have a chain for each 256 terms, in
their order.  Four rows pass side by side through a strip of the matrix's columns:

    registers     sums0 += source[row0, c] * weights[k, c, strip]     the strip of one c is loaded once for four rows;
                  sums1 += source[row1, c] * weights[k, c, strip]     four registers of each row make enough chains to
                  ...                                                 hide the latency of a multiply-add

If fewer than four rows are left, the last one stands in for the missing ones, whose sums are dropped.  The 256
terms of a strip stay in the first cache while a run of links goes through it, the run's rows in the second.
"""

from __future__ import annotations

from numba.core.registry import cpu_target
from numba.extending import overload
from numba.np.numpy_support import as_dtype

from sparsenet.kernels.cpu.lanes import fma, load, load_some, spread, store, store_some
from sparsenet.kernels.cpu.numba_cache import compiled

RUN = 256  # links that go through a strip before the next strip is taken
_DEPTH = 256  # terms of a chain
_GROUP = 4  # rows side by side

_TRIPLE, _, _FEATURES = cpu_target.target_context.codegen().magic_tuple()  # of the processor that Numba compiles for
_STRIP_BYTES = 256 if "+avx512f" in _FEATURES.split(",") else 64  # so that sums and strip fit the vector registers
_FUSED = "+fma" in _FEATURES.split(",") or not _TRIPLE.startswith(("x86", "i386", "i686"))


@compiled
def add_products(source, weights, k, links, start, stop, out):
    """Add to the rows of `out` (M, C_out) the products of the links from `start` to `stop`.

    source (N, C_in), weights (K, C_in, C_out), links (L, 2): rows [of source, of out]
    """
    matrix = weights[k]
    for above in range(start, stop, RUN):
        run = links[above : min(above + RUN, stop)]
        for first in range(0, source.shape[1], _DEPTH):
            _add_run(source, first, min(first + _DEPTH, source.shape[1]), matrix, run, out)


# The functions below have the width of a strip as a constant, which follows from the dtype: Numba makes one body for
# each by `overload`, and keeps it with its caller's cache.


def _add_run(source, first, last, matrix, links, out):
    """The terms from `first` to `last` of a run of links, with the matrix (C_in, C_out), strip by strip."""


@overload(_add_run)
def _add_run_of(source, first, last, matrix, links, out):
    wide = _STRIP_BYTES * 8 // out.dtype.bitwidth
    half, quarter = wide // 2, wide // 4

    def add_run(source, first, last, matrix, links, out):
        j = 0
        while out.shape[1] - j >= wide:
            _add_strip(source, first, last, matrix, links, out, j, wide, True)
            j += wide
        if out.shape[1] - j >= half:
            _add_strip(source, first, last, matrix, links, out, j, half, True)
            j += half
        if out.shape[1] - j >= quarter:
            _add_strip(source, first, last, matrix, links, out, j, quarter, True)
            j += quarter
        if out.shape[1] > j:
            _add_strip(source, first, last, matrix, links, out, j, quarter, False)

    return add_run


def _add_strip(source, first, last, matrix, links, out, j, width, whole):
    """`width` columns from j on; the remaining ones if not `whole`."""


@overload(_add_strip, prefer_literal=True)
def _add_strip_of(source, first, last, matrix, links, out, j, width, whole):
    lanes, zero, full = width.literal_value, as_dtype(out.dtype).type(0), whole.literal_value

    def add_strip(source, first, last, matrix, links, out, j, width, whole):
        columns, stop, end = out.shape[1] - j, links.shape[0], links.shape[0] - 1
        for p in range(0, stop, _GROUP):
            p1, p2, p3 = min(p + 1, end), min(p + 2, end), min(p + 3, end)
            r0, r1, r2, r3 = links[p, 0], links[p1, 0], links[p2, 0], links[p3, 0]
            sums0 = sums1 = sums2 = sums3 = spread(zero, lanes)
            for c in range(first, last):
                strip = load(matrix, (c, j), lanes) if full else load_some(matrix, (c, j), columns, zero, lanes)
                sums0 = _term(source[r0, c], strip, sums0)
                sums1 = _term(source[r1, c], strip, sums1)
                sums2 = _term(source[r2, c], strip, sums2)
                sums3 = _term(source[r3, c], strip, sums3)
            _add_row(out, links[p, 1], j, columns, sums0, whole)
            if p + 1 < stop:
                _add_row(out, links[p1, 1], j, columns, sums1, whole)
            if p + 2 < stop:
                _add_row(out, links[p2, 1], j, columns, sums2, whole)
            if p + 3 < stop:
                _add_row(out, links[p3, 1], j, columns, sums3, whole)

    return add_strip


def _term(number, strip, sums):
    """sums + number * strip"""


@overload(_term)
def _term_of(number, strip, sums):
    if _FUSED:
        return lambda number, strip, sums: fma(number, strip, sums)
    return lambda number, strip, sums: sums + number * strip


def _add_row(out, m, j, columns, sums, whole):
    """Add the sums to row m of `out`, from column j on."""


@overload(_add_row, prefer_literal=True)
def _add_row_of(out, m, j, columns, sums, whole):
    lanes, zero = sums.width, as_dtype(out.dtype).type(0)
    if whole.literal_value:
        return lambda out, m, j, columns, sums, whole: store(out, (m, j), load(out, (m, j), lanes) + sums)

    def add_row(out, m, j, columns, sums, whole):
        store_some(out, (m, j), columns, load_some(out, (m, j), columns, zero, lanes) + sums)

    return add_row
