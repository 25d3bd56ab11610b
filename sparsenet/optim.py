"""Stochastic gradient descent, and clipping of gradients."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from sparsenet.adam import Adam, AdamW
from sparsenet.autograd import Tensor
from sparsenet.backend import array_module, to_device
from sparsenet.kernels import launch
from sparsenet.moving_average import EMA
from sparsenet.optimizer import Optimizer, check_several, moves
from sparsenet.parameter_groups import ParameterGroups, decay_groups
from sparsenet.schedules import ConstantRate, CosineDecay, ExponentialDecay, StepDecay

__all__ = ["EMA", "SGD", "Adam", "AdamW", "ConstantRate", "CosineDecay", "ExponentialDecay", "ParameterGroups",
           "StepDecay", "clip_gradients", "decay_groups"]


class SGD(Optimizer):
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

    _suffixes = {"velocity": ""} | Optimizer._suffixes

    def __init__(self, params: Iterable[Tensor | tuple[str, Tensor]], lr: float, momentum: float = 0,
                 dampening: float = 0, nesterov: bool = False, weight_decay: float = 0, loss_scale: float = 1):
        super().__init__(params, lr, loss_scale)
        self._check_setting("momentum", momentum)
        self._check_setting("weight_decay", weight_decay)
        self._check_setting("dampening", dampening, limit=1)
        if nesterov and momentum == 0:
            raise ValueError("SGD: nesterov=True needs a momentum above 0")
        self.momentum, self.dampening = float(momentum), float(dampening)
        self.nesterov, self.weight_decay = bool(nesterov), float(weight_decay)

    def _kept(self) -> tuple[str, ...]:
        return ("velocity",) if self.momentum else ()

    def _update(self, names: list[str], parameters: list[Any], gradients: list[Any], masters: list[Any] | None,
                *kept: list[Any]) -> None:
        launch("sgd_step", parameters, gradients, kept[0] if kept else None, masters, self.lr, self.momentum,
               self.dampening, self.nesterov, self.weight_decay, self.loss_scale)

    def _checked(self, state: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        found = super()._checked(state)
        if found["velocity"] and not self.momentum:
            raise ValueError("SGD.load_state_dict: state has velocities, but momentum is 0")
        return found


def clip_gradients(params: Iterable[Tensor], max_norm: float) -> float:
    """Scale all gradients by one factor so that their total Euclidean norm is at most `max_norm`; gradients of
    frozen parameters do not count.

    Returns the norm before scaling.  Pascanu, Mikolov, Bengio 2013, algorithm 1.

    Raises TypeError if params is a single Tensor or contains anything but Tensors.
    """
    check_several("clip_gradients", params)
    parameters = list(params)
    for position, tensor in enumerate(parameters):
        if not isinstance(tensor, Tensor):
            raise TypeError(f"clip_gradients: parameter {position} is {type(tensor).__name__}, expected a Tensor: pass "
                            "net.parameters()")
    given = [tensor for tensor in parameters if moves(tensor)]
    squares = [(tensor.grad.astype("float64") ** 2).sum() for tensor in given]
    norm = math.sqrt(sum(to_device(array_module(*squares).stack(squares), "cpu").tolist())) if squares else 0.0
    if norm > max_norm:
        for tensor in given:
            tensor.grad = tensor.grad * (max_norm / norm)
    return norm


