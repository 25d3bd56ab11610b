"""Activation checkpointing: activations that are not kept for the backward pass but computed again in it.

Training a network keeps the activations of every layer until the backward pass has used them.  Checkpointed layers keep
their input alone; when the backward pass reaches them they run a second time, and the second graph gives the
gradients (Chen et al. 2016, "Training deep nets with sublinear memory cost").  With n layers in parts of sqrt(n) the
memory is that of 2 sqrt(n) layers, for one more forward pass.

    forward     x -> layers -> y            the graph of this is dropped
    backward    x -> layers -> y            again, as it was: modes, draws of dropout, buffers
                gradient of y -> gradients of x and of the parameters

The result has the same bits as without: loss, gradients and buffers.  The second run draws the same masks, and its
changes of buffers (running statistics) are thrown away.  Each part of a gradient is handed on by itself, in the order
in which the plain graph adds it.

Within `intercepting` (tracing, activations) and `detect_anomaly` layers run plainly, so that each of them is seen once.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from sparsenet.autograd import Function, Parts, Tensor, gradient_parts, thread_state
from sparsenet.backend import array_module
from sparsenet.nn.fusion import run_layers
from sparsenet.nn.module import Module, intercepted, intercepting
from sparsenet.nn.sequential import Sequential
from sparsenet.random import RowStreams
from sparsenet.sparse import SparseTensor


class Checkpoint(Sequential):
    """Modules applied one after another, whose activations are computed again in the backward pass instead of kept.

    Everything else is as in Sequential: names, `layers`, results, and all bits.  What the modules compute may depend on
    their input, parameters, buffers, mode and `rng` alone; anything else that they change in their forward pass they
    change a second time in the backward pass.

    The input is a Tensor or SparseTensor, and so is the output.

    Raises
    ------
    TypeError : a layer is not a Module; the input or the output is something else.
    RuntimeError : in the backward pass, if the layers give other shapes than before, or a parameter was changed since.

    Example
    -------
    >>> from sparsenet.nn import Linear, Sequential
    >>> plain = Sequential(Linear(2, 3, rng=0), Linear(3, 1, rng=1))
    >>> saving = Checkpoint(*plain.layers)
    >>> x = Tensor([[1.0, 2.0]], requires_grad=True)
    >>> saving(x).sum().backward()
    >>> saved = x.grad
    >>> x.grad = None
    >>> plain(x).sum().backward()
    >>> bool((x.grad == saved).all())
    True
    """

    def forward(self, x: Any) -> Any:
        return run_again(self.layers, x)


def run_again(layers: Sequence[Module], x: Any) -> Any:
    """The layers applied to x, a Tensor or SparseTensor; they run again in the backward pass."""
    if thread_state.no_grad_depth or intercepted() or thread_state.checks:
        return run_layers(layers, x)
    given = _tensors(x, "input")
    parameters = list({id(one): one for layer in layers for one in layer.parameters()}.values())
    if not any(one.requires_grad for one in (*given.values(), *parameters)):
        return run_layers(layers, x)
    before = _State(layers)
    y = run_layers(layers, _with(x, _leaves(given)))
    found = _tensors(y, "output")
    computed = {name: tensor for name, tensor in found.items() if tensor.requires_grad}
    outside = {name: one.detach() if one.requires_grad else one for name, one in given.items()}
    function = Recompute(_Run(list(layers), _with(x, outside), before, _kinds(computed)), computed)
    outputs = function.apply(*given.values(), *parameters)
    return _with(y, found | dict(zip(computed, outputs, strict=True)))


def run_parts(layers: Sequence[Module], x: Any, count: int) -> Any:
    """The layers applied to x, in so many parts, of which all but the last run again in the backward pass, the last of
    them first: what it would save is needed at once."""
    *others, last = parts_of(layers, count)
    for part in others:
        x = run_again(part, x)
    return run_layers(last, x)


def parts_of(layers: Sequence[Module], count: int) -> list[Sequence[Module]]:
    """The layers in at most `count` parts of about equally many layers with weight matrices, each the first of its part
    (what stands before the first is part of the first)."""
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise ValueError(f"recompute is {count!r}, expected a number of parts, or 0")
    weighted = [place for place, layer in enumerate(layers) if any(one.ndim > 1 for one in layer.parameters())]
    count = max(1, min(count, len(weighted)))
    borders = [0, *(weighted[number * len(weighted) // count] for number in range(1, count)), len(layers)]
    return [layers[start:stop] for start, stop in zip(borders, borders[1:], strict=False)]


class _Run(NamedTuple):
    """All it takes to run layers again: their input, outside the graph, their state before they ran, and the shapes
    and dtypes of what they computed."""

    layers: list[Module]
    x: Any
    before: _State
    kinds: dict[str, tuple]


class Recompute(Function):
    """Layers that have run, and run again in `backward`.  Its inputs are the Tensors of their input, and their
    parameters; its outputs those that they computed."""

    def __init__(self, run: _Run, computed: dict[str, Tensor]):
        super().__init__()
        self.given: Any = run, tuple(tensor.array for tensor in computed.values())

    def forward(self, *arrays: Any) -> tuple[Any, ...]:
        (run, outputs), self.given = self.given, None
        self.save(run, *arrays)  # arrays that are changed before the backward pass are noticed
        return outputs

    def backward(self, *gradients: Any) -> tuple[Parts | None, ...]:
        run: _Run = self.saved[0]
        leaves = _leaves(_tensors(run.x, "input"), self.needs)
        with run.before.restored():
            found = _tensors(run_layers(run.layers, _with(run.x, leaves)), "output")
            computed = {name: tensor for name, tensor in found.items() if tensor.requires_grad}
            if _kinds(computed) != run.kinds:
                raise RuntimeError(f"Checkpoint: the layers computed {_kinds(computed)} when they ran again, and "
                                   f"{run.kinds} before: they may depend on their input, parameters, buffers, mode and "
                                   "rng alone")
            end = _Ends(gradients).apply(*computed.values())
        parameters = list({id(one): one for layer in run.layers for one in layer.parameters()}.values())
        parts = {id(one): Parts() for one in (*leaves.values(), *parameters)}
        for edge, part in gradient_parts(end, array_module(end.array).ones_like(end.array), False):
            if edge.creator is None and id(edge.tensor()) in parts:
                parts[id(edge.tensor())].append(part)
        return tuple(parts.values())


class _Ends(Function):
    """A number with these gradients by its inputs: where the backward pass of several tensors begins."""

    def __init__(self, gradients: Sequence[Any]):
        super().__init__()
        self.gradients = tuple(gradients)

    def forward(self, *arrays: Any) -> Any:
        return array_module(arrays[0]).zeros(1, arrays[0].dtype)

    def backward(self, gradient: Any) -> tuple[Any, ...]:
        return self.gradients


class _State:
    """State that layers depend on besides their input and parameters: modes, generators of random numbers, buffers."""

    def __init__(self, layers: Sequence[Module]):
        modules = {id(module): module for layer in layers for module in layer.modules()}
        self.modules = list(modules.values())
        self.values = _copied([self._of(module) for module in self.modules])

    @staticmethod
    def _of(module: Module) -> dict[str, Any]:
        rng = getattr(module, "rng", None)
        return {"training": module.training} | (
            {"rng": rng} if isinstance(rng, np.random.Generator | RowStreams) else {}) | {
            name: getattr(module, name) for name in module._buffers}

    @contextmanager
    def restored(self) -> Iterator[None]:
        """A context in which the layers are as they were, their calls are plain, and a graph is recorded."""
        now, depth = [self._of(module) for module in self.modules], thread_state.no_grad_depth
        try:
            self._set(_copied(self.values))
            thread_state.no_grad_depth = 0
            with intercepting(None):
                yield
        finally:
            self._set(now)
            thread_state.no_grad_depth = depth

    def _set(self, values: list[dict[str, Any]]) -> None:
        for module, attributes in zip(self.modules, values, strict=True):
            for name, value in attributes.items():
                setattr(module, name, value)


def _copied(values: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Copies of the Tensors and generators; one that several modules share stays shared."""
    copies: dict[int, Any] = {}

    def copied(value: Any) -> Any:
        if id(value) not in copies and not isinstance(value, bool):
            copies[id(value)] = Tensor(value.array.copy()) if isinstance(value, Tensor) else copy.deepcopy(value)
        return copies.get(id(value), value)

    return [{name: copied(value) for name, value in attributes.items()} for attributes in values]


def _tensors(x: Any, what: str) -> dict[str, Tensor]:
    if isinstance(x, Tensor):
        return {"": x}
    if isinstance(x, SparseTensor):
        return x.tensors()
    raise TypeError(f"Checkpoint: the {what} is {type(x).__name__}, expected a Tensor or SparseTensor")


def _with(x: Any, tensors: dict[str, Tensor]) -> Any:
    return tensors[""] if isinstance(x, Tensor) else x.with_tensors(tensors)


def _leaves(tensors: dict[str, Tensor], needs: Sequence[bool] | None = None) -> dict[str, Tensor]:
    """Leaves that require a gradient in the place of the Tensors that do; `needs`: which of them do."""
    needs = [one.requires_grad for one in tensors.values()] if needs is None else needs
    leaves = {}
    for (name, tensor), need in zip(tensors.items(), needs, strict=False):
        leaves[name] = tensor.detach() if need else tensor
        if need:
            leaves[name].requires_grad = True
    return leaves


def _kinds(tensors: dict[str, Tensor]) -> dict[str, tuple]:
    return {name: (tensor.shape, str(tensor.dtype)) for name, tensor in tensors.items()}
