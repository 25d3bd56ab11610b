"""Holder: parameters, buffers and child modules, found among the attributes.

An attribute that is a Parameter is a parameter, one that is a Module is a child; a list or tuple may hold several
of either.  A Tensor registered with `register_buffer` is a buffer; any other Tensor is a constant, which is not part
of the state.  Attributes whose names begin with an underscore are ignored.  Names are the attributes' names joined
with dots.  Anything that would be overlooked (a weight that is not a Parameter, one in a dict, ...) raises: see
`nn.attributes`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from sparsenet.autograd import Parameter, Tensor
from sparsenet.backend import HALF, check_float_dtype, to_device
from sparsenet.destination import device_and_dtype
from sparsenet.nn.attributes import check_attribute
from sparsenet.nn.state import UnmatchedNames, fitting_array
from sparsenet.random import RowStreams, keyed_rng

if TYPE_CHECKING:
    from sparsenet.sparse.plan import Step


class Holder:
    """The contents of a Module: its parameters, buffers and children, their mode, device, dtype and state.

    training : bool, set by `train()` and `eval()`; Dropout and norms depend on it
    """

    training = True
    _buffers: tuple[str, ...] = ()  # names of attributes

    if TYPE_CHECKING:  # for `net.layers[0].weight`: only a layer's own class declares its attributes
        def __getattr__(self, name: str) -> Any: ...

    def __setattr__(self, name: str, value: Any) -> None:
        check_attribute(self, name, value, Holder)
        super().__setattr__(name, value)

    def register_buffer(self, name: str, array: Any) -> None:
        """Register an array that is part of the state but not trained, such as running statistics.  It becomes a Tensor
        in the attribute `name`, is included in `buffers()` and `state_dict()`, and is moved by `to`.

        array : array, or Tensor that does not require a gradient, of any dtype.  Another Tensor may be assigned later

        Raises ValueError if the name is not a valid attribute name, begins with an underscore, or is taken; TypeError
        if the Tensor requires a gradient or is a Parameter.
        """
        if not isinstance(name, str) or not name.isidentifier() or name.startswith("_") or hasattr(self, name):
            raise ValueError(f"register_buffer: name is {name!r}, expected one that {type(self).__name__} does not "
                             "have yet, of letters, digits and underscores, not beginning with an underscore")
        if isinstance(array, Parameter):
            raise TypeError(f"register_buffer: {name} is a Parameter, expected an array or a Tensor that is not to be "
                            "trained: assign a Parameter to an attribute, or register its array")
        setattr(self, name, array if isinstance(array, Tensor) else Tensor(array))
        self._buffers = (*self._buffers, name)

    def named_children(self) -> Iterator[tuple[str, Any]]:
        """(name, module) for each direct child; in a list the name is attribute.index."""
        return ((name, value) for name, value in self._held() if isinstance(value, Holder))

    def _held(self) -> Iterator[tuple[str, Any]]:
        """(name, Module or Tensor) for each such attribute, and for each such element of a list or tuple."""
        for name, value in vars(self).items():
            check_attribute(self, name, value, Holder)  # again: a list may have grown, requires_grad may have changed
            if name.startswith("_"):
                continue
            if isinstance(value, (list, tuple)):
                yield from ((f"{name}.{i}", part) for i, part in enumerate(value) if isinstance(part, Holder | Tensor))
            elif isinstance(value, Holder | Tensor):
                yield name, value

    def children(self) -> Iterator[Any]:
        """Each direct child, a Module."""
        return (module for _, module in self.named_children())

    def modules(self) -> Iterator[Any]:
        """This module and its descendants, parents first, in the order of the attributes; a layer that
        is used twice occurs twice."""
        yield self
        for child in self.children():
            yield from child.modules()

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """(name, Parameter) for each, frozen ones too; a shared one occurs once, under its first name."""
        return _once(self._walk("", lambda module, name, tensor: isinstance(tensor, Parameter)))

    def named_buffers(self) -> Iterator[tuple[str, Tensor]]:
        """(name, Tensor) for each buffer; a shared one occurs once, under its first name."""
        return _once(self._walk("", lambda module, name, tensor: name in module._buffers))

    def _walk(self, prefix: str, wanted: Callable[[Holder, str, Tensor], bool]) -> Iterator[tuple[str, Any]]:
        for name, value in self._held():
            if isinstance(value, Tensor) and wanted(self, name, value):
                yield prefix + name, value
        for name, child in self.named_children():
            yield from child._walk(f"{prefix}{name}.", wanted)

    def parameters(self) -> Iterator[Parameter]:
        """Each parameter once, frozen ones too."""
        return (tensor for _, tensor in self.named_parameters())

    def buffers(self) -> Iterator[Tensor]:
        """Each buffer once."""
        return (tensor for _, tensor in self.named_buffers())

    def parameter_count(self) -> int:
        """The number of elements of all parameters together."""
        return sum(tensor.size for tensor in self.parameters())

    def geometries(self) -> list[Step]:
        """The filters in the order of their use, and the branches, for a loader to build rulebooks ahead: a
        max-pooling's Geometry, another pooling's PoolingStep, a convolution's ConvolutionStep.  The module's own, or
        those of its children one after the other; a module that calls its children in another order overrides this."""
        own = getattr(self, "geometry", None)
        return [step for child in self.children() for step in child.geometries()] if own is None else [own]

    # ---- weights by name ----

    def _state(self) -> dict[str, Tensor]:
        return dict(self.named_parameters()) | dict(self.named_buffers())

    def state_dict(self) -> dict[str, Any]:
        """Copies of the arrays of all parameters, frozen ones too, and buffers, by name, on their devices."""
        return {name: tensor.array.copy() for name, tensor in self._state().items()}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> UnmatchedNames:
        """Copy arrays into the parameters and buffers of the same names, converted to their dtype and device.

        strict : raise if a name is missing or unexpected; False: copy those that both have

        Returns the names that were `missing` and those that were `unexpected`, as PyTorch does; none if strict.

        Raises
        ------
        ValueError : a name is missing or unexpected (strict), a shape differs, an array holds another kind of numbers,
            or one that is not finite in the parameter's dtype; all of them are named, and nothing is changed.
        TypeError : state is not a mapping.
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"load_state_dict: state is {type(state).__name__}, expected a mapping of names to arrays, "
                            "as state_dict() gives")
        own = self._state()
        unmatched = UnmatchedNames([name for name in own if name not in state],
                                   [name for name in state if name not in own])
        problems = [f"{word}: {name}" for word, names in zip(("missing", "unexpected"), unmatched, strict=True)
                    for name in names] if strict else []
        arrays = {}
        for name, value in state.items():
            if name in own:
                arrays[name] = fitting_array(name, value, own[name], problems)
        if problems:
            raise ValueError(f"load_state_dict: the weights do not fit this {type(self).__name__}: "
                             f"{'; '.join(problems)}: build the network whose weights they are, or load them from a "
                             "file that is whole")
        for name, array in arrays.items():
            own[name].array = array
        return unmatched

    # ---- modes, device, gradients ----

    def reseed(self, seed: int, *keys: int | str, rows: Iterable[int] | None = None) -> None:
        """Give each layer that draws random numbers (Dropout) a random stream keyed by these numbers and its place.
        If it is called with (seed, epoch, step) before each step, training can stop and resume anywhere.

        rows : a number for each sample of the coming batch, whose draws then depend on its own number and not on the
            samples beside it; None: one stream for the whole batch
        """
        numbers = None if rows is None else list(rows)
        for place, module in enumerate(self.modules()):
            if isinstance(getattr(module, "rng", None), np.random.Generator | RowStreams):
                module.rng = (keyed_rng(seed, *keys, "layer", place) if numbers is None else
                              RowStreams(seed, *keys, "layer", place, rows=numbers))

    def train(self, mode: bool = True) -> Self:
        """Put this module and its descendants into training mode (or evaluation mode, mode=False); returns itself."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Put this module and its descendants into evaluation mode; returns itself."""
        return self.train(False)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """A context of evaluation mode; afterwards each module returns to its previous mode."""
        modes = [(module, module.training) for module in self.modules()]
        self.eval()
        try:
            yield
        finally:
            for module, mode in modes:
                module.training = mode

    def to(self, device: Any = None, dtype: Any = None) -> Self:
        """Move the parameters and buffers to a device ("cpu", "cuda" or "cuda:0") or a dtype, in place; returns itself.
        A dtype may stand alone: net.to(numpy.float64).

        Buffers of whole numbers keep their dtype.  The Tensors stay the same objects, so an optimizer that holds
        them keeps them.  float16 halves the memory of parameters and features; it is for the GPU:
        net.to("cuda", "float16"), and back net.to("cpu", "float32").

        Raises TypeError for a dtype that the device does not compute with, ValueError for an unknown device and for a
        GPU that is not the current one, RuntimeError without a GPU.  Nothing has moved then.
        """
        device, dtype = device_and_dtype(f"{type(self).__name__}.to", device, dtype)
        moves = {}
        for name, tensor in self._state().items():
            wanted = dtype if dtype is not None and tensor.dtype.kind == "f" else tensor.dtype
            if wanted != tensor.dtype or wanted == HALF:
                check_float_dtype(f"{type(self).__name__}.to: {name} would be", wanted, device or tensor.device)
            moves[name] = tensor, wanted
        for tensor, wanted in moves.values():
            array, gradient = (_moved(a, device, wanted) for a in (tensor.array, tensor.grad))
            if array is not tensor.array:
                tensor.array, tensor.grad = array, gradient
        return self

    def zero_grad(self) -> None:
        """Set `.grad` of each parameter to None."""
        for tensor in self.parameters():
            tensor.grad = None


def _once(named: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    seen: set[int] = set()
    for name, tensor in named:
        if id(tensor) not in seen:
            seen.add(id(tensor))
            yield name, tensor


def _moved(array: Any, device: str | None, dtype: np.dtype) -> Any:
    if array is None:
        return None
    array = array if device is None else to_device(array, device)
    return array.astype(dtype, copy=False)
