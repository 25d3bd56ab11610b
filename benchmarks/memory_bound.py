"""Memory-bound passes, compared with a plain copy.

Only necessary traffic counts: each input read once (by a norm over many rows twice: its statistics come first), each
output written once.  A newly allocated result also costs page faults, which a copy between existing arrays does not;
they are part of the figure, as they are of a training step.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks import machine, reference
from benchmarks.figures import Results
from benchmarks.shapes import Shapes
from benchmarks.timing import Case, Settings, case, inner, interleave
from benchmarks.unions import add_unions
from sparsenet import ops
from sparsenet.autograd import Tensor
from sparsenet.backend import to_device
from sparsenet.kernels import activations
from sparsenet.ops.softmax_cross_entropy import SoftmaxCrossEntropy
from sparsenet.optim import SGD, AdamW
from sparsenet.sparse import ActiveSites, Geometry, SparseTensor

SECTION = "memory-bound passes"
GOAL, GOAL_OF_EXPONENTIALS = 60.0, 40.0  # % of copy bandwidth
CHANNELS, SLOPE, GROUPS = 32, 0.33, 8
CLASSES = 40
CHECKED = 4096  # rows of an activation: its formula in NumPy is slow
EXPONENTIALS = {  # operation, kernel, its settings, whether the backward pass reads the output
    "ELU": (ops.elu, "activation", (activations.ELU, 1.0), True),
    "GELU": (ops.gelu, "activation", (activations.GELU, 1.0), False),
    "SiLU": (ops.silu, "activation", (activations.SILU, 1.0), False),
    "tanh": (ops.tanh, "activation", (activations.TANH, 1.0), True),
    "sigmoid": (ops.sigmoid, "activation", (activations.SIGMOID, 1.0), True),
    "softmax": (ops.softmax, "softmax", (), True),
}
Passes = dict[str, tuple[int, Case]]  # name -> (necessary bytes, case)


def measure_memory_bound(results: Results, settings: Settings, shapes: Shapes) -> None:
    """Add the section: GB/s of each pass, and its share of the copy bandwidth measured in between.

    Sizes are those of S3DCNN's first level: a batch at render size 40, 32 channels.
    """
    tiny = settings.quick and settings.device == "cuda"  # perhaps on the host, under sanitizers
    batch = 4 if settings.quick else 64
    sites = shapes.batch(1 if tiny else batch, 3 if tiny else 40).input.sites
    level = sites.rulebook(Geometry.make(3, 2)).output_sites.to(settings.device)
    rng = np.random.default_rng(4)
    passes: Passes = {}
    _add_pooling(passes, level, rng, settings.device)
    features = rng.standard_normal((len(level), CHANNELS), np.float32)
    _add_average_pooling(passes, level, rng, settings.device)
    _add_leaky_relu(passes, features, settings.device)
    _add_exponentials(passes, features, settings.device)
    _add_prelu(passes, features, rng, settings.device)
    _add_batch_norm(passes, features, rng, settings.device)
    _add_group_norm(passes, level, features, rng, settings.device)
    _add_layer_norm(passes, features, rng, settings.device)
    add_unions(passes, level, features, rng, settings.device)
    _add_points(passes, level, features, rng, settings.device)
    _add_losses(passes, rng, 20 if tiny else 2_000 if settings.quick else 200_000, settings.device)
    count = 1 << (8 if tiny else 16 if settings.quick else 23)
    _add_sgd(passes, rng, count, settings.device)
    _add_adam(passes, rng, count, settings.device)
    source = np.ones(max(bytes_moved for bytes_moved, _ in passes.values()) // 8, np.float32)
    target = np.zeros_like(source)
    if settings.device == "cpu":
        copy = case(lambda: machine.copy(source, target))
    else:
        here, there = to_device(source, settings.device), to_device(target, settings.device)
        copy = case(lambda: there.__setitem__(slice(None), here), None, settings.device)
    passes["copy"] = 2 * source.nbytes, copy
    times = interleave({name: one for name, (_, one) in passes.items()}, settings)
    copied = passes["copy"][0] / times["copy"].median
    for name, (size, _) in passes.items():
        rate = size / times[name].median
        results.add(SECTION, name, "size", size / 1e6, "MB")
        results.add(SECTION, name, "time", 1e3 * times[name].median, "ms", spread=times[name].spread, better="lower")
        results.add(SECTION, name, "rate", rate / 1e9, "GB/s", spread=times[name].spread, better="higher")
        if name != "copy":
            goal = GOAL_OF_EXPONENTIALS if name.partition(",")[0] in EXPONENTIALS else GOAL
            results.add(SECTION, name, "of copy", 100 * rate / copied, "%", spread=times[name].spread,
                        better="higher", goal=goal)


def _add_pooling(passes: Passes, level: ActiveSites, rng: np.random.Generator, device: str) -> None:
    geometry = Geometry.make(3, 3, 2)
    rulebook = level.rulebook(geometry)
    rows = to_device(rulebook.neighbours, "cpu")
    features = rng.standard_normal((len(level), CHANNELS), np.float32)
    background = rng.standard_normal(CHANNELS, np.float32)
    gradient = rng.standard_normal((len(rulebook.output_sites), CHANNELS), np.float32)
    here, row, upstream = (to_device(array, device) for array in (features, background, gradient))
    leaf = Tensor(here, requires_grad=True)

    def forward(x: Tensor = leaf) -> Tensor:
        return ops.max_pool(SparseTensor.from_sites(x, level, row), geometry).features

    def backward(y: Tensor) -> None:
        y.backward(upstream)

    y = forward()
    coordinates = to_device(rulebook.output_sites.coordinates, "cpu")
    expected, chosen = reference.specified("max_pool_forward", features, background[None], rows, coordinates)
    reference.check("max-pooling", y.numpy(), expected, 0.0)
    backward(y)
    back, _ = reference.specified("max_pool_backward", gradient, chosen, level.to("cpu").rulebook(geometry), None)
    reference.check("max-pooling, backward", to_device(leaf.grad, "cpu"), back)
    size = rows.nbytes + gradient.nbytes + chosen.nbytes + features.nbytes  # the same arrays in both directions
    passes["max-pooling, forward"] = size, case(forward, None, device)
    passes["max-pooling, backward"] = size, case(backward, lambda: forward(inner(leaf)), device)


def _add_average_pooling(passes: Passes, level: ActiveSites, rng: np.random.Generator, device: str) -> None:
    """Forward reads the windows and the features; backward the windows, for their numbers of cells, the transposed
    neighbours and the gradient."""
    geometry = Geometry.make(3, 3, 2)
    rulebook = level.rulebook(geometry)
    rows, transposed = (to_device(table, "cpu") for table in (rulebook.windows, rulebook.transposed_neighbours))
    features = rng.standard_normal((len(level), CHANNELS), np.float32)
    background = rng.standard_normal(CHANNELS, np.float32)
    gradient = rng.standard_normal((len(rulebook.output_sites), CHANNELS), np.float32)
    here, row, upstream = (to_device(array, device) for array in (features, background, gradient))
    leaf = Tensor(here, requires_grad=True)

    def forward(x: Tensor = leaf) -> Tensor:
        return ops.average_pool(SparseTensor.from_sites(x, level, row), geometry).features

    def backward(y: Tensor) -> None:
        y.backward(upstream)

    y = forward()
    coordinates = to_device(rulebook.output_sites.coordinates, "cpu")
    expected = reference.specified("sum_pool_forward", features, background[None], rows, coordinates, True)
    reference.check("average pooling", y.numpy(), expected)
    backward(y)
    back, _ = reference.specified("sum_pool_backward", gradient, level.to("cpu").rulebook(geometry), None, True, True,
                                  False)
    reference.check("average pooling, backward", to_device(leaf.grad, "cpu"), back)
    passes["average pooling, forward"] = (rows.nbytes + features.nbytes + gradient.nbytes, case(forward, None, device))
    passes["average pooling, backward"] = (rows.nbytes + transposed.nbytes + gradient.nbytes + features.nbytes,
                                           case(backward, lambda: forward(inner(leaf)), device))


def _add_leaky_relu(passes: Passes, features: np.ndarray, device: str) -> None:
    leaf = Tensor(to_device(features, device), requires_grad=True)
    upstream = to_device(np.roll(features, 1), device)

    def forward(x: Tensor = leaf) -> Tensor:
        return ops.leaky_relu(x, SLOPE)

    def backward(y: Tensor) -> None:
        y.backward(upstream)

    y = forward()
    reference.check("leaky ReLU", y.numpy(), reference.specified("leaky_relu_forward", features, SLOPE))
    backward(y)
    back = reference.specified("leaky_relu_backward", features, np.roll(features, 1), SLOPE)
    reference.check("leaky ReLU, backward", to_device(leaf.grad, "cpu"), back)
    passes["leaky ReLU, forward"] = 2 * features.nbytes, case(forward, None, device)
    passes["leaky ReLU, backward"] = 3 * features.nbytes, case(backward, lambda: forward(inner(leaf)), device)


def _add_exponentials(passes: Passes, features: np.ndarray, device: str) -> None:
    upstream = to_device(np.roll(features, 1), device)
    rows, gradient = features[:CHECKED], np.roll(features, 1)[:CHECKED]
    for name, (operation, kernel, settings, by_output) in EXPONENTIALS.items():
        leaf = Tensor(to_device(features, device), requires_grad=True)

        def forward(x: Tensor = leaf, operation: Any = operation) -> Tensor:
            return operation(x)

        def backward(y: Tensor) -> None:
            y.backward(upstream)

        y = forward()
        expected = reference.specified(f"{kernel}_forward", rows, *settings)
        reference.check(name, y.numpy()[:CHECKED], expected)
        backward(y)
        back = reference.specified(f"{kernel}_backward", expected if by_output else rows, gradient, *settings)
        reference.check(f"{name}, backward", to_device(leaf.grad, "cpu")[:CHECKED], back)
        leaf.grad = None
        passes[f"{name}, forward"] = 2 * features.nbytes, case(forward, None, device)
        passes[f"{name}, backward"] = 3 * features.nbytes, case(
            backward, lambda forward=forward, leaf=leaf: forward(inner(leaf)), device)


def _add_prelu(passes: Passes, features: np.ndarray, rng: np.random.Generator, device: str) -> None:
    slopes = rng.uniform(0, 0.5, CHANNELS).astype(np.float32)
    weight = Tensor(to_device(slopes, device), requires_grad=True)
    leaf = Tensor(to_device(features, device), requires_grad=True)
    gradient = np.roll(features, 1)
    upstream = to_device(gradient, device)

    def forward(x: Tensor = leaf) -> Tensor:
        return ops.prelu(x, weight)

    def backward(y: Tensor) -> None:
        y.backward(upstream)

    y = forward()
    reference.check("PReLU", y.numpy(), reference.specified("prelu_forward", features, slopes))
    backward(y)
    back, _, by_slope = reference.specified("prelu_backward", features, gradient, slopes)
    reference.check("PReLU, backward", to_device(leaf.grad, "cpu"), back)
    reference.check("PReLU, backward of its weight", to_device(weight.grad, "cpu"), by_slope)
    passes["PReLU, forward"] = 2 * features.nbytes, case(forward, None, device)
    passes["PReLU, backward"] = 3 * features.nbytes, case(backward, lambda: forward(inner(leaf)), device)


def _add_batch_norm(passes: Passes, features: np.ndarray, rng: np.random.Generator, device: str) -> None:
    """Forward reads twice, for the statistics and for the result, and writes once; backward reads both inputs twice."""
    weight, bias = rng.standard_normal((2, CHANNELS), np.float32)
    parameters = [Tensor(to_device(array, device), requires_grad=True) for array in (weight, bias)]
    running = [Tensor(to_device(np.ones(CHANNELS, np.float32), device)) for _ in range(2)]
    leaf = Tensor(to_device(features, device), requires_grad=True)
    gradient = np.roll(features, 1)
    upstream = to_device(gradient, device)

    def forward(x: Tensor = leaf) -> Tensor:
        return ops.batch_norm(x, *parameters, *running, training=True)

    def backward(y: Tensor) -> None:
        y.backward(upstream)

    y = forward()
    wide = features.astype(np.float64)
    moments = np.stack([wide.mean(axis=0), wide.var(axis=0)])
    reference.check("batch norm", y.numpy(), reference.specified("batch_norm_forward", features, None, moments, weight,
                                                                 bias, 1e-5))
    backward(y)
    back, _, sums = reference.specified("batch_norm_backward", features, None, gradient, None, None, 0, moments, weight,
                                        1e-5, True)
    reference.check("batch norm, backward", to_device(leaf.grad, "cpu"), back)
    reference.check("batch norm, backward of its weight", to_device(parameters[0].grad, "cpu"), sums[1])
    passes["batch norm, forward"] = 3 * features.nbytes, case(forward, None, device)
    passes["batch norm, backward"] = 5 * features.nbytes, case(backward, lambda: forward(inner(leaf)), device)


def _add_group_norm(passes: Passes, level: ActiveSites, features: np.ndarray, rng: np.random.Generator, device: str
                    ) -> None:
    """Forward and backward read as batch norm's do."""
    weight, bias = rng.standard_normal((2, CHANNELS), np.float32)
    parameters = [Tensor(to_device(array, device), requires_grad=True) for array in (weight, bias)]
    leaf, gradient = Tensor(to_device(features, device), requires_grad=True), np.roll(features, 1)
    upstream, splits = to_device(gradient, device), to_device(level.batch_splits, "cpu")

    def forward(x: Tensor = leaf) -> Tensor:
        return ops.group_norm(SparseTensor.from_sites(x, level, None), GROUPS, *parameters).features

    def backward(y: Tensor) -> None:
        y.backward(upstream)

    y = forward()
    expected, _, moments = reference.specified("sample_norm_forward", features, None, splits, 0, weight, bias, GROUPS,
                                               1e-5)
    reference.check("group norm", y.numpy(), expected)
    backward(y)
    back, _, sums = reference.specified("sample_norm_backward", features, None, gradient, None, splits, 0, moments,
                                        weight, 1e-5)
    reference.check("group norm, backward", to_device(leaf.grad, "cpu"), back)
    reference.check("group norm, backward of its weight", to_device(parameters[0].grad, "cpu"), sums[1])
    passes["group norm, forward"] = 3 * features.nbytes, case(forward, None, device)
    passes["group norm, backward"] = 5 * features.nbytes, case(backward, lambda: forward(inner(leaf)), device)


