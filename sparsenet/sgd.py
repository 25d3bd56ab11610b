"""Stochastic gradient descent with momentum."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sparsenet.autograd import Tensor
from sparsenet.kernels import launch
from sparsenet.optimizer import Optimizer


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
