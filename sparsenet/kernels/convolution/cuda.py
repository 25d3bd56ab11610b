"""Launches of the CUDA convolutions: the variant, the number of blocks, and the kernels before and after.

    forward            float32, float64   forward.cu
                       tensor cores       words.cu -> forward_mma.cu
                       sm_90, large       wgmma.py
    weight gradient    float32, float64   weights.cu
                       tensor cores       words.cu -> weights_mma.cu
                       sm_90, large       wgmma.py

The precision follows from a setting and the dtype (`precision`), tile sizes are data (`tiles`).  Everything else
follows from the sizes of the arrays.  float16 features are FP16 operands as they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from itertools import product
from typing import Any

import numpy as np

from sparsenet.backend import HALF, array_module, wide_dtype
from sparsenet.kernels.convolution import wgmma
from sparsenet.kernels.convolution.contract import CONVOLUTION_FORWARD as FORWARD_KERNEL
from sparsenet.kernels.convolution.contract import CONVOLUTION_FORWARD_BY_ROW as FORWARD_BY_ROW_KERNEL
from sparsenet.kernels.convolution.contract import CONVOLUTION_INPUT_GRADIENT as INPUT_GRADIENT_KERNEL
from sparsenet.kernels.convolution.contract import CONVOLUTION_WEIGHT_GRADIENT as WEIGHT_GRADIENT_KERNEL
from sparsenet.kernels.convolution.order import MAX_OFFSETS, row_order
from sparsenet.kernels.convolution.words import STORED, by_vectors, row_words, weight_words
from sparsenet.kernels.cuda.source import (
    MAX_BLOCKS,
    OLDEST,
    SCALARS,
    CudaKernel,
    CudaSource,
    Macros,
)
from sparsenet.kernels.cuda.tickets import tickets
from sparsenet.kernels.cuda.tiles import ITEM_SIZES, TENSOR_CORES, WINDOW, Tile, tile_table
from sparsenet.kernels.precision import operand_precision

_COPIES = tuple(product((True, False), repeat=2))  # of two operands, each by vectors or by elements
FORWARD = CudaSource("convolution/forward", variants=lambda: [
    _forward_macros(tile, tile.precision, *copies) for tile in _tiles("forward", ITEM_SIZES) for copies in _COPIES])
FORWARD_MMA = CudaSource("convolution/forward_mma", variants=lambda: [
    _forward_macros(tile, dtype) for tile in _tiles("forward", TENSOR_CORES) for dtype in STORED[tile.precision]])
WEIGHTS = CudaSource("convolution/weights", variants=lambda: [
    _weights_macros(tile, tile.precision, *copies) for tile in _tiles("weight_gradient", ITEM_SIZES)
    for copies in _COPIES])
WEIGHTS_MMA = CudaSource("convolution/weights_mma", variants=lambda: [
    _weights_macros(tile, dtype) for tile in _tiles("weight_gradient", TENSOR_CORES)
    for dtype in STORED[tile.precision]])


def forward(features: Any, weights: Any, neighbours: Any, constant: Any | None, slope: float = 1.0) -> Any:
    """(M, C_out): see the contract of convolution_forward."""
    xp = array_module(features)
    (rows, offsets), (_, c_in, c_out) = neighbours.shape, weights.shape
    out = xp.empty((rows, c_out), features.dtype)
    if 0 in (features.size, weights.size, rows):
        out[...] = 0 if constant is None else xp.where(constant > 0, constant, constant * slope)
        return out
    precision = _precision("convolution_forward", features)
    order = row_order(neighbours, c_in * c_out)
    if by_wgmma(neighbours, c_in * c_out, precision):
        words = row_words(features, precision, rounded=True)
        wgmma.forward(words, weights, neighbours, order, constant, slope, precision, out)
        return out
    tile = tile_table().choose("forward", architecture(xp), precision, c_out)
    blocks = min(-(-rows // tile.rows) * -(-c_out // tile.columns), MAX_BLOCKS)
    if precision in TENSOR_CORES:
        words = row_words(features, precision)
        turned = weight_words(weights, precision)
        kernel = forward_kernel(tile, features.dtype.name)
        kernel(blocks, tile.threads, words, turned, neighbours, order, constant, slope, rows, offsets, words.shape[1],
               c_out, out, shared_bytes=tile.shared_bytes("forward"))
    else:
        kernel = forward_kernel(tile, features.dtype.name, by_vectors(features), by_vectors(weights, out))
        kernel(blocks, tile.threads, features, weights, neighbours, order, constant, slope, rows, offsets, c_in, c_out,
               out, shared_bytes=tile.shared_bytes("forward"))
    return out


def weight_gradient(features: Any, gradient: Any, neighbours: Any, background: Any | None = None,
                    constant_gradient: Any | None = None) -> Any:
    """(K, C_in, C_out): see the contract of convolution_weight_gradient."""
    xp = array_module(features)
    (rows, offsets), c_in, c_out = neighbours.shape, features.shape[1], gradient.shape[1]
    if 0 in (rows, offsets, features.size, c_out):
        one = 0 if background is None else background[:, None] * constant_gradient
        return xp.zeros((offsets, c_in, c_out), features.dtype) + one
    precision = _precision("convolution_weight_gradient", features)
    out = xp.empty((offsets, c_in, c_out), features.dtype)
    if precision in wgmma.WEIGHT_PRECISIONS and by_wgmma(neighbours, c_in * c_out, precision):
        order = row_order(neighbours, c_in * c_out)
        left, right = row_words(features, precision), row_words(gradient, precision)
        wgmma.weight_gradient(left, right, neighbours, order, background, constant_gradient, precision, out)
        return out
    table = tile_table()
    tile = table.choose("weight_gradient", architecture(xp), precision, max(c_in, c_out))
    products = offsets * -(-c_in // tile.rows) * -(-c_out // tile.columns)
    part_rows = -(-rows // max(1, -(-table.split_blocks // products)) // WINDOW) * WINDOW
    parts = -(-rows // part_rows)
    partial, arrived = None, None
    if parts > 1:
        partial, arrived = xp.empty((parts, *out.shape), wide_dtype(out.dtype)), tickets(xp, products)
    blocks, sizes = min(parts * products, MAX_BLOCKS), (rows, part_rows, parts, offsets, c_in, c_out)
    joined = background, constant_gradient, partial, arrived, out
    if precision in TENSOR_CORES:
        left, right = row_words(features, precision), row_words(gradient, precision)
        weight_gradient_kernel(tile, features.dtype.name)(
            blocks, tile.threads, left, right, neighbours, *sizes, left.shape[1], right.shape[1], *joined,
            shared_bytes=tile.shared_bytes("weight_gradient"))
    else:
        weight_gradient_kernel(tile, features.dtype.name, by_vectors(features), by_vectors(gradient))(
            blocks, tile.threads, features, gradient, neighbours, *sizes, *joined,
            shared_bytes=tile.shared_bytes("weight_gradient"))
    return out


def by_wgmma(neighbours: Any, channels: int, precision: str) -> bool:
    """Whether a product goes through Hopper's own instructions; channels is C_in * C_out."""
    (rows, offsets), table = neighbours.shape, tile_table()
    return (precision in TENSOR_CORES and offsets <= MAX_OFFSETS and rows * offsets * channels >= table.wgmma_work
            and architecture(array_module(neighbours)) in table.wgmma_architectures)