def _add_layer_norm(passes: Passes, features: np.ndarray, rng: np.random.Generator, device: str) -> None:
    """A row is read once: it is in the cache when its statistics are known."""
    weight, bias = rng.standard_normal((2, CHANNELS), np.float32)
    parameters = [Tensor(to_device(array, device), requires_grad=True) for array in (weight, bias)]
    leaf, gradient = Tensor(to_device(features, device), requires_grad=True), np.roll(features, 1)
    upstream = to_device(gradient, device)

    def forward(x: Tensor = leaf) -> Tensor:
        return ops.layer_norm(x, *parameters)

    def backward(y: Tensor) -> None:
        y.backward(upstream)

    y = forward()
    expected, moments = reference.specified("row_norm_forward", features, weight, bias, 1, 1e-5, True)
    reference.check("layer norm", y.numpy(), expected)
    backward(y)
    back, sums = reference.specified("row_norm_backward", features, gradient, moments, weight)
    reference.check("layer norm, backward", to_device(leaf.grad, "cpu"), back)
    reference.check("layer norm, backward of its weight", to_device(parameters[0].grad, "cpu"), sums[1])
    passes["layer norm, forward"] = 2 * features.nbytes, case(forward, None, device)
    passes["layer norm, backward"] = 3 * features.nbytes, case(backward, lambda: forward(inner(leaf)), device)


