"""Each dense operation as nodes of ONNX, operator set 18."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sparsenet.export.dense import Node
from sparsenet.export.weights import weight_to_torch, weight_to_transposed
from sparsenet.ops.unit_vectors import unit_vectors

OPSET, IR_VERSION = 18, 8  # of December 2022: onnxruntime 1.14 and later run it
OPERATIONS: dict[str, Callable[[OnnxNodes, Node], None]] = {}


class OnnxNodes:
    """Nodes and constants under construction.

    nodes : NodeProtos;  constants : TensorProtos, floats in float32
    """

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, name: str, array: Any) -> str:
        """Add a constant, floats as float32; returns its name.  Raises ValueError if one is out of its range."""
        from onnx import numpy_helper

        array = np.asarray(array)
        if array.dtype.kind == "f":
            with np.errstate(over="ignore"):
                array = array.astype(np.float32)
            if not np.isfinite(array).all():
                raise ValueError(f"export: {name} has numbers beyond the range of float32, which ONNX is written in")
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add a node; returns the name of its output."""
        from onnx import helper

        self.nodes.append(helper.make_node(operator, list(inputs), [output], name=output, **attributes))
        return output

    def add(self, node: Node) -> None:
        """Add the nodes of a dense operation."""
        if node.operation not in OPERATIONS:
            raise ValueError(f"export: {node.name}: {node.operation} is not an operation of ONNX that is known here, "
                             f"expected one of {', '.join(OPERATIONS)}")
        OPERATIONS[node.operation](self, node)

    def of(self, operator: str, node: Node, *constants: str, **attributes: Any) -> None:
        """Add the node that an operation is in ONNX: its inputs, then constants."""
        self.node(operator, [*(x.name for x in node.inputs), *constants], node.name, **attributes)

    def weights(self, node: Node, *keys: str) -> list[str]:
        """The names of the constants for arrays of the operation; those that it lacks are left out."""
        return [self.constant(f"{node.name}.{key}", node.arrays[key]) for key in keys if key in node.arrays]


def operation(name: str) -> Callable[[Callable[[OnnxNodes, Node], None]], Callable[[OnnxNodes, Node], None]]:
    """A decorator that registers the nodes of a dense operation."""
    def register(function: Callable[[OnnxNodes, Node], None]) -> Callable[[OnnxNodes, Node], None]:
        OPERATIONS[name] = function
        return function

    return register


def _filter(node: Node) -> dict[str, Any]:
    return {**_average(node), "dilations": node.settings["dilation"]}


def _average(node: Node) -> dict[str, Any]:
    """The attributes of an average pooling, which has no dilation."""
    settings = node.settings
    return {"kernel_shape": settings["size"], "strides": settings["stride"],
            "pads": (*settings["padding"], *settings["padding"])}


@operation("convolution")
def _convolution(graph: OnnxNodes, node: Node) -> None:
    weight = graph.constant(f"{node.name}.weight", weight_to_torch(node.arrays["weight"], node.settings["size"]))
    graph.of("Conv", node, weight, *graph.weights(node, "bias"), group=node.settings["groups"], **_filter(node))


@operation("transposed_convolution")
def _transposed_convolution(graph: OnnxNodes, node: Node) -> None:
    settings = node.settings
    matrix = weight_to_transposed(node.arrays["weight"], settings["size"], settings["groups"])
    graph.of("ConvTranspose", node, graph.constant(f"{node.name}.weight", matrix), *graph.weights(node, "bias"),
             group=settings["groups"], output_padding=settings["output_padding"], **_filter(node))


@operation("max_pool")
def _max_pool(graph: OnnxNodes, node: Node) -> None:
    graph.of("MaxPool", node, **_filter(node))


@operation("average_pool")
def _average_pool(graph: OnnxNodes, node: Node) -> None:
    graph.of("AveragePool", node, count_include_pad=0, **_average(node))


@operation("sum_pool")
def _sum_pool(graph: OnnxNodes, node: Node) -> None:
    """The mean times the number of cells."""
    mean = graph.node("AveragePool", [node.inputs[0].name], f"{node.name}.mean", **_average(node))
    cells = graph.constant(f"{node.name}.cells", np.array(float(math.prod(node.settings["size"]))))
    graph.node("Mul", [mean, cells], node.name)


