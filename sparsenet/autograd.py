"""Reverse-mode automatic differentiation: `Tensor`, `Parameter`, `Function`, `no_grad`.

A `Function` is one application of an operation, a node of the graph: it refers to its inputs, and its outputs to it.

    class Square(Function):
        def forward(self, x):
            self.save(x)
            return x * x

        def backward(self, gradient):
            (x,) = self.saved
            return 2 * x * gradient

    y = Square().apply(Tensor(array, requires_grad=True))
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import ContextDecorator
from itertools import count
from sys import getrefcount
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sparsenet.backend import adopted, array_module, device_of, rectangular
from sparsenet.kernels.sums import added

if TYPE_CHECKING:
    from sparsenet.ops.methods import TensorMethods
else:
    TensorMethods = object


class ThreadState(threading.local):
    no_grad_depth = 0  # number of nested no_grad blocks
    checks: Any = None  # of `anomaly.detect_anomaly`, while it is active


thread_state = ThreadState()
application_numbers = count(1)  # of functions, in the order in which they are applied


class no_grad(ContextDecorator):
    """Context manager and decorator: operations on this thread record no graph."""

    def __enter__(self) -> None:
        thread_state.no_grad_depth += 1

    def __exit__(self, *error: object) -> None:
        thread_state.no_grad_depth -= 1


class Tensor(TensorMethods):
    """An array and the operation that computed it.  `sparsenet.ops.methods` defines its operators and methods.

    array : NumPy, CuPy or DLPack array (kept, not copied), or a number or list: a NumPy array then, floats float32
    requires_grad : collect a gradient in `.grad`; only floating-point arrays can require one
    grad : array of the shape, dtype and device of `array`, or None; `backward` adds to it
    """

    __array_ufunc__ = None  # array * tensor is Tensor.__rmul__, not NumPy's loop over elements
    __hash__ = object.__hash__  # by identity, although == is elementwise

    def __init__(self, array: Any, requires_grad: bool = False):
        self._array = as_array(array)
        self.grad: Any = None
        self._writes = [0]  # version counter, shared by the tensors that view the same array
        self._creator: Function | None = None
        self._output_index, self._retains_grad = 0, False
        self.requires_grad = requires_grad

    @property
    def array(self) -> Any:
        """The array; assignable."""
        return self._array

    @array.setter
    def array(self, value: Any) -> None:
        value = as_array(value)
        _check_floating(value, self._requires_grad)
        self.mark_modified()  # noticed by every function that saved the old array
        self._array, self._writes = value, [self.version]

    @property
    def shape(self) -> tuple[int, ...]:
        return self._array.shape

    @property
    def dtype(self) -> np.dtype:
        return self._array.dtype

    @property
    def ndim(self) -> int:
        return self._array.ndim

    @property
    def size(self) -> int:
        return self._array.size

    @property
    def device(self) -> str:
        """"cpu" or "cuda"."""
        return device_of(self._array)

    @property
    def version(self) -> int:
        """Increases whenever the array is assigned or modified."""
        return self._writes[0]

    def mark_modified(self) -> None:
        """Record that `array` was modified in place: a graph that saved it can no longer run backward."""
        self._writes[0] += 1

    @property
    def is_leaf(self) -> bool:
        """Whether no recorded operation computed it: `backward` fills the `.grad` of leaves."""
        return self._creator is None

    @property
    def requires_grad(self) -> bool:
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if self._creator is not None and not value:
            raise RuntimeError("Tensor: requires_grad of a computed tensor cannot be turned off: use .detach()")
        _check_floating(self._array, value)
        self._requires_grad = bool(value)

    def detach(self) -> Tensor:
        """A tensor of the same array (not copied) that is not part of the graph."""
        tensor = Tensor(self._array)
        tensor._writes = self._writes
        return tensor

    def retain_grad(self) -> None:
        """Make `backward` fill the `.grad` of this computed tensor too, as it does for leaves."""
        self._retains_grad = True

    def backward(self, gradient: Any = None, retain_graph: bool = False) -> None:
        """Add the gradient of sum(self * gradient) to `.grad` of every leaf that requires one.

        gradient : array or Tensor of this tensor's shape and dtype; optional for a single element
        retain_graph : keep the saved arrays, so that `backward` can run through the same graph again

        Raises RuntimeError if nothing requires a gradient, an earlier backward freed the graph, or an array that the
        graph saved was assigned or modified since; ValueError if the gradient has another shape or dtype.
        """
        if not self._requires_grad:
            raise RuntimeError("backward: the tensor requires no gradient: set requires_grad on a tensor "
                               "that it is computed from, outside no_grad")
        if gradient is None and self.size != 1:
            raise ValueError(f"backward: the tensor has shape {self.shape}, expected one element: pass a "
                             "gradient, or reduce it with .sum() or .mean()")
        gradient = _ones(self._array) if gradient is None else gradient
        gradient = _checked_gradient("backward", getattr(gradient, "array", gradient), self)
        if thread_state.checks:
            thread_state.checks.gradients("backward", "", [gradient], "the gradient given to it, output")
        _run_backward(self, gradient, retain_graph)

    def __getstate__(self) -> dict[str, Any]:
        """The state to pickle and copy; the copy of a computed tensor is detached from the graph."""
        state = vars(self).copy()
        return state if self.is_leaf else state | {"_creator": None, "_requires_grad": False}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._array!r}{', requires_grad=True' if self._requires_grad else ''})"


class Parameter(Tensor):
    """A Tensor that a `sparsenet.nn.Module` owns and an optimizer updates; always a leaf.

    array : array, number, list, or a Tensor, whose array it shares
    requires_grad : assignable; a frozen parameter (False) stays in `parameters()` and `state_dict()`, and optimizers
        skip it
    """

    def __init__(self, array: Any, requires_grad: bool = True):
        super().__init__(array.array if isinstance(array, Tensor) else array, requires_grad)
        if isinstance(array, Tensor):
            self._writes = array._writes


class Edge(NamedTuple):
    """From a function to a tensor it read; does not keep the tensor alive, so that its array can be freed."""

    creator: Function | None
    index: int
    shape: tuple[int, ...]
    dtype: Any
    tensor: weakref.ref[Tensor]


class Parts(list):
    """The gradient of one input as arrays that are added one after another, each as if it were that of one use."""


class Function:
    """One application of an operation.  Subclasses define `forward` and `backward`.

    forward(*arrays) : takes arrays (None for an input that is None) and returns an array or a tuple of arrays;
        calls `save` with what `backward` needs; must not modify its inputs
    backward(*gradients) : takes a C-contiguous gradient for each output (None for an output without one) and returns
        one (or Parts) for each input, in a tuple if there are several, None where `needs` is False; must modify
        neither them nor what is saved
    needs : which inputs need a gradient, set before `forward`;  saved : what `forward` saved
    """

    def __init__(self) -> None:
        self.name = type(self).__name__
        self.needs: tuple[bool, ...] = ()
        self.saved: tuple[Any, ...] = ()
        self._inputs: tuple[Edge | None, ...] = ()
        self._watched: list[tuple[list[int], int]] = []  # version counters of saved arrays, and their values then
        self._output_count, self._number, self._state = 0, 0, "new"  # then "applied", then "freed"
        self._layer = ""  # description of the layer that applied it; known only within detect_anomaly

    def __getstate__(self) -> dict[str, Any]:
        """The state to pickle and copy; the copy of an applied function counts as freed."""
        state, freed = vars(self).copy(), {"_state": "freed", "saved": (), "_inputs": (), "_watched": []}
        return state if self._state == "new" else state | freed

    def save(self, *arrays: Any) -> None:
        """Keep arrays (or anything else) for `backward`; keeps nothing if no input needs a gradient."""
        self.saved = arrays if any(self.needs) else ()

    def apply(self, *inputs: Tensor | None) -> Any:
        """Run `forward` on the tensors and record it; returns a Tensor, or a tuple if forward returned one."""
        if self._state != "new":
            raise RuntimeError(f"{self.name}: applied already: build a new one for each call")
        for i, tensor in enumerate(inputs):
            if not isinstance(tensor, Tensor | None):
                raise TypeError(f"{self.name}: input {i} is {type(tensor).__name__}, expected a Tensor: "
                                "wrap it with Tensor(array)")
        given = [(tensor.array, tensor._writes) for tensor in inputs if tensor is not None]
        device_of(*(array for array, _ in given))  # raises if they differ
        self._state, self._number, recording = "applied", next(application_numbers), not thread_state.no_grad_depth
        self.needs = tuple(t is not None and t.requires_grad and recording for t in inputs)
        result = self.forward(*(None if tensor is None else tensor.array for tensor in inputs))
        outputs = tuple(Tensor(array) for array in (result if isinstance(result, tuple) else (result,)))
        for tensor in outputs:  # an output may be a view of an input
            tensor._writes = (_writes_of(tensor.array, given) or [tensor._writes])[0]
        if thread_state.checks:
            self._layer = thread_state.checks.layer_path()
            thread_state.checks.outputs(self.name, inputs, outputs)
        if any(self.needs):
            known = given + [(tensor.array, tensor._writes) for tensor in outputs]
            self._watched = [(w, w[0]) for value in self.saved for w in _writes_of(value, known)]
            self._inputs = tuple(None if tensor is None else _edge(tensor) for tensor in inputs)
            self._output_count = len(outputs)
            for index, tensor in enumerate(outputs):
                if tensor.dtype.kind == "f":
                    tensor._requires_grad, tensor._creator, tensor._output_index = True, self, index
        return outputs if isinstance(result, tuple) else outputs[0]

    def _differentiate(self, gradients: list[Any], retain_graph: bool) -> list[tuple[Edge, Any]]:
        """Pairs (input, its gradient) from the outputs' gradients; frees the saved arrays unless they are retained."""
        if self._state != "applied":
            raise RuntimeError(f"{self.name}: an earlier backward ran through this graph and freed it: call backward "
                               "once, on the sum of the losses, or keep it with backward(retain_graph=True)")
        if any(writes[0] != before for writes, before in self._watched):
            raise RuntimeError(f"{self.name}: an array that it saved was assigned or modified between "
                               "forward and backward: change arrays (optimizer steps too) after backward")
        try:
            results = self.backward(*gradients)
        except MemoryError as error:
            error.add_note(f"in the backward pass of {self.name}")
            raise
        results = results if isinstance(results, tuple) else (results,)
        if len(results) != len(self.needs):
            raise ValueError(f"{self.name}: backward returned {len(results)} gradients, expected "
                             f"{len(self.needs)}: return one for each input, None where not needed")
        if thread_state.checks:
            needed = [g if need and type(g) is not Parts else None for g, need in zip(results, self.needs, strict=True)]
            thread_state.checks.gradients(f"backward of {self.name}", self._layer, needed, "the gradient of input")
        pairs = [(edge, _checked_gradient(self.name, part, edge)) for edge, result, need
                 in zip(self._inputs, results, self.needs, strict=True) if need and result is not None
                 for part in (result if isinstance(result, Parts) else (result,))]
        if not retain_graph:
            self._state, self.saved, self._inputs, self._watched = "freed", (), (), []
        return pairs