@cache
def forward_kernel(tile: Tile, dtype: str, features_by_vectors: bool = True,
                   weights_by_vectors: bool = True) -> CudaKernel:
    """The variant of the forward kernel for a tile and features of that dtype; operands are copied by 16 bytes or by
    elements."""
    macros = _forward_macros(tile, dtype, features_by_vectors, weights_by_vectors)
    if tile.precision in TENSOR_CORES:
        return FORWARD_MMA.kernel("convolution_forward_mma", **macros)
    return FORWARD.kernel("convolution_forward", **macros)


@cache
def weight_gradient_kernel(tile: Tile, dtype: str, features_by_vectors: bool = True,
                           gradient_by_vectors: bool = True) -> CudaKernel:
    """The variant of the weight gradient for a tile and features of that dtype; operands are copied by 16 bytes or by
    elements."""
    macros = _weights_macros(tile, dtype, features_by_vectors, gradient_by_vectors)
    if tile.precision in TENSOR_CORES:
        return WEIGHTS_MMA.kernel("convolution_weight_gradient_mma", **macros)
    return WEIGHTS.kernel("convolution_weight_gradient", **macros)


def _tiles(kind: str, precisions: Iterable[str]) -> list[Tile]:
    """The lines of the table in use that a launch may choose."""
    return [tile for tile in tile_table().lines(kind) if tile.precision in precisions]


