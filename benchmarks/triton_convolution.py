"""A submanifold 3^3 convolution as a masked implicit product in Triton, as an example of a good short kernel.

Within windows, rows are sorted by the mask of their offsets; a tile skips offsets that none of its rows has.
Imported by peer_worker.py, in an interpreter with torch and Triton.  Channels are multiples of 64.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

OFFSETS, WINDOW = 27, 65536
ROWS, SPLITS = 128, 128  # rows per tile; partial sums of the weight gradient


class Table:
    """neighbours (M, 27) int32, -1 if missing; order (M,) int32; masks of the tiles of ROWS sorted rows."""

    def __init__(self, coordinates, grid):  # noqa: ANN001
        x, y, z = (coordinates[:, axis].to(torch.int64) for axis in (1, 2, 3))
        side_y, side_z = int(grid[1]) + 2, int(grid[2]) + 2
        keys = ((x + 1) * side_y + y + 1) * side_z + z + 1  # a margin of one cell, so that no neighbour wraps around
        ordered, where = keys.sort()
        self.neighbours = torch.empty((len(keys), OFFSETS), dtype=torch.int32, device=keys.device)
        for k in range(OFFSETS):
            wanted = keys + ((k // 9 - 1) * side_y + k // 3 % 3 - 1) * side_z + k % 3 - 1
            at = torch.searchsorted(ordered, wanted).clamp_(max=len(keys) - 1)
            self.neighbours[:, k] = torch.where(ordered[at] == wanted, where[at], -1).to(torch.int32)
        bits = ((self.neighbours >= 0).to(torch.int64) << torch.arange(OFFSETS, device=keys.device)).sum(1)
        windows = torch.arange(len(keys), device=keys.device) // WINDOW
        self.order = (windows << OFFSETS | bits).argsort(stable=True).to(torch.int32)
        tiles = triton.cdiv(len(keys), ROWS)
        sorted_bits = torch.zeros(tiles * ROWS, dtype=torch.int64, device=keys.device)
        sorted_bits[:len(keys)] = bits[self.order.long()]
        masks = torch.zeros(tiles, dtype=torch.int64, device=keys.device)
        for one in sorted_bits.reshape(tiles, ROWS).unbind(1):
            masks |= one
        self.masks = masks.to(torch.int32)


@triton.jit
def forward_kernel(x, w, neighbours, order, masks, out, rows, C_IN: tl.constexpr, C_OUT: tl.constexpr,
                   K: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr,
                   PRECISION: tl.constexpr):
    tile = tl.program_id(0)
    place = tile * BLOCK_M + tl.arange(0, BLOCK_M)
    row = tl.load(order + place, mask=place < rows, other=0).to(tl.int64)
    n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    c = tl.arange(0, BLOCK_C)
    mask = tl.load(masks + tile)
    total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for k in range(K):
        if (mask >> k) & 1:
            source = tl.load(neighbours + row * K + k, mask=place < rows, other=-1).to(tl.int64)
            for first in range(0, C_IN, BLOCK_C):
                a = tl.load(x + source[:, None] * C_IN + first + c[None, :], mask=source[:, None] >= 0, other=0.0)
                b = tl.load(w + (k * C_IN + first + c)[:, None] * C_OUT + n[None, :])
                total = tl.dot(a, b, total, input_precision=PRECISION)
    tl.store(out + row[:, None] * C_OUT + n[None, :], total.to(out.dtype.element_ty), mask=place[:, None] < rows)


@triton.jit
def weight_kernel(x, g, neighbours, partial, rows, part, C_IN: tl.constexpr, C_OUT: tl.constexpr, K: tl.constexpr,
                  BLOCK_I: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_R: tl.constexpr, PRECISION: tl.constexpr):
    k, split, tile = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    i = tile % (C_IN // BLOCK_I) * BLOCK_I + tl.arange(0, BLOCK_I)
    n = tile // (C_IN // BLOCK_I) * BLOCK_N + tl.arange(0, BLOCK_N)
    total = tl.zeros((BLOCK_I, BLOCK_N), tl.float32)
    for first in range(0, part, BLOCK_R):
        row = split.to(tl.int64) * part + first + tl.arange(0, BLOCK_R)
        source = tl.load(neighbours + row * K + k, mask=row < rows, other=-1).to(tl.int64)
        a = tl.load(x + source[None, :] * C_IN + i[:, None], mask=source[None, :] >= 0, other=0.0)
        b = tl.load(g + row[:, None] * C_OUT + n[None, :], mask=source[:, None] >= 0, other=0.0)
        total = tl.dot(a, b, total, input_precision=PRECISION)
    target = partial + ((split * K + k).to(tl.int64) * C_IN + i[:, None]) * C_OUT + n[None, :]
    tl.store(target, total)


def forward(features, weight, table: Table, exact: bool):  # noqa: ANN001, ANN201
    """(M, C_out); with transposed weights also the input gradient."""
    rows, (_, c_in, c_out) = len(table.order), weight.shape
    out = torch.empty((rows, c_out), dtype=features.dtype, device=features.device)
    columns, depth = min(128, c_out), min(64 if features.dtype == torch.float16 else 32, c_in)
    forward_kernel[triton.cdiv(rows, ROWS), c_out // columns](
        features, weight, table.neighbours, table.order, table.masks, out, rows, c_in, c_out, OFFSETS, ROWS, columns,
        depth, "ieee" if exact else "tf32", num_warps=8, num_stages=3)
    return out


def weight_gradient(features, gradient, table: Table, exact: bool):  # noqa: ANN001, ANN201
    """(27, C_in, C_out) float32."""
    rows, c_in, c_out = len(table.order), features.shape[1], gradient.shape[1]
    side, block = 64, 64 if features.dtype == torch.float16 else 32
    part = triton.cdiv(triton.cdiv(rows, SPLITS), block) * block
    partial = torch.empty((SPLITS, OFFSETS, c_in, c_out), device=features.device)
    weight_kernel[OFFSETS, SPLITS, c_in // side * (c_out // side)](
        features, gradient, table.neighbours, partial, rows, part, c_in, c_out, OFFSETS, side, side, block,
        "ieee" if exact else "tf32", num_warps=4, num_stages=3)
    return partial.sum(0)