def _run_backward(root: Tensor, gradient: Any, retain_graph: bool) -> None:
    totals: dict[Tensor, Any] = {}  # assigned at the end, so that an error leaves every .grad as it was
    for edge, part in gradient_parts(root, gradient, retain_graph):
        if (tensor := edge.tensor()) is not None and (tensor.is_leaf or tensor._retains_grad):
            totals[tensor] = _sum(totals.get(tensor), part)
    while totals:
        tensor, *box = totals.popitem()  # a copy if others have it: a backward may return one array for several inputs
        tensor.grad = _sum(tensor.grad, box[0] if getrefcount(box[0]) == 2 and box[0].base is None else box[0].copy())


def gradient_parts(root: Tensor, gradient: Any, retain_graph: bool) -> Iterator[tuple[Edge, Any]]:
    """The parts of the gradient of each tensor of the graph, one for each use, in the order of their summation."""
    pending: dict[Function, list[Any]] = {}  # sums of the gradients of its outputs so far
    parts = [(_edge(root), gradient)]
    for function in (*reverse_order(root), None):
        for edge, part in parts:
            if edge.creator is not None:
                slots = pending.setdefault(edge.creator, [None] * edge.creator._output_count)
                slots[edge.index] = _sum(slots[edge.index], part)
            yield edge, part
        parts = function._differentiate(pending.pop(function), retain_graph) if function in pending else []


