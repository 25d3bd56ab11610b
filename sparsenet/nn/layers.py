"""The plain layers: each holds parameters and settings, and calls one operation of `sparsenet.ops`.

Weights are initialised as described in `nn.init`, biases to 0.  `rng` is a NumPy Generator or a seed; None: seeded by
the operating system.  `SparseNetwork` gives each layer a Generator of its own, keyed by the network's seed.
"""

from __future__ import annotations

from typing import Any

from sparsenet.autograd import Tensor
from sparsenet.nn import init
from sparsenet.nn.module import Module
from sparsenet.nn.settings import Size, checked_groups, dimension_of, whole_channels
from sparsenet.ops.arguments import check_pool
from sparsenet.ops.convolution import convolution
from sparsenet.ops.dense import to_dense
from sparsenet.ops.global_pool import check_mode, global_pool
from sparsenet.ops.linear import linear
from sparsenet.ops.max_pool import max_pool
from sparsenet.sparse import ConvolutionStep, Geometry, SparseTensor
from sparsenet.sparse.plan import Step


class SparseConv(Module):
    """Convolution of a SparseTensor, as `torch.nn.ConvNd` on the dense grid.

    in_channels, out_channels : C_in, C_out
    kernel_size, stride, padding, dilation : one number, or one per dimension in a sequence or array
    groups : number of groups of channels, which divides both: each group of output channels sees its own input
        channels; C_in of them: depthwise
    bias : add a vector (C_out,)
    dimension : D, 1 to 4; a kernel_size of several numbers sets it
    rng : see the module

    weight : Parameter (K, C_in / groups, C_out), offsets row-major, last axis fastest, output channels group by group;
    bias : Parameter (C_out,) or None

    Raises ValueError if a size is not a whole number in range, there are not as many as dimensions, or groups does not
    divide the channels; TypeError if a number of channels or groups is not a whole number.
    """

    kind = "convolution"

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Size, stride: Size = 1, padding: Size = 0,
                 dilation: Size = 1, groups: int = 1, bias: bool = True, dimension: int = 3, rng: Any = None):
        self.geometry = Geometry.make(dimension_of(kernel_size, dimension), kernel_size, stride, padding, dilation)
        self._build(in_channels, out_channels, groups, bias, rng)

    def _build(self, in_channels: int, out_channels: int, groups: int, bias: bool, rng: Any) -> None:
        self.in_channels, self.out_channels, self.groups = checked_groups(self, in_channels, out_channels, groups)
        shape = (self.geometry.volume, self.in_channels // self.groups, self.out_channels)
        self.weight = init.uniform(shape, self.weight_bound(), rng)
        self.bias = init.zeros((self.out_channels,)) if bias else None

    def weight_bound(self, pool: tuple[int, ...] | None = None) -> float:
        """The bound of the initial weights if a max-pooling of this size follows; None: none does."""
        fan_in = self.in_channels // self.groups * self.geometry.volume
        return init.weight_bound(fan_in, self.out_channels // self.groups, init.fan_out_factor(self.geometry, pool))

    def geometries(self) -> list[Step]:
        return [ConvolutionStep(self.geometry, (self.in_channels, self.out_channels), groups=self.groups)]

    def forward(self, x: SparseTensor) -> SparseTensor:
        return convolution(x, self.weight, self.bias, self.geometry, batch_invariant=not self.training,
                           groups=self.groups)

    def extra_repr(self) -> str:
        groups = f", {self.groups} groups" if self.groups > 1 else ""
        return (f"{self.in_channels} -> {self.out_channels}, {self.geometry}{groups}"
                f"{', no bias' if self.bias is None else ''}")


class SubmanifoldConv(SparseConv):
    """Convolution whose output sites are its input sites: odd kernel_size, stride 1.

    Neighbours that are not active count as background.  Parameters as for SparseConv.
    """

    kind = "submanifold"

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Size, dilation: Size = 1, groups: int = 1,
                 bias: bool = True, dimension: int = 3, rng: Any = None):
        self.geometry = Geometry.make_submanifold(dimension_of(kernel_size, dimension), kernel_size, dilation)
        self._build(in_channels, out_channels, groups, bias, rng)


class SparseMaxPool(Module):
    """Max-pooling in which the background competes wherever a window holds an inactive cell; see `ops.max_pool`.

    kernel_size, stride : one number, or one per dimension; stride=None: kernel_size
    padding : cells around the grid that windows may cover, at most half of kernel_size; they do not compete, as in
        PyTorch
    dimension : D, 1 to 4; a kernel_size of several numbers sets it

    Raises ValueError if a number is not whole or out of range, or there are not as many as dimensions.
    """

    kind = "max_pool"

    def __init__(self, kernel_size: Size, stride: Size | None = None, padding: Size = 0, dimension: int = 3):
        stride = kernel_size if stride is None else stride
        self.geometry = Geometry.make(dimension_of(kernel_size, dimension), kernel_size, stride, padding)
        check_pool("SparseMaxPool", self.geometry)

    def forward(self, x: SparseTensor) -> SparseTensor:
        return max_pool(x, self.geometry)

    def extra_repr(self) -> str:
        return str(self.geometry)


class Linear(Module):
    """x @ weight + bias, for rows x (B, C_in), or for each site of a SparseTensor and its background: with a GlobalPool
    before it, a row per sample comes out, without one a SparseTensor on the same sites.

    weight : Parameter (C_in, C_out), laid out as one offset of a convolution;  bias : Parameter (C_out,) or None
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, rng: Any = None):
        self.in_features = whole_channels("Linear", "in_features", in_features)
        self.out_features = whole_channels("Linear", "out_features", out_features)
        shape = (self.in_features, self.out_features)
        self.weight = init.uniform(shape, init.weight_bound(*shape), rng)
        self.bias = init.zeros((self.out_features,)) if bias else None

    def forward(self, x: Tensor | SparseTensor) -> Tensor | SparseTensor:
        return linear(x, self.weight, self.bias, batch_invariant=not self.training)

    def extra_repr(self) -> str:
        return f"{self.in_features} -> {self.out_features}{', no bias' if self.bias is None else ''}"


class ToDense(Module):
    """SparseTensor -> Tensor (B, C, *spatial_size), inactive cells at the background."""

    def forward(self, x: SparseTensor) -> Tensor:
        return to_dense(x)


class GlobalPool(Module):
    """SparseTensor -> Tensor (B, C): the "mean", "max" or "sum" over all cells of a sample; see `ops.global_pool`."""

    def __init__(self, mode: str = "mean"):
        check_mode("GlobalPool", mode)
        self.mode = mode

    def forward(self, x: SparseTensor) -> Tensor:
        return global_pool(x, self.mode)

    def extra_repr(self) -> str:
        return self.mode
