"""Grad-CAM: how much each cell of a layer speaks for a class.

    alpha[b, c]      = 1/Z sum over the cells of sample b of  d logit[b, target] / d A[cell, c]
    importance[cell] = max(0, sum_c alpha[b, c] A[cell, c])

A : the layer's output; Z : the number of cells of its grid.

Source: Selvaraju et al., Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization (2017),
equations 1 and 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from sparsenet.autograd import Tensor
from sparsenet.backend import array_module, to_device
from sparsenet.inspect.tracing import named_modules
from sparsenet.kernels import launch
from sparsenet.nn.module import Module, intercepting
from sparsenet.nn.transposed import TransposedConv
from sparsenet.sparse import ActiveSites, Geometry, SparseTensor


@dataclass(frozen=True, repr=False, eq=False)
class GradCam:
    """The importance of a layer's cells, and of the input's sites; all are NumPy arrays.

    layer : its name
    target : (B,) int64, the class of each sample;  logit : (B,) float64, its logit
    alpha : (B, C) float64, the weight of each channel
    sites : ActiveSites of the layer, on the CPU;  importance : (M,) float64, of each of them
    background : (B,) float64, the importance of an inactive cell of each sample; 0 without a background
    input_sites : ActiveSites of the input, on the CPU
    on_input : (N,) float64, of each of those: interpolated linearly between the cells of the layer, each at the centre
        of its receptive field
    """

    layer: str
    target: np.ndarray
    logit: np.ndarray
    alpha: np.ndarray
    sites: ActiveSites
    importance: np.ndarray
    background: np.ndarray
    input_sites: ActiveSites
    on_input: np.ndarray

    def __repr__(self) -> str:
        return (f"GradCam({self.layer}: {len(self.importance)} sites of {self.sites.spatial_size}, "
                f"target {self.target.tolist()})")


def grad_cam(net: Module, batch: Any, layer: str | int | None = None, target: Any = None) -> GradCam:
    """Grad-CAM of a layer for a class of each sample.

    The sum in alpha is over all cells, as in the dense network: the inactive ones hold the background, whose gradient
    is the sum of theirs.  (Cells outside the grid that a later convolution pads with hold it, too, and count there.)
    With `background=None` inactive cells are skipped: sum and Z are over the sites.

    Parameters
    ----------
    net : Module that returns logits (B, classes); runs in evaluation mode; its mode and gradients are unchanged
    batch : SparseBatch or SparseTensor
    layer : name of the layer ("convolution2", "residual1.0", as `trace` lists them), or its number, counted from 1, in
        the network's `layers`; of a layer that is used twice, the last use.  None: the last one whose grid has more
        than one cell
    target : the class, one number or (B,); None: the class of the largest logit

    Raises
    ------
    TypeError : net is not a Module, or batch not a SparseTensor.
    ValueError : the network does not return logits; there is no such layer or class; the layer returns no sites, or the
        logits do not depend on it.

    Example
    -------
    >>> import numpy as np, sparsenet as sn
    >>> net = sn.SparseNetwork(dimension=2, seed=1).add_convolution(3, 2).add_relu().add_linear(2)
    >>> x = sn.SparseTensor.from_dense(np.eye(5, dtype=np.float32)[None, None])
    >>> cam = grad_cam(net, x, target=1)
    >>> cam, cam.on_input.shape
    (GradCam(relu1: 10 sites of (4, 4), target [1]), (5,))
    """
    x = getattr(batch, "input", batch)
    if not isinstance(net, Module):
        raise TypeError(f"grad_cam: net is {type(net).__name__}, expected a Module")
    if not isinstance(x, SparseTensor):
        raise TypeError(f"grad_cam: batch is {type(x).__name__}, expected a SparseBatch or SparseTensor")
    cut, trained = _Cut(net, x, layer), [parameter for parameter in net.parameters() if parameter.requires_grad]
    try:
        for parameter in trained:  # no gradient of theirs is computed
            parameter.requires_grad = False
        with net.evaluating(), intercepting(cut):
            logits = net(x)
        if cut.output is None:
            raise ValueError(f"grad_cam: {cut.missing()}")
        classes = _targets(logits, target, x.batch_size)
        if not logits.requires_grad:
            raise ValueError(f"grad_cam: the logits do not depend on layer {cut.name!r}, or this is within no_grad: "
                             "call grad_cam outside it")
        seed = np.zeros(logits.shape, logits.dtype)
        seed[np.arange(len(classes)), classes] = 1
        logits.backward(to_device(seed, logits.device))
    finally:
        for parameter in trained:
            parameter.requires_grad = True
    alpha, importance, background = importance_of(cut.output)
    sites, given = cut.output.sites.to("cpu"), x.sites.to("cpu")
    on_input = interpolated(sites, importance, background, cut.centres.of(cut.output.sites), given)
    logit = logits.numpy()[np.arange(len(classes)), classes].astype(np.float64)
    return GradCam(cut.name, classes, logit, alpha, sites, importance, background, given, on_input)


def importance_of(output: SparseTensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """alpha (B, C), and the importance of the sites (M,) and of the inactive cells (B,), from an output whose features
    and background hold their gradients.  A missing gradient is zero; a background (C,) is that of one sample."""
    features, sites = output.features.array, output.sites
    xp = array_module(features)
    splits, (samples, channels) = sites.batch_splits, (sites.batch_size, features.shape[1])
    gradient = xp.zeros_like(features) if output.features.grad is None else output.features.grad
    total = to_device(launch("segment_sum", xp.ascontiguousarray(gradient, dtype=np.float64), splits), "cpu")
    rows = np.zeros((samples, channels))
    if output.background is None:
        cells = np.maximum(np.diff(to_device(splits, "cpu")), 1)[:, None]
    else:
        cells, rows = sites.cells, rows + to_device(output.background.array, "cpu")
        if output.background.grad is not None:
            total = total + to_device(output.background.grad, "cpu").astype(np.float64)
    alpha = total / cells
    batch = to_device(sites.coordinates[:, 0], "cpu")
    importance = (to_device(features, "cpu").astype(np.float64) * alpha[batch]).sum(axis=1)
    return alpha, np.maximum(importance, 0), np.maximum((rows * alpha).sum(axis=1), 0)


def interpolated(sites: ActiveSites, values: np.ndarray, background: np.ndarray,
                 centres: tuple[np.ndarray, np.ndarray], at: ActiveSites) -> np.ndarray:
    """(N,) values at the sites `at` of another grid, linear between the 2^D nearest centres; beyond the outer ones
    those hold.

    sites, values : (M,);  background : (B,), the value of a sample's inactive cells
    centres : step and first (D,), the centre of cell i of an axis lies at first + i * step of the grid of `at`
    """
    step, first = centres
    last = np.array(sites.spatial_size) - 1
    place = np.clip((at.coordinates[:, 1:] - first) / step, 0, last)
    lower = np.minimum(place.astype(np.int64), np.maximum(last - 1, 0))
    batch = at.coordinates[:, :1].astype(np.int64)
    result = np.zeros(len(at))
    for corner in product((0, 1), repeat=sites.dimension):
        share = np.where(corner, place - lower, 1 - (place - lower)).prod(axis=1)
        rows = sites.lookup(np.concatenate([batch, np.minimum(lower + corner, last)], axis=1))
        held = np.append(values, 0.0)[rows]  # of row -1 the 0
        result += share * np.where(rows >= 0, held, background[batch[:, 0]])
    return result


class Centres:
    """Where the receptive fields of cells are centred on the input's grid, in cells, for each grid of a network.

    A grid whose sites no filter made, such as the union behind a sum, lies as the last one of its spatial size; one of
    a new size, such as behind an upsampling, spans the input.
    """

    def __init__(self, sites: ActiveSites):
        self._first = sites
        self._known = [(sites, np.ones(sites.dimension), np.zeros(sites.dimension))]

    def follow(self, module: Module, x: Any, output: Any) -> None:
        """Note the grid behind a module's call."""
        if not isinstance(x, SparseTensor) or not isinstance(output, SparseTensor) or self._place(output.sites):
            return
        if x.dimension != output.dimension:
            raise ValueError(f"grad_cam: {module.kind} makes grids of {output.dimension} dimensions of {x.dimension}, "
                             "whose cells have no place on the input's grid: name a layer before it")
        if isinstance(module, TransposedConv):
            step, first = self.of(x.sites)
            stride, size, padding, dilation = _numbers(module.settings)
            self._known.append((output.sites, step / stride,
                                first + step / stride * (padding - dilation * (size - 1) / 2)))
            return
        geometry = getattr(module, "geometry", None)
        if isinstance(geometry, Geometry) and geometry.output_size(x.spatial_size) == output.spatial_size:
            step, first = self.of(x.sites)
            stride, size, padding, dilation = _numbers(geometry)
            self._known.append((output.sites, step * stride, first + step * (dilation * (size - 1) / 2 - padding)))
        else:
            self._known.append((output.sites, *self.of(output.sites)))

    def of(self, sites: ActiveSites) -> tuple[np.ndarray, np.ndarray]:
        """(step, first), each (D,) float64: the centre of cell i of an axis lies at first + i * step."""
        found = self._place(sites)
        if found is not None:
            return found
        for one, step, first in reversed(self._known):
            if one.spatial_size == sites.spatial_size:
                return step, first
        step = np.array(self._first.spatial_size) / np.array(sites.spatial_size)
        return step, (step - 1) / 2

    def _place(self, sites: ActiveSites) -> tuple[np.ndarray, np.ndarray] | None:
        return next(((step, first) for one, step, first in self._known if one is sites), None)


