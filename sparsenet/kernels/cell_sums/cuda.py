"""Sums over cells on a GPU, by cell_sums.cu."""

from __future__ import annotations

from sparsenet.backend import array_module
from sparsenet.kernels.cell_sums.contract import CELL_SUMS as FORWARD
from sparsenet.kernels.cell_sums.contract import CELL_SUMS_BACKWARD as BACKWARD
from sparsenet.kernels.cuda.source import SCALARS, THREADS, CudaSource, blocks_for, scalars_of

SOURCE = CudaSource("cell_sums/cell_sums", variants=SCALARS.values())


@FORWARD.implementation("cuda")
def _forward_cuda(features, sums, splits, background, cells, mean):
    out = array_module(sums).empty(sums.shape, features.dtype)
    SOURCE.kernel("cell_sums", **scalars_of(features))(
        blocks_for(out.size), THREADS, sums, splits, background, 0 if background is None else len(background), cells,
        mean, *sums.shape, out)
    return out


@BACKWARD.implementation("cuda")
def _backward_cuda(gradient, splits, coordinates, background_rows, cells, mean):
    xp, (samples, channels), rows = array_module(gradient), gradient.shape, len(coordinates)
    to_sites = xp.empty((rows, channels), gradient.dtype)
    to_background = xp.empty((background_rows, channels), gradient.dtype) if background_rows else None
    SOURCE.kernel("cell_sums_backward", **scalars_of(gradient))(
        blocks_for(max(to_sites.size, background_rows * channels)), THREADS, gradient, splits, coordinates,
        coordinates.shape[1], background_rows, cells, mean, rows, samples, channels, to_sites, to_background)
    return to_sites, to_background
