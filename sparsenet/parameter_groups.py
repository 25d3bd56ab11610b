"""Groups of parameters with settings of their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparsenet.autograd import Tensor

Named = Iterable["Tensor | tuple[str, Tensor]"]


class ParameterGroups:
    """Parameters in groups, each with settings of its own, as one optimizer: PyTorch's parameter groups.

    optimizer : its class, such as SGD
    groups : each a mapping with "params" (Parameters, or (name, Parameter) pairs) and the settings in which it differs;
        a group without parameters is left out
    settings : of all groups; lr is needed

    lr : of the groups that do not state theirs; setting it moves the others in proportion
    optimizers : one for each group

    `state_dict` is that of one optimizer over all parameters, whatever the groups.

    Raises
    ------
    ValueError : there are no parameters, a name or a Tensor occurs twice, lr is 0 though a group states its own, or
        a setting is out of range.
    TypeError : a group is not a mapping with "params", or see the optimizer.

    Example
    -------
    >>> from sparsenet.nn import Linear
    >>> from sparsenet.optim import SGD
    >>> net = Linear(3, 2)
    >>> optimizer = ParameterGroups(SGD, [{"params": [net.weight]}, {"params": [net.bias], "lr": 0.2}], lr=0.1)
    >>> optimizer.lr = 0.05
    >>> [one.lr for one in optimizer.optimizers]
    [0.05, 0.1]
    """

    def __init__(self, optimizer: Any, groups: Sequence[Mapping[str, Any]], lr: float, **settings: Any):
        self.optimizers: list[Any] = []
        self._factors: list[float] = []  # of each group's learning rate
        position = 0
        for number, group in enumerate(groups):
            if not isinstance(group, Mapping) or "params" not in group:
                raise TypeError(f"ParameterGroups: group {number} is {type(group).__name__}, expected a mapping with "
                                "'params'")
            params = [entry if isinstance(entry, tuple) else (str(position + i), entry)
                      for i, entry in enumerate(group["params"])]
            position += len(params)
            if not params:
                continue
            own = {name: value for name, value in group.items() if name != "params"}
            if own.get("lr", lr) != lr and not lr:
                raise ValueError(f"ParameterGroups: lr is 0, and group {number} states {own['lr']}: state an lr above "
                                 "0, which the group's is in proportion to")
            self._factors.append(own["lr"] / lr if own.get("lr", lr) != lr else 1.0)
            self.optimizers.append(optimizer(params, **{"lr": lr, **settings, **own}))
        if not self.optimizers:
            raise ValueError("ParameterGroups: there are no parameters")
        self._check_once()
        self._lr = float(lr)

    def _check_once(self) -> None:
        names: set[str] = set()
        tensors: set[int] = set()
        for optimizer in self.optimizers:
            for name, tensor in optimizer.parameters.items():
                if name in names or id(tensor) in tensors:
                    raise ValueError(f"ParameterGroups: parameter {name} occurs twice: give each once")
                names.add(name)
                tensors.add(id(tensor))

    @property
    def parameters(self) -> dict[str, Tensor]:
        """The parameters of all groups, by name."""
        return {name: tensor for optimizer in self.optimizers for name, tensor in optimizer.parameters.items()}

    @property
    def lr(self) -> float:
        return self._lr

    @lr.setter
    def lr(self, value: float) -> None:
        for optimizer, factor in zip(self.optimizers, self._factors, strict=True):
            optimizer.lr = value * factor
        self._lr = float(value)

    @property
    def loss_scale(self) -> float:
        return self.optimizers[0].loss_scale

    @loss_scale.setter
    def loss_scale(self, value: float) -> None:
        for optimizer in self.optimizers:
            optimizer.loss_scale = value

    def zero_grad(self) -> None:
        """Set `.grad` of each parameter to None."""
        for optimizer in self.optimizers:
            optimizer.zero_grad()

    def step(self) -> None:
        """Update each parameter, group by group.

        Raises ValueError, before any update, if a gradient does not have the shape of its parameter.
        """
        for name, tensor in self.parameters.items():
            if tensor.grad is not None and tensor.grad.shape != tensor.shape:
                raise ValueError(f"ParameterGroups: gradient of {name} has shape {tensor.grad.shape}, the parameter "
                                 f"has {tensor.shape}: call zero_grad after a parameter changes its shape")
        for optimizer in self.optimizers:
            optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """The states of all groups, by parameter name."""
        return {name: array for optimizer in self.optimizers for name, array in optimizer.state_dict().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Give each group its part of a `state_dict`; see the optimizer's.

        Raises ValueError if a name does not match a parameter, or an entry does not fit.
        """
        parts: list[dict[str, Any]] = [{} for _ in self.optimizers]
        for key, array in state.items():
            owners = [part for name in (key, key.rpartition(".")[0])  # its own, or "NAME.master"
                      for part, optimizer in zip(parts, self.optimizers, strict=True) if name in optimizer.parameters]
            if not owners:
                raise ValueError(f"ParameterGroups.load_state_dict: no parameter is named {key!r}, expected one of "
                                 f"{', '.join(self.parameters)}")
            owners[0][key] = array
        for part, optimizer in zip(parts, self.optimizers, strict=True):
            optimizer.load_state_dict(part)


def decay_groups(params: Named) -> list[dict[str, Any]]:
    """Two groups for ParameterGroups: the weights, and, without weight decay, biases and the parameters of norms.

    params : (name, Parameter) pairs, or Parameters; those of fewer than two axes are biases or belong to norms
    """
    groups: list[dict[str, Any]] = [{"params": []}, {"params": [], "weight_decay": 0.0}]
    for position, entry in enumerate(params):
        name, tensor = entry if isinstance(entry, tuple) else (str(position), entry)
        groups[tensor.ndim < 2]["params"].append((name, tensor))
    return groups
