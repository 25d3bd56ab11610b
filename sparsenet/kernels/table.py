"""The table of named kernels: the seam between the operations and the hardware.

The folder of a family holds its `contract.py`, which *declares* each kernel once: name, formula, arguments with dtypes
and symbolic shapes; and a module for each backend, imported at the first launch there, with the implementation:

    LEAKY = declare("leaky_relu_forward", "activations", "x if x > 0, else slope * x",
                    x=Array("feature", "N C"), slope=Scalar(float))

    @LEAKY.implementation("cpu")
    def _leaky_cpu(x, slope): ...

Callers use the name: `launch("leaky_relu_forward", x, 0.33)`.  The device of the arrays determines the backend,
unless the caller names one or `sn.set_backend` chose the reference.  Arguments are checked before anything runs;
there is no fallback from one backend to another.
"""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Callable, Sequence
from functools import cache, cached_property
from typing import Any

import numpy as np

from sparsenet.backend import FLOAT_DTYPES, REFERENCE, array_class, backend_on, get_backend
from sparsenet.kernels.arguments import Array, Arrays, Integers, Rulebook, RulebookViews, Scalar, quick_check
from sparsenet.kernels.full_check import full_check
from sparsenet.kernels.quick_check import Check

__all__ = ["Array", "Arrays", "Integers", "Kernel", "Rulebook", "Scalar", "checking", "declare", "find", "formula_of",
           "launch", "names", "views_read"]
_KERNELS: dict[str, Kernel] = {}


class Kernel:
    """One named kernel: its contract, and an implementation for each backend.

    modules : of this package, by backend, which hold the implementations
    formula : the formula, in one line
    """

    def __init__(self, name: str, modules: dict[str, str], formula: str,
                 arguments: dict[str, Array | Arrays | Scalar | Integers | object]):
        self.name, self.modules, self.formula = name, modules, formula
        self.arguments = arguments
        needed = [i for i, one in enumerate(arguments.values(), start=1) if not getattr(one, "optional", False)]
        self._required = max(needed, default=0)  # optional arguments at the end may be left out
        first = [i for i, one in enumerate(arguments.values())
                 if isinstance(one, (Array, Arrays)) and not one.optional]
        self._first = first[0] if first else None  # the argument whose device counts
        self.implementations: dict[str, Callable] = {}
        self._reads: dict[str, Callable[..., Sequence[str]]] = {}
        self._imported: set[str] = set()  # backends whose module is completely imported
        self._guards: list[tuple[str, Callable, list[int]]] = []  # (when, guard, positions of the guard's arguments)

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(self.arguments)}): {self.formula}"

    def guard(self, when: str) -> Callable[[Callable], Callable]:
        """Decorator: a function of some of the arguments, by name, and of `backend`, that raises if they are wrong.

        when : "always": it needs shapes and scalars only, or values for which the implementation waits for the GPU
            anyway; "host": it reads values; on a GPU, which it would have to wait for, only if SPARSENET_CHECK=1;
            "checking": it reads all numbers; only if SPARSENET_CHECK=1
        """

        def register(function: Callable) -> Callable:
            names = [*self.arguments, "backend"]
            places = [names.index(name) for name in inspect.signature(function).parameters if name in names]
            self._guards.append((when, function, places))
            return function

        return register

    def on(self, backend: str) -> Callable:
        """The implementation; its module is imported at first use, while other threads wait.

        Raises NotImplementedError if there is none.
        """
        if backend not in self._imported:
            if backend in self.modules:
                importlib.import_module(f"sparsenet.kernels.{self.modules[backend]}")
            if backend not in self.implementations:
                for module in self.modules.values():  # so that the message lists all
                    importlib.import_module(f"sparsenet.kernels.{module}")
                raise NotImplementedError(f"{self.name}: no implementation for backend {backend!r}; "
                                          f"there are {sorted(self.implementations)}")
            self._imported.add(backend)
        return self.implementations[backend]

    def implementation(self, backend: str) -> Callable[[Callable], Callable]:
        """Decorator: register a function as this kernel on `backend`; its last parameter may be `*rest`."""

        def register(function: Callable) -> Callable:
            parameters = inspect.signature(function).parameters
            names = tuple(name for name, one in parameters.items() if one.kind != one.VAR_POSITIONAL)
            expected = tuple(self.arguments)
            if names != (expected if len(names) == len(parameters) else expected[:len(names)]):
                raise TypeError(f"{self.name} on {backend}: arguments are {tuple(self.arguments)}, "
                                f"the function takes {names}")
            self.implementations[backend] = function
            return function

        return register

    def reads(self, backend: str) -> Callable[[Callable], Callable]:
        """Decorator: a function (rulebook, *channels) that names the views of a rulebook that the implementation on
        `backend` reads, so that a loader can build them ahead."""

        def register(function: Callable[..., Sequence[str]]) -> Callable[..., Sequence[str]]:
            self._reads[backend] = function
            return function

        return register

    def views_read(self, rulebook: RulebookViews, *channels: int, backend: str | None = None) -> Sequence[str]:
        """See `views_read` of this module."""
        backend = backend_on(rulebook.device, backend)
        self.on(backend)
        return self._reads[backend](rulebook, *channels)

    def __call__(self, *values: Any, backend: str | None = None) -> Any:
        if not self._required <= len(values) <= len(self.arguments):
            raise TypeError(f"{self.name}: expected {len(self.arguments)} arguments "
                            f"({', '.join(self.arguments)}), got {len(values)}")
        values += (None,) * (len(self.arguments) - len(values))
        backend = self._quick_backend(values, backend) or self.check(values, backend)
        self._check_guards(values, backend)
        function = self.on(backend)
        try:
            return function(*values)
        except MemoryError as error:
            error.add_note(f"in the kernel {self.name} on {backend}")
            raise

    @cached_property
    def _quick_check(self) -> Check:
        return quick_check(self.arguments)

    def _quick_backend(self, values: tuple, backend: str | None) -> str | None:
        """The result of `check` if the arguments pass the quick check, else None."""
        first = None if self._first is None else values[self._first]
        device, arrays = array_class(first[0] if type(first) is list and first else first)
        backend = backend or get_backend() or device
        if arrays is None or backend == REFERENCE and device != "cpu":
            return None
        allowed = FLOAT_DTYPES["cuda" if backend == "cuda" else "cpu"]
        return backend if self._quick_check(values, arrays, allowed) else None

    def check(self, values: tuple, backend: str | None = None) -> str:
        """Check each value against its description, without the guards; returns the backend: that of the arrays' device
        if None was given.

        Raises
        ------
        TypeError, ValueError : with the kernel, the argument, what was expected and what was given.
        """
        return full_check(self.name, self.arguments, values, backend)

    def _check_guards(self, values: tuple, backend: str) -> None:
        given = (*values, backend)
        for when, function, places in self._guards:
            if when == "always" or (when == "host" and backend != "cuda") or checking():
                function(*[given[i] for i in places])


