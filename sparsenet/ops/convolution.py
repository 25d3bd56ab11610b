"""Sparse convolution with a background.

Convolution is linear, so it runs on the difference from the background u, which is zero in inactive cells, and adds
the output for a grid full of background, one constant row:

    out[m] = sum_k W[k]^T (x[neighbours[m, k]] - u)  +  (u sum_k W[k] + b)
    background of the output = u sum_k W[k] + b

Cells outside the grid (padding) hold the background too.  With `background=None` inactive cells are
skipped: out[m] = sum over the active offsets, plus b.

In groups, each group of output channels sees its own input channels: all products above are those of the groups, and
the weights are (K, C_in / groups, C_out), output channels group by group.
"""

from __future__ import annotations

from typing import Any

from sparsenet.autograd import Function, Tensor, thread_state
from sparsenet.backend import array_module, device_of
from sparsenet.kernels import launch
from sparsenet.ops.channel_groups import outer, times, times_transposed
from sparsenet.sparse import Geometry, Rulebook, SparseTensor


def convolution(x: SparseTensor, weight: Tensor, bias: Tensor | None, geometry: Geometry,
                batch_invariant: bool = False, groups: int = 1) -> SparseTensor:
    """Cross-correlation as in `torch.nn.ConvNd`, on active sites.

    x : SparseTensor with C_in channels
    weight : Tensor (K, C_in / groups, C_out), offsets row-major, last axis fastest
    bias : Tensor (C_out,) or None
    batch_invariant : on a CPU, the bits of a sample's output do not depend on the other samples; this does not hold
        for gradients.  The layers set it in evaluation
    groups : divides C_in and C_out; C_in of them: depthwise

    Returns a SparseTensor with C_out channels on the rulebook's output sites.

    Raises
    ------
    TypeError : x is not a SparseTensor; dtypes differ.
    ValueError : channels, offsets or dimensions do not fit.
    """
    check_convolution(x, weight, geometry, groups)
    rulebook = x.sites.rulebook(geometry)
    function = _Convolution(rulebook, batch_invariant, groups)
    features, background = function.apply(x.features, x.background, weight, bias)
    if x.background is None:
        background = None
    return SparseTensor.from_sites(features, rulebook.output_sites, background)


def convolution_leaky_relu(x: SparseTensor, weight: Tensor, bias: Tensor | None, geometry: Geometry, slope: float
                           ) -> SparseTensor:
    """leaky_relu(convolution(x, weight, bias, geometry, batch_invariant=True), slope), of the same bits, with one pass
    over the result instead of two.  Without a graph: for evaluation under `no_grad`.

    x : SparseTensor with a background of shape (C_in,)

    Raises
    ------
    TypeError, ValueError : as `convolution`; the background differs by sample, or is None.
    RuntimeError : a graph is being recorded.
    """
    check_convolution(x, weight, geometry)
    if x.background is None or x.background.ndim != 1:
        raise ValueError("convolution_leaky_relu: the input has no background, or one for each sample, expected one of "
                         f"shape ({x.channels},): call the operations one after another")
    if not thread_state.no_grad_depth:
        raise RuntimeError("convolution_leaky_relu: has no gradient: call it within `no_grad`, or call the operations "
                           "one after another")
    rulebook = x.sites.rulebook(geometry)
    function = _Convolution(rulebook, True, 1, float(slope))
    features, background = function.apply(x.features, x.background, weight, bias)
    return SparseTensor.from_sites(features, rulebook.output_sites, background)


