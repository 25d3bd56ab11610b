"""Depth images of the shapes of a batch, from all around, and the maximum over the images of each."""

from __future__ import annotations

from typing import Any

from sparsenet.autograd import Function, Tensor
from sparsenet.backend import array_module
from sparsenet.kernels import launch
from sparsenet.ops.shaping import concatenate
from sparsenet.sparse.imaging import DepthImaging, Images, images_of
from sparsenet.sparse.sites import ActiveSites
from sparsenet.sparse.tensor import SparseTensor


class FirstSites(Function):
    """Features (N, C) to those of the first site on the ray of each pixel (M, C); backward sums over the images in
    which a site is the first."""

    def __init__(self, sites: ActiveSites, images: Images):
        super().__init__()
        self.sites, self.images = sites, images

    def forward(self, features: Any) -> Any:
        return launch("sum_pool_forward", features, None, self.images.parents, self.images.sites.coordinates, False)

    def backward(self, gradient: Any) -> Any:
        return launch("sum_pool_forward", gradient, None, self.images.children, self.sites.coordinates, False)


def depth_images(x: SparseTensor, count: int = 12, elevation: float = 30.0, up_axis: int = 2) -> SparseTensor:
    """`count` images of each sample of a 3D x, taken from all around it, as B count samples of two dimensions: those of
    sample b are b count to b count + count - 1.  `sparse.imaging` states their rays.

    A pixel is a site if a site of x is on its ray.  It has the features of the first one, C channels, and in one more
    channel how near that is: 1 in the front slice of the grid, 1 / slices in the last.  The other pixels have the
    background, and 0.  For voxels, whose features are ones, these are silhouettes and depth maps: what Su et al.
    ("Multi-view convolutional neural networks for 3D shape recognition", 2015) render from meshes, without shading.

    count : 1 to 360
    elevation : degrees above the horizon that the images are taken from, -60 to 60
    up_axis : 0, 1 or 2

    Differentiable in the features and the background.

    Raises
    ------
    TypeError : x is not a SparseTensor; count, elevation or up_axis is not a number of its kind.
    ValueError : x does not have 3 dimensions; a number is out of range.
    OverflowError : there are more than 2^31 - 1 sites, or too many cells.
    """
    if not isinstance(x, SparseTensor):
        raise TypeError(f"DepthImages: the input is {type(x).__name__}, expected a SparseTensor")
    images = images_of(x.sites, DepthImaging.make(count, elevation, up_axis))
    nearness = Tensor(images.nearness.astype(x.dtype)[:, None])
    features = concatenate([FirstSites(x.sites, images).apply(x.features), nearness], axis=1)
    return SparseTensor.from_sites(features, images.sites, _background(x, count))


def _background(x: SparseTensor, count: int) -> Tensor | str | None:
    """(C + 1,), or (B count, C + 1) if samples differ."""
    background: Any = x.background
    if background is None or x.zero_background:
        return None if background is None else "zeros"
    xp = array_module(background.array)
    if background.ndim == 2:
        background = background[xp.repeat(xp.arange(x.batch_size), count)]
    return concatenate([background, Tensor(xp.zeros((*background.shape[:-1], 1), x.dtype))], axis=-1)


def image_pool(x: Any, count: int) -> Tensor:
    """The maximum over the rows of the `count` images of each sample: (B count, C) to (B, C); the view pooling of
    Su et al. (2015).  Of equal rows the first gets the gradient; NaN wins.

    Raises
    ------
    TypeError : x is not a Tensor.
    ValueError : x does not have two axes, or its rows are not a multiple of count.
    """
    if not isinstance(x, Tensor):
        hint = ": put a GlobalPool before it" if isinstance(x, SparseTensor) else ""
        raise TypeError(f"ImagePool: the input is {type(x).__name__}, expected a Tensor (B * {count}, C){hint}")
    if x.ndim != 2 or x.shape[0] % count:
        raise ValueError(f"ImagePool: the input has shape {x.shape}, expected (B * {count}, C), a row for each of the "
                         f"{count} images of a sample")
    return x.reshape(x.shape[0] // count, count, x.shape[1]).max(axis=1)
