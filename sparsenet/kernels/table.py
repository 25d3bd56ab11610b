"""The table of named kernels: the seam between the operations and the hardware.

A kernel family is one module of this package.  It *declares* each kernel once (name, arguments
with dtypes and symbolic shapes) and gives one implementation for each backend:

    LEAKY = declare("leaky_relu_forward", x=Array("float", "N C"), slope=Scalar(float))

    @LEAKY.implementation("cpu")
    def _leaky_cpu(x, slope): ...

Callers use the name: `launch("leaky_relu_forward", x, 0.33)`.  The arrays give the backend
unless the caller names one.  Arguments are checked before anything runs; there is no fallback
from one backend to another.
"""

from __future__ import annotations

import importlib
import inspect
import numbers
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sparsenet.backend import FLOAT_DTYPES, device_of

# Which module declares which kernel: imported at the first launch, so that
# `import sparsenet` does not pay for Numba.
FAMILIES: dict[str, tuple[str, ...]] = {
    "matmul": ("matmul",),
    "hash_table": ("hash_insert", "hash_lookup"),
    "rulebook": ("output_keys", "neighbours", "transpose_neighbours", "pairs"),
    "convolution": ("convolution_forward", "convolution_weight_gradient"),
    "max_pool": ("max_pool_forward", "max_pool_backward"),
    "leaky_relu": ("leaky_relu_forward", "leaky_relu_backward"),
    "segment": ("segment_sum", "segment_max"),
    "voxelize": ("voxelize_triangles", "fill_solid"),
    "sgd": ("sgd_step",),
}
_MODULE_OF = {kernel: family for family, kernels in FAMILIES.items() for kernel in kernels}
_KERNELS: dict[str, Kernel] = {}


@dataclass(frozen=True)
class Array:
    """An array argument.

    dtype : "float" (float32 or float64, the same for every "float" argument of the kernel), or
        the name of one NumPy dtype, such as "int32".
    shape : one letter or word per axis, separated by blanks; a word that returns within one
        kernel stands for the same number each time, a number for itself.
    optional : None is accepted.
    """

    dtype: str
    shape: str
    optional: bool = False


@dataclass(frozen=True)
class Scalar:
    """A scalar argument of type `int`, `float` or `bool`."""

    type: type


class Kernel:
    """One named kernel: its contract, and an implementation for each backend."""

    def __init__(self, name: str, arguments: dict[str, Array | Scalar | object]):
        self.name = name
        self.arguments = arguments
        self.implementations: dict[str, Callable] = {}

    def implementation(self, backend: str) -> Callable[[Callable], Callable]:
        """Decorator: register a function as this kernel on `backend`."""

        def register(function: Callable) -> Callable:
            names = tuple(inspect.signature(function).parameters)
            if names != tuple(self.arguments):
                raise TypeError(f"{self.name} on {backend}: arguments are {tuple(self.arguments)}, "
                                f"the function takes {names}")
            self.implementations[backend] = function
            return function

        return register

    def __call__(self, *values: Any, backend: str | None = None) -> Any:
        if len(values) != len(self.arguments):
            raise TypeError(f"{self.name}: expected {len(self.arguments)} arguments "
                            f"({', '.join(self.arguments)}), got {len(values)}")
        device = self.check(values)
        backend = backend or device
        if backend not in self.implementations:
            raise NotImplementedError(
                f"{self.name}: no implementation for backend {backend!r}; "
                f"there are {sorted(self.implementations)}"
            )
        return self.implementations[backend](*values)

    def check(self, values: tuple) -> str:
        """Check each value against the contract; return the device of the arrays.

        Raises
        ------
        TypeError, ValueError : naming the kernel, the argument, what was expected, what came.
        """
        arrays = [v for v, a in zip(values, self.arguments.values(), strict=True) if isinstance(a, Array)]
        try:
            device = device_of(*arrays)
        except TypeError as error:
            raise TypeError(f"{self.name}: {error}") from None
        sizes: dict[str, tuple[int, str]] = {}
        floating: tuple[np.dtype, str] | None = None
        for value, (name, expected) in zip(values, self.arguments.items(), strict=True):
            if isinstance(expected, Scalar):
                self._check_scalar(name, value, expected)
            elif isinstance(expected, Array):
                if value is None and expected.optional:
                    continue
                self._check_shape(name, value, expected, sizes)
                if expected.dtype == "float":
                    floating = self._check_float(name, value, floating)
                elif value.dtype != expected.dtype:
                    raise TypeError(f"{self.name}: {name} is {value.dtype}, expected {expected.dtype}: "
                                    f"convert it with .astype('{expected.dtype}')")
                if not value.flags.c_contiguous:
                    raise ValueError(f"{self.name}: {name} is not C-contiguous: pass a copy "
                                     "(numpy.ascontiguousarray)")
        return device

    def _check_scalar(self, name: str, value: Any, expected: Scalar) -> None:
        kind = {int: numbers.Integral, float: numbers.Real, bool: (bool, np.bool_)}[expected.type]
        if not isinstance(value, kind):
            raise TypeError(f"{self.name}: {name} is {type(value).__name__}, expected "
                            f"{expected.type.__name__}")

    def _check_float(self, name: str, value: Any, known: tuple | None) -> tuple:
        if value.dtype not in FLOAT_DTYPES:
            raise TypeError(f"{self.name}: {name} is {value.dtype}, expected float32 or float64: "
                            "convert it with .astype('float32')")
        if known is not None and value.dtype != known[0]:
            raise TypeError(f"{self.name}: {name} is {value.dtype} but {known[1]} is {known[0]}: "
                            "convert one of them")
        return known or (value.dtype, name)

    def _check_shape(self, name: str, value: Any, expected: Array, sizes: dict) -> None:
        words = expected.shape.split()
        if value is None:
            raise ValueError(f"{self.name}: {name} is None, expected an array of shape ({', '.join(words)})")
        if value.ndim != len(words):
            raise ValueError(f"{self.name}: {name} has shape {value.shape}, expected "
                             f"({', '.join(words)})")
        for word, size in zip(words, value.shape, strict=True):
            wanted, source = (int(word), "") if word.isdigit() else sizes.setdefault(word, (size, name))
            if size != wanted:
                origin = f" ({word} = {wanted} by {source})" if source else ""
                raise ValueError(f"{self.name}: {name} has shape {value.shape}, expected "
                                 f"({', '.join(words)}){origin}")


def declare(name: str, **arguments: Array | Scalar | object) -> Kernel:
    """Add a kernel to the table.  An argument that is neither Array nor Scalar is not checked
    (its value here is only a word about it)."""
    if _MODULE_OF.get(name) is None:
        raise KeyError(f"kernel {name!r} is not listed in FAMILIES")
    _KERNELS[name] = Kernel(name, arguments)
    return _KERNELS[name]


def find(name: str) -> Kernel:
    """The kernel of that name; its family is imported at first use."""
    if name not in _MODULE_OF:
        raise KeyError(f"no kernel named {name!r}; there are {sorted(_MODULE_OF)}")
    if name not in _KERNELS:
        importlib.import_module(f"sparsenet.kernels.{_MODULE_OF[name]}")
    return _KERNELS[name]


def launch(name: str, *values: Any, backend: str | None = None) -> Any:
    """Check the arguments and run the kernel on the backend of its arrays."""
    return find(name)(*values, backend=backend)
