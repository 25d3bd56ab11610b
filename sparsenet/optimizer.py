"""The base of the optimizers: parameters by name, the learning rate, the loss scale, the masters of float16
parameters, and the state by name."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sparsenet.autograd import Parameter, Tensor
from sparsenet.backend import HALF, array_module, to_device, wide_dtype

_MASTER = "master"


class Optimizer:
    """Base class of SGD, Adam and AdamW.  A subclass names the arrays that it keeps for each parameter (`_suffixes`
    and `_kept`) and updates parameters of one device and dtype together (`_update`).

    params, lr, loss_scale : see SGD
    """

    # Array kept for a parameter -> what follows the parameter's name in a state_dict.
    _suffixes: dict[str, str] = {_MASTER: ".master"}

    def __init__(self, params: Iterable[Tensor | tuple[str, Tensor]], lr: float, loss_scale: float = 1):
        self.parameters = named_parameters(type(self).__name__, params)
        self.lr = lr
        self.loss_scale = loss_scale
        self._state: dict[str, dict[str, Any]] = {kept: {} for kept in self._suffixes}  # kept -> name -> array

    @property
    def lr(self) -> float:
        return self._lr

    @lr.setter
    def lr(self, value: float) -> None:
        self._check_setting("lr", value)
        self._lr = float(value)

    @property
    def loss_scale(self) -> float:
        return self._loss_scale

    @loss_scale.setter
    def loss_scale(self, value: float) -> None:
        self._check_setting("loss_scale", value)
        if not 0 < value < math.inf:
            raise ValueError(f"{type(self).__name__}: loss_scale is {value}, expected a finite number above 0")
        self._loss_scale = float(value)

    def zero_grad(self) -> None:
        """Set `.grad` of each parameter to None."""
        for tensor in self.parameters.values():
            tensor.grad = None

    def step(self) -> None:
        """Update each parameter that has a gradient and is not frozen, in place, with one launch per dtype.

        Raises ValueError, before any update, if a gradient does not have the shape of its parameter.
        """
        moved = {name: tensor for name, tensor in self.parameters.items() if moves(tensor)}
        for name, tensor in moved.items():
            if tensor.grad.shape != tensor.shape:
                raise ValueError(f"{type(self).__name__}: gradient of {name} has shape {tensor.grad.shape}, the "
                                 f"parameter has {tensor.shape}: call zero_grad after a parameter changes its shape")
        together: dict[tuple, list[str]] = {}
        for name, tensor in moved.items():
            together.setdefault((tensor.device, tensor.dtype, self._shared(name)), []).append(name)
        for (_, dtype, _), names in together.items():
            arrays = [self._arrays(name, moved[name]) for name in names]
            parameters, gradients, masters, *kept = map(list, zip(*arrays, strict=True))
            self._update(names, parameters, gradients, masters if dtype == HALF else None, *kept)
        for tensor in moved.values():
            tensor.mark_modified()

    def _kept(self) -> tuple[str, ...]:
        """Which arrays the present settings keep for a parameter, besides its master."""
        raise NotImplementedError

    def _shared(self, name: str) -> Any:
        """The property that parameters of one launch share, besides device and dtype."""
        return None

    def _update(self, names: list[str], parameters: list[Any], gradients: list[Any], masters: list[Any] | None,
                *kept: list[Any]) -> None:
        """Launch the step of these parameters; all arrays have one axis, and those of `_kept` follow in its order."""
        raise NotImplementedError

    def _arrays(self, name: str, tensor: Tensor) -> list[Any]:
        """Parameter, gradient, master (None unless float16) and the arrays of `_kept`, each flattened."""
        xp, flags = array_module(tensor.array), tensor.array.flags
        if not (flags.c_contiguous and getattr(flags, "writeable", True)):  # CuPy's are always writeable
            tensor.array = tensor.array.copy()
        kept = [self._array(word, name, tensor, lambda dtype: xp.zeros(tensor.shape, dtype)) for word in self._kept()]
        master = None
        if tensor.dtype == HALF:
            master = self._array(_MASTER, name, tensor, tensor.array.astype)
        else:
            self._state[_MASTER].pop(name, None)
        return [tensor.array.reshape(-1), xp.ascontiguousarray(tensor.grad).reshape(-1), master, *kept]

    def _array(self, word: str, name: str, tensor: Tensor, first: Callable[[Any], Any]) -> Any:
        """The state kept for the parameter, at first first(dtype), on its device and in its wide dtype."""
        dtype, state = wide_dtype(tensor.dtype), self._state[word]
        array = state[name] if name in state else first(dtype)
        state[name] = array = to_device(array, tensor.device).astype(dtype, copy=False)
        return array.reshape(-1)

    def state_dict(self) -> dict[str, Any]:
        """Copies of the arrays kept for each parameter, by its name and what they are; a parameter that was never
        updated has none."""
        return {name + suffix: array.copy() for word, suffix in self._suffixes.items()
                for name, array in self._state[word].items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Copy the arrays of `state`; a parameter without any begins anew, a missing master at the parameter.

        Raises ValueError, without changing anything, if a name or shape does not match a parameter, or a number is
        not finite.
        """
        self._state = self._checked(state)

    def _checked(self, state: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Copies of the arrays, by what they are and the parameter's name; `step` moves them to the device."""
        owner = f"{type(self).__name__}.load_state_dict"
        found: dict[str, dict[str, Any]] = {word: {} for word in self._suffixes}
        for key, array in state.items():
            word, name = self._place(key)
            if name is None:
                raise ValueError(f"{owner}: no parameter is named {key!r}, expected one of "
                                 f"{', '.join(self.parameters)}")
            expected = self.parameters[name].shape
            if array.shape != expected:
                raise ValueError(f"{owner}: {word} of {name} has shape {array.shape}, expected {expected}")
            if not bool(array_module(array).isfinite(array).all()):
                raise ValueError(f"{owner}: {word} of {name} contains NaN or infinity, expected finite numbers")
            found[word][name] = array.astype(wide_dtype(self.parameters[name].dtype), order="C")
        return found

    def _place(self, key: str) -> tuple[str, str | None]:
        """The kind of an entry of a state_dict, and the name of its parameter, None if there is no such parameter."""
        for word, suffix in self._suffixes.items():
            name = key.removesuffix(suffix)
            if key.endswith(suffix) and name in self.parameters:
                return word, name
        return "", None

    def _check_setting(self, name: str, value: Any, limit: float = math.inf) -> None:
        """Raise TypeError or ValueError unless the value is a number from 0 to the limit."""
        if not isinstance(value, numbers.Real):
            raise TypeError(f"{type(self).__name__}: {name} is {value!r}, expected a number")
        if not 0 <= value <= limit:
            raise ValueError(f"{type(self).__name__}: {name} is {value}, expected at least 0"
                             + ("" if limit == math.inf else f", at most {limit}"))


def moves(tensor: Tensor) -> bool:
    """Whether an optimizer updates it; a frozen parameter may still hold an earlier gradient."""
    return tensor.requires_grad and tensor.grad is not None


def named_parameters(owner: str, params: Iterable[Tensor | tuple[str, Tensor]]) -> dict[str, Tensor]:
    """The parameters by name, by default their positions.  Raises TypeError or ValueError for those that an optimizer
    would never change, and for one that occurs twice."""
    check_several(owner, params)
    parameters: dict[str, Tensor] = {}
    for position, entry in enumerate(params):
        name, tensor = entry if isinstance(entry, tuple) and len(entry) == 2 else (str(position), entry)
        if not isinstance(tensor, Tensor):
            hint = (f"pass groups to optim.ParameterGroups({owner}, groups, lr=...)" if isinstance(tensor, Mapping) else
                    "pass net.parameters() or a list of Tensors")
            raise TypeError(f"{owner}: parameter {name} is {type(tensor).__name__}, expected a Tensor: {hint}")
        if not tensor.is_leaf:
            raise TypeError(f"{owner}: parameter {name} was computed from other tensors and never gets a gradient: "
                            "pass the tensors from which it was computed")
        if not tensor.requires_grad and not isinstance(tensor, Parameter):
            raise TypeError(f"{owner}: parameter {name} requires no gradient and would never change, expected a "
                            "Parameter (frozen ones are skipped): make it one with sn.nn.Parameter(array), or set "
                            "requires_grad")
        if name in parameters or any(tensor is other for other in parameters.values()):
            raise ValueError(f"{owner}: parameter {name} occurs twice: give each once")
        parameters[name] = tensor
    if not parameters:
        raise ValueError(f"{owner}: params is empty, expected at least one parameter: pass net.parameters()")
    return parameters


def check_several(owner: str, params: Any) -> None:
    """Raise TypeError unless `params` is an iterable; a Tensor does not count, although it iterates over its rows."""
    if isinstance(params, Tensor) or not isinstance(params, Iterable):
        raise TypeError(f"{owner}: params is {type(params).__name__}, expected several Tensors: pass net.parameters() "
                        "or a list, [tensor]")