def _numbers(filter_: Geometry) -> tuple[np.ndarray, ...]:
    """stride, size, padding, dilation, each (D,)"""
    return tuple(map(np.array, (filter_.stride, filter_.size, filter_.padding, filter_.dilation)))


class _Cut:
    """Called instead of each Module: makes the output of the wanted layer a leaf of the graph.

    output : that leaf, a SparseTensor with a background for each sample;  name : of the layer
    """

    def __init__(self, net: Module, x: SparseTensor, layer: str | int | None):
        self.names: dict[int, str] = {}
        for name, module in named_modules(net):
            self.names.setdefault(id(module), name)
        self.wanted, self.centres = _checked_layer(net, layer, self.names), Centres(x.sites)
        self.output: Any = None
        self.name = ""

    def __call__(self, module: Module, inputs: tuple[Any, ...]) -> Any:
        output, name = module.forward(*inputs), self.names.get(id(module), module.kind)
        self.centres.follow(module, inputs[0] if inputs else None, output)
        if self.wanted is not None and name != self.wanted:
            return output
        if not isinstance(output, SparseTensor):
            if self.wanted is not None:
                raise ValueError(f"grad_cam: layer {name!r} returns {type(output).__name__}, expected a SparseTensor: "
                                 "name one before the network pools its grid")
            return output
        if output is not self.output and (self.wanted is not None or output.sites.cells > 1):
            self.output, self.name = _leaf(output), name
            return self.output
        return output

    def missing(self) -> str:
        return (f"layer {self.wanted!r} was not called" if self.wanted is not None else
                "no layer returns a grid of more than one cell: name a layer")


