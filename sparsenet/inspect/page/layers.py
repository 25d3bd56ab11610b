"""The data of the inspector page: the layers of one forward and one backward pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sparsenet.autograd import Tensor
from sparsenet.backend import to_device
from sparsenet.inspect.grad_cam import Centres, importance_of, interpolated
from sparsenet.inspect.paths import FILTER, NONE, path_of, relation_of
from sparsenet.kernels import launch
from sparsenet.nn.activations import Activation
from sparsenet.nn.images import DepthImages
from sparsenet.nn.inverse import InverseConv
from sparsenet.nn.transposed import TransposedConv
from sparsenet.ops.channel_groups import times
from sparsenet.sparse import ActiveSites, SparseTensor

if TYPE_CHECKING:
    from sparsenet.nn import SparseNetwork


@dataclass(frozen=True)
class LayerView:
    """The input (index 0) or the output of one layer, as NumPy arrays.

    record : the Activation, None for the input
    sites : ActiveSites; None if there is one row for the sample and no grid
    features, gradient : (N, C)
    importance : (N,) by Grad-CAM; of the input, that of `NetworkView.explained`, interpolated; zeros without a grid
    relation : FILTER (see `neighbours` (N, K) int32), COPY of the row `neighbours` (N, 1), SAME row, ALL rows, or NONE
        for the input
    shares : (N, K), the contribution of each offset: for a convolution the norm of (x - background) W[k], or of
        x W[k] if it is inverse; for a max-pooling the number of channels it won, for a sum or mean the norm of what it
        adds to x - background; otherwise None
    """

    index: int
    name: str
    record: Activation | None
    sites: ActiveSites | None
    features: np.ndarray
    gradient: np.ndarray
    importance: np.ndarray
    relation: str
    neighbours: np.ndarray | None = None
    shares: np.ndarray | None = None


@dataclass(frozen=True)
class NetworkView:
    """The layers, input first; classes by descending probability as (name, logit, probability); descriptions of
    the input and network, and of the differentiated quantity; the name of the layer whose importance the input shows:
    the last one with more than one cell."""

    layers: list[LayerView]
    classes: list[tuple[str, float, float]]
    summary: str
    target: str
    explained: str


def look_into(net: SparseNetwork, x: SparseTensor, classes: Sequence[str] = (),
              target: int | None = None) -> NetworkView:
    """Run one forward and one backward pass; see `inspector_page` for parameters and errors."""
    _check(net, x)
    given = x.detach().with_features(Tensor(x.features.array, requires_grad=True),
                                     None if x.background is None else Tensor(x.background.array, requires_grad=True))
    kept = [(parameter, parameter.grad) for parameter in net.parameters()]
    try:
        with net.evaluating():
            records = net.activations(given)
        for record in records:
            _check_finite(record.name, record.features)
        output = records[-1].output
        logits = _logits(output, classes)
        words = _differentiate(output, logits, classes, target)
    finally:
        for parameter, gradient in kept:
            parameter.grad = gradient
    features = given.features.numpy()
    gradient = given.features.grad
    explained, importance = _on_input(given, records)
    layers = [LayerView(0, "input", None, given.sites, features,
                        np.zeros_like(features) if gradient is None else to_device(gradient, "cpu"), importance, NONE)]
    layers += [_layer(record, source) for record, source in path_of(records)]
    layers = [replace(layer, index=index) for index, layer in enumerate(layers)]
    return NetworkView(layers, _ranked(logits, classes), _summary(net, x), words, explained)


def _calls(records: Iterable[Activation]) -> Iterator[Activation]:
    """The records and those of the layers within them, in the order in which they finished."""
    for record in records:
        yield from _calls(record.parts)
        yield record


def _on_input(x: SparseTensor, records: Sequence[Activation]) -> tuple[str, np.ndarray]:
    """The name of the last layer with more than one cell, and its importance at the input's sites (N,)."""
    centres, explained, last = Centres(x.sites), "the input", x
    for record in _calls(records):
        centres.follow(record.layer, record.input, record.output)
    for record in records:
        if isinstance(record.output, SparseTensor) and record.output.sites.cells > 1:
            explained, last = record.name, record.output
    _, importance, background = importance_of(last)
    return explained, interpolated(last.sites.to("cpu"), importance, background, centres.of(last.sites),
                                   x.sites.to("cpu"))


def _check(net: SparseNetwork, x: SparseTensor) -> None:
    if x.dimension != 3 or x.batch_size != 1:
        raise ValueError(f"inspector page: the input has {x.dimension} dimensions and {x.batch_size} samples, expected "
                         "3 and 1: pass one shape")
    if any(isinstance(module, DepthImages) for module in net.modules()):
        raise ValueError("inspector page: the network sees depth images, expected one that sees 3D grids alone: "
                         "inspect.trace shows what each of its layers computes")
    if not net.layers:
        raise ValueError("inspector page: the network has no layers, expected at least one")
    _check_finite("the input", x.features.numpy())


def _check_finite(name: str, values: np.ndarray) -> None:
    bad = values.size - int(np.isfinite(values).sum())
    if bad:
        raise ValueError(f"inspector page: {name} has {bad:,} of {values.size:,} values that are not finite: check "
                         "the weights of the layers up to it")


