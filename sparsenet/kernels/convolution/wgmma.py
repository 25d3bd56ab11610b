"""Launches of the convolutions on Hopper's tensor cores (wgmma), for products large enough.

    forward            words.cu, lists.cu -> forward_wgmma.cu
    weight gradient    the same -> weights_wgmma.cu -> parts.cu

TF32 has no weight gradient here: its operands would have to be turned, which wgmma does for 16-bit numbers alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from sparsenet.backend import array_module
from sparsenet.kernels.convolution.order import TILE_ROWS, tile_lists
from sparsenet.kernels.convolution.words import STORED, swizzled_weight_words
from sparsenet.kernels.cuda.source import (
    SCALARS,
    THREADS,
    CudaKernel,
    CudaSource,
    Macros,
    blocks_for,
    scalars_of,
)

CHUNK = 32  # words, 128 bytes
MAX_COLUMNS = 128
MULTIPROCESSOR_SHARED = 228 << 10
WEIGHT_PRECISIONS = ("fp16", "bf16")
_BLOCKS_OF_WEIGHTS = 1188  # nine for each multiprocessor: how many changes the last bits, so it is fixed
_PRODUCERS = 128
_ON_THE_HOST = 3  # blocks, where a test's driver runs kernels: several tiles for each


@dataclass(frozen=True)
class Shape:
    """Sizes of a block's tile: rows x columns of what it makes, stages of its operands, places for lists.

    bytes_of_stage, bytes_of_list : shared memory of one of them
    """

    rows: int
    columns: int
    stages: int
    lists: int
    resident: int
    bytes_of_stage: int
    bytes_of_list: int

    @property
    def shared_bytes(self) -> int:
        """Dynamic shared memory: the source asserts that its layout has this size."""
        barriers = 8 * (2 * self.stages + 4 * self.lists)
        size = self.stages * self.bytes_of_stage + self.lists * self.bytes_of_list + barriers
        return -(-size // 16) * 16 + 1024  # the operands begin at a multiple of 1024


def forward_shape(c_out: int) -> Shape:
    """As few tiles of columns as there can be, of a multiple of 32, and as many stages as fit, up to six."""
    columns = -(-c_out // -(-c_out // MAX_COLUMNS))
    columns = -(-columns // 32) * 32
    return _deepest(TILE_ROWS, columns, lists=4, resident=1, max_stages=6,
                    bytes_of_stage=4 * CHUNK * (TILE_ROWS + columns), bytes_of_list=4 * TILE_ROWS)


def weights_shape(c_in: int, c_out: int) -> Shape:
    """64 or 128 channels of each side; of the smallest, three blocks share a multiprocessor."""
    inputs, outputs = (64 if channels <= 64 else 128 for channels in (c_in, c_out))
    resident = 3 if inputs == outputs == 64 else 1
    return _deepest(inputs, outputs, lists=3, resident=resident, max_stages=8,
                    bytes_of_stage=2 * 64 * (inputs + outputs), bytes_of_list=8 * TILE_ROWS)


def _deepest(rows: int, columns: int, lists: int, resident: int, max_stages: int, bytes_of_stage: int,
             bytes_of_list: int) -> Shape:
    room = MULTIPROCESSOR_SHARED // resident - 1024  # the system keeps 1 KB of each block's
    for stages in range(max_stages, 1, -1):
        shape = Shape(rows, columns, stages, lists, resident, bytes_of_stage, bytes_of_list)
        if shape.shared_bytes <= room:
            return shape
    raise AssertionError(f"{rows} x {columns}: two stages do not fit")  # no shape that is asked for


def forward(words: Any, weights: Any, neighbours: Any, order: Any | None, constant: Any | None, slope: float,
            precision: str, out: Any) -> None:
    """Write (M, C_out); see the contract of convolution_forward.

    words : (N, W) uint32 of the features, rounded
    """
    offsets, _, c_out = weights.shape
    shape = forward_shape(c_out)
    column_tiles, chunks = -(-c_out // shape.columns), -(-words.shape[1] // CHUNK)
    table = tile_lists(neighbours, order)
    packed = swizzled_weight_words(weights, precision, chunks, CHUNK, column_tiles * shape.columns)
    tiles = table.tiles * column_tiles
    forward_kernel(shape, precision, out.dtype.name)(
        min(tiles, multiprocessors(words)), 256 + _PRODUCERS, words, packed, table.lists, table.masks, table.outputs,
        constant, slope, tiles, column_tiles, offsets, words.shape[1], c_out, out, shared_bytes=shape.shared_bytes)


def weight_gradient(features: Any, gradient: Any, neighbours: Any, order: Any | None, background: Any | None,
                    constant_gradient: Any | None, precision: str, out: Any) -> None:
    """Write (K, C_in, C_out); see the contract of convolution_weight_gradient.

    features, gradient : (N, W) and (M, W') uint32, rounded words
    """
    offsets, c_in, c_out = out.shape
    shape, table = weights_shape(c_in, c_out), tile_lists(neighbours, order)
    products = offsets * -(-c_in // shape.rows) * -(-c_out // shape.columns)
    part_tiles = -(-table.tiles // -(-_BLOCKS_OF_WEIGHTS // products))
    parts = -(-table.tiles // part_tiles)
    partial = array_module(features).empty((parts, offsets, c_in, c_out), "float32")
    products *= parts
    weights_kernel(shape, precision)(
        min(products, multiprocessors(features) * shape.resident), 2 * shape.rows + _PRODUCERS, features, gradient,
        table.lists, table.masks, table.outputs, products, table.tiles, part_tiles, offsets, c_in, c_out,
        features.shape[1], gradient.shape[1], partial, shared_bytes=shape.shared_bytes)
    PARTS.kernel("add_parts", **scalars_of(out))(blocks_for(out.size), THREADS, partial, out.size, parts, background,
                                                 constant_gradient, c_in, c_out, out)


def _forward_macros(shape: Shape, precision: str, dtype: str) -> Macros:
    return {"PRECISION": precision.upper(), "SCALAR": SCALARS[dtype]["SCALAR"], "TILE_ROWS": TILE_ROWS,
            "TILE_COLUMNS": shape.columns, "STAGES": shape.stages, "LISTS": shape.lists,
            "SHARED_BYTES": shape.shared_bytes}


def _weights_macros(shape: Shape, precision: str) -> Macros:
    return {"PRECISION": precision.upper(), "TILE_ROWS": TILE_ROWS, "TILE_INPUTS": shape.rows,
            "TILE_OUTPUTS": shape.columns, "STAGES": shape.stages, "LISTS": shape.lists, "RESIDENT": shape.resident,
            "SHARED_BYTES": shape.shared_bytes}


# Every shape that some numbers of channels lead to.
FORWARD = CudaSource("convolution/forward_wgmma", variants=[
    _forward_macros(forward_shape(columns), precision, dtype)
    for precision in STORED for dtype in STORED[precision] for columns in range(32, MAX_COLUMNS + 1, 32)])
WEIGHTS = CudaSource("convolution/weights_wgmma", variants=[
    _weights_macros(weights_shape(c_in, c_out), precision)
    for precision in WEIGHT_PRECISIONS for c_in in (64, 128) for c_out in (64, 128)])
PARTS = CudaSource("convolution/parts", variants=[SCALARS["float32"], SCALARS["float16"]])


def forward_kernel(shape: Shape, precision: str, dtype: str) -> CudaKernel:
    """The variant for a shape, operands of that precision and features of that dtype."""
    return FORWARD.kernel("convolution_forward_wgmma", **_forward_macros(shape, precision, dtype))


def weights_kernel(shape: Shape, precision: str) -> CudaKernel:
    """The variant for a shape and operands of that precision."""
    return WEIGHTS.kernel("convolution_weight_gradient_wgmma", **_weights_macros(shape, precision))


@cache
def _multiprocessors(device: int) -> int:
    from sparsenet.backend import cupy

    return cupy().cuda.runtime.deviceGetAttribute(16, device)  # cudaDevAttrMultiProcessorCount


def multiprocessors(array: Any) -> int:
    """Of the GPU that the array is on: how many blocks run at a time."""
    return _ON_THE_HOST if isinstance(array, np.ndarray) else _multiprocessors(array.device.id)