def _add_points(passes: Passes, level: ActiveSites, features: np.ndarray, rng: np.random.Generator, device: str
                ) -> None:
    """A point in each cell that is a site, in their order."""
    coordinates = to_device(level.coordinates, "cpu")
    places = (coordinates[:, 1:] + rng.random((len(coordinates), 3))).astype(np.float32)
    inside = np.floor(places) == coordinates[:, 1:]  # rounding may reach the next cell
    places = np.where(inside, places, coordinates[:, 1:] + 0.5).astype(np.float32)
    x = SparseTensor.from_sites(to_device(features, device), level)
    points, samples = to_device(places, device), to_device(coordinates[:, 0].astype(np.int64), device)

    def read() -> Tensor:
        return x.at_points(points, 1.0, 0.0, samples)

    reference.check("at_points", read().numpy(), features, 0.0)
    size = places.nbytes + 8 * len(places) + 2 * features.nbytes  # samples are int64
    passes["at_points, nearest"] = size, case(read, None, device)


def _add_losses(passes: Passes, rng: np.random.Generator, rows: int, device: str) -> None:
    logits = rng.standard_normal((rows, CLASSES), np.float32)
    labels = rng.integers(0, CLASSES, rows)
    x = Tensor(to_device(logits, device), requires_grad=True)
    given = to_device(labels, device)

    def both(x: Tensor = x) -> None:
        if device == "cpu":
            ops.softmax_cross_entropy(x, given).backward()
        else:  # without the operation's check of the labels, for which the host would wait
            SoftmaxCrossEntropy(given).apply(x).backward()

    both()
    *_, expected = reference.specified("softmax_cross_entropy", logits, labels, True)
    reference.check("softmax cross-entropy", to_device(x.grad, "cpu"), expected)
    passes["softmax cross-entropy, forward + backward"] = 2 * logits.nbytes, case(both, lambda: inner(x), device)