def _logits(output: SparseTensor | Tensor, classes: Sequence[str]) -> np.ndarray | None:
    if not classes or isinstance(output, SparseTensor) or output.shape != (1, len(classes)):
        return None
    return output.numpy()[0].astype(np.float64)


def _differentiate(output: SparseTensor | Tensor, logits: np.ndarray | None, classes: Sequence[str],
                   target: int | None) -> str:
    """Run the backward pass.  Returns a description of the differentiated quantity."""
    tensor = output.features if isinstance(output, SparseTensor) else output
    if logits is None:
        if target is not None:
            raise ValueError(f"inspector page: target is {target}, but the network returns {tensor.shape}, not the "
                             f"logits of {len(classes)} classes: omit target")
        tensor.backward(tensor.array)
        return "half the squared norm of the last layer's output"
    target = int(logits.argmax()) if target is None else target
    if not 0 <= target < len(classes):
        raise ValueError(f"inspector page: target is {target}, expected 0 to {len(classes) - 1}")
    one = np.zeros(tensor.shape, tensor.dtype)
    one[0, target] = 1
    tensor.backward(to_device(one, tensor.device))
    return f"the logit of class {classes[target]}"


def _ranked(logits: np.ndarray | None, classes: Sequence[str]) -> list[tuple[str, float, float]]:
    if logits is None:
        return []
    powers = np.exp(logits - logits.max())
    chances = powers / powers.sum()
    return [(str(classes[i]), float(logits[i]), float(chances[i])) for i in np.argsort(-logits, kind="stable")]


def _summary(net: SparseNetwork, x: SparseTensor) -> str:
    sides = "×".join(map(str, x.spatial_size))
    return (f"{len(x):,} active sites in a grid of {sides}, {len(net.layers)} layers, "
            f"{net.parameter_count():,} weights and biases")


def _layer(record: Activation, source: SparseTensor | Tensor | None) -> LayerView:
    relation, neighbours = relation_of(record, source, "inspector page")
    features, gradient, shares = record.features, record.gradient, None
    if gradient is None:  # no later layer reads it
        gradient = np.zeros_like(features)
    if relation == FILTER:
        shares = {"max_pool": _max_pool_shares, "average_pool": _sum_pool_shares, "sum_pool": _sum_pool_shares}.get(
            record.operation, _convolution_shares)(record, neighbours)
    importance = np.zeros(len(features)) if record.sites is None else importance_of(record.output)[1]
    return LayerView(record.index, record.name, record, record.sites, features, gradient, importance, relation,
                     neighbours, shares)


def _convolution_shares(record: Activation, neighbours: np.ndarray) -> np.ndarray:
    """(M, K) float32: the norm of each offset's contribution to the output row."""
    rows = record.input.features.numpy()
    if reads_background(record):
        rows = rows - record.input.background.numpy()
    weight = record.layer.weight.numpy()
    if isinstance(record.layer, TransposedConv):  # whose rulebook has the offsets in the opposite order
        weight = weight[::-1]
    shares = np.zeros(neighbours.shape, np.float32)
    for offset in range(neighbours.shape[1]):
        active = np.flatnonzero(neighbours[:, offset] >= 0)
        given = np.ascontiguousarray(rows[neighbours[active, offset]])
        added = times(given, weight[offset], getattr(record.layer, "groups", 1))
        shares[active, offset] = np.sqrt((added * added).sum(axis=1))
    return shares


def reads_background(record: Any) -> bool:
    """Whether inactive cells of a filter's input count, with the background; an InverseConv leaves them out.

    record : the filter's Activation
    """
    return record.input.background is not None and not isinstance(record.layer, InverseConv)


def _sum_pool_shares(record: Activation, neighbours: np.ndarray) -> np.ndarray:
    """(M, K) float32: the norm of each offset's contribution to the output row."""
    x, windows = record.input, to_device(record.rulebook.windows, "cpu")
    rows = x.features.numpy() if x.background is None else x.features.numpy() - x.background.numpy()
    lengths = np.append(np.sqrt((rows * rows).sum(axis=1)), np.zeros(1, rows.dtype))
    shares = lengths[np.where(neighbours < 0, len(rows), neighbours)]
    if record.operation == "average_pool":
        shares /= (windows >= (0 if x.background is None else -1)).sum(axis=1, keepdims=True)
    return shares.astype(np.float32, copy=False)


def _max_pool_shares(record: Activation, neighbours: np.ndarray) -> np.ndarray:
    """(M, K) int32: number of channels whose maximum is the input under each offset."""
    x, book = record.input, record.rulebook
    background = None if x.background is None else np.atleast_2d(x.background.array)
    _, winner = launch("max_pool_forward", x.features.array, background, book.windows,
                       book.output_sites.coordinates)
    winner, offsets = to_device(winner, "cpu").astype(np.int64), book.geometry.volume
    rows = np.arange(len(winner))[:, None]
    return np.bincount((rows * offsets + winner).ravel(), minlength=len(winner) * offsets).reshape(-1, offsets)