@operation("upsample")
def _upsample(graph: OnnxNodes, node: Node) -> None:
    name, x, settings = node.name, node.inputs[0], node.settings
    axes, sides = range(2, 2 + len(settings["scale"])), settings["spatial_size"]
    whole = tuple(n * s for n, s in zip(x.spatial_size, settings["scale"], strict=True))
    scales = graph.constant(f"{name}.scales", np.array([1, 1, *settings["scale"]], np.float32))
    copies = graph.node("Resize", [x.name, "", scales], name if whole == sides else f"{name}.copies", mode="nearest",
                        coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    if whole != sides:
        bounds = {"starts": [0] * len(sides), "ends": sides, "axes": axes}
        graph.node("Slice", [copies, *(graph.constant(f"{name}.{key}", np.array(numbers, np.int64))
                                       for key, numbers in bounds.items())], name)


@operation("leaky_relu")
def _leaky_relu(graph: OnnxNodes, node: Node) -> None:
    slope = node.settings["slope"]
    if slope:
        graph.of("LeakyRelu", node, alpha=slope)
    else:
        graph.of("Relu", node)


@operation("elu")
def _elu(graph: OnnxNodes, node: Node) -> None:
    graph.of("Elu", node, alpha=node.settings["alpha"])


@operation("gelu")
def _gelu(graph: OnnxNodes, node: Node) -> None:
    """x / 2 * (1 + erf(x / sqrt(2))): Gelu itself came with operator set 20."""
    name, x = node.name, node.inputs[0].name
    half, one, factor = (graph.constant(f"{name}.{key}", np.array(number)) for key, number in
                         (("half", 0.5), ("one", 1.0), ("factor", math.sqrt(0.5))))
    error = graph.node("Erf", [graph.node("Mul", [x, factor], f"{name}.scaled")], f"{name}.erf")
    graph.node("Mul", [graph.node("Mul", [x, half], f"{name}.halves"),
                       graph.node("Add", [error, one], f"{name}.factors")], name)


@operation("silu")
def _silu(graph: OnnxNodes, node: Node) -> None:
    x = node.inputs[0].name
    graph.node("Mul", [x, graph.node("Sigmoid", [x], f"{node.name}.sigmoid")], node.name)


@operation("tanh")
def _tanh(graph: OnnxNodes, node: Node) -> None:
    graph.of("Tanh", node)


@operation("sigmoid")
def _sigmoid(graph: OnnxNodes, node: Node) -> None:
    graph.of("Sigmoid", node)


@operation("prelu")
def _prelu(graph: OnnxNodes, node: Node) -> None:
    """The slopes are broadcast from the last axis, so that of each channel gets axes behind it."""
    slopes = node.arrays["weight"]
    column = slopes if len(slopes) == 1 else slopes.reshape(-1, *[1] * len(node.output.spatial_size))
    graph.of("PRelu", node, graph.constant(f"{node.name}.weight", column))


@operation("softmax")
def _softmax(graph: OnnxNodes, node: Node) -> None:
    graph.of("Softmax", node, axis=node.settings["axis"])


@operation("batch_norm")
def _batch_norm(graph: OnnxNodes, node: Node) -> None:
    weights = graph.weights(node, "weight", "bias", "running_mean", "running_var")
    graph.of("BatchNormalization", node, *weights, epsilon=node.settings["eps"])


@operation("layer_norm")
def _layer_norm(graph: OnnxNodes, node: Node) -> None:
    _affine(graph, node, _normalised(graph, node, node.inputs[0].name, 1))


@operation("group_norm")
def _group_norm(graph: OnnxNodes, node: Node) -> None:
    """In the shape (B, groups, numbers of a group): GroupNormalization itself came with operator set 21."""
    name = node.name
    by_group = graph.constant(f"{name}.groups", np.array([0, node.settings["groups"], -1]))
    shape = graph.constant(f"{name}.shape", np.array([0, node.output.channels, *node.output.spatial_size]))
    rows = graph.node("Reshape", [node.inputs[0].name, by_group], f"{name}.in_groups")
    _affine(graph, node, graph.node("Reshape", [_normalised(graph, node, rows, 2), shape], f"{name}.in_channels"))


def _normalised(graph: OnnxNodes, node: Node, x: str, axis: int) -> str:
    """x minus its mean along an axis, over the root of its variance and eps."""
    name = node.name
    along = graph.constant(f"{name}.axis", np.array([axis]))
    eps = graph.constant(f"{name}.eps", np.array(node.settings["eps"]))
    centred = graph.node("Sub", [x, graph.node("ReduceMean", [x, along], f"{name}.mean")], f"{name}.centred")
    squares = graph.node("Mul", [centred, centred], f"{name}.squares")
    variance = graph.node("ReduceMean", [squares, along], f"{name}.variance")
    deviation = graph.node("Sqrt", [graph.node("Add", [variance, eps], f"{name}.divisor")], f"{name}.deviation")
    return graph.node("Div", [centred, deviation], f"{name}.normalised")


def _affine(graph: OnnxNodes, node: Node, x: str) -> None:
    """x times the weight of its channel plus the bias."""
    columns = {key: node.arrays[key].reshape(-1, *[1] * len(node.output.spatial_size)) for key in ("weight", "bias")}
    weight, bias = (graph.constant(f"{node.name}.{key}", column) for key, column in columns.items())
    graph.node("Add", [graph.node("Mul", [x, weight], f"{node.name}.scaled"), bias], node.name)


@operation("global_pool")
def _global_pool(graph: OnnxNodes, node: Node) -> None:
    axes = graph.constant(f"{node.name}.axes", np.arange(2, 2 + len(node.inputs[0].spatial_size)))
    operator = {"mean": "ReduceMean", "max": "ReduceMax", "sum": "ReduceSum"}[node.settings["mode"]]
    graph.of(operator, node, axes, keepdims=0)


@operation("linear")
def _linear(graph: OnnxNodes, node: Node) -> None:
    """Of each cell of a grid a convolution, which takes any number of axes."""
    dimension = len(node.output.spatial_size)
    if not dimension:
        graph.of("Gemm", node, *graph.weights(node, "weight", "bias"))
        return
    matrix = node.arrays["weight"].T
    weight = graph.constant(f"{node.name}.weight", matrix.reshape(*matrix.shape, *[1] * dimension))
    graph.of("Conv", node, weight, *graph.weights(node, "bias"), kernel_shape=[1] * dimension)


@operation("cosine_linear")
def _cosine_linear(graph: OnnxNodes, node: Node) -> None:
    """Rows are divided by their largest number first, so that no square overflows; a zero row stays zero."""
    name, x = node.name, node.inputs[0].name
    axis = graph.constant(f"{name}.axis", np.array([1]))
    least = graph.constant(f"{name}.least", np.array(np.finfo(np.float32).tiny))
    one = graph.constant(f"{name}.one", np.array(1.0))  # the largest number of a row that is not zero
    largest = graph.node("ReduceMax", [graph.node("Abs", [x], f"{name}.abs"), axis], f"{name}.largest")
    scaled = graph.node("Div", [x, graph.node("Max", [largest, least], f"{name}.divisor")], f"{name}.scaled")
    norm = graph.node("Max", [graph.node("ReduceL2", [scaled, axis], f"{name}.length"), one], f"{name}.norm")
    directions, _ = unit_vectors(node.arrays["weight"].T)
    weight = graph.constant(f"{name}.weight", directions.T * node.settings["scale"])
    graph.node("Gemm", [graph.node("Div", [scaled, norm], f"{name}.units"), weight], name)


@operation("pad")
def _pad(graph: OnnxNodes, node: Node) -> None:
    """Cells outside hold the row: one number if all channels agree, else a grid that is zero inside is added."""
    name, x, row, padding = node.name, node.inputs[0], node.arrays["row"], node.settings  # before, after: (D,)
    widths = graph.constant(f"{name}.widths", np.array([0, 0, *padding["before"], 0, 0, *padding["after"]]))
    if (row == row[0]).all():
        graph.of("Pad", node, widths, graph.constant(f"{name}.value", row[0]))
        return
    shape = graph.constant(f"{name}.shape", np.array([1, 1, *x.spatial_size]))
    one = graph.constant(f"{name}.one", np.array(1.0))
    inside = graph.node("ConstantOfShape", [shape], f"{name}.inside")  # zeros
    outside = graph.node("Pad", [inside, widths, one], f"{name}.outside")
    column = graph.constant(f"{name}.row", row.reshape(1, -1, *[1] * len(x.spatial_size)))
    border = graph.node("Mul", [outside, column], f"{name}.border")
    graph.node("Add", [graph.node("Pad", [x.name, widths], f"{name}.zeros"), border], name)


@operation("add")
def _add(graph: OnnxNodes, node: Node) -> None:
    graph.of("Add", node)


@operation("concatenate")
def _concatenate(graph: OnnxNodes, node: Node) -> None:
    graph.of("Concat", node, axis=1)
