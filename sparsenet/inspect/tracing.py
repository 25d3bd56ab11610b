"""`trace`: one record for each layer that a batch passes through, for any kind of network."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from sparsenet.autograd import Tensor, application_numbers, no_grad
from sparsenet.backend import array_module
from sparsenet.inspect.kept import Kept, kept
from sparsenet.inspect.statistics import statistics
from sparsenet.nn.activations import Activation, grid_words
from sparsenet.nn.module import Module, intercepting
from sparsenet.notebook import card, table
from sparsenet.sparse import SparseTensor
from sparsenet.wording import aligned


def trace(net: Module, batch: Any, repeats: int = 0) -> Trace:
    """Run a Module on a batch and record each layer.

    A layer is a Module that calls no other Module.  A Module that calls others gets its own record only if
    it returns something that none of them returned, such as the sum of a residual block.  The records are
    numbered 1, 2, ... in the order in which the layers finish; a layer used twice has two records.

    If a graph is recorded (not under `no_grad`), the trace also says what a training step keeps: see `Kept`.  Layers
    run one by one here, so what a fusion or activation checkpointing saves is not taken off.

    Parameters
    ----------
    net : any Module; runs in its current mode (call `net.eval()` first for evaluation)
    batch : the argument of the call; for a SparseBatch, its input
    repeats : by default the times are those of the recorded pass, which may include building rulebooks and
        compiling kernels.  With repeats = n > 0 they are the shortest of n further passes, without graph
        and in evaluation mode

    Returns
    -------
    Trace : prints as a table.  Its `output` is part of the graph: after a backward pass from it the
        records hold gradients.

    Raises
    ------
    TypeError : `net` is not a Module.
    ValueError : repeats is negative; the further passes used other layers.

    Example
    -------
    >>> import numpy as np, sparsenet as sn
    >>> net = sn.SparseNetwork(dimension=2).add_convolution(3, 2).add_max_pool(2).add_linear(2)
    >>> x = sn.SparseTensor.from_dense(np.eye(5, dtype=np.float32)[None, None])
    >>> seen = trace(net, x)
    >>> [(record.name, len(record.sites), record.multiply_adds) for record in seen[:2]]
    [('convolution1', 10, 42), ('max_pool1', 4, 0)]
    >>> sn.ops.softmax_cross_entropy(seen.output, np.array([1])).backward()
    >>> seen["max_pool1"].gradient.shape
    (4, 3)
    """
    if not isinstance(net, Module):
        raise TypeError(f"trace: net is {type(net).__name__}, expected a Module")
    if repeats < 0:
        raise ValueError(f"trace: repeats is {repeats}, expected 0 or more")
    x = getattr(batch, "input", batch)
    output, recorder = _recorded(net, x)
    own = _kept(net, x, output, recorder)
    records = recorder.records
    passes = []
    for _ in range(repeats):
        with no_grad(), net.evaluating():
            passes.append([record.seconds for record in _recorded(net, x)[1].records])
    if any(len(seconds) != len(records) for seconds in passes):
        raise ValueError("trace: the network used other layers when run again: trace it with repeats=0")
    if passes:
        records = [replace(r, seconds=min(times)) for r, times in zip(records, zip(*passes, strict=True), strict=True)]
    return Trace(x, output, tuple(records), own)


def _recorded(net: Module, x: Any) -> tuple[Any, _Recorder]:
    recorder = _Recorder(net)
    with intercepting(recorder):
        output = net(x)
    return output, recorder


def _kept(net: Module, x: Any, output: Any, recorder: _Recorder) -> Kept | None:
    """The memory that the graph of the output keeps, None if there is none; each record is told its share."""
    records = recorder.records
    tensors = [tensor for part in _tensors(output) for tensor in _parts(part)]
    if not any(tensor.requires_grad for tensor in tensors):
        return None
    sites = [one.sites for part in (x, *(given for record in records for given in record.inputs), output)
             for one in _tensors(part) if isinstance(one, SparseTensor)]
    found, shares = kept(tensors, recorder.calls, net.parameters(), sites)
    recorder.records = [replace(record, saved_bytes=share) for record, share in zip(records, shares, strict=True)]
    return found


class _Recorder:
    """Called instead of each Module: runs it, and adds a record if its result is new."""

    def __init__(self, net: Module):
        self.records: list[Activation] = []
        self.calls: list[range] = []  # the numbers of the functions applied for each record
        self.inner_seconds = 0.0  # time in modules called by the current one
        self.names: dict[int, list[str]] = {}
        for name, module in named_modules(net):
            self.names.setdefault(id(module), []).append(name)

    def __call__(self, module: Module, inputs: tuple[Any, ...]) -> Any:
        before, outside, self.inner_seconds = len(self.records), self.inner_seconds, 0.0
        first, start = next(application_numbers), perf_counter()
        output = module.forward(*inputs)
        _wait_for(output)
        seconds = perf_counter() - start
        numbers = range(first, next(application_numbers))
        own_seconds, self.inner_seconds = seconds - self.inner_seconds, outside + seconds
        known = {id(record.output) for record in self.records[before:]}
        fresh = [part for part in _tensors(output) if id(part) not in known]
        if fresh:
            name = self._next_name(module)
            for number, part in enumerate(fresh):
                own_name = name if len(fresh) == 1 else f"{name}[{number}]"
                self.records.append(Activation(len(self.records) + 1, own_name, module, tuple(inputs), part,
                                               own_seconds if number == 0 else 0.0))
                self.calls.append(numbers)
        return output

    def _next_name(self, module: Module) -> str:
        """The path of a module in the network; one with several paths gets each in turn."""
        names = self.names.get(id(module), [module.kind])
        return names.pop(0) if len(names) > 1 else names[0]


@dataclass(frozen=True, repr=False, eq=False)
class Trace(Sequence):
    """A forward pass, layer by layer.  `seen[3]` is the fourth record, `seen["max_pool1"]` the first with
    that name, `seen[2:5]` a list of three.

    input : the network's input;  output : its output
    records : Activations, in order; `statistics(record)` returns plain numbers for each
    kept : bytes that a training step keeps; None without a graph
    """

    input: Any
    output: Any
    records: tuple[Activation, ...]
    kept: Kept | None = None

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Activation]:
        return iter(self.records)

    def __getitem__(self, which: int | slice | str) -> Any:
        if isinstance(which, str):
            for record in self.records:
                if record.name == which:
                    return record
            raise KeyError(f"trace: no layer {which!r}, expected one of {', '.join(r.name for r in self.records)}")
        return list(self.records[which]) if isinstance(which, slice) else self.records[which]

    def to_dict(self) -> dict[str, Any]:
        """A JSON-compatible dict: "input", "layers" (see `statistics`) and "total".

        In the total, kept_bytes is the sum of saved_bytes, weight_bytes, gradient_bytes and all_rulebook_bytes, what a
        training step keeps (see `Kept`); all are 0 without a graph.  rulebook_bytes are those of the neighbours alone.
        """
        layers = [statistics(record) for record in self.records]
        summed = ("multiply_adds", "dense_multiply_adds", "feature_bytes", "rulebook_bytes", "seconds")
        total = {name: sum(layer[name] or 0 for layer in layers) for name in summed}
        parameters = {id(p): p.size for record in self.records for p in record.layer.parameters()}
        found = self.kept or Kept(0, 0, 0, 0)
        return {"input": _described(self.input), "layers": layers,
                "total": {**total, "parameters": sum(parameters.values()), "saved_bytes": found.activations,
                          "weight_bytes": found.weights, "gradient_bytes": found.gradients,
                          "all_rulebook_bytes": found.rulebooks, "kept_bytes": found.total}}

    def to_csv(self, path: str | os.PathLike | None = None) -> str:
        """The layers as CSV, one per line after a header; also written to `path` if given.

        The columns are those of `statistics`, except for the background's values, which are in `to_dict`.
        Unknown fields are empty; a spatial size is written as 13x13x13.
        """
        rows = [{name: _csv_field(value) for name, value in statistics(record).items() if name != "background"}
                for record in self.records]
        text = io.StringIO()
        writer = csv.DictWriter(text, rows[0].keys() if rows else (), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        if path is not None:
            Path(path).write_text(text.getvalue(), encoding="utf-8")
        return text.getvalue()

    def __str__(self) -> str:
        """Two tables: the work of each layer, and its values; between them, what a training step keeps."""
        found = self.to_dict()
        work = aligned(_work_rows(self, found), left=_LEFT_OF_WORK, rules=(1, -1))
        lines = [] if self.kept is None else [f"kept for a step: {self.kept}"]
        return "\n".join([work, *lines, "", aligned(_value_rows(found["layers"]), left=(1,))])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """The HTML that notebooks show: the same two tables, and what a training step keeps."""
        found = self.to_dict()
        facts = {} if self.kept is None else {"kept for a step": str(self.kept)}
        return card("Trace", facts, table(_work_rows(self, found), left=_LEFT_OF_WORK, rules=(-1,)),
                    table(_value_rows(found["layers"]), left=(1,)))


_LEFT_OF_WORK = (1, 2)  # columns


def _work_rows(seen: Trace, found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The work of each layer, between a heading and the totals."""
    scale, unit = (1e-6, "M ") if found["total"]["dense_multiply_adds"] >= 1e6 else (1, "")
    rows: list[tuple[str, ...]] = [("", "layer", "settings", "size", "channels", "sites", "active %", "pairs",
                                    f"{unit}mult-adds", f"{unit}if dense", "features KB", "saved KB", "rulebook KB",
                                    "ms")]
    if isinstance(seen.input, (SparseTensor, Tensor)):
        rows.append(("0", "input", "", *grid_words(seen.input), *[""] * 7))
    for record, layer in zip(seen.records, found["layers"], strict=True):
        pairs = "" if layer["pairs"] is None else f"{layer['pairs']:,}"
        rows.append((str(record.index), record.name, layer["settings"], *grid_words(record.output), pairs,
                     *_work_words(layer, scale)))
    batch = getattr(seen.input, "batch_size", None)
    rows.append(("", "total", "" if batch is None else f"batch of {batch}", "", "", "", "", "",
                 *_work_words(found["total"], scale)))
    return rows


