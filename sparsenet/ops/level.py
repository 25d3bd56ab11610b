"""A level: a convolution, a leaky ReLU and, if one follows, a max-pooling, as one operation for a GPU.

The result equals that of the three operations in turn (`ops.convolution`, `ops.leaky_relu`, `ops.max_pool`), with a
fifth of their launches.  Between levels features are relative to the background (`SparseTensor.relative`), as a
convolution multiplies them: its background u then enters through a single row,

    y = leaky(sum_k W[k]^T r[neighbours[m, k]] + v)      v = u sum_k W[k] + b, a row      leaky(v): y's background
    pooled = max over the window of y, leaky(v) where it is inactive, - leaky(v)

and receives its gradient through a single row, too (see level.cu).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sparsenet.autograd import Function, Tensor, thread_state
from sparsenet.backend import array_module
from sparsenet.kernels import launch
from sparsenet.ops.arguments import check_pool
from sparsenet.ops.convolution import check_convolution
from sparsenet.sparse import Geometry, Rulebook, SparseTensor


class LevelRows(NamedTuple):
    """The arithmetic of a level that is done before its convolution: see the kernel `level_backgrounds`.

    constant : (C_out,) row that the convolution adds;  background : (C_out,), its leaky ReLU
    total_weight : (C_in, C_out);  turned_weight : (K, C_out, C_in); both None without a graph
    """

    constant: Any
    background: Any
    total_weight: Any
    turned_weight: Any


def level_rows(x: SparseTensor, levels: Sequence[tuple[Tensor, Tensor | None, Geometry, float]]) -> list[LevelRows]:
    """The rows of levels that follow each other, for `level`: in one launch.

    levels : weight, bias, geometry and slope of each
    """
    weights, biases, geometries, slopes = zip(*levels, strict=True)
    check_convolution(x, weights[0], geometries[0])
    read = [x.relative, x.background, *weights, *biases]
    recording = not thread_state.no_grad_depth and any(one is not None and one.requires_grad for one in read)
    rows = launch("level_backgrounds", [weight.array for weight in weights],
                  [None if bias is None else bias.array for bias in biases],
                  None if x.zero_background else x.background.array, [float(slope) for slope in slopes],
                  [geometry.submanifold for geometry in geometries], recording)
    return [LevelRows(*found) for found in rows]


def level(x: SparseTensor, weight: Tensor, bias: Tensor | None, geometry: Geometry, slope: float,
          pool: Geometry | None = None, rows: LevelRows | None = None) -> SparseTensor:
    """max_pool(leaky_relu(convolution(x, weight, bias, geometry), slope), pool), without the pooling if pool is None.

    x : SparseTensor with a background of shape (C_in,)
    slope : of the leaky ReLU, above 0
    weight, bias, geometry, pool : see these operations
    rows : the level's, from `level_rows`; None: made here

    Raises
    ------
    TypeError, ValueError : as those operations; slope is not above 0; the background differs by sample, or is None.
    """
    check_convolution(x, weight, geometry)
    if x.background is None or x.background.ndim != 1:
        raise ValueError("level: the input has no background, or one for each sample, expected one of shape "
                         f"({x.channels},): call the operations one after another")
    if not slope > 0:
        raise ValueError(f"level: slope is {slope}, expected a number above 0: call the operations one after another")
    rulebook, pooling = x.sites.rulebook(geometry), None
    sites = rulebook.output_sites
    if pool is not None:
        check_pool("SparseMaxPool", pool, sites.spatial_size)
        pooling = sites.rulebook(pool)
        sites = pooling.output_sites
    if rows is None:
        (rows,) = level_rows(x, [(weight, bias, geometry, slope)])
    function = _Level(rulebook, pooling, float(slope), rows)
    features, background = function.apply(x.relative, None if x.zero_background else x.background, weight, bias)
    if pool is None:
        return SparseTensor.from_sites(features, sites, background)
    return SparseTensor.from_relative(features, sites, background)


class _Level(Function):
    def __init__(self, rulebook: Rulebook, pooling: Rulebook | None, slope: float, rows: LevelRows):
        super().__init__()
        self.rows: LevelRows | None = rows  # until `forward`
        self.name = "SparseConv, LeakyReLU" + (", SparseMaxPool" if pooling is not None else "")
        self.rulebook, self.pooling, self.slope = rulebook, pooling, slope

    def forward(self, relative: Any, background: Any, weight: Any, bias: Any) -> tuple[Any, Any]:
        rulebook, pooling = self.rulebook, self.pooling
        (constant, below, total, turned), self.rows = self.rows, None
        activated = launch("convolution_forward", relative, weight, rulebook, constant, self.slope)
        if pooling is None:
            self.save(relative, background, weight, activated, constant, total, turned, None)
            return activated, below
        pooled, argmax = launch("max_pool_forward", activated, below[None], pooling.windows,
                                pooling.output_sites.coordinates, True)
        self.save(relative, background, weight, activated, constant, total, turned, argmax)
        return pooled, below

    def backward(self, gradient: Any, background_gradient: Any) -> tuple[Any, ...]:
        """background_gradient : of the level's background, None if nothing reads it."""
        relative, background, weight, activated, constant, total, turned, argmax = self.saved
        needs_relative, needs_background, needs_weight, needs_bias = self.needs
        rulebook, transposed = self.rulebook, None if self.pooling is None else self.pooling.transposed_neighbours
        if gradient is None:
            rows = len(activated) if argmax is None else len(argmax)
            gradient = array_module(activated).zeros((rows, activated.shape[1]), activated.dtype)
        result, to_constant, to_background = launch("level_gradient", gradient, argmax, transposed, activated, constant,
                                                    background_gradient, self.slope,
                                                    total if needs_background else None)
        to_relative = to_weight = None
        if needs_relative:
            to_relative = launch("convolution_input_gradient", result, weight, rulebook, turned)
        if needs_weight:
            to_weight = launch("convolution_weight_gradient", relative, result, rulebook, background,
                               None if background is None else to_constant)
        return to_relative, to_background, to_weight, to_constant if needs_bias else None
