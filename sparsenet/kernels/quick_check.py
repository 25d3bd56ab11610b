"""Generated checks of arguments, which have to be fast: a GPU may be idle while the host checks.

A check is a function generated from the description of the arguments, line by line, as `dataclasses` does for
`__init__`:

    def check(values, ndarray):
        x, slope, background = values
        if type(x) is not ndarray or not x.flags.c_contiguous: return False
        float_0 = x.dtype
        if float_0 not in floats: return False
        N, C = x.shape
        ...
        return True

It accepts only valid arguments, but rejects unusual ones, too, such as a NumPy scalar instead of a Python number:
rejected arguments are checked again by the slower check, which raises with a message or accepts them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

Check = Callable[..., bool]  # (values, the class of arrays, ...)


class Lines:
    """The lines of a check that is being generated, and the constants that they name."""

    def __init__(self, names: Iterable[str], *more: str):
        self._names = tuple(names)
        self._more = more
        self._lines: list[str] = []
        self._declared: dict[str, None] = {}
        self.constants: dict[str, Any] = {}

    def constant(self, value: Any) -> str:
        """A name for the value, usable in the lines."""
        name = f"constant_{len(self.constants)}"
        self.constants[name] = value
        return name

    def declare(self, name: str) -> None:
        """Set the variable to None before the first line."""
        self._declared[name] = None

    def add(self, line: str, depth: int = 0) -> None:
        self._lines.append("    " * depth + line)

    def refuse_unless(self, condition: str, depth: int = 0) -> None:
        self.add(f"if not ({condition}): return False", depth)

    def array(self, name: str, depth: int = 0) -> None:
        """Refuse an argument that is not a C-contiguous array of the device."""
        self.refuse_unless(f"type({name}) is ndarray and {name}.flags.c_contiguous", depth)

    def compiled(self) -> Check:
        body = [f"{', '.join(self._names)}{',' if self._names else ''} = values"] if self._names else []
        body += [f"{name} = None" for name in self._declared]
        lines = "\n    ".join([f"def check({', '.join(('values', 'ndarray', *self._more))}):", *body, *self._lines,
                               "return True"])
        namespace = dict(self.constants)
        exec(lines, namespace)
        return namespace["check"]
