"""Layers of networks that see a shape as images from all around it (Su et al., Multi-view CNNs, 2015)."""

from __future__ import annotations

from sparsenet.autograd import Tensor
from sparsenet.nn.module import Module
from sparsenet.ops.depth_images import depth_images, image_pool
from sparsenet.sparse import DepthImaging, SparseTensor
from sparsenet.sparse.plan import Step


class DepthImages(Module):
    """Images of each sample of a 3D SparseTensor, as samples of two dimensions, with one more channel: how near the
    first site on the ray of a pixel is; see `ops.depth_images`.

    count : V, of images of a sample, 1 to 360: a batch of B samples becomes one of B V
    elevation : degrees above the horizon that they are taken from, -60 to 60
    up_axis : 0, 1 or 2

    The layers behind it see each image alone, until an ImagePool.

    Raises TypeError or ValueError for another kind of number, or one that is out of range.
    """

    def __init__(self, count: int = 12, elevation: float = 30.0, up_axis: int = 2):
        self.imaging = DepthImaging.make(count, elevation, up_axis)

    def geometries(self) -> list[Step]:
        return [self.imaging]

    def forward(self, x: SparseTensor) -> SparseTensor:
        return depth_images(x, self.imaging.count, self.imaging.elevation, self.imaging.up_axis)

    def extra_repr(self) -> str:
        axis = f", axis {self.imaging.up_axis} up" if self.imaging.up_axis != 2 else ""
        return f"{self.imaging.count} at {self.imaging.elevation:g} degrees{axis}"


class ImagePool(Module):
    """The maximum over the images of a sample: (B V, C) to (B, C); see `ops.image_pool`.

    count : V, of images of a sample
    """

    def __init__(self, count: int = 12):
        self.count = DepthImaging.make(count).count

    def forward(self, x: Tensor) -> Tensor:
        return image_pool(x, self.count)

    def extra_repr(self) -> str:
        return f"{self.count} images"
