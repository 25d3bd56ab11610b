"""Module: the base class of layers and networks.  How they are called; `Holder` says what they hold."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sparsenet.autograd import thread_state
from sparsenet.layer_stack import entered
from sparsenet.nn.holder import Holder

_thread = threading.local()


@contextmanager
def intercepting(intercept: Callable[[Module, tuple[Any, ...]], Any] | None) -> Iterator[None]:
    """A context in which each call of a Module on this thread becomes `intercept(module, inputs)`, which calls
    `module.forward(*inputs)` itself and returns the result, or another one.  None: calls are plain again."""
    before = getattr(_thread, "intercept", None)
    _thread.intercept = intercept
    try:
        yield
    finally:
        _thread.intercept = before


def intercepted() -> bool:
    """Whether calls of Modules on this thread are intercepted."""
    return getattr(_thread, "intercept", None) is not None


class Module(Holder):
    """Base class of layers and networks: subclasses define `forward` (and `extra_repr`).

    Parameters, buffers and child modules are found among the attributes: see `Holder`.
    """

    @property
    def kind(self) -> str:
        """The name that `SparseNetwork` derives its layers' names from: MyLayer -> "my_layer"."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(self).__name__).lower()

    def forward(self, *inputs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__}: forward is not defined")

    def __call__(self, *inputs: Any) -> Any:
        checks = thread_state.checks
        if checks is None:
            return self._run(inputs)
        with entered(self):
            output = self._run(inputs)
            checks.layer(inputs, output)
        return output

    def _run(self, inputs: tuple[Any, ...]) -> Any:
        intercept = getattr(_thread, "intercept", None)
        try:
            return self.forward(*inputs) if intercept is None else intercept(self, inputs)
        except MemoryError as error:  # CuPy's says how many bytes were asked for
            if not any(self.named_children()):
                error.add_note(f"in the layer {self!r}")
            raise

    def extra_repr(self) -> str:
        """The settings shown in the brackets of `repr`, for a layer without children."""
        return ""

    def _repr_html_(self) -> str:
        """The HTML that notebooks show."""
        from sparsenet.nn.display import module_html

        return module_html(self)

    def __repr__(self) -> str:
        lines = [f"({name}) {child!r}".replace("\n", "\n  ") for name, child in self.named_children()]
        inside = "".join(f"\n  {line}" for line in lines) + "\n" if lines else ""
        return f"{type(self).__name__}({self.extra_repr()}{inside})"
