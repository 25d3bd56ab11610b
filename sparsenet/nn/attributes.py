"""Checks of a Module's attributes, so that no weight is silently overlooked."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

from sparsenet.autograd import Parameter, Tensor

_CONTAINERS = (list, tuple, set, frozenset, deque, Mapping)


def check_attribute(owner: Any, name: str, value: Any, module: type) -> None:
    """Raise TypeError if the attribute hides a weight or, unless its name begins with an underscore, a module; or
    if a parameter or buffer would cease to be one.

    owner : the Module;  module : the class Module

    Weights are Parameters, and other leaf Tensors that require a gradient.
    """
    place, hidden_name = f"{type(owner).__name__}.{name}", name.startswith("_")
    if isinstance(vars(owner).get(name), Parameter) and not isinstance(value, Parameter | None):
        raise TypeError(f"{place} is a Parameter, got a {type(value).__name__}, expected a Parameter or None: set its "
                        "array, parameter.array = array, or wrap it, sn.nn.Parameter(array)")
    if name in owner._buffers and (not isinstance(value, Tensor | None) or isinstance(value, Parameter)):
        raise TypeError(f"{place} is a buffer, got a {type(value).__name__}, expected a Tensor or None: set its array, "
                        "buffer.array = array")
    if isinstance(value, Tensor):
        if hidden_name and _is_weight(value):
            raise TypeError(f"{place} is a {type(value).__name__} to be trained, and attributes that begin with an "
                            "underscore are not looked at: name it without")
        if not hidden_name and value.requires_grad and not isinstance(value, Parameter):
            raise TypeError(f"{place} is a Tensor that requires a gradient, expected a Parameter: wrap its array, "
                            "sn.nn.Parameter(array), or keep a constant, tensor.detach()")
    elif isinstance(value, _CONTAINERS):
        own = (Parameter, module) if isinstance(value, (list, tuple)) and not hidden_name else ()
        for part in _parts(value):
            for inner in () if isinstance(part, own) else _leaves(part):
                if _is_weight(inner) or (isinstance(inner, module) and not hidden_name):
                    raise TypeError(f"{place} holds a {type(inner).__name__} within a {type(value).__name__}, where it "
                                    "is not looked for: put each Parameter and Module into an attribute of its own, or "
                                    "directly into a list whose name does not begin with an underscore")


def _is_weight(value: Any) -> bool:
    return isinstance(value, Parameter) or (isinstance(value, Tensor) and value.requires_grad and value.is_leaf)


def _parts(container: Any) -> Iterator[Any]:
    return chain(container, container.values()) if isinstance(container, Mapping) else iter(container)


def _leaves(value: Any) -> Iterator[Any]:
    """The values in nested containers; the value itself if it is not a container."""
    if isinstance(value, _CONTAINERS):
        for part in _parts(value):
            yield from _leaves(part)
    else:
        yield value