def reverse_order(*roots: Tensor) -> list[Function]:
    """The functions that computed these tensors, the last applied first; iterative, as chains may be long."""
    found: set[Function] = set()
    waiting = [root._creator for root in roots]
    while waiting:
        if (function := waiting.pop()) is not None and function not in found:
            found.add(function)
            waiting.extend(edge.creator for edge in function._inputs if edge is not None)
    return sorted(found, key=lambda function: function._number, reverse=True)


def _edge(tensor: Tensor) -> Edge:
    return Edge(tensor._creator, tensor._output_index, tensor.shape, tensor.dtype, weakref.ref(tensor))


def _sum(known: Any, gradient: Any) -> Any:
    return gradient if known is None else as_array(added(known, gradient))  # never in place


def _writes_of(value: Any, known: list[tuple[Any, list[int]]]) -> list[list[int]]:
    """The version counters of the known arrays that `value` is or shares memory with."""
    owner = value if getattr(value, "base", None) is None else value.base
    return [writes for array, writes in known if owner is (array if array.base is None else array.base)]


def _checked_gradient(name: str, gradient: Any, tensor: Tensor | Edge) -> Any:
    """The gradient, C-contiguous.  Raises ValueError unless it has the tensor's shape and dtype."""
    gradient = as_array(gradient)
    if gradient.shape != tensor.shape or gradient.dtype != tensor.dtype:
        raise ValueError(f"{name}: gradient is {gradient.dtype} {gradient.shape}, expected {tensor.dtype} "
                         f"{tensor.shape}, as the tensor")
    return gradient if gradient.flags.c_contiguous else gradient.copy()


