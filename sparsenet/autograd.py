"""Reverse-mode differentiation: `Tensor`, `Parameter`, `Function`, `no_grad`.

A `Function` is one application of one operation and a node of the graph: it knows the tensors it read,
a tensor knows the function that made it.  Arrays are NumPy's or CuPy's; nothing here asks which.

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
from contextlib import ContextDecorator
from typing import Any, NamedTuple

from sparsenet import anomaly
from sparsenet.backend import array_module, device_of
from sparsenet.tensor_base import TensorBase, as_array, check_floating, check_gradient

_thread = threading.local()


class no_grad(ContextDecorator):
    """Context manager and decorator: operations of this thread within it record no graph."""

    def __enter__(self) -> None:
        _thread.depth = getattr(_thread, "depth", 0) + 1

    def __exit__(self, *error: object) -> None:
        _thread.depth -= 1


class Tensor(TensorBase):
    """An array that remembers where it came from; `TensorBase` names its properties and operators.

    array : NumPy or CuPy array, kept, not copied; numbers and lists become NumPy's, floats float32.
    requires_grad : collect a gradient in `.grad`; only floating-point arrays can.
    grad : array of the shape, dtype and device of `array`, or None; `backward` adds to it.
    """

    def __init__(self, array: Any, requires_grad: bool = False):
        self._array = as_array(array)
        self.grad: Any = None
        self._writes = [0]  # version counter, shared by the tensors that view the same array
        self._creator: Function | None = None
        self._output_index, self._retains_grad = 0, False
        self.requires_grad = requires_grad

    @property
    def version(self) -> int:
        """Grows whenever the array is assigned or modified."""
        return self._writes[0]

    @property
    def is_leaf(self) -> bool:
        """Whether it is no recorded result of an operation: `backward` fills the `.grad` of leaves."""
        return self._creator is None

    @property
    def array(self) -> Any:
        """The array; assignable."""
        return self._array

    @array.setter
    def array(self, value: Any) -> None:
        value = as_array(value)
        check_floating(value, self._requires_grad)
        self.mark_modified()  # seen by every function that saved the old array
        self._array, self._writes = value, [self.version]

    def mark_modified(self) -> None:
        """Tell that `array` was written in place: a graph that saved it can no longer go backward."""
        self._writes[0] += 1

    @property
    def requires_grad(self) -> bool:
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if self._creator is not None and not value:
            raise RuntimeError("Tensor: requires_grad of a computed tensor stays on: use .detach()")
        check_floating(self._array, value)
        self._requires_grad = bool(value)

    def detach(self) -> Tensor:
        """A tensor of the same array (not copied) that is no part of the graph."""
        tensor = Tensor(self._array)
        tensor._writes = self._writes
        return tensor

    def retain_grad(self) -> None:
        """Make `backward` fill `.grad` of this computed tensor too, as it does for leaves."""
        self._retains_grad = True

    def backward(self, gradient: Any = None) -> None:
        """Add to `.grad` of every leaf that requires it the gradient of sum(self * gradient).

        gradient : array or Tensor of this tensor's shape and dtype; may be left out for one element.
        Raises RuntimeError where nothing requires a gradient, an earlier backward used the graph up, or an
        array that the graph saved was assigned or modified since; ValueError where gradient is unfit.
        """
        if not self._requires_grad:
            raise RuntimeError("backward: the tensor requires no gradient: set requires_grad on a tensor "
                               "that it is computed from, outside no_grad")
        if gradient is None and self.size != 1:
            raise ValueError(f"backward: the tensor has shape {self.shape}, expected one element: pass a "
                             "gradient, or reduce it with .sum() or .mean()")
        gradient = _ones(self._array) if gradient is None else gradient
        gradient = check_gradient("backward", getattr(gradient, "array", gradient), self)
        if anomaly.detecting():
            anomaly.check_gradients("backward", "", [gradient], "the gradient given to it, output")
        _run_backward(self, gradient)

    def __getstate__(self) -> dict[str, Any]:
        """The state to pickle and copy: the copy of a computed tensor is cut from the graph, as by `detach`."""
        state = vars(self).copy()
        return state if self.is_leaf else state | {"_creator": None, "_requires_grad": False}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._array!r}{', requires_grad=True' if self._requires_grad else ''})"


class Parameter(Tensor):
    """A Tensor that a `sparsenet.nn.Module` owns and an optimizer moves; a leaf, always.

    array : array, number, list, or a Tensor, whose array it shares
    requires_grad : may be set later; a parameter that is frozen (False) stays one: it is in `parameters()` and
        `state_dict()`, optimizers pass it over, and take it up again once it is thawed

    Raises TypeError if an array that requires a gradient is not floating-point.
    """

    def __init__(self, array: Any, requires_grad: bool = True):
        super().__init__(array.array if isinstance(array, Tensor) else array, requires_grad)
        if isinstance(array, Tensor):
            self._writes = array._writes


class Edge(NamedTuple):
    """From a function to a tensor it read; does not keep the tensor alive, so its array can go."""

    creator: Function | None
    index: int
    shape: tuple[int, ...]
    dtype: Any
    tensor: weakref.ref[Tensor]


class Function:
    """One application of an operation.  Subclasses define `forward` and `backward`.

    forward(*arrays) : arrays in (None for an input that is None), an array or a tuple of arrays out;
        calls `save` for what `backward` needs; must not write to its inputs.
    backward(*gradients) : one C-contiguous gradient for each output (None where it got none); returns one
        for each input, a tuple if several, None where `needs` is False; must not write to its inputs.
    needs : which inputs need a gradient, set before `forward`;  saved : what `forward` saved.
    """

    def __init__(self) -> None:
        self.name = type(self).__name__
        self.needs: tuple[bool, ...] = ()
        self.saved: tuple[Any, ...] = ()
        self._inputs: tuple[Edge | None, ...] = ()
        self._watched: list[tuple[list[int], int]] = []  # version counters, and what they were
        self._output_count, self._state = 0, "new"  # then "applied", then "used up"
        self._layer = ""  # that applied it, in words; known under detect_anomaly alone

    def __getstate__(self) -> dict[str, Any]:
        """The state to pickle and copy: once applied, without the graph, so that the copy counts as used up."""
        state, cut = vars(self).copy(), {"_state": "used up", "saved": (), "_inputs": (), "_watched": []}
        return state if self._state == "new" else state | cut

    def save(self, *arrays: Any) -> None:
        """Keep arrays (or anything) for `backward`; nothing is kept where no input needs a gradient."""
        self.saved = arrays if any(self.needs) else ()

    def apply(self, *inputs: Tensor | None) -> Any:
        """Run `forward` on the tensors and record it; a Tensor, or a tuple where forward gave one."""
        if self._state != "new":
            raise RuntimeError(f"{self.name}: applied already: build a new one for each call")
        for i, tensor in enumerate(inputs):
            if not isinstance(tensor, Tensor | None):
                raise TypeError(f"{self.name}: input {i} is {type(tensor).__name__}, expected a Tensor: "
                                "wrap it with Tensor(array)")
        given = [(tensor.array, tensor._writes) for tensor in inputs if tensor is not None]
        device_of(*(array for array, _ in given))  # raises where they differ
        recording, self._state = getattr(_thread, "depth", 0) == 0, "applied"
        self.needs = tuple(t is not None and t.requires_grad and recording for t in inputs)
        result = self.forward(*(None if tensor is None else tensor.array for tensor in inputs))
        outputs = tuple(Tensor(array) for array in (result if isinstance(result, tuple) else (result,)))
        for tensor in outputs:  # an output may be a view of an input
            tensor._writes = (_writes_of(tensor.array, given) or [tensor._writes])[0]
        if anomaly.detecting():
            self._layer = anomaly.layer_path()
            anomaly.check_outputs(self.name, inputs, outputs)
        if any(self.needs):
            known = given + [(tensor.array, tensor._writes) for tensor in outputs]
            self._watched = [(w, w[0]) for value in self.saved for w in _writes_of(value, known)]
            self._inputs = tuple(None if tensor is None else _edge(tensor) for tensor in inputs)
            self._output_count = len(outputs)
            for index, tensor in enumerate(outputs):
                if tensor.dtype.kind == "f":
                    tensor._requires_grad, tensor._creator, tensor._output_index = True, self, index
        return outputs if isinstance(result, tuple) else outputs[0]

    def _differentiate(self, gradients: list[Any]) -> list[tuple[Edge, Any]]:
        """Pairs (input, its gradient), from the outputs' gradients; lets the saved arrays go."""
        if self._state != "applied":
            raise RuntimeError(f"{self.name}: an earlier backward ran through this graph and freed it: "
                               "compute it again, or call backward once, on the sum of the losses")
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
        if anomaly.detecting():
            needed = [result if need else None for result, need in zip(results, self.needs, strict=True)]
            anomaly.check_gradients(f"backward of {self.name}", self._layer, needed, "the gradient of input")
        pairs = [(edge, check_gradient(self.name, result, edge)) for edge, result, need
                 in zip(self._inputs, results, self.needs, strict=True) if need and result is not None]
        self._state, self.saved, self._inputs, self._watched = "used up", (), (), []
        return pairs


