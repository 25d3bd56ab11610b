"""Sums over cells on a GPU, by cell_sums.cu."""

from __future__ import annotations

from sparsenet.backend import array_module
from sparsenet.kernels.cell_sums.contract import CELL_SUMS as FORWARD
from sparsenet.kernels.cell_sums.contract import CELL_SUMS_BACKWARD as BACKWARD
from sparsenet.kernels.cuda.segment_sums import CHUNK, sum_segments
from sparsenet.kernels.cuda.source import SCALARS, THREADS, CudaKernel, CudaSource, blocks_for, scalars_of

SOURCE = CudaSource("cell_sums/cell_sums", variants=[{**scalars, "CHUNK": CHUNK} for scalars in SCALARS.values()])


def _kernel(name: str, features) -> CudaKernel:
    return SOURCE.kernel(name, **scalars_of(features), CHUNK=CHUNK)


@FORWARD.implementation("cuda")
def _forward_cuda(features, splits, background, cells, mean):
    out = array_module(features).empty((len(splits) - 1, features.shape[1]), features.dtype)
    sum_segments(_kernel("cell_sums", features), features, splits, out, background,
                 0 if background is None else len(background), cells, mean)
    return out


@BACKWARD.implementation("cuda")
def _backward_cuda(gradient, splits, coordinates, background_rows, cells, mean):
    xp, (samples, channels), rows = array_module(gradient), gradient.shape, len(coordinates)
    to_sites = xp.empty((rows, channels), gradient.dtype)
    to_background = xp.empty((background_rows, channels), gradient.dtype) if background_rows else None
    _kernel("cell_sums_backward", gradient)(
        blocks_for(max(to_sites.size, background_rows * channels)), THREADS, gradient, splits, coordinates,
        coordinates.shape[1], background_rows, cells, mean, rows, samples, channels, to_sites, to_background)
    return to_sites, to_background
