"""The full check of a kernel's arguments against their descriptions: it runs if the quick one (`arguments.quick_check`)
fails, and names the argument, what was expected and what was given.
"""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from sparsenet.backend import FLOAT_DTYPES, HALF, backend_on, check_float_dtype, device_of, wide_dtype
from sparsenet.kernels.arguments import Array, Arrays, Integers, Rulebook, Scalar

_KINDS: dict[type, Any] = {int: numbers.Integral, float: numbers.Real, bool: (bool, np.bool_)}  # of scalars


class Place(NamedTuple):
    """An argument of a kernel, as messages name it."""

    kernel: str
    name: str

    def __str__(self) -> str:
        return f"{self.kernel}: {self.name}"


def full_check(kernel: str, arguments: dict[str, Any], values: tuple, backend: str | None = None) -> str:
    """Check each value of a launch against its description; returns the backend: that of the arrays' device if None was
    given.

    Raises
    ------
    TypeError, ValueError : with the kernel, the argument, what was expected and what was given.
    """
    given = _given(kernel, arguments, values)
    try:
        device = device_of(*[value for value, _, expected in given if isinstance(expected, Array)])
        backend = backend_on(device, backend)
    except TypeError as error:
        raise TypeError(f"{kernel}: {error}") from None
    sizes: dict[str, tuple[int, str]] = {}  # of the letters of shapes, and the argument that each follows from
    floating: tuple[np.dtype, str] | None = None
    for value, name, expected in given:
        if value is None and getattr(expected, "optional", False):
            continue
        place = Place(kernel, name)
        if isinstance(expected, Scalar):
            _check_scalar(place, value, expected)
        elif isinstance(expected, Integers):
            _check_integers(place, value, expected, sizes)
        elif isinstance(expected, Rulebook):
            _check_rulebook(place, value, expected, sizes, device)
        elif isinstance(expected, Array):
            _check_shape(place, value, expected, sizes)
            if expected.dtype in ("float", "feature"):
                floating = _check_float(place, value, expected, floating, backend)
            elif expected.only is None:
                _check_wide(place, value, floating)
            elif value.dtype != expected.only:
                raise TypeError(f"{place} is {value.dtype}, expected {expected.dtype}: convert it with "
                                f".astype('{expected.dtype}')")
            if not value.flags.c_contiguous:
                raise ValueError(f"{place} is not C-contiguous: pass a copy (numpy.ascontiguousarray)")
    return backend


def _given(kernel: str, arguments: dict[str, Any], values: tuple) -> list[tuple[Any, str, Any]]:
    """Each value with its name and its description; lists are split into their arrays."""
    given, length = [], None
    for value, (name, expected) in zip(values, arguments.items(), strict=True):
        if not isinstance(expected, Arrays):
            given.append((value, name, expected))
        elif value is not None or not expected.optional:
            if not isinstance(value, list):
                raise TypeError(f"{kernel}: {name} is {type(value).__name__}, expected a list of arrays")
            length = len(value) if length is None else length
            if len(value) != length:
                raise ValueError(f"{kernel}: {name} has {len(value)} arrays, expected {length} as in the list before "
                                 "it")
            given += [(one, f"{name}[{i}]", expected.at(i)) for i, one in enumerate(value)]
    return given


def _check_scalar(place: Place, value: Any, expected: Scalar) -> None:
    if type(value) is not expected.type and not isinstance(value, _KINDS[expected.type]):
        raise TypeError(f"{place} is {type(value).__name__}, expected {expected.type.__name__}")


def _check_integers(place: Place, value: Any, expected: Integers, sizes: dict) -> None:
    if not isinstance(value, tuple) or not all(isinstance(number, numbers.Integral) for number in value):
        raise TypeError(f"{place} is {value!r}, expected a tuple of {expected.length} integers")
    _check_length(place, (len(value),), (expected.length,), sizes)


def _check_rulebook(place: Place, value: Any, expected: Rulebook, sizes: dict, device: str) -> None:
    if not hasattr(type(value), "pair_count"):
        raise TypeError(f"{place} is {type(value).__name__}, expected a Rulebook: pass x.sites.rulebook(geometry)")
    if value.device != device:
        raise TypeError(f"{place} is on {value.device}, the arrays are on {device}: move the sparse tensor with "
                        ".to(device)")
    _check_length(place, value.shape, expected.words, sizes)


def _check_float(place: Place, value: Any, expected: Array, known: tuple | None, backend: str) -> tuple:
    if expected.dtype == "float" and value.dtype == HALF:  # on a GPU too
        raise TypeError(f"{place} is float16, expected float32 or float64: convert it with .astype('float32')")
    device = "cuda" if backend == "cuda" else "cpu"
    if value.dtype not in FLOAT_DTYPES[device]:
        check_float_dtype(f"{place} is", value.dtype, device)
    if known is not None and value.dtype != known[0]:
        raise TypeError(f"{place} is {value.dtype} but {known[1]} is {known[0]}: convert one of them")
    return known or (value.dtype, place.name)


def _check_wide(place: Place, value: Any, known: tuple | None) -> None:
    if known is not None and value.dtype != wide_dtype(known[0]):
        raise TypeError(f"{place} is {value.dtype}, expected {wide_dtype(known[0])}, the dtype of arithmetic with "
                        f"{known[0]} ({known[1]})")


def _check_shape(place: Place, value: Any, expected: Array, sizes: dict) -> None:
    words = ", ".join(expected.words)
    if value is None:
        raise ValueError(f"{place} is None, expected an array of shape ({words})")
    if value.ndim != len(expected.words):
        raise ValueError(f"{place} has shape {value.shape}, expected ({words})")
    _check_length(place, value.shape, expected.words, sizes)


def _check_length(place: Place, shape: tuple, words: Sequence[str], sizes: dict) -> None:
    for word, size in zip(words, shape, strict=True):
        known = sizes.get(word)
        if known is None:
            known = sizes[word] = (int(word), "") if word.isdigit() else (size, place.name)
        wanted, source = known
        if size != wanted:
            origin = f" ({word} = {wanted} by {source})" if source else ""
            raise ValueError(f"{place} has shape {shape}, expected ({', '.join(words)}){origin}")
