"""The table of named kernels: the seam between the operations and the hardware.

A kernel family is one module of this package.  It *declares* each kernel once (name, arguments
with dtypes and symbolic shapes) and gives one implementation for each backend:

    LEAKY = declare("leaky_relu_forward", x=Array("feature", "N C"), slope=Scalar(float))

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
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from sparsenet.backend import FLOAT_DTYPES, HALF, array_class, check_float_dtype, device_of, wide_dtype
from sparsenet.kernels.contract import Array, Arrays, Integers, Scalar, quick_check
from sparsenet.kernels.quick_check import Check

# Which module declares which kernel: imported at the first launch, so that
# `import sparsenet` does not pay for Numba.
FAMILIES: dict[str, tuple[str, ...]] = {
    "matmul": ("matmul", "matmul_by_row"),
    "hash_table": ("hash_insert", "hash_lookup"),
    "rulebook": ("site_coordinates", "output_keys", "neighbours", "transpose_neighbours", "transposed_of_pairs",
                 "pairs", "pair_count"),
    "convolution": ("convolution_forward", "convolution_weight_gradient"),
    "convolution_pairs": ("convolution_forward_pairs", "convolution_input_gradient_pairs",
                          "convolution_weight_gradient_pairs"),
    "convolution_rows": ("convolution_forward_by_row", "convolution_forward_pairs_by_row"),
    "max_pool": ("max_pool_forward", "max_pool_backward"),
    "leaky_relu": ("leaky_relu_forward", "leaky_relu_backward"),
    "level": ("level_background", "level_gradient"),
    "segment": ("segment_sum", "segment_max"),
    "cell_sums": ("cell_sums", "cell_sums_backward"),
    "sample_rows": ("add_sample_rows", "subtract_sample_rows", "multiply_sample_rows"),
    "voxelize": ("voxelize_triangles", "fill_solid"),
    "voxelize_meshes": ("voxelize_meshes",),
    "sgd": ("sgd_step",),
    "softmax_cross_entropy": ("softmax_cross_entropy",),
    "triplet_loss": ("triplet_loss",),
    "losses": ("scale_gradient",),
}
__all__ = ["FAMILIES", "Array", "Arrays", "Integers", "Kernel", "Scalar", "declare", "find", "launch"]

_KINDS = {int: numbers.Integral, float: numbers.Real, bool: (bool, np.bool_)}  # of scalars
_MODULE_OF = {kernel: family for family, kernels in FAMILIES.items() for kernel in kernels}
_KERNELS: dict[str, Kernel] = {}  # declared; the module that did so may still be half imported
_READY: dict[str, Kernel] = {}  # those whose family is wholly imported


class Kernel:
    """One named kernel: its contract, and an implementation for each backend."""

    def __init__(self, name: str, arguments: dict[str, Array | Arrays | Scalar | Integers | object]):
        self.name = name
        self.arguments = arguments
        needed = [i for i, one in enumerate(arguments.values(), start=1) if not getattr(one, "optional", False)]
        self._least = max(needed, default=0)  # optional arguments at the end may be left out
        first = [i for i, one in enumerate(arguments.values())
                 if isinstance(one, (Array, Arrays)) and not one.optional]
        self._first = first[0] if first else None  # the argument that tells the device
        self.implementations: dict[str, Callable] = {}

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

    def __call__(self, *values: Any, backend: str | None = None) -> Any:
        if not self._least <= len(values) <= len(self.arguments):
            raise TypeError(f"{self.name}: expected {len(self.arguments)} arguments "
                            f"({', '.join(self.arguments)}), got {len(values)}")
        values += (None,) * (len(self.arguments) - len(values))
        backend = self._quick_backend(values, backend) or self.check(values, backend)
        if backend not in self.implementations:
            raise NotImplementedError(
                f"{self.name}: no implementation for backend {backend!r}; "
                f"there are {sorted(self.implementations)}"
            )
        try:
            return self.implementations[backend](*values)
        except MemoryError as error:
            error.add_note(f"in the kernel {self.name} on {backend}")
            raise

    @cached_property
    def _quick_check(self) -> Check:
        return quick_check(self.arguments)

    def _quick_backend(self, values: tuple, backend: str | None) -> str | None:
        """What `check` would return, if the arguments are as usual; else None."""
        first = None if self._first is None else values[self._first]
        device, arrays = array_class(first[0] if type(first) is list and first else first)
        allowed = FLOAT_DTYPES["cpu" if (backend or device) == "cpu" else "cuda"]
        return backend or device if arrays is not None and self._quick_check(values, arrays, allowed) else None

    def check(self, values: tuple, backend: str | None = None) -> str:
        """Check each value against the contract; return the backend: where None was given, the arrays' device.

        Raises
        ------
        TypeError, ValueError : naming the kernel, the argument, what was expected, what came.
        """
        given = self._given(values)
        try:
            device = device_of(*[value for value, _, expected in given if isinstance(expected, Array)])
        except TypeError as error:
            raise TypeError(f"{self.name}: {error}") from None
        backend = backend or device
        sizes: dict[str, tuple[int, str]] = {}
        floating: tuple[np.dtype, str] | None = None
        for value, name, expected in given:
            if isinstance(expected, Scalar):
                if value is None and expected.optional:
                    continue
                self._check_scalar(name, value, expected)
            elif isinstance(expected, Integers):
                self._check_integers(name, value, expected, sizes)
            elif isinstance(expected, Array):
                if value is None and expected.optional:
                    continue
                self._check_shape(name, value, expected, sizes)
                if expected.dtype in ("float", "feature"):
                    floating = self._check_float(name, value, expected, floating, backend)
                elif expected.only is None:
                    self._check_wide(name, value, floating)
                elif value.dtype != expected.only:
                    raise TypeError(f"{self.name}: {name} is {value.dtype}, expected {expected.dtype}: "
                                    f"convert it with .astype('{expected.dtype}')")
                if not value.flags.c_contiguous:
                    raise ValueError(f"{self.name}: {name} is not C-contiguous: pass a copy "
                                     "(numpy.ascontiguousarray)")
        return backend

    def _given(self, values: tuple) -> list[tuple[Any, str, object]]:
        """Each value with its name and what is expected; lists are taken apart."""
        given, length = [], None
        for value, (name, expected) in zip(values, self.arguments.items(), strict=True):
            if not isinstance(expected, Arrays):
                given.append((value, name, expected))
            elif value is not None or not expected.optional:
                if not isinstance(value, list):
                    raise TypeError(f"{self.name}: {name} is {type(value).__name__}, expected a list of arrays")
                length = len(value) if length is None else length
                if len(value) != length:
                    raise ValueError(f"{self.name}: {name} has {len(value)} arrays, expected {length} as in the "
                                     "list before it")
                given += [(one, f"{name}[{i}]", expected.at(i)) for i, one in enumerate(value)]
        return given

    def _check_scalar(self, name: str, value: Any, expected: Scalar) -> None:
        if type(value) is not expected.type and not isinstance(value, _KINDS[expected.type]):
            raise TypeError(f"{self.name}: {name} is {type(value).__name__}, expected "
                            f"{expected.type.__name__}")

    def _check_integers(self, name: str, value: Any, expected: Integers, sizes: dict) -> None:
        if not isinstance(value, tuple) or not all(isinstance(number, numbers.Integral) for number in value):
            raise TypeError(f"{self.name}: {name} is {value!r}, expected a tuple of {expected.length} integers")
        self._check_length(name, (len(value),), (expected.length,), sizes)

    def _check_float(self, name: str, value: Any, expected: Array, known: tuple | None, backend: str) -> tuple:
        if expected.dtype == "float" and value.dtype == HALF:  # on a GPU too
            raise TypeError(f"{self.name}: {name} is float16, expected float32 or float64: convert it with "
                            ".astype('float32')")
        device = "cpu" if backend == "cpu" else "cuda"
        if value.dtype not in FLOAT_DTYPES[device]:
            check_float_dtype(f"{self.name}: {name} is", value.dtype, device)
        if known is not None and value.dtype != known[0]:
            raise TypeError(f"{self.name}: {name} is {value.dtype} but {known[1]} is {known[0]}: "
                            "convert one of them")
        return known or (value.dtype, name)

    def _check_wide(self, name: str, value: Any, known: tuple | None) -> None:
        if known is not None and value.dtype != wide_dtype(known[0]):
            raise TypeError(f"{self.name}: {name} is {value.dtype}, expected {wide_dtype(known[0])}, which {known[0]} "
                            f"({known[1]}) is computed with")

    def _check_shape(self, name: str, value: Any, expected: Array, sizes: dict) -> None:
        words = expected.words
        if value is None:
            raise ValueError(f"{self.name}: {name} is None, expected an array of shape ({', '.join(words)})")
        if value.ndim != len(words):
            raise ValueError(f"{self.name}: {name} has shape {value.shape}, expected "
                             f"({', '.join(words)})")
        self._check_length(name, value.shape, words, sizes)

    def _check_length(self, name: str, shape: tuple, words: Sequence[str], sizes: dict) -> None:
        for word, size in zip(words, shape, strict=True):
            known = sizes.get(word)
            if known is None:
                known = sizes[word] = (int(word), "") if word.isdigit() else (size, name)
            wanted, source = known
            if size != wanted:
                origin = f" ({word} = {wanted} by {source})" if source else ""
                raise ValueError(f"{self.name}: {name} has shape {shape}, expected "
                                 f"({', '.join(words)}){origin}")


def declare(name: str, **arguments: Array | Arrays | Scalar | Integers | object) -> Kernel:
    """Add a kernel to the table.  An argument that is none of these is not checked (its
    value here is only a word about it)."""
    if _MODULE_OF.get(name) is None:
        raise KeyError(f"kernel {name!r} is not listed in FAMILIES")
    _KERNELS[name] = Kernel(name, arguments)
    return _KERNELS[name]


def find(name: str) -> Kernel:
    """The kernel of that name; its family is imported at first use, by one thread, for which others wait."""
    kernel = _READY.get(name)
    if kernel is not None:
        return kernel
    if name not in _MODULE_OF:
        raise KeyError(f"no kernel named {name!r}; there are {sorted(_MODULE_OF)}")
    importlib.import_module(f"sparsenet.kernels.{_MODULE_OF[name]}")
    return _READY.setdefault(name, _KERNELS[name])


def launch(name: str, *values: Any, backend: str | None = None) -> Any:
    """Check the arguments and run the kernel on the backend of its arrays."""
    return find(name)(*values, backend=backend)
