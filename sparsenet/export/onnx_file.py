"""A sparse network as an ONNX file: the dense network that it equals."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from sparsenet.export import layers  # noqa: F401  (registers the equivalents)
from sparsenet.export.dense import DenseGraph, Value, dense_graph
from sparsenet.export.onnx_nodes import IR_VERSION, OPSET, OnnxNodes
from sparsenet.files import check_folder, replacing
from sparsenet.nn.module import Module

BATCH, OUTPUT = "batch", "output"  # the axis whose length the caller chooses; the name of the output


def onnx(net: Module, path: str | os.PathLike, field: int | Sequence[int] | None = None, background: Any = "zeros",
         in_channels: int | None = None, metadata: Mapping[str, Any] | None = None) -> None:
    """Write the dense network that a sparse network in evaluation mode equals as an ONNX file.

    Its input "grid" is (B, C, *field) float32, any B, as `x.to_dense()` gives it; its output "output" is what the
    network returns, or, if that is a SparseTensor, its `to_dense()`.  All arrays are float32.  The model is checked by
    `onnx.checker` before it is written (atomically).  `docs/export.md` lists the layers.

    Parameters
    ----------
    net : SparseNetwork, or a Module of layers that have a dense equivalent (see `dense_equivalent`)
    path : file to write
    field : sides of the input grid, one number or (D,); default: the network's `field`
    background : of the input, (C,) numbers or "zeros": what the inactive cells of the grid hold.  A convolution with
        padding pads with the background that it arrives at there
    in_channels : C; default: the network's
    metadata : more to store in the file: name -> text, number or list, such as classes and render_size.  The file
        holds JSON texts; field and background are always there

    Raises
    ------
    RuntimeError : onnx is not installed.
    TypeError : net is not a Module, or a layer does not take what the layer before it returns.
    ValueError : a layer has no dense equivalent (SubmanifoldConv, InverseConv, an unknown one) or no exact one here
        (padding with a background that differs by sample); the message names it.  The field or the channels are not
        known; background is None; weights are not finite in float32.
    FileNotFoundError, IsADirectoryError, PermissionError : see `files.check_folder`.

    Example
    -------
    >>> import numpy as np, sparsenet as sn
    >>> net = sn.s3dcnn(10, channels=(4, 8, 8))
    >>> sn.export.onnx(net, "net.onnx", metadata={"classes": list("abcdefghij")})        # doctest: +SKIP
    >>> import onnxruntime                                                               # doctest: +SKIP
    >>> grid = np.zeros((2, 1, *net.field), np.float32)
    >>> (logits,) = onnxruntime.InferenceSession("net.onnx").run(None, {"grid": grid})   # doctest: +SKIP
    """
    if importlib.util.find_spec("onnx") is None:
        raise RuntimeError("export: it needs onnx, which is not installed: pip install 'sparsenet[onnx]'")
    check_folder(path)
    graph = dense_graph(net, field, background, in_channels)
    content = onnx_model(graph, metadata or {}).SerializeToString(deterministic=True)
    with replacing(path) as beside:
        beside.write_bytes(content)


def onnx_model(graph: DenseGraph, metadata: Mapping[str, Any]) -> Any:
    """The checked ModelProto of a dense network."""
    from onnx import checker, helper

    import sparsenet

    written = OnnxNodes()
    for node in graph.nodes:
        written.add(node)
    written.node("Identity", [graph.output.name], OUTPUT)  # nodes have the names of layers
    of_input = {"field": list(graph.input.spatial_size), "background": graph.input.sample.background.numpy().tolist()}
    model = helper.make_model(
        helper.make_graph(written.nodes, "sparsenet", [_described(graph.input, graph.input.name)],
                          [_described(graph.output, OUTPUT)], written.constants),
        producer_name="sparsenet", producer_version=sparsenet.__version__, ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)])
    helper.set_model_props(model, {name: json.dumps(value) for name, value in {**of_input, **metadata}.items()})
    checker.check_model(model, full_check=True)
    return model


def _described(value: Value, name: str) -> Any:
    """The dtype and shape of the input or output."""
    from onnx import TensorProto, helper

    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [BATCH, value.channels, *value.spatial_size])
