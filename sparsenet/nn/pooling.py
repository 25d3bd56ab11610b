"""Average and sum pooling, and upsampling, which makes a grid finer."""

from __future__ import annotations

from sparsenet.nn.module import Module
from sparsenet.nn.settings import Size, dimension_of
from sparsenet.ops.arguments import check_pool
from sparsenet.ops.average_pool import average_pool, check_sum_pool, sum_pool
from sparsenet.ops.upsample import upsample
from sparsenet.sparse import Geometry, PoolingStep, SparseTensor, Upsampling
from sparsenet.sparse.plan import Step


class SparseAvgPool(Module):
    """Average pooling, in which inactive cells count as the background; see `ops.average_pool`.

    kernel_size, stride : one number, or one per dimension; stride=None: kernel_size
    padding : cells around the grid that windows may cover, at most half of kernel_size; they do not count, as in
        PyTorch with count_include_pad=False
    dimension : D, 1 to 4; a kernel_size of several numbers sets it

    Raises ValueError if a number is not whole or out of range, or there are not as many as dimensions.
    """

    kind = "average_pool"

    def __init__(self, kernel_size: Size, stride: Size | None = None, padding: Size = 0, dimension: int = 3):
        stride = kernel_size if stride is None else stride
        self.geometry = Geometry.make(dimension_of(kernel_size, dimension), kernel_size, stride, padding)
        check_pool("SparseAvgPool", self.geometry)

    def geometries(self) -> list[Step]:
        return [PoolingStep(self.geometry)]

    def forward(self, x: SparseTensor) -> SparseTensor:
        return average_pool(x, self.geometry)

    def extra_repr(self) -> str:
        return str(self.geometry)


class SparseSumPool(Module):
    """Sum pooling: the mean of a SparseAvgPool times the K cells of a window, background too; see `ops.sum_pool`.

    kernel_size, stride, dimension : as for SparseAvgPool.  There is no padding, with which sums over inactive cells
        would differ between the border and the rest of the grid
    """

    kind = "sum_pool"

    def __init__(self, kernel_size: Size, stride: Size | None = None, dimension: int = 3):
        stride = kernel_size if stride is None else stride
        self.geometry = Geometry.make(dimension_of(kernel_size, dimension), kernel_size, stride)
        check_sum_pool(self.geometry)

    def geometries(self) -> list[Step]:
        return [PoolingStep(self.geometry)]

    def forward(self, x: SparseTensor) -> SparseTensor:
        return sum_pool(x, self.geometry)

    def extra_repr(self) -> str:
        return str(self.geometry)


class Upsample(Module):
    """Nearest upsampling: each cell becomes scale_factor^D equal cells of a finer grid; see `ops.upsample`.

    scale_factor : one number, or one per dimension
    spatial_size : of the finer grid, one number or one per dimension: what lies beyond is cut off, and cells that no
        copy reaches stay at the background; None: the sides of the input times scale_factor

    It multiplies the sites by scale_factor^D.  In a U-Net an InverseConv, which goes back to the sites that an encoder
    had, is cheaper; an Upsample with a convolution behind it is exact in every cell.

    Raises ValueError if a number is not whole or below 1.
    """

    kind = "upsample"

    def __init__(self, scale_factor: Size, spatial_size: Size | None = None):
        self.upsampling = Upsampling.make(scale_factor, spatial_size)

    def geometries(self) -> list[Step]:
        return [self.upsampling]

    def forward(self, x: SparseTensor) -> SparseTensor:
        return upsample(x, self.upsampling.scale, self.upsampling.spatial_size)

    def extra_repr(self) -> str:
        return str(self.upsampling)