def _add_sgd(passes: Passes, rng: np.random.Generator, count: int, device: str) -> None:
    parameter, gradient = (rng.standard_normal(count, np.float32) for _ in range(2))
    tensor = Tensor(to_device(parameter.copy(), device), requires_grad=True)
    tensor.grad = to_device(gradient, device)
    optimizer = SGD([tensor], 1e-3, momentum=0.9, dampening=0.9, nesterov=True, weight_decay=1e-4)
    expected, wide, velocity = parameter.astype(np.float64), gradient.astype(np.float64), np.zeros(count)
    for _ in range(2):
        optimizer.step()
        reference.specified("sgd_step", [expected], [wide], [velocity], None, 1e-3, 0.9, 0.9, True, 1e-4, 1.0)
    reference.check("SGD", tensor.numpy(), expected)
    passes["SGD with momentum"] = 5 * parameter.nbytes, case(optimizer.step, None, device)


def _add_adam(passes: Passes, rng: np.random.Generator, count: int, device: str) -> None:
    parameter, gradient = (rng.standard_normal(count, np.float32) for _ in range(2))
    tensor = Tensor(to_device(parameter.copy(), device), requires_grad=True)
    tensor.grad = to_device(gradient, device)
    optimizer = AdamW([tensor], 1e-3, weight_decay=1e-2)
    expected, wide, mean, square = parameter.astype(np.float64), gradient.astype(np.float64), *np.zeros((2, count))
    for number in (1, 2):
        optimizer.step()
        reference.specified("adam_step", [expected], [wide], [mean], [square], None, None, 1e-3, 0.9, 0.999, 1e-8, 1e-2,
                            True, number, 1.0)
    reference.check("AdamW", tensor.numpy(), expected)
    passes["AdamW"] = 7 * parameter.nbytes, case(optimizer.step, None, device)
