"""Checks of arguments, written out: a launch passes one on the host while a GPU waits for it.

A check is a function made from the description of the arguments, line by line, as `dataclasses` makes `__init__`:

    def check(values, ndarray):
        x, slope, background = values
        if type(x) is not ndarray or not x.flags.c_contiguous: return False
        float_0 = x.dtype
        if float_0 not in floats: return False
        N, C = x.shape
        ...
        return True

It lets through only what is right, but turns away what is unusual too, such as a NumPy scalar where a Python number is
expected: what it turns away is looked at again by the check that names what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

Check = Callable[..., bool]  # (values, the class of arrays, ...)


class Lines:
    """The lines of a check in the making; `constants` are what they name."""

    def __init__(self, names: Iterable[str], *more: str):
        self._names = tuple(names)
        self._more = more
        self._lines: list[str] = []
        self._declared: dict[str, None] = {}
        self.constants: dict[str, Any] = {}

    def constant(self, value: Any) -> str:
        """A name for the value."""
        name = f"constant_{len(self.constants)}"
        self.constants[name] = value
        return name

    def declare(self, name: str) -> None:
        """The variable is there, and None, before the first line."""
        self._declared[name] = None

    def add(self, line: str, depth: int = 0) -> None:
        self._lines.append("    " * depth + line)

    def refuse_unless(self, condition: str, depth: int = 0) -> None:
        self.add(f"if not ({condition}): return False", depth)

    def array(self, name: str, depth: int = 0) -> None:
        """The argument is an array of the device, row after row."""
        self.refuse_unless(f"type({name}) is ndarray and {name}.flags.c_contiguous", depth)

    def compiled(self) -> Check:
        body = [f"{', '.join(self._names)}{',' if self._names else ''} = values"] if self._names else []
        body += [f"{name} = None" for name in self._declared]
        lines = "\n    ".join([f"def check({', '.join(('values', 'ndarray', *self._more))}):", *body, *self._lines,
                               "return True"])
        namespace = dict(self.constants)
        exec(lines, namespace)
        return namespace["check"]
