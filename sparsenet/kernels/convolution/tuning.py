"""Find tile sizes for a device: time every candidate on one product, keep the fastest that is right.

The product is an implicit one over a made-up table of neighbours: half of its entries filled, inputs
near the row, as on a surface.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from sparsenet.backend import array_module, cupy
from sparsenet.kernels.convolution import cuda as convolution_cuda
from sparsenet.kernels.cuda import tiles
from sparsenet.kernels.cuda.precompile import Variant, compile_all, variant_of
from sparsenet.kernels.cuda.tiles import TENSOR_CORES, Tile, TileTable
from sparsenet.kernels.precision import get_float32_matmul_precision, set_float32_matmul_precision

CHANNELS = (32, 64, 96, 128, 192)
OFFSETS = 27
MAX_SUMS = 128  # registers of a thread that hold sums; more would spill
_SIZES = ("rows", "columns", "depth", "own_rows", "own_columns", "stages", "resident")
_SIDES = {"forward": ((64, 128, 256), (32, 64, 96, 128)), "weight_gradient": ((32, 64, 96, 128), (32, 64, 96, 128))}


def candidates(kind: str, precision: str, architecture: str = "any", channels: int = 0) -> Iterator[Tile]:
    """Tiles that the kernels can use and that might be fast."""
    warps = precision in TENSOR_CORES
    owns = itertools.product((32, 48, 64), (32, 48, 64)) if warps else ((4, 4), (8, 4), (8, 8))
    words_of_sum = 2 if precision == "float64" else 1
    for own in tuple(owns):
        if own[0] * own[1] // (32 if warps else 1) * words_of_sum > MAX_SUMS:
            continue
        for rows, columns, depth, stages in itertools.product(*_SIDES[kind], (16, 32) if warps else (8, 16), (2, 3, 4)):
            tile = Tile(architecture, precision, channels, rows, columns, depth, *own, stages, resident=1)
            if not tile.fault(kind) and 64 <= tile.threads <= 256:
                yield tile
                if own == (8, 8) and tile.threads > 128:  # registers would leave room for one block
                    yield replace(tile, resident=2)


def nearest(count: int) -> Callable[..., list[Tile]]:
    """A `choose` for `tune`: the `count` candidates most like the line of the table in use, that one among them if it
    is a candidate: a factor of two in one size is as far as one in another."""

    def choose(kind: str, precision: str, architecture: str, channels: int) -> list[Tile]:
        line = tiles.tile_table().choose(kind, architecture, precision, channels)

        def distance(tile: Tile) -> float:
            return sum(abs(math.log2(getattr(tile, size) / getattr(line, size))) for size in _SIZES)

        return sorted(candidates(kind, precision, architecture, channels), key=distance)[:count]

    return choose


def tune(architecture: str, precisions: Iterable[str], channels: Iterable[int] = CHANNELS, rows: int = 200_000,
         seconds_of: Callable[[Callable[[], Any]], float] | None = None, xp: Any = None,
         choose: Callable[..., Iterable[Tile]] = candidates, say: Callable[[str], None] = print,
         compile_ahead: Callable[[list[Variant]], Any] = compile_all,
         keep: Callable[[TileTable], None] = lambda table: None) -> TileTable:
    """The table in use, with lines for `architecture` put before its own.

    precisions : of "float32", "float64", "tf32", "fp16", "bf16"
    channels : one line each, for C_in = C_out up to that many; the last line is for any number above, too
    rows : of the product timed
    seconds_of : times a function; by default the minimum of 10 runs between CUDA events
    xp : CuPy, or NumPy where a driver runs kernels on the host
    choose : the tiles to time, by kind, precision, architecture and channels
    compile_ahead : is given all variants of a precision before the first of them is timed
    keep : is given the table after each line

    Raises
    ------
    RuntimeError : a candidate's result differs from the table's: the kernel is wrong, report it.
    """
    xp, seconds_of = xp or cupy(), seconds_of or event_seconds
    base, channels = tiles.tile_table(), list(channels)
    found: dict[str, dict[str, list[Tile]]] = {kind: {} for kind in tiles.KINDS}
    setting = get_float32_matmul_precision()
    try:
        for precision in precisions:
            set_float32_matmul_precision(precision if precision in TENSOR_CORES else "highest")
            dtype = precision if precision in tiles.ITEM_SIZES else "float32"
            chosen = {(kind, width): list(choose(kind, precision, architecture, width))
                      for width in channels for kind in tiles.KINDS}
            ahead = dict.fromkeys(_variant(kind, tile, dtype) for (kind, _), fits in chosen.items() for tile in fits)
            say(f"{precision}: compiling {len(ahead)} variants")
            compile_ahead(list(ahead))
            for width in channels:
                product = _Product(xp, rows, width, dtype)
                for kind in tiles.KINDS:
                    seconds, best = _fastest(product, kind, chosen[kind, width], seconds_of)
                    found[kind].setdefault(precision, []).append(best)
                    say(f"{kind} {precision} {width}: {seconds * 1e3:.3f} ms, {product.rate(seconds) / 1e12:.2f} "
                        f"TFLOP/s with {best.rows}x{best.columns}x{best.depth}, {best.own_rows}x{best.own_columns} "
                        f"each, {best.stages} stages")
                    keep(_table(base, architecture, found))
    finally:
        set_float32_matmul_precision(setting)
    return _table(base, architecture, found)


def _variant(kind: str, tile: Tile, dtype: str) -> Variant:
    with tiles.using(_alone(kind, tile)):
        return variant_of(convolution_cuda.forward_kernel(tile, dtype) if kind == "forward" else
                          convolution_cuda.weight_gradient_kernel(tile, dtype))


def _alone(kind: str, tile: Tile) -> TileTable:
    """The table in use with `tile` for all products of a kind."""
    return replace(tiles.tile_table(), **{kind: (replace(tile, architecture="any", channels=0),)})


def _table(base: TileTable, architecture: str, found: dict[str, dict[str, list[Tile]]]) -> TileTable:
    """`base` with the lines found so far; the widest of each precision is for any number of channels, too."""
    lines = {kind: [tile for tuned in by_precision.values() for tile in (*tuned, replace(tuned[-1], channels=0))]
             for kind, by_precision in found.items()}
    return replace(base, **{kind: (*lines[kind], *_others(base.lines(kind), architecture, lines[kind]))
                            for kind in tiles.KINDS})


def _others(lines: Iterable[Tile], architecture: str, tuned: list[Tile]) -> Iterator[Tile]:
    """Lines that the tuned ones do not take the place of."""
    precisions = {tile.precision for tile in tuned}
    return (line for line in lines if line.architecture != architecture or line.precision not in precisions)


class _Product:
    """The arrays of one product, and its two kernels."""

    def __init__(self, xp: Any, rows: int, channels: int, dtype: str):
        rng = np.random.default_rng(0)
        near = np.arange(rows)[:, None] + rng.integers(-1000, 1000, (rows, OFFSETS))
        neighbours = np.where(rng.random((rows, OFFSETS)) < 0.5, near.clip(0, rows - 1), -1)
        self.pairs, self.channels = int((neighbours >= 0).sum()), channels
        self.neighbours = xp.asarray(neighbours, dtype="int32")
        shapes = ((rows, channels), (rows, channels), (OFFSETS, channels, channels))
        self.features, self.gradient, self.weights = (xp.asarray(rng.standard_normal(s), dtype=dtype) for s in shapes)

    def run(self, kind: str) -> Any:
        if kind == "forward":
            return convolution_cuda.forward(self.features, self.weights, self.neighbours, None)
        return convolution_cuda.weight_gradient(self.features, self.gradient, self.neighbours)

    def rate(self, seconds: float) -> float:
        """Floating-point operations per second, of the pairs that exist."""
        return 2 * self.pairs * self.channels**2 / seconds


def _fastest(product: _Product, kind: str, fits: Iterable[Tile], seconds_of: Callable) -> tuple[float, Tile]:
    expected, best = product.run(kind), None
    xp = array_module(expected)
    largest = float(abs(expected).max())
    for tile in fits:
        with tiles.using(_alone(kind, tile)):
            result = product.run(kind)
            # Forward sums run in one order whatever the tile; the parts of a weight gradient do not.
            right = (bool(xp.array_equal(result, expected)) if kind == "forward"
                     else float(abs(result - expected).max()) <= 1e-5 * largest)
            if not right:
                raise RuntimeError(f"tune: {kind} with {tile} differs from the table's result")
            seconds = seconds_of(lambda: product.run(kind))
        if best is None or seconds < best[0]:
            best = seconds, tile
    if best is None:
        raise ValueError(f"tune: no candidate for {kind}")
    return best


def event_seconds(run: Callable[[], Any], repeats: int = 10) -> float:
    """The shortest time of a run between two CUDA events, after one to warm up."""
    cuda = cupy().cuda
    times = []
    for _ in range(repeats + 1):
        begin, end = cuda.Event(), cuda.Event()
        begin.record()
        run()
        end.record()
        end.synchronize()
        times.append(cuda.get_elapsed_time(begin, end) / 1e3)
    return min(times[1:])