_units: dict[tuple[str, Any, int], Any] = {}


def _ones(array: Any) -> Any:
    """Ones like the array; of a single number the same array each time, by which `is_unit` knows it."""
    xp = array_module(array)
    if array.shape:
        return xp.ones_like(array)
    device = device_of(array)
    place = device, array.dtype, 0 if device == "cpu" else xp.cuda.runtime.getDevice()
    found = _units.get(place)
    return _units.setdefault(place, xp.ones_like(array)) if found is None else found


def is_unit(gradient: Any) -> bool:
    """Whether the gradient is the 1 that `backward` begins with: there is nothing to multiply then.  A look at its
    number would wait for a GPU."""
    return any(gradient is unit for unit in _units.values())


def _run_backward(root: Tensor, gradient: Any) -> None:
    pending: dict[Function, list[Any]] = {}  # the gradients of its outputs so far
    totals: dict[Tensor, Any] = {}  # written at the end: an error on the way leaves every .grad as it was

    def hand(edge: Edge, gradient: Any) -> None:
        tensor = edge.tensor()
        if tensor is not None and (tensor.is_leaf or tensor._retains_grad):
            totals[tensor] = _sum(totals.get(tensor), gradient)
        if edge.creator is not None:
            slots = pending.setdefault(edge.creator, [None] * edge.creator._output_count)
            slots[edge.index] = _sum(slots[edge.index], gradient)

    hand(_edge(root), gradient)
    for function in _reverse_order(root):
        for pair in function._differentiate(pending.pop(function)) if function in pending else ():
            hand(*pair)
    for tensor, total in totals.items():
        tensor.grad = _sum(tensor.grad, total.copy())  # a backward may hand one array to several inputs


def _reverse_order(root: Tensor) -> list[Function]:
    """The functions behind `root`, each before those it read from; iterative: chains may be long."""
    order, seen, stack = [], set(), [(root._creator, False)]
    while stack:
        function, finished = stack.pop()
        if finished:
            order.append(function)
        elif function is not None and function not in seen:
            seen.add(function)
            stack.append((function, True))
            stack.extend((edge.creator, False) for edge in function._inputs if edge is not None)
    return order[::-1]


def _edge(tensor: Tensor) -> Edge:
    return Edge(tensor._creator, tensor._output_index, tensor.shape, tensor.dtype, weakref.ref(tensor))


def _sum(known: Any, gradient: Any) -> Any:
    return gradient if known is None else as_array(known + gradient)  # never in place


def _writes_of(value: Any, known: list[tuple[Any, list[int]]]) -> list[list[int]]:
    """The version counters of the known arrays that `value` is, or shares an owner of memory with."""
    owner = value if getattr(value, "base", None) is None else value.base
    return [writes for array, writes in known if owner is (array if array.base is None else array.base)]
