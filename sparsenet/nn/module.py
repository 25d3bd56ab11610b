"""Module: parameters and child modules, found by looking at the attributes.

Nothing is registered.  An attribute that is a Tensor is a parameter; one that is a Module, or a
list or tuple of Modules, holds children; attributes that begin with an underscore are passed over.
Names are the attributes' names joined with dots.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from sparsenet import anomaly
from sparsenet.autograd import Tensor
from sparsenet.backend import HALF, check_float_dtype, to_device
from sparsenet.random import keyed_rng

_thread = threading.local()


@contextmanager
def intercepting(intercept: Callable[[Module, tuple[Any, ...]], Any]) -> Iterator[None]:
    """Within it, each call of a Module on this thread becomes `intercept(module, inputs)`, which calls
    `module.forward(*inputs)` itself and returns what that gave (or anything else)."""
    before = getattr(_thread, "intercept", None)
    _thread.intercept = intercept
    try:
        yield
    finally:
        _thread.intercept = before


class Module:
    """Base class of layers and networks: subclasses define `forward` (and `extra_repr`).

    training : bool, switched by `train()` and `eval()`; Dropout looks at it
    """

    training = True

    if TYPE_CHECKING:  # for `net.layers[0].weight`: what a layer holds is known by its own class alone
        def __getattr__(self, name: str) -> Any: ...

    @property
    def kind(self) -> str:
        """The word that `SparseNetwork` names a layer by: MyLayer -> "my_layer"."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(self).__name__).lower()

    def forward(self, *inputs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__}: forward is not defined")

    def __call__(self, *inputs: Any) -> Any:
        if not anomaly.detecting():
            return self._run(inputs)
        with anomaly.entered(self):
            output = self._run(inputs)
            anomaly.check_layer(inputs, output)
        return output

    def _run(self, inputs: tuple[Any, ...]) -> Any:
        intercept = getattr(_thread, "intercept", None)
        try:
            return self.forward(*inputs) if intercept is None else intercept(self, inputs)
        except MemoryError as error:  # CuPy's says how many bytes were asked for
            if not any(self.named_children()):
                error.add_note(f"in the layer {self!r}")
            raise

    # ---- what is inside ----

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """(name, module) of each direct child; in a list the name is attribute.index."""
        for name, value in self._visible():
            if isinstance(value, Module):
                yield name, value
            elif isinstance(value, (list, tuple)):
                yield from ((f"{name}.{i}", m) for i, m in enumerate(value) if isinstance(m, Module))

    def _visible(self) -> Iterator[tuple[str, Any]]:
        return ((name, value) for name, value in vars(self).items() if not name.startswith("_"))

    def children(self) -> Iterator[Module]:
        """Each direct child."""
        return (module for _, module in self.named_children())

    def modules(self) -> Iterator[Module]:
        """This module and all below it, parents first, in the order of the attributes; a layer that
        is used twice comes twice."""
        yield self
        for child in self.children():
            yield from child.modules()

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """(name, Tensor) of each parameter; one that is shared comes once, under its first name."""
        seen: set[int] = set()
        for name, tensor in self._walk_parameters(""):
            if id(tensor) not in seen:
                seen.add(id(tensor))
                yield name, tensor

    def _walk_parameters(self, prefix: str) -> Iterator[tuple[str, Tensor]]:
        for name, value in self._visible():
            if isinstance(value, Tensor):
                yield prefix + name, value
        for name, child in self.named_children():
            yield from child._walk_parameters(f"{prefix}{name}.")

    def parameters(self) -> Iterator[Tensor]:
        """Each parameter once."""
        return (tensor for _, tensor in self.named_parameters())

    def parameter_count(self) -> int:
        """Numbers in all parameters together."""
        return sum(tensor.size for tensor in self.parameters())

    # ---- weights by name ----

    def state_dict(self) -> dict[str, Any]:
        """Copies of the parameters' arrays, by name, on the device where they are."""
        return {name: tensor.array.copy() for name, tensor in self.named_parameters()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Copy arrays into the parameters of the same names, converted to their dtype and device.

        Raises
        ------
        ValueError : a name is missing or unexpected, a shape differs, or an array is not of floats;
            all of them are named, and no parameter is changed.
        """
        parameters = dict(self.named_parameters())
        problems = [f"missing: {name}" for name in parameters if name not in state]
        problems += [f"unexpected: {name}" for name in state if name not in parameters]
        self._assign(parameters, {n: v for n, v in state.items() if n in parameters}, problems)

    def _assign(self, parameters: dict[str, Tensor], state: dict[str, Any], problems: list[str]) -> None:
        arrays = {}
        for name, value in state.items():
            value = value.array if isinstance(value, Tensor) else value
            value = value if hasattr(value, "dtype") else np.asarray(value)
            expected = parameters[name]
            if value.shape != expected.shape:
                problems.append(f"shape of {name} is {value.shape}, expected {expected.shape}")
            elif value.dtype.kind != "f":
                problems.append(f"dtype of {name} is {value.dtype}, expected {expected.dtype}")
            arrays[name] = value
        if problems:
            raise ValueError(f"load_state_dict: the weights do not fit this {type(self).__name__}: "
                             f"{'; '.join(problems)}: build the same layers that the weights came from")
        for name, value in arrays.items():
            parameter = parameters[name]
            parameter.array = to_device(value, parameter.device).astype(parameter.dtype, order="C", copy=True)

    # ---- modes, device, gradients ----

    def reseed(self, seed: int, *keys: int | str) -> None:
        """Give each layer that draws random numbers (Dropout) a stream keyed by these numbers and its
        place.  Called with (seed, epoch, step) before a step, a training can stop and resume anywhere."""
        for place, module in enumerate(self.modules()):
            if isinstance(getattr(module, "rng", None), np.random.Generator):
                module.rng = keyed_rng(seed, *keys, "layer", place)

    def train(self, mode: bool = True) -> Module:
        """Put this module and all below it into training mode; returns itself."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Module:
        """Put this module and all below it into evaluation mode; returns itself."""
        return self.train(False)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Evaluation mode within; afterwards each module is in the mode that it was in."""
        modes = [(module, module.training) for module in self.modules()]
        self.eval()
        try:
            yield
        finally:
            for module, mode in modes:
                module.training = mode

    def to(self, device: str | None = None, dtype: Any = None) -> Module:
        """Move the parameters to a device ("cpu" or "cuda") or a dtype, in place; returns itself.

        The Tensors stay the same objects, so an optimizer that holds them keeps them.  float16 halves the memory
        of parameters and features; it is for the GPU: net.to("cuda", "float16"), and back net.to("cpu", "float32").

        Raises TypeError for a dtype that the device does not compute with; nothing has moved then.
        """
        for name, tensor in self.named_parameters():
            wanted = tensor.dtype if dtype is None else np.dtype(dtype)
            if wanted != tensor.dtype or wanted == HALF:
                check_float_dtype(f"{type(self).__name__}.to: {name} would be", wanted, device or tensor.device)
        for tensor in self.parameters():
            array, gradient = (_moved(a, device, dtype) for a in (tensor.array, tensor.grad))
            if array is not tensor.array:
                tensor.array, tensor.grad = array, gradient
        return self

    def zero_grad(self) -> None:
        """Forget the parameters' gradients (`.grad` is None until the next backward)."""
        for tensor in self.parameters():
            tensor.grad = None

    # ---- how it looks ----

    def extra_repr(self) -> str:
        """What stands between the brackets of a layer without children."""
        return ""

    def __repr__(self) -> str:
        lines = [f"({name}) {child!r}".replace("\n", "\n  ") for name, child in self.named_children()]
        inside = "".join(f"\n  {line}" for line in lines) + "\n" if lines else ""
        return f"{type(self).__name__}({self.extra_repr()}{inside})"


class Sequential(Module):
    """Modules one after another; `layers` is a list that may be changed.

    Names count from 0: the weight of the first layer is "0.weight".
    """

    def __init__(self, *layers: Module):
        for position, layer in enumerate(layers):
            check_module("Sequential", position, layer)
        self.layers = list(layers)

    def forward(self, x: Any) -> Any:
        for layer in self.layers:
            x = layer(x)
        return x

    def named_children(self) -> Iterator[tuple[str, Module]]:
        return ((str(i), layer) for i, layer in enumerate(self.layers))

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Module]:
        return iter(self.layers)

    def __getitem__(self, index: int | slice) -> Module:
        return Sequential(*self.layers[index]) if isinstance(index, slice) else self.layers[index]


def check_module(owner: str, position: int, layer: Any) -> None:
    """Raise TypeError unless `layer` is a Module."""
    if not isinstance(layer, Module):
        raise TypeError(f"{owner}: layer {position} is {type(layer).__name__}, expected a Module")


def _moved(array: Any, device: str | None, dtype: Any) -> Any:
    if array is None:
        return None
    array = array if device is None else to_device(array, device)
    return array if dtype is None else array.astype(dtype, copy=False)