def declare(name: str, family: str, formula: str, /,
            **arguments: Array | Arrays | Scalar | Integers | object) -> Kernel:
    """Add a kernel to the table.

    family : the folder of this package whose cpu.py and cuda.py hold or import the implementations; the formula is a
        function in its reference.py
    formula : the formula, in one line
    arguments : a description that is not of these types is only a comment, and the argument is not checked
    """
    modules = {backend: f"{family}.{backend}" for backend in ("cpu", "cuda", REFERENCE)}
    kernel = Kernel(name, modules, formula, arguments)
    return _KERNELS.setdefault(name, kernel)


def formula_of(*names: str, reads: Sequence[str] = ()) -> Callable[[Callable], Callable]:
    """Decorator: the function, of NumPy, is the formula of these kernels, which read those views of a rulebook."""

    def register(function: Callable) -> Callable:
        for kernel in map(find, names):  # infinity and NaN pass without a warning, as on the other backends
            kernel.implementation(REFERENCE)(np.errstate(all="ignore")(function))
            kernel.reads(REFERENCE)(lambda *_: reads)
        return function

    return register


@cache
def checking() -> bool:
    """Whether SPARSENET_CHECK=1 turns on all guards, also those that read values on a GPU."""
    return os.environ.get("SPARSENET_CHECK") == "1"


def find(name: str) -> Kernel:
    """The kernel of that name; its implementation is imported at its first launch."""
    if name not in _KERNELS:
        raise KeyError(f"no kernel named {name!r}; there are {sorted(_KERNELS)}")
    return _KERNELS[name]


def names() -> list[str]:
    """All kernels, family by family."""
    return list(_KERNELS)


def views_read(name: str, rulebook: RulebookViews, *channels: int, backend: str | None = None) -> Sequence[str]:
    """The views of a rulebook that the kernel of that name reads: some of "neighbours", "transposed_neighbours",
    "pairs" and "windows".

    channels : C_in and C_out of a convolution, and the number of groups of a grouped one; none for a pooling
    backend : default: the one set by `sn.set_backend`, else that of the rulebook's device
    """
    return find(name).views_read(rulebook, *channels, backend=backend)


def launch(name: str, *values: Any, backend: str | None = None) -> Any:
    """Check the arguments and run the kernel on the backend of its arrays."""
    return find(name)(*values, backend=backend)
