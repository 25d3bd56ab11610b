"""SparseNetwork: a list of layers that can be built, inspected, cut and changed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sparsenet.backend import to_device
from sparsenet.nn import init
from sparsenet.nn.activation_layers import ELU, GELU, ActivationLayer, PReLU, Sigmoid, SiLU, Softmax, Tanh
from sparsenet.nn.chain import Chain
from sparsenet.nn.cosine_linear import CosineLinear
from sparsenet.nn.dropout import Dropout
from sparsenet.nn.images import DepthImages, ImagePool
from sparsenet.nn.inverse import InverseConv
from sparsenet.nn.layers import GlobalPool, Linear, SparseConv, SparseMaxPool, SubmanifoldConv, ToDense
from sparsenet.nn.leaky_relu import LeakyReLU, ReLU
from sparsenet.nn.module import Module
from sparsenet.nn.norms import BatchNorm, GroupNorm, InstanceNorm, LayerNorm
from sparsenet.nn.pooling import SparseAvgPool, SparseSumPool, Upsample
from sparsenet.nn.prediction import mean_rows, output_rows, site_rows
from sparsenet.nn.residual import Residual, Skip, channels_behind
from sparsenet.nn.sequential import check_module
from sparsenet.nn.settings import Size, whole_channels
from sparsenet.nn.transposed import TransposedConv
from sparsenet.nn.weights_file import read_weights, write_weights
from sparsenet.random import keyed_rng
from sparsenet.sparse import Geometry
from sparsenet.sparse.plan import Course, main_path, main_steps
from sparsenet.wording import did_you_mean

if TYPE_CHECKING:
    from sparsenet.data import SparseDataset
    from sparsenet.shapes import Voxelization

_BEFORE_A_POOL = (ActivationLayer, BatchNorm, InstanceNorm, GroupNorm, LayerNorm, Dropout)  # behind a convolution


class SparseNetwork(Chain):
    """Layers one after another, on grids of `dimension` dimensions: how they are built; `Chain` says how they run.

    Parameters
    ----------
    dimension : D, 1 to 4
    in_channels : C of the input
    seed : seed of the initial weights; those of each layer are keyed by (seed, its place in the network)
    field : sides of the input grid, one number or (D,), checked at each call; None: any

    Attributes
    ----------
    layers : list of Modules, may be changed: insert, replace, remove, truncate (`del net.layers[17:]`)
    recompute : number of parts in which the layers run while a graph is recorded; all but the last run again in the
        backward pass, instead of keeping their activations: same bits, less memory, more time; 0: they are kept
    descriptor : number of the layer, from 1, whose output is the descriptor; None: the last before the classifier
    classes : names of the classes by label, of a network that was trained; None: unknown
    voxelization : how the shapes were voxelized that it was trained on (`shapes.Voxelization`); None: unknown

    Raises
    ------
    ValueError : dimension or in_channels is out of range.
    TypeError : in_channels is not a whole number.

    The `add_` methods append a layer with as many input channels as the last layer has output channels, and return the
    network.
    """

    descriptor: int | None = None
    classes: list[str] | None = None
    voxelization: Voxelization | None = None

    def __init__(self, dimension: int = 3, in_channels: int = 1, seed: int = 0,
                 field: int | Sequence[int] | None = None):
        self.dimension = Geometry.make(dimension, 1).dimension
        self.in_channels = whole_channels("SparseNetwork", "in_channels", in_channels)
        self.seed = seed
        self.field = None if field is None else Geometry.make(dimension, field).size
        self.layers = []
        self._drawn: tuple[SparseConv, int, int] | None = None  # last convolution, its place, version of its weights

    # ---- building ----

    def add(self, layer: Module) -> SparseNetwork:
        """Append any Module."""
        check_module("SparseNetwork", len(self.layers), layer)
        self.layers.append(layer)
        return self

    def add_convolution(self, out_channels: int, size: Size, stride: Size = 1, padding: Size = 0, dilation: Size = 1,
                        groups: int = 1, bias: bool = True) -> SparseNetwork:
        """Append a SparseConv.  Its initial weights depend on the max-pooling that follows, see `nn.init`."""
        place = len(self.layers)
        layer = SparseConv(self._sparse_channels("add_convolution"), out_channels, size, stride, padding, dilation,
                           groups, bias, self.out_dimension, rng=self._rng(place))
        self._drawn = (layer, place, layer.weight.version)
        return self.add(layer)

    def add_submanifold(self, out_channels: int, size: Size, dilation: Size = 1, groups: int = 1, bias: bool = True
                        ) -> SparseNetwork:
        """Append a SubmanifoldConv."""
        return self.add(SubmanifoldConv(self._sparse_channels("add_submanifold"), out_channels, size, dilation, groups,
                                        bias, self.out_dimension, rng=self._rng(len(self.layers))))

    def add_inverse_convolution(self, out_channels: int, layer: str, bias: bool = True) -> SparseNetwork:
        """Append an InverseConv, which goes back over the rulebook of an earlier convolution or pooling.

        layer : its name, such as "convolution2" or "max_pool1" (`names()`)
        """
        known = {name: one for name, one in self.named_children()
                 if isinstance(getattr(one, "geometry", None), Geometry)}
        if layer not in known:
            raise ValueError(f"add_inverse_convolution: layer is {layer!r}, expected an earlier convolution or pooling"
                             f"{did_you_mean(layer, known) or ': there are ' + (', '.join(known) or 'none')}")
        return self.add(InverseConv(self._sparse_channels("add_inverse_convolution"), out_channels, known[layer], bias,
                                    rng=self._rng(len(self.layers))))

    def add_transposed_convolution(self, out_channels: int, size: Size, stride: Size = 1, padding: Size = 0,
                                   output_padding: Size = 0, groups: int = 1, bias: bool = True, dilation: Size = 1
                                   ) -> SparseNetwork:
        """Append a TransposedConv, for a background that is zero or None."""
        return self.add(TransposedConv(self._sparse_channels("add_transposed_convolution"), out_channels, size, stride,
                                       padding, output_padding, groups, bias, dilation, self.out_dimension,
                                       rng=self._rng(len(self.layers))))

    def add_leaky_relu(self, slope: float = 0.01) -> SparseNetwork:
        """Append a LeakyReLU."""
        return self.add(LeakyReLU(slope))

    def add_relu(self) -> SparseNetwork:
        """Append a ReLU."""
        return self.add(ReLU())

    def add_elu(self, alpha: float = 1.0) -> SparseNetwork:
        """Append an ELU."""
        return self.add(ELU(alpha))

    def add_gelu(self) -> SparseNetwork:
        """Append a GELU."""
        return self.add(GELU())

    def add_silu(self) -> SparseNetwork:
        """Append a SiLU."""
        return self.add(SiLU())

    def add_tanh(self) -> SparseNetwork:
        """Append a Tanh."""
        return self.add(Tanh())

    def add_sigmoid(self) -> SparseNetwork:
        """Append a Sigmoid."""
        return self.add(Sigmoid())

    def add_prelu(self, slope: float = 0.25, shared: bool = False) -> SparseNetwork:
        """Append a PReLU with a slope for each channel, or one for all of them if `shared`."""
        return self.add(PReLU(1 if shared else self.out_channels, slope))

    def add_softmax(self) -> SparseNetwork:
        """Append a Softmax over the channels."""
        return self.add(Softmax())

    def add_batch_norm(self, momentum: float = 0.1, eps: float = 1e-5, statistics: str = "sites") -> SparseNetwork:
        """Append a BatchNorm."""
        return self.add(BatchNorm(self.out_channels, momentum, eps, statistics))

    def add_instance_norm(self, eps: float = 1e-5, statistics: str = "sites") -> SparseNetwork:
        """Append an InstanceNorm."""
        return self.add(InstanceNorm(self._sparse_channels("add_instance_norm"), eps, statistics))

    def add_group_norm(self, groups: int, eps: float = 1e-5, statistics: str = "sites") -> SparseNetwork:
        """Append a GroupNorm."""
        return self.add(GroupNorm(groups, self.out_channels, eps, statistics))

    def add_layer_norm(self, eps: float = 1e-5) -> SparseNetwork:
        """Append a LayerNorm."""
        return self.add(LayerNorm(self.out_channels, eps))

    def add_residual(self, *layers: Module, shortcut: Module | None = None) -> SparseNetwork:
        """Append a Residual: layers(x) + shortcut(x), or layers(x) + x without a shortcut."""
        self._sparse_channels("add_residual")
        return self.add(Residual(*layers, shortcut=shortcut))

    def add_skip(self, *layers: Module) -> SparseNetwork:
        """Append a Skip: the channels of layers(x), then those of x."""
        self._sparse_channels("add_skip")
        return self.add(Skip(*layers))

    def add_max_pool(self, size: Size, stride: Size | None = None, padding: Size = 0) -> SparseNetwork:
        """Append a SparseMaxPool.  If the convolution before it still has its initial weights, they are drawn again
        with the bound of `nn.init` for a pooling of this size (the same random numbers within another bound)."""
        self._sparse_channels("add_max_pool")
        layer = SparseMaxPool(size, stride, padding, self.out_dimension)
        if self._drawn is not None:
            convolution, place, version = self._drawn
            between = self.layers[place + 1:]
            if (convolution in self.layers[place:place + 1] and convolution.weight.version == version
                    and all(isinstance(one, _BEFORE_A_POOL) for one in between)):
                bound = convolution.weight_bound(layer.geometry.size)
                convolution.weight.array = init.uniform(convolution.weight.shape, bound, self._rng(place)).array
            self._drawn = None
        return self.add(layer)

    def add_average_pool(self, size: Size, stride: Size | None = None, padding: Size = 0) -> SparseNetwork:
        """Append a SparseAvgPool."""
        self._sparse_channels("add_average_pool")
        return self.add(SparseAvgPool(size, stride, padding, self.out_dimension))

    def add_sum_pool(self, size: Size, stride: Size | None = None) -> SparseNetwork:
        """Append a SparseSumPool."""
        self._sparse_channels("add_sum_pool")
        return self.add(SparseSumPool(size, stride, self.out_dimension))

    def add_upsample(self, scale_factor: Size, spatial_size: Size | None = None) -> SparseNetwork:
        """Append an Upsample.

        Raises ValueError if it has numbers for another number of dimensions.
        """
        self._sparse_channels("add_upsample")
        layer = Upsample(scale_factor, spatial_size)
        layer.upsampling.output_size((1,) * self.out_dimension)
        return self.add(layer)

    def add_dropout(self, p: float = 0.5) -> SparseNetwork:
        """Append a Dropout."""
        return self.add(Dropout(p, rng=self._rng(len(self.layers))))

    def add_global_pool(self, mode: str = "mean") -> SparseNetwork:
        """Append a GlobalPool, after which there is one row per sample."""
        self._sparse_channels("add_global_pool")
        return self.add(GlobalPool(mode))

    def add_depth_images(self, count: int = 12, elevation: float = 30.0, up_axis: int = 2) -> SparseNetwork:
        """Append a DepthImages, behind which the layers see each image of a sample alone, in 2 dimensions, until an
        ImagePool.

        Raises ValueError unless there are 3 dimensions before it.
        """
        self._sparse_channels("add_depth_images")
        if self.out_dimension != 3:
            raise ValueError(f"add_depth_images: there are {self.out_dimension} dimensions, expected 3")
        return self.add(DepthImages(count, elevation, up_axis))

    def add_image_pool(self) -> SparseNetwork:
        """Append an ImagePool over the images of the DepthImages before it, behind a GlobalPool as `add_linear` does.

        Raises ValueError if there is none before it.
        """
        counts = [layer.imaging.count for layer in self.layers if isinstance(layer, DepthImages)]
        if not counts:
            raise ValueError("add_image_pool: there are no images, expected DepthImages before it")
        if not self.gives_rows:
            self.add_global_pool("mean")
        return self.add(ImagePool(counts[-1]))

    def add_linear(self, out_features: int, bias: bool = True, on_sites: bool = False) -> SparseNetwork:
        """Append a Linear.  If the last layer returns a SparseTensor, a GlobalPool("mean") is inserted; on a grid of
        one cell it returns the cell's row, or the background for an empty sample.

        on_sites : no GlobalPool is inserted: the rows of the sites and the background are mapped
        """
        if on_sites:
            self._sparse_channels("add_linear")
        elif not self.gives_rows:
            self.add_global_pool("mean")
        return self.add(Linear(self.out_channels, out_features, bias, rng=self._rng(len(self.layers))))

    def add_cosine_linear(self, out_features: int, scale: float = 14.0) -> SparseNetwork:
        """Append a CosineLinear, behind a GlobalPool as `add_linear` does."""
        if not self.gives_rows:
            self.add_global_pool("mean")
        return self.add(CosineLinear(self.out_channels, out_features, scale, rng=self._rng(len(self.layers))))

    @property
    def out_channels(self) -> int:
        """The number of output channels of the last layer."""
        return channels_behind(self.layers, self.in_channels)

    @property
    def out_dimension(self) -> int:
        """D of the last layer's grid: 2 behind a DepthImages, else that of the input."""
        return 2 if any(isinstance(layer, DepthImages) for layer in self.layers) else self.dimension

    def _rng(self, place: int) -> np.random.Generator:
        return keyed_rng(self.seed, "weights", place)

    @property
    def gives_rows(self) -> bool:
        """Whether the last layer returns a Tensor and no longer a SparseTensor."""
        return any(isinstance(layer, (GlobalPool, ToDense, CosineLinear)) for layer in self.layers)

    def _sparse_channels(self, method: str) -> int:
        if self.gives_rows:
            raise ValueError(f"{method}: the network gives a plain Tensor by now, expected a SparseTensor: add this "
                             "layer before the GlobalPool or ToDense layer")
        return self.out_channels

    # ---- predictions ----

    def predict(self, dataset: SparseDataset, batch_size: int = 64, repetitions: int = 1,
                poses: str | Sequence[int] = "first", output: str = "probabilities", **options: Any) -> np.ndarray:
        """Class probabilities (O, classes) float32 of the dataset's objects, in their order.

        dataset : SparseDataset, or an object with its `batches` and `object_samples`; or a SparseBatch or SparseTensor
            of O samples, which is run as it is: of the other arguments only output applies to it
        repetitions : number of passes whose outputs are averaged; pass r draws its augmentation as epoch r
        poses : "first": an object's first pose; "mean": the mean over its poses; numbers of poses, such as [0, 4, 8]:
            the mean over these; "max": the greatest of each number; "all": a row for each sample
        output : "probabilities": the mean of the softmax; "raw": the mean of the network's outputs, logits or
            descriptors
        options : for `dataset.batches`: augment, seed, workers, render_size, device, ...

        The network runs in evaluation mode; its mode is restored.

        Raises
        ------
        TypeError, ValueError : another kind of input, an option that does not apply to it, or an unknown output; the
            network returns NaN or infinity (the first such shape is named).
        """
        if output not in ("probabilities", "raw"):
            raise ValueError(f"predict: output is {output!r}, expected 'probabilities' or 'raw'")
        found = mean_rows("predict", self, lambda batch: output_rows(self, batch, output == "probabilities"), dataset,
                          batch_size, poses, repetitions, **options)
        return found.astype(np.float32)

    def predict_sites(self, shapes: Any, batch_size: int = 16, output: str = "labels", **options: Any) -> Any:
        """The label of each site of shapes, by a network such as `unet` that gives a row for each.

        shapes : SparseBatch or SparseTensor; or a SparseDataset
        output : "labels": the number of the largest logit; "probabilities": the softmax of the logits; "raw": the
            network's rows
        options : for a SparseDataset: field, workers, device, as in `dataset.batches`

        Returns (N,) int64, or (N, C) float32, in the order of the sites, which `in_given_order` of a SparseTensor turns
        into the order of the coordinates that it was made from; for a dataset a list of such arrays, each in the order
        of the stored cells of a sample, `dataset[i].coordinates`.

        The network runs in evaluation mode; its mode is restored.

        Raises
        ------
        TypeError, ValueError : another kind of shapes, an option that does not apply, an unknown output; the network
            does not give a row for each site of its input, or NaN or infinity; cells lie outside the field.
        """
        return site_rows("predict_sites", self, shapes, output, batch_size, **options)

    # ---- sizes ----

    def spatial_sizes(self, field: int | Sequence[int] | None = None) -> list[tuple[int, ...]]:
        """The spatial size at the input and after each filter, Upsample and DepthImages (in a Residual or Skip,
        of its layers alone).

        field : of the input; None: the network's own
        """
        sizes = [Geometry.make(self.dimension, self.field if field is None else field).size]
        course = Course(sizes[0])
        return sizes + [course.follow([step]) for step in main_steps(self.geometries())]

    def field_for(self, output_size: int | Sequence[int] = 1) -> tuple[int, ...]:
        """(D,), the smallest spatial size of the input for which the last filter's output has `output_size`.

        Raises ValueError if the network has an Upsample or DepthImages, through which no size of the input follows.
        """
        size = Geometry.make(self.dimension, output_size).size
        for geometry in reversed(main_path(self.geometries())):
            axes = zip(size, geometry.size, geometry.stride, geometry.padding, geometry.dilation, strict=True)
            size = tuple((n - 1) * s + d * (k - 1) + 1 - 2 * p for n, k, s, p, d in axes)
        return size

    # ---- weights by name ----

    def get_weights(self) -> dict[str, np.ndarray]:
        """Copies of all parameters, frozen ones too, and buffers, by name, as NumPy arrays."""
        return {name: to_device(array, "cpu") for name, array in self.state_dict().items()}

    def set_weights(self, weights: Mapping[str, Any]) -> None:
        """Copy arrays into the parameters and buffers of the same names; the others stay (`load_state_dict` needs all).

        Raises ValueError, without changing anything, if a name is unknown, a shape differs, or a number is not finite.
        """
        known = self.state_dict()
        unexpected = [name for name in weights if name not in known]
        if unexpected:
            raise ValueError(f"set_weights: unexpected: {', '.join(map(str, unexpected))}: there are "
                             f"{', '.join(known)}")
        self.load_state_dict(weights, strict=False)

    def save_weights(self, path: str | os.PathLike) -> None:
        """Write all parameters and buffers by name to an HDF5 file."""
        write_weights(path, self.get_weights())

    def load_weights(self, path: str | os.PathLike) -> None:
        """Read all parameters and buffers from `save_weights`' file or a training's checkpoint.

        Raises FileNotFoundError, or ValueError if the file or its weights do not fit, or are not finite.
        """
        self.load_state_dict(read_weights(path))