def _forward_macros(tile: Tile, dtype: str, a: bool = True, b: bool = True) -> Macros:
    sizes = {"TILE_ROWS": tile.rows, "TILE_COLUMNS": tile.columns, "TILE_DEPTH": tile.depth, "STAGES": tile.stages,
             "RESIDENT": tile.resident, "SHARED_BYTES": tile.shared_bytes("forward")}
    if tile.precision in TENSOR_CORES:
        return {"PRECISION": tile.precision.upper(), "SCALAR": SCALARS[dtype]["SCALAR"], "WARP_ROWS": tile.own_rows,
                "WARP_COLUMNS": tile.own_columns, **sizes}
    return {"THREAD_ROWS": tile.own_rows, "THREAD_COLUMNS": tile.own_columns, **sizes, **_copies(tile, a, b)}


def _weights_macros(tile: Tile, dtype: str, a: bool = True, b: bool = True) -> Macros:
    sizes = {"TILE_INPUTS": tile.rows, "TILE_OUTPUTS": tile.columns, "TILE_DEPTH": tile.depth, "STAGES": tile.stages,
             "RESIDENT": tile.resident, "WINDOW": WINDOW, "SHARED_BYTES": tile.shared_bytes("weight_gradient")}
    if tile.precision in TENSOR_CORES:
        return {"PRECISION": tile.precision.upper(), "SCALAR": SCALARS[dtype]["SCALAR"], "WARP_INPUTS": tile.own_rows,
                "WARP_OUTPUTS": tile.own_columns, **sizes}
    return {"THREAD_INPUTS": tile.own_rows, "THREAD_OUTPUTS": tile.own_columns, **sizes, **_copies(tile, a, b)}


def _copies(tile: Tile, a: bool, b: bool) -> Macros:
    scalar, vector = {"float32": ("float", 4), "float64": ("double", 2)}[tile.precision]
    resident = tile.resident if a and b else 1  # addresses of single elements need registers
    return {"SCALAR": scalar, "A_VECTOR": vector if a else 1, "B_VECTOR": vector if b else 1, "RESIDENT": resident}


def architecture(xp: Any) -> str:
    """The current device's, such as "sm_90"; "any" on the host."""
    return "any" if xp is np else f"sm_{xp.cuda.Device().compute_capability}"


def _precision(operation: str, features: Any) -> str:
    """The precision of the operands; raises if the GPU has no tensor cores for it."""
    precision = operand_precision(features.dtype)
    device = architecture(array_module(features))
    oldest = OLDEST.get(precision.upper(), 0)
    if device != "any" and int(device[3:]) < oldest:
        subject = ("features are float16" if features.dtype == HALF
                   else f"float32_matmul_precision is {precision!r}")
        remedy = ("convert to float32" if features.dtype == HALF else "sn.set_float32_matmul_precision('highest')")
        raise ValueError(f"{operation}: {subject}, which needs sm_{oldest} or later, the GPU is {device}: {remedy}")
    return precision


@FORWARD_KERNEL.implementation("cuda")
@FORWARD_BY_ROW_KERNEL.implementation("cuda")  # rows are independent of each other
def _forward_cuda(features, weights, rulebook, constant, slope):
    return forward(features, weights, rulebook.neighbours, constant, 1.0 if slope is None else slope)


@INPUT_GRADIENT_KERNEL.implementation("cuda")
def _input_gradient_cuda(gradient, weights, rulebook, turned):
    """The forward pass over the transposed neighbours, with turned weights."""
    if turned is None:
        turned = weights.transpose(0, 2, 1)
        turned = array_module(weights).ascontiguousarray(turned[::-1] if rulebook.submanifold else turned)
    table = rulebook.neighbours if rulebook.submanifold else rulebook.transposed_neighbours
    return forward(gradient, turned, table, None)


@WEIGHT_GRADIENT_KERNEL.implementation("cuda")
def _weight_gradient_cuda(features, gradient, rulebook, background, constant_gradient):
    return weight_gradient(features, gradient, rulebook.neighbours, background, constant_gradient)


@FORWARD_KERNEL.reads("cuda")
@FORWARD_BY_ROW_KERNEL.reads("cuda")
@WEIGHT_GRADIENT_KERNEL.reads("cuda")
def _reads(rulebook, c_in, c_out):
    return ("neighbours",)  # the tiles skip offsets that are empty


@INPUT_GRADIENT_KERNEL.reads("cuda")
def _input_gradient_reads(rulebook, c_in, c_out):
    return ("neighbours",) if rulebook.submanifold else ("transposed_neighbours",)
