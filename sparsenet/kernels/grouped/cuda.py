"""Grouped convolution on a GPU: narrow groups by narrow.cu, others by slices.py."""

from __future__ import annotations

from typing import Any

import numpy as np

from sparsenet.backend import array_module
from sparsenet.kernels.cuda.source import MAX_BLOCKS, SCALARS, THREADS, CudaKernel, CudaSource, blocks_for, scalars_of
from sparsenet.kernels.cuda.tickets import tickets
from sparsenet.kernels.grouped import slices
from sparsenet.kernels.grouped.contract import GROUPED_CONVOLUTION_FORWARD as FORWARD
from sparsenet.kernels.grouped.contract import GROUPED_CONVOLUTION_FORWARD_BY_ROW as FORWARD_BY_ROW
from sparsenet.kernels.grouped.contract import GROUPED_CONVOLUTION_INPUT_GRADIENT as INPUT_GRADIENT
from sparsenet.kernels.grouped.contract import GROUPED_CONVOLUTION_WEIGHT_GRADIENT as WEIGHT_GRADIENT
from sparsenet.kernels.grouped.slices import is_narrow

CUDA_CHUNK = 1024  # rows: a block's work in the weight gradient
_GROUPS = (32, 8)  # channels x groups of rows
_MAX_LINES = 65535  # of the weights at once, along the third axis of a grid
SOURCE = CudaSource("grouped/narrow", variants=[{**scalars, "CHUNK": CUDA_CHUNK} for scalars in SCALARS.values()])


@FORWARD.implementation("cuda")
def _forward_cuda(features, weights, rulebook, constant, groups):
    if not is_narrow(features.shape[1], weights.shape[2], groups):
        return slices.forward("convolution_forward", features, weights, rulebook, constant, groups, "cuda")
    table, (_, inputs, channels) = rulebook.neighbours, weights.shape
    out = array_module(features).empty((len(table), channels), features.dtype)
    _kernel("narrow_forward", features)(blocks_for(out.size), THREADS, features, weights, table, constant, *table.shape,
                                        groups, inputs, channels // groups, out)
    return out


@FORWARD_BY_ROW.implementation("cuda")
def _forward_by_row_cuda(features, weights, rulebook, constant, groups):
    return _forward_cuda(features, weights, rulebook, constant, groups)  # its rows are independent


@INPUT_GRADIENT.implementation("cuda")
def _input_gradient_cuda(gradient, weights, rulebook, groups):
    if not is_narrow(weights.shape[1] * groups, weights.shape[2], groups):
        return slices.input_gradient(gradient, weights, rulebook, groups, "cuda")
    table = rulebook.neighbours if rulebook.submanifold else rulebook.transposed_neighbours
    inputs, outputs = weights.shape[1], weights.shape[2] // groups
    out = array_module(gradient).empty((len(table), groups * inputs), gradient.dtype)
    _kernel("narrow_input_gradient", gradient)(blocks_for(out.size), THREADS, gradient, weights, table,
                                               rulebook.submanifold, *table.shape, groups, inputs, outputs, out)
    return out


@WEIGHT_GRADIENT.implementation("cuda")
def _weight_gradient_cuda(features, gradient, rulebook, groups):
    if not is_narrow(features.shape[1], gradient.shape[1], groups):
        return slices.weight_gradient(features, gradient, rulebook, groups, "cuda")
    table, inputs, outputs = rulebook.neighbours, features.shape[1] // groups, gradient.shape[1] // groups
    xp, (rows, offsets), channels = array_module(features), table.shape, gradient.shape[1]
    chunks, partial, arrived = max(1, -(-rows // CUDA_CHUNK)), None, None
    grid = min(chunks, MAX_BLOCKS), -(-channels // _GROUPS[0]), min(offsets * inputs, _MAX_LINES)
    if chunks > 1:
        partial = xp.empty((chunks, offsets * inputs, channels), np.float64)
        arrived = tickets(xp, offsets * inputs * grid[1])
    out = xp.empty((offsets, inputs, channels), features.dtype)
    _kernel("narrow_weight_gradient", features)(grid, _GROUPS, features, gradient, table, rows, offsets, groups, inputs,
                                                outputs, chunks, partial, arrived, out)
    return out


def _kernel(name: str, features: Any) -> CudaKernel:
    return SOURCE.kernel(name, **scalars_of(features), CHUNK=CUDA_CHUNK)


@FORWARD.reads("cuda")
@FORWARD_BY_ROW.reads("cuda")
@WEIGHT_GRADIENT.reads("cuda")
def _reads(rulebook, c_in, c_out, groups):
    return ("neighbours",)


@INPUT_GRADIENT.reads("cuda")
def _input_gradient_reads(rulebook, c_in, c_out, groups):
    return ("neighbours",) if rulebook.submanifold else ("transposed_neighbours",)