def _work_words(numbers: Mapping[str, Any], scale: float) -> tuple[str, ...]:
    work = [("?" if numbers[name] is None else _scaled(numbers[name], scale))
            for name in ("multiply_adds", "dense_multiply_adds")]
    return (*work, *(_scaled(numbers[name], 1e-3) for name in ("feature_bytes", "saved_bytes", "rulebook_bytes")),
            _scaled(numbers["seconds"], 1e3))


def _scaled(value: float | None, scale: float) -> str:
    """Integers unchanged, others with two decimals or, below one, three digits; "" for None."""
    if not value:
        return ""
    return f"{value:,}" if scale == 1 else f"{value * scale:,.2f}" if value * scale >= 1 else f"{value * scale:.3g}"


def _value_rows(layers: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """The values of each layer, below a heading."""
    columns = {"mean": "mean", "std": "std", "min": "minimum", "max": "maximum", "dead %": "dead_channels",
               "|background|": "background_norm", "|gradient|": "gradient_norm",
               "|parameters' gradient|": "parameter_gradient_norm"}
    rows: list[tuple[str, ...]] = [("", "layer", *columns)]
    for layer in layers:
        words = ["" if (value := layer[name]) is None else f"{100 * value:.1f}" if name == "dead_channels"
                 else f"{value:.4g}" for name in columns.values()]
        rows.append((str(layer["index"]), layer["name"], *words))
    return rows


def _parts(x: SparseTensor | Tensor) -> list[Tensor]:
    return list(x.tensors().values()) if isinstance(x, SparseTensor) else [x]


def _described(x: Any) -> dict[str, Any] | None:
    if isinstance(x, SparseTensor):
        return {"spatial_size": list(x.spatial_size), "batch_size": x.batch_size, "channels": x.channels,
                "sites": len(x), "active_fraction": x.active_fraction, "dtype": str(x.dtype), "device": x.device}
    if isinstance(x, Tensor):
        return {"shape": list(x.shape), "dtype": str(x.dtype), "device": x.device}
    return None


def _csv_field(value: Any) -> Any:
    return "x".join(map(str, value)) if isinstance(value, list) else value


def named_modules(module: Module, path: str = "") -> Iterator[tuple[str, Module]]:
    """(path, module) of a module and all its descendants; the outermost is named after its kind."""
    yield path or module.kind, module
    for name, child in module.named_children():
        yield from named_modules(child, f"{path}.{name}" if path else name)


def _tensors(value: Any) -> list[SparseTensor | Tensor]:
    """The tensors in the result of a module."""
    if isinstance(value, (SparseTensor, Tensor)):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    return [part for one in value for part in _tensors(one)] if isinstance(value, (list, tuple)) else []


def _wait_for(output: Any) -> None:
    """Wait until the device has computed the output."""
    for part in _tensors(output):
        if part.device == "cuda":
            tensor = part.features if isinstance(part, SparseTensor) else part
            array_module(tensor.array).cuda.get_current_stream().synchronize()
            return
