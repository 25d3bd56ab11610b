"""The layers that are running on this thread: messages name the innermost by its path in the network."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class _State(threading.local):
    def __init__(self) -> None:
        self.modules: list[Any] = []  # currently running, outermost first


_state = _State()


@contextmanager
def entered(module: Any) -> Iterator[None]:
    """A context whose operations belong to this layer.  Entering the innermost layer again changes nothing."""
    again = innermost() is module
    if not again:
        _state.modules.append(module)
    try:
        yield
    finally:
        if not again:
            _state.modules.pop()


def innermost() -> Any | None:
    """The innermost running layer, or None."""
    return _state.modules[-1] if _state.modules else None


def layer_path() -> str:
    """" in layer PATH: DESCRIPTION" for the innermost running layer; "" outside all layers."""
    if not _state.modules:
        return ""
    names = [_name_in(parent, child) for parent, child in zip(_state.modules, _state.modules[1:], strict=False)]
    path = ".".join(name for name in names if name)
    return f" in layer {path}{': ' if path else ''}{_described(_state.modules[-1])}"


def _name_in(parent: Any, child: Any) -> str:
    """The name of `child` among the children of `parent`; its class if it is not a child."""
    return next((name for name, module in parent.named_children() if module is child), child.kind)


def _described(module: Any) -> str:
    return f"{type(module).__name__}({module.extra_repr()})"
