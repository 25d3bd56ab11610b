"""The Tensors given to an optimizer, by name, if it can change them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sparsenet.autograd import Parameter, Tensor


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
