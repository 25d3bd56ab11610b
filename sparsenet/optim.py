"""Stochastic gradient descent, and clipping of gradients."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sparsenet.autograd import Parameter, Tensor
from sparsenet.backend import HALF, array_module, to_device, wide_dtype
from sparsenet.kernels import launch
from sparsenet.moving_average import EMA
from sparsenet.parameter_groups import ParameterGroups, decay_groups
from sparsenet.schedules import ConstantRate, CosineDecay, ExponentialDecay, StepDecay

__all__ = ["EMA", "SGD", "ConstantRate", "CosineDecay", "ExponentialDecay", "ParameterGroups", "StepDecay",
           "clip_gradients", "decay_groups"]

_MASTER = ".master"  # suffix of a parameter's name in a state_dict


class SGD:
    """Stochastic gradient descent with momentum, in PyTorch's conventions:

        g = gradient / loss_scale + weight_decay * parameter
        v = momentum * v + (1 - dampening) * g                     v starts at 0
        parameter -= lr * v                                        nesterov=False
        parameter -= lr * ((1 - dampening) * g + momentum * v)     nesterov=True

    With momentum 0 there is no velocity, and dampening has no effect.  PyTorch differs in two ways:
    its velocity starts at the first gradient, undamped; and it refuses Nesterov momentum with
    dampening, which the paper uses: SGD(nesterov=True, dampening=momentum).

    params : Parameters, or Tensors that require a gradient, or (name, Tensor) pairs such as
        `net.named_parameters()`; `state_dict` uses the names, by default the positions "0", "1", ...
        Frozen parameters (requires_grad False) are skipped and keep their velocity
    lr : learning rate; assignable at any time
    loss_scale : factor by which the loss was multiplied before `backward`; assignable at any time

    float16 parameters (on a GPU) would lose every step below 1/4000 of their value to rounding.  Steps are therefore
    added to a float32 master copy of each, with float32 velocities, and the parameter is set to its rounded master.  If
    other code sets a parameter, its master follows.  Gradients below 6e-8 vanish in float16, so scale the loss:
    `(loss * 1024).backward()` with SGD(..., loss_scale=1024), which divides in float32.  If gradients become
    infinite, the scale is too large: `clip_gradients` reveals it; its max_norm then refers to the scaled gradients.

    Raises
    ------
    ValueError : a setting is out of range, there are no parameters, or a name or a Tensor occurs twice.
    TypeError : a setting is not a number; a parameter is not a Tensor, was computed from others, or neither
        requires a gradient nor is a Parameter.

    Example
    -------
    >>> w = Tensor([1.0, -2.0], requires_grad=True)
    >>> optimizer = SGD([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w.array
    array([ 0.8, -1.6], dtype=float32)
    """

    def __init__(self, params: Iterable[Tensor | tuple[str, Tensor]], lr: float, momentum: float = 0,
                 dampening: float = 0, nesterov: bool = False, weight_decay: float = 0, loss_scale: float = 1):
        self.parameters = _by_name(params)
        self.lr = lr
        _check_setting("momentum", momentum)
        _check_setting("weight_decay", weight_decay)
        _check_setting("dampening", dampening, limit=1)
        if nesterov and momentum == 0:
            raise ValueError("SGD: nesterov=True needs a momentum above 0")
        self.momentum, self.dampening = float(momentum), float(dampening)
        self.nesterov, self.weight_decay = bool(nesterov), float(weight_decay)
        self.loss_scale = loss_scale
        self._velocity: dict[str, Any] = {}
        self._master: dict[str, Any] = {}  # float32 copies of float16 parameters

    @property
    def lr(self) -> float:
        return self._lr

    @lr.setter
    def lr(self, value: float) -> None:
        _check_setting("lr", value)
        self._lr = float(value)

    @property
    def loss_scale(self) -> float:
        return self._loss_scale

    @loss_scale.setter
    def loss_scale(self, value: float) -> None:
        _check_setting("loss_scale", value)
        if not 0 < value < math.inf:
            raise ValueError(f"SGD: loss_scale is {value}, expected a finite number above 0")
        self._loss_scale = float(value)

    def zero_grad(self) -> None:
        """Set `.grad` of each parameter to None."""
        for tensor in self.parameters.values():
            tensor.grad = None

    def step(self) -> None:
        """Update each parameter that has a gradient and is not frozen, in place, with one launch per dtype.

        Raises ValueError, before any update, if a gradient does not have the shape of its parameter.
        """
        moved = {name: tensor for name, tensor in self.parameters.items() if _moves(tensor)}
        for name, tensor in moved.items():
            if tensor.grad.shape != tensor.shape:
                raise ValueError(f"SGD: gradient of {name} has shape {tensor.grad.shape}, the parameter has "
                                 f"{tensor.shape}: call zero_grad after a parameter changes its shape")
        together: dict[tuple, list[list]] = {}
        for name, tensor in moved.items():
            together.setdefault((tensor.device, tensor.dtype), []).append(self._arrays(name, tensor))
        for (_, dtype), group in together.items():
            parameters, gradients, velocities, masters = map(list, zip(*group, strict=True))
            launch("sgd_step", parameters, gradients, velocities if self.momentum else None,
                   masters if dtype == HALF else None, self._lr, self.momentum, self.dampening, self.nesterov,
                   self.weight_decay, self._loss_scale)
        for tensor in moved.values():
            tensor.mark_modified()

    def _arrays(self, name: str, tensor: Tensor) -> list[Any]:
        """Parameter, gradient, velocity (None for momentum 0) and master (None unless float16), each flattened."""
        xp, flags = array_module(tensor.array), tensor.array.flags
        if not (flags.c_contiguous and getattr(flags, "writeable", True)):  # CuPy's are always writeable
            tensor.array = tensor.array.copy()
        velocity = master = None
        if self.momentum:
            velocity = self._kept(self._velocity, name, tensor, lambda dtype: xp.zeros(tensor.shape, dtype))
        if tensor.dtype == HALF:
            master = self._kept(self._master, name, tensor, tensor.array.astype)
        else:
            self._master.pop(name, None)
        return [tensor.array.reshape(-1), xp.ascontiguousarray(tensor.grad).reshape(-1), velocity, master]

    @staticmethod
    def _kept(state: dict[str, Any], name: str, tensor: Tensor, first: Callable[[Any], Any]) -> Any:
        """The parameter's entry in `state`, or first(dtype), on the parameter's device and in its wide dtype."""
        dtype = wide_dtype(tensor.dtype)
        array = state[name] if name in state else first(dtype)
        state[name] = array = to_device(array, tensor.device).astype(dtype, copy=False)
        return array.reshape(-1)

    def state_dict(self) -> dict[str, Any]:
        """Copies of the velocities by parameter name, and of the masters of float16 parameters as "NAME.master"; a
        parameter that was never updated has neither."""
        masters = {name + _MASTER: master for name, master in self._master.items()}
        return {name: array.copy() for name, array in (self._velocity | masters).items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Copy velocities and masters from `state`; missing velocities restart at 0, missing masters at the
        parameter.

        Raises ValueError, without changing anything, if a name or shape does not match a parameter, or a number is
        not finite.
        """
        kept: dict[str, dict[str, Any]] = {"velocity": {}, "master": {}}
        for key, array in state.items():
            kind, name = ("velocity", key) if key in self.parameters else ("master", key.removesuffix(_MASTER))
            if name not in self.parameters:
                raise ValueError(f"SGD.load_state_dict: no parameter is named {key!r}, expected one of "
                                 f"{', '.join(self.parameters)}")
            expected = self.parameters[name].shape
            if array.shape != expected:
                raise ValueError(f"SGD.load_state_dict: {kind} of {name} has shape {array.shape}, "
                                 f"expected {expected}")
            if not bool(array_module(array).isfinite(array).all()):
                raise ValueError(f"SGD.load_state_dict: {kind} of {name} contains NaN or infinity, expected finite "
                                 "numbers")
            kept[kind][name] = array.astype(wide_dtype(self.parameters[name].dtype), order="C")
        if kept["velocity"] and not self.momentum:
            raise ValueError("SGD.load_state_dict: state has velocities, but momentum is 0")
        self._velocity, self._master = kept["velocity"], kept["master"]  # `step` moves them to the device


def clip_gradients(params: Iterable[Tensor], max_norm: float) -> float:
    """Scale all gradients by one factor so that their total Euclidean norm is at most `max_norm`; gradients of
    frozen parameters do not count.

    Returns the norm before scaling.  Pascanu, Mikolov, Bengio 2013, algorithm 1.

    Raises TypeError if params is a single Tensor or contains anything but Tensors.
    """
    _check_several("clip_gradients", params)
    parameters = list(params)
    for position, tensor in enumerate(parameters):
        if not isinstance(tensor, Tensor):
            raise TypeError(f"clip_gradients: parameter {position} is {type(tensor).__name__}, expected a Tensor: pass "
                            "net.parameters()")
    given = [tensor for tensor in parameters if _moves(tensor)]
    squares = [(tensor.grad.astype("float64") ** 2).sum() for tensor in given]
    norm = math.sqrt(sum(to_device(array_module(*squares).stack(squares), "cpu").tolist())) if squares else 0.0
    if norm > max_norm:
        for tensor in given:
            tensor.grad = tensor.grad * (max_norm / norm)
    return norm


def _moves(tensor: Tensor) -> bool:
    """Whether an optimizer updates it; a frozen parameter may still hold an earlier gradient."""
    return tensor.requires_grad and tensor.grad is not None


def _by_name(params: Iterable[Tensor | tuple[str, Tensor]]) -> dict[str, Tensor]:
    _check_several("SGD", params)
    parameters: dict[str, Tensor] = {}
    for position, entry in enumerate(params):
        name, tensor = entry if isinstance(entry, tuple) and len(entry) == 2 else (str(position), entry)
        if not isinstance(tensor, Tensor):
            raise TypeError(f"SGD: parameter {name} is {type(tensor).__name__}, expected a Tensor: pass "
                            "net.parameters() or a list of Tensors")
        if not tensor.is_leaf:
            raise TypeError(f"SGD: parameter {name} was computed from other tensors and never gets a gradient: "
                            "pass the tensors from which it was computed")
        if not tensor.requires_grad and not isinstance(tensor, Parameter):
            raise TypeError(f"SGD: parameter {name} requires no gradient and would never change, expected a Parameter "
                            "(frozen ones are skipped): make it one with sn.nn.Parameter(array), or set "
                            "requires_grad")
        if name in parameters or any(tensor is other for other in parameters.values()):
            raise ValueError(f"SGD: parameter {name} occurs twice: give each once")
        parameters[name] = tensor
    if not parameters:
        raise ValueError("SGD: params is empty, expected at least one parameter: pass net.parameters()")
    return parameters


def _check_several(name: str, params: Any) -> None:
    """Raise TypeError unless `params` is an iterable; a Tensor does not count, although it iterates over its rows."""
    if isinstance(params, Tensor) or not isinstance(params, Iterable):
        raise TypeError(f"{name}: params is {type(params).__name__}, expected several Tensors: pass net.parameters() "
                        "or a list, [tensor]")


def _check_setting(name: str, value: Any, limit: float = math.inf) -> None:
    if not isinstance(value, numbers.Real):
        raise TypeError(f"SGD: {name} is {value!r}, expected a number")
    if not 0 <= value <= limit:
        raise ValueError(f"SGD: {name} is {value}, expected at least 0"
                         + ("" if limit == math.inf else f", at most {limit}"))
