"""Adam and AdamW: steps scaled by the root of the mean square of past gradients."""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Mapping
from operator import index
from typing import Any

import numpy as np

from sparsenet.autograd import Tensor
from sparsenet.kernels import launch
from sparsenet.optimizer import Optimizer

_STEPS = ".steps"  # behind a parameter's name in a state_dict
_LEAST_EPS = float(np.finfo(np.float32).tiny)


class Adam(Optimizer):
    """Adam (Kingma & Ba 2015, algorithm 1), in PyTorch's conventions:

        g = gradient / loss_scale + weight_decay * parameter
        m = beta1 * m + (1 - beta1) * g                    m and v start at 0
        v = beta2 * v + (1 - beta2) * g^2
        parameter -= lr * m' / (sqrt(v') + eps)            m' = m / (1 - beta1^t),  v' = v / (1 - beta2^t)

    t counts the steps of this parameter: one that was frozen for a while goes on with its m, v and t.

    params, loss_scale : see SGD, as for float16 parameters
    lr : learning rate; assignable at any time
    betas : (beta1, beta2), each at least 0 and below 1
    eps : above 0, in PyTorch also 0, which turns an element whose gradients were all 0 into NaN
    weight_decay : L2 penalty that is added to the gradient, and scaled with it; AdamW decays apart from it
    amsgrad : divide by the largest v so far (Reddi, Kale, Kumar 2018), for one more array for each parameter

    Raises
    ------
    ValueError : a setting is out of range, or see SGD.
    TypeError : a setting is not a number, or see SGD.

    Example
    -------
    >>> w = Tensor([1.0, -2.0], requires_grad=True)
    >>> optimizer = Adam([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w.array.round(4)
    array([ 0.9, -1.9], dtype=float32)
    """

    _suffixes = {"mean": ".mean", "square": ".square", "maximum": ".maximum"} | Optimizer._suffixes
    _decoupled = False

    def __init__(self, params: Iterable[Tensor | tuple[str, Tensor]], lr: float = 1e-3,
                 betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0,
                 amsgrad: bool = False, loss_scale: float = 1):
        super().__init__(params, lr, loss_scale)
        self.betas = self._checked_betas(betas)
        self._check_setting("eps", eps)
        if eps < _LEAST_EPS:
            raise ValueError(f"{type(self).__name__}: eps is {eps}, expected at least {_LEAST_EPS:.2g}, as it keeps "
                             "a step from dividing by 0")
        self._check_setting("weight_decay", weight_decay)
        self.eps, self.weight_decay, self.amsgrad = float(eps), float(weight_decay), bool(amsgrad)
        self._steps: dict[str, int] = {}

    def _checked_betas(self, betas: Any) -> tuple[float, float]:
        name = type(self).__name__
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise TypeError(f"{name}: betas is {betas!r}, expected two numbers (beta1, beta2)")
        for beta in betas:
            if not isinstance(beta, numbers.Real):
                raise TypeError(f"{name}: betas is {betas!r}, expected two numbers (beta1, beta2)")
            if not 0 <= beta < 1:
                raise ValueError(f"{name}: betas is {betas!r}, expected numbers of at least 0 and below 1")
        return float(betas[0]), float(betas[1])

    def _kept(self) -> tuple[str, ...]:
        return ("mean", "square", "maximum") if self.amsgrad else ("mean", "square")

    def _shared(self, name: str) -> int:
        return self._steps.get(name, 0)

    def _update(self, names: list[str], parameters: list[Any], gradients: list[Any], masters: list[Any] | None,
                *kept: list[Any]) -> None:
        steps = self._shared(names[0]) + 1
        means, squares, *maxima = kept
        launch("adam_step", parameters, gradients, means, squares, maxima[0] if maxima else None, masters, self.lr,
               *self.betas, self.eps, self.weight_decay, self._decoupled, steps, self.loss_scale)
        self._steps |= dict.fromkeys(names, steps)

    def state_dict(self) -> dict[str, Any]:
        """Copies of m, v, the largest v and float16 parameters' masters as "NAME.mean", "NAME.square", "NAME.maximum"
        and "NAME.master", and the steps so far as "NAME.steps"; a parameter that was never updated has none."""
        return super().state_dict() | {name + _STEPS: np.array(steps) for name, steps in self._steps.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Copy the arrays of `state`; a parameter without any begins anew, a missing master at the parameter.

        Raises ValueError, without changing anything, if a name or shape does not match a parameter, a parameter has
        some of its arrays and not the others, or a number is not finite.
        """
        counts = {key: value for key, value in state.items() if key.endswith(_STEPS)
                  and key.removesuffix(_STEPS) in self.parameters}
        found = self._checked({key: array for key, array in state.items() if key not in counts})
        steps = {key.removesuffix(_STEPS): self._checked_steps(key, value) for key, value in counts.items()}
        self._check_complete(found, steps)
        self._state, self._steps = found, steps

    def _checked_steps(self, key: str, value: Any) -> int:
        try:
            steps = index(value.item() if hasattr(value, "item") else value)
        except (TypeError, ValueError):
            steps = 0
        if steps < 1:
            raise ValueError(f"{type(self).__name__}.load_state_dict: {key} is {value!r}, expected a number of steps")
        return steps

    def _check_complete(self, found: dict[str, dict[str, Any]], steps: dict[str, int]) -> None:
        owner = f"{type(self).__name__}.load_state_dict"
        if found["maximum"] and not self.amsgrad:
            raise ValueError(f"{owner}: state has maxima, but amsgrad is False")
        parts = {word: set(found[word]) for word in self._kept()} | {"steps": set(steps)}
        for name in set().union(*parts.values()):
            missing = [word for word, names in parts.items() if name not in names]
            if missing:
                raise ValueError(f"{owner}: {name}.{missing[0]} is missing: load the whole state of an optimizer with "
                                 "the same settings")
        for name, square in (*found["square"].items(), *found["maximum"].items()):
            if bool((square < 0).any()):
                raise ValueError(f"{owner}: square of {name} has numbers below 0, expected a mean of squares")


class AdamW(Adam):
    """AdamW (Loshchilov & Hutter 2019, algorithm 2), in PyTorch's conventions: Adam whose weight decay acts on the
    parameter, apart from the gradient and its scaling:

        parameter -= lr * weight_decay * parameter
        parameter -= lr * m' / (sqrt(v') + eps)            m' and v' as in Adam, of g = gradient / loss_scale

    Its arguments are those of Adam; in `ParameterGroups(AdamW, decay_groups(net.named_parameters()), lr=0.001)` norms
    and biases do not decay.
    """

    _decoupled = True

    def __init__(self, params: Iterable[Tensor | tuple[str, Tensor]], lr: float = 1e-3,
                 betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.01,
                 amsgrad: bool = False, loss_scale: float = 1):
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, loss_scale)