_units: dict[tuple[type, str, Any], Any] = {}  # by array class, device and dtype


def _ones(array: Any) -> Any:
    """Ones like the array; for a single number the same array each time, so that `is_unit` recognizes it."""
    xp, place = array_module(array), (type(array), str(array.device), array.dtype)
    if array.shape:
        return xp.ones_like(array)
    return _units[place] if place in _units else _units.setdefault(place, xp.ones_like(array))


def is_unit(gradient: Any) -> bool:
    """Whether it is the very 1 that `backward` starts with, found without reading its value, which waits for a GPU."""
    return any(gradient is unit for unit in _units.values())


def as_array(value: Any) -> Any:
    """`value` (see Tensor) as a NumPy or CuPy array: numbers and lists become NumPy's, floats among them float32.

    Raises TypeError unless it holds real numbers, ValueError for nested lists of different lengths.
    """
    if value is None:
        raise TypeError("Tensor: array is None, expected a NumPy or CuPy array, a number or a list")
    if isinstance(value, (int, float, list, tuple)) and not isinstance(value, np.generic):
        value = rectangular("Tensor", value)
        value = value.astype(np.float32) if value.dtype == np.float64 else value
    device_of(value := adopted(value))  # raises unless it is an array
    if value.dtype.kind not in "biuf":
        raise TypeError(f"Tensor: array is {value.dtype}, expected real numbers")
    return np.asarray(value) if isinstance(value, np.generic) else value


def _check_floating(array: Any, requires_grad: bool) -> None:
    if requires_grad and array.dtype.kind != "f":
        raise TypeError(f"Tensor: array is {array.dtype}, which cannot require a gradient: make it float32")
