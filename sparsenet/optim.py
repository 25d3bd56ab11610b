"""Stochastic gradient descent, and learning rates over epochs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sparsenet.autograd import Tensor
from sparsenet.backend import array_module, to_device
from sparsenet.kernels import launch


class SGD:
    """Stochastic gradient descent with momentum, in PyTorch's conventions:

        g = gradient + weight_decay * parameter
        v = momentum * v + (1 - dampening) * g                     v starts at 0
        parameter -= lr * v                                        nesterov=False
        parameter -= lr * ((1 - dampening) * g + momentum * v)     nesterov=True

    At momentum 0 there is no velocity, and dampening has no effect.  Two things differ from PyTorch:
    its velocity starts at the first gradient, undamped; and it refuses Nesterov's momentum with
    dampening, which is what the paper trains with: SGD(nesterov=True, dampening=momentum).

    params : Tensors, or (name, Tensor) pairs such as `net.named_parameters()`; names are what
        `state_dict` goes by, else their positions "0", "1", ...
    lr : learning rate, may be set at any time

    Raises
    ------
    ValueError : a setting is out of range; no parameter; a name or a Tensor comes twice.
    TypeError : a parameter is no Tensor.

    >>> w = Tensor([1.0, -2.0], requires_grad=True)
    >>> optimizer = SGD([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w.array
    array([ 0.8, -1.6], dtype=float32)
    """

    def __init__(self, params: Iterable[Tensor | tuple[str, Tensor]], lr: float, momentum: float = 0,
                 dampening: float = 0, nesterov: bool = False, weight_decay: float = 0):
        self.parameters = _by_name(params)
        self.lr = lr
        for name, value in (("momentum", momentum), ("weight_decay", weight_decay)):
            if not value >= 0:
                raise ValueError(f"SGD: {name} is {value}, expected at least 0")
        if nesterov and momentum == 0:
            raise ValueError("SGD: nesterov=True needs a momentum above 0")
        self.momentum, self.dampening = float(momentum), float(dampening)
        self.nesterov, self.weight_decay = bool(nesterov), float(weight_decay)
        self._velocity: dict[str, Any] = {}

    @property
    def lr(self) -> float:
        return self._lr

    @lr.setter
    def lr(self, value: float) -> None:
        if not value >= 0:
            raise ValueError(f"SGD: lr is {value}, expected at least 0")
        self._lr = float(value)

    def zero_grad(self) -> None:
        """Forget the gradients: `.grad` of each parameter is None."""
        for tensor in self.parameters.values():
            tensor.grad = None

    def step(self) -> None:
        """Move each parameter that has a gradient, writing to its array in place, all in one launch of each
        dtype.

        Raises ValueError where a gradient does not have the shape of its parameter; none has moved then.
        """
        moved = {name: tensor for name, tensor in self.parameters.items() if tensor.grad is not None}
        for name, tensor in moved.items():
            if tensor.grad.shape != tensor.shape:
                raise ValueError(f"SGD: gradient of {name} has shape {tensor.grad.shape}, the parameter has "
                                 f"{tensor.shape}: call zero_grad after a parameter changes its shape")
        together: dict[tuple, list[list]] = {}
        for name, tensor in moved.items():
            together.setdefault((tensor.device, tensor.dtype), []).append(self._arrays(name, tensor))
        for group in together.values():
            parameters, gradients, velocities = map(list, zip(*group, strict=True))
            launch("sgd_step", parameters, gradients, velocities if self.momentum else None,
                   self._lr, self.momentum, self.dampening, self.nesterov, self.weight_decay)
        for tensor in moved.values():
            tensor.mark_modified()

    def _arrays(self, name: str, tensor: Tensor) -> list[Any]:
        """Parameter, gradient and velocity (None at momentum 0), each of one axis."""
        xp, flags = array_module(tensor.array), tensor.array.flags
        if not (flags.c_contiguous and getattr(flags, "writeable", True)):  # CuPy's are always writeable
            tensor.array = tensor.array.copy()
        velocity = None
        if self.momentum:
            velocity = self._velocity.get(name)
            velocity = xp.zeros_like(tensor.array) if velocity is None else velocity
            velocity = to_device(velocity, tensor.device).astype(tensor.dtype, copy=False)
            self._velocity[name] = velocity
            velocity = velocity.reshape(-1)
        return [tensor.array.reshape(-1), xp.ascontiguousarray(tensor.grad).reshape(-1), velocity]

    def state_dict(self) -> dict[str, Any]:
        """Copies of the velocities by parameter name; a parameter that never moved has none."""
        return {name: velocity.copy() for name, velocity in self._velocity.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the velocities from `state`, copied; those it does not name start at 0 again.

        Raises ValueError where a name or a shape is not that of a parameter; nothing changes then.
        """
        for name, velocity in state.items():
            if name not in self.parameters:
                raise ValueError(f"SGD.load_state_dict: no parameter is named {name!r}; there are "
                                 f"{', '.join(self.parameters)}")
            expected = self.parameters[name].shape
            if velocity.shape != expected:
                raise ValueError(f"SGD.load_state_dict: velocity of {name} has shape {velocity.shape}, "
                                 f"expected {expected}")
        if state and not self.momentum:
            raise ValueError("SGD.load_state_dict: there are velocities, but momentum is 0")
        self._velocity = {name: velocity.astype(self.parameters[name].dtype, order="C")
                          for name, velocity in state.items()}  # `step` moves them to the device


def clip_gradients(params: Iterable[Tensor], max_norm: float) -> float:
    """Scale all gradients down together so that their joint Euclidean length is at most `max_norm`.

    Returns the length they had.  Pascanu, Mikolov, Bengio 2013, algorithm 1.
    """
    given = [tensor for tensor in params if tensor.grad is not None]
    norm = math.sqrt(sum(float((tensor.grad.astype("float64") ** 2).sum()) for tensor in given))
    if norm > max_norm:
        for tensor in given:
            tensor.grad = tensor.grad * (max_norm / norm)
    return norm


def _by_name(params: Iterable[Tensor | tuple[str, Tensor]]) -> dict[str, Tensor]:
    parameters: dict[str, Tensor] = {}
    for position, entry in enumerate(params):
        name, tensor = entry if isinstance(entry, tuple) else (str(position), entry)
        if not isinstance(tensor, Tensor):
            raise TypeError(f"SGD: parameter {name} is {type(tensor).__name__}, expected a Tensor")
        if name in parameters or any(tensor is other for other in parameters.values()):
            raise ValueError(f"SGD: parameter {name} comes twice: give each once")
        parameters[name] = tensor
    if not parameters:
        raise ValueError("SGD: there are no parameters")
    return parameters


@dataclass(frozen=True)
class ConstantRate:
    """The same at every epoch."""

    lr: float

    def __call__(self, epoch: float) -> float:
        return self.lr


@dataclass(frozen=True)
class ExponentialDecay:
    """lr * exp(-rate * epoch); the paper's classifier: rate 0.025."""

    lr: float
    rate: float

    def __call__(self, epoch: float) -> float:
        return self.lr * math.exp(-self.rate * epoch)


@dataclass(frozen=True)
class StepDecay:
    """lr * factor ** (number of whole steps of `epochs` epochs gone by)."""

    lr: float
    epochs: int
    factor: float = 0.1

    def __call__(self, epoch: float) -> float:
        return self.lr * self.factor ** (epoch // self.epochs)


@dataclass(frozen=True)
class CosineDecay:
    """Falls from lr at epoch 0 to `least` at epoch `epochs`, along half a cosine."""

    lr: float
    epochs: int
    least: float = 0.0

    def __call__(self, epoch: float) -> float:
        done = min(epoch / self.epochs, 1.0)
        return self.least + (self.lr - self.least) * (1 + math.cos(math.pi * done)) / 2