def _leaf(x: SparseTensor) -> SparseTensor:
    """The same values, cut from the graph, with gradients, and with a background for each sample."""
    background = None
    if x.background is not None:
        row = x.background.array
        rows = row if row.ndim > 1 else array_module(row).tile(row, (x.batch_size, 1))
        background = Tensor(rows, requires_grad=True)
    return x.with_features(Tensor(x.features.array, requires_grad=True), background)


def _checked_layer(net: Module, layer: str | int | None, names: dict[int, str]) -> str | None:
    """The name of the layer."""
    if isinstance(layer, int):
        layers = getattr(net, "layers", [])
        if not 1 <= layer <= len(layers):
            raise ValueError(f"grad_cam: layer is {layer}, expected 1 to {len(layers)}: the network's layers")
        return names[id(layers[layer - 1])]
    if layer is not None and layer not in names.values():
        raise ValueError(f"grad_cam: there is no layer {layer!r}, expected one of {', '.join(names.values())}")
    return layer


def _targets(logits: Any, target: Any, samples: int) -> np.ndarray:
    """(B,) int64"""
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != samples:
        what = f"shape {logits.shape}" if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f"grad_cam: the network returns {what}, expected logits ({samples}, classes)")
    if target is None:
        return logits.numpy().argmax(axis=1).astype(np.int64)
    classes = np.asarray(target.numpy() if isinstance(target, Tensor) else target)
    if classes.dtype.kind not in "iu" or classes.shape not in ((), (samples,)):
        raise ValueError(f"grad_cam: target has dtype {classes.dtype} and shape {classes.shape}, expected one integer, "
                         f"or one for each of {samples} samples")
    if classes.size and not (0 <= classes.min() and classes.max() < logits.shape[1]):
        raise ValueError(f"grad_cam: target is {classes.tolist()}, expected 0 to {logits.shape[1] - 1}")
    return np.broadcast_to(classes, samples).astype(np.int64)