class _Convolution(Function):
    """Features (N, C_in), background (C_in,), (B, C_in) or None, weight (K, C_in / groups, C_out) and bias (C_out,) or
    None to the features (M, C_out) and the background of the output.

    slope : of a leaky ReLU of both, for which there is no backward pass
    """

    def __init__(self, rulebook: Rulebook, batch_invariant: bool, groups: int, slope: float | None = None):
        super().__init__()
        self.slope = slope
        self.name = "SubmanifoldConv" if rulebook.geometry.submanifold else "SparseConv"
        self.rulebook, self.groups = rulebook, groups
        self.suffix = "_by_row" if batch_invariant else ""  # of the forward pass's kernels

    def forward(self, features: Any, background: Any, weight: Any, bias: Any) -> tuple[Any, Any]:
        xp = array_module(features)
        constant, total_weight = bias, None
        if background is not None:
            total_weight = weight.sum(axis=0)
            constant = times(background, total_weight, self.groups, "matmul" + self.suffix)
            constant = constant if bias is None else constant + bias
            if _may_differ_from_zero(background):
                features = launch("subtract_sample_rows", features, background.reshape(-1, background.shape[-1]),
                                  self.rulebook.input_sites.coordinates)
        shared = constant if constant is None or constant.ndim == 1 else None
        activation = () if self.slope is None else (self.slope,)
        out = self._launch("convolution_forward" + self.suffix, features, weight, self.rulebook, shared, *activation)
        if activation:
            constant = launch("leaky_relu_forward", constant[None], self.slope)[0]
        if constant is not None and shared is None:
            out = launch("add_sample_rows", out, constant, self.rulebook.output_sites.coordinates)
        self.save(features, background, weight, total_weight)
        return out, xp.zeros(weight.shape[2], weight.dtype) if background is None else constant

    def backward(self, gradient: Any, background_gradient: Any) -> tuple[Any, ...]:
        """background_gradient : of the output's background, None if nothing reads it."""
        features, background, weight, total_weight = self.saved
        if gradient is None:
            gradient = array_module(weight).zeros((len(self.rulebook.output_sites), weight.shape[2]), weight.dtype)
        needs_features, needs_background, needs_weight, needs_bias = self.needs
        constant = to_features = to_background = to_weight = to_bias = None
        has_background = background is not None and _may_differ_from_zero(background)
        if needs_bias or needs_background or (needs_weight and has_background):
            constant = self._constant_gradient(gradient, None if background is None else background_gradient,
                                               background)
        if needs_features or needs_background:
            to_features = self._launch("convolution_input_gradient", gradient, weight, self.rulebook)
        if needs_background:
            to_background = (times_transposed(constant, total_weight, self.groups)
                             - self._sum_by_background(to_features, background))
        if needs_weight:
            to_weight = self._launch("convolution_weight_gradient", features, gradient, self.rulebook)
            if has_background:
                to_weight += outer(background, constant, self.groups)
        if needs_bias:
            to_bias = constant if constant.ndim == 1 else constant.sum(axis=0)
        return to_features if needs_features else None, to_background, to_weight, to_bias

    def _launch(self, kernel: str, *arguments: Any) -> Any:
        """Run the kernel, or its grouped twin."""
        if self.groups == 1:
            return launch(kernel, *arguments)
        return launch("grouped_" + kernel, *arguments, self.groups)

    def _constant_gradient(self, gradient: Any, background_gradient: Any, background: Any) -> Any:
        """The gradient of the constant row: (C_out,), or (B, C_out) if samples differ."""
        if background is None or background.ndim == 1:
            total = launch("segment_sum", gradient)[0]
        else:
            total = launch("segment_sum", gradient, self.rulebook.output_sites.batch_splits)
        return total if background_gradient is None else total + background_gradient

    def _sum_by_background(self, rows: Any, background: Any) -> Any:
        """The sum of rows (N, C) of the input sites: (C,), or (B, C) if the background differs by sample."""
        if background.ndim == 1:
            return launch("segment_sum", rows)[0]
        return launch("segment_sum", rows, self.rulebook.input_sites.batch_splits)


def _may_differ_from_zero(background: Any) -> bool:
    """False for a background that is known to be zero; on a GPU it is not read, which would wait for the GPU."""
    return device_of(background) == "cuda" or bool(background.any())


def check_convolution(x: SparseTensor, weight: Tensor, geometry: Geometry, groups: int = 1, name: str = "") -> None:
    """Raise TypeError or ValueError, which names the layer, if input and weights do not fit the geometry, or each
    other."""
    name = name or ("SubmanifoldConv" if geometry.submanifold else "SparseConv")
    if not isinstance(x, SparseTensor):
        raise TypeError(f"{name}: the input is {type(x).__name__}, expected a SparseTensor")
    if weight.ndim != 3 or weight.shape[0] != geometry.volume:
        expected = f"({geometry.volume}, C_in{'' if groups == 1 else f' / {groups}'}, C_out)"
        raise ValueError(f"{name}: the weights have shape {weight.shape}, expected {expected} for a filter of size "
                         f"{geometry.size}")
    if groups < 1 or weight.shape[2] % groups:
        raise ValueError(f"{name}: the weights give {weight.shape[2]} channels, groups is {groups}: expected a number "
                         "that divides them")
    if x.channels != weight.shape[1] * groups:
        raise ValueError(f"{name}: features have {x.channels} channels, the weights expect {weight.shape[1] * groups}: "
                         f"build the layer with in_channels={x.channels}")
    if x.dtype != weight.dtype:
        raise TypeError(f"{name}: features are {x.dtype}, the weights {weight.dtype}: convert one of them")
