"""The parameters of a CUDA kernel: read from its signature in the source, and checked before each launch.

    extern "C" __global__ void leaky_relu_forward(const SCALAR* __restrict__ x, long long size, ...)

CuPy passes arguments without a check: a float64 array for a kernel that reads floats gives meaningless numbers, a
scalar of the wrong width shifts all arguments after it.
"""

from __future__ import annotations

import numbers
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from sparsenet.kernels.quick_check import Check, Lines

# The types in our sources, and their names in NumPy.
DTYPES = {
    "bool": "bool", "signed char": "int8", "unsigned char": "uint8", "short": "int16",
    "unsigned short": "uint16", "int": "int32", "unsigned": "uint32", "unsigned int": "uint32",
    "long long": "int64", "unsigned long long": "uint64",
    "float": "float32", "double": "float64", "Half": "float16",  # Half: common.cuh
}
CTYPES = {np.dtype(dtype): name for name, dtype in DTYPES.items()}

_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_KERNEL = re.compile(
    r'extern\s+"C"\s+__global__\s+(?:__launch_bounds__\s*\([^)]*\)\s*)?void\s+'
    r"(?:__launch_bounds__\s*\([^)]*\)\s*)?(\w+)\s*\(([^)]*)\)")
_PARAMETER = re.compile(r"^(?P<type>.*?)(?P<pointer>\*?)\s*(?P<restrict>__restrict__)?\s*\b(?P<name>\w+)$")


@dataclass(frozen=True)
class Parameter:
    """One parameter of a kernel.

    dtype : of the number, or of the array's elements
    pointer : whether it is an array, else it is a number
    written : whether the kernel may write to it (no `const`)
    exclusive : `__restrict__`: if it is written, no other argument may share its memory
    optional : marked OPTIONAL: None is passed as a null pointer
    ordered : False if marked UNORDERED: the contents may depend on the order of the threads
    per_block : marked PER_BLOCK: an entry for each block, so that the contents depend on the size of the grid
    """

    name: str
    dtype: np.dtype
    pointer: bool = False
    written: bool = False
    exclusive: bool = False
    optional: bool = False
    ordered: bool = True
    per_block: bool = False

    @property
    def limits(self) -> tuple[int, int]:
        """The smallest and the largest integer that it can hold."""
        info = np.iinfo(self.dtype)
        return int(info.min), int(info.max)

    def check_number(self, value: Any, kernel: str) -> None:
        """Raise unless the kernel can read `value`.

        Raises
        ------
        TypeError : not a number, a NumPy scalar of another width, a fraction for an integer.
        OverflowError : an integer that does not fit.
        """
        if isinstance(value, np.generic):
            if value.dtype != self.dtype:
                raise TypeError(f"{kernel}: {self.name} is numpy.{value.dtype}, expected {self.dtype}: "
                                f"pass a Python number, or numpy.{self.dtype}(...)")
            return
        kind = {"b": bool, "f": numbers.Real}.get(self.dtype.kind, numbers.Integral)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise TypeError(f"{kernel}: {self.name} is {type(value).__name__}, expected a number of type "
                            f"{self.dtype}: the signature reads {CTYPES[self.dtype]} {self.name}")
        if self.dtype.kind in "iu" and not self.limits[0] <= value <= self.limits[1]:
            raise OverflowError(f"{kernel}: {self.name} is {value}, expected a number that fits {self.dtype}: "
                                "give the parameter a wider type in the source")

    def check_array(self, value: Any, kernel: str) -> None:
        """Raise unless the kernel can read `value`, an array, or write to it.

        Raises
        ------
        TypeError, ValueError : another dtype, not C-contiguous, read-only yet written to.
        """
        if value.dtype != self.dtype:
            raise TypeError(f"{kernel}: {self.name} is {value.dtype}, expected {self.dtype}: convert it with "
                            f".astype('{self.dtype}'), or choose the kernel's variant by its dtype")
        flags = value.flags
        if not flags.c_contiguous:
            raise ValueError(f"{kernel}: {self.name} is not C-contiguous, expected contiguous rows: "
                             "pass a copy (ascontiguousarray)")
        if self.written and not getattr(flags, "writeable", True):  # CuPy's are always writeable
            raise ValueError(f"{kernel}: {self.name} is read-only, expected an array to write to: pass a copy")


def quick_check(parameters: tuple[Parameter, ...]) -> Check:
    """The generated check of the parameters, (values, class of arrays): see `quick_check`."""
    lines = Lines(f"given_{i}" for i in range(len(parameters)))
    for i, one in enumerate(parameters):
        name, depth = f"given_{i}", 0
        if one.pointer and one.optional:
            lines.add(f"if {name} is not None:")
            depth = 1
        if one.pointer:
            lines.array(name, depth)
            lines.refuse_unless(f"{name}.dtype is {lines.constant(one.dtype)}", depth)
            if one.written:
                lines.refuse_unless(f"getattr({name}.flags, 'writeable', True)", depth)  # CuPy's always are
        elif one.dtype.kind in "iu":
            lines.refuse_unless(f"type({name}) is int and {one.limits[0]} <= {name} <= {one.limits[1]}")
        elif one.dtype.kind == "f":
            lines.refuse_unless(f"type({name}) is float or type({name}) is int")
        else:
            lines.refuse_unless(f"type({name}) is bool")
    return lines.compiled()


def parse(text: str, defines: dict[str, str]) -> dict[str, tuple[Parameter, ...]]:
    """The kernels of a source and their parameters, with the macros of a variant expanded.

    Raises ValueError for a type that is not in DTYPES, or a kernel that is defined twice with different parameters.
    """
    kernels: dict[str, tuple[Parameter, ...]] = {}
    for name, listed in _KERNEL.findall(_COMMENT.sub(" ", text)):
        parts = [part for part in listed.split(",") if part.strip()]
        parameters = tuple(_parameter(name, _expand(part, defines)) for part in parts)
        if kernels.setdefault(name, parameters) != parameters:
            raise ValueError(f"{name}: is defined twice with different parameters")
    return kernels


def names(text: str) -> list[str]:
    """The names of the kernels of a source."""
    return [name for name, _ in _KERNEL.findall(_COMMENT.sub(" ", text))]


def _expand(text: str, defines: dict[str, str]) -> str:
    """Replace macros, which are whole words, by their values until none is left."""
    while (new := re.sub(r"\w+", lambda word: str(defines.get(word[0], word[0])), text)) != text:
        text = new
    return text


def _parameter(kernel: str, text: str) -> Parameter:
    words = " ".join(text.split())
    match = _PARAMETER.match(words)
    if match is None:
        raise ValueError(f"{kernel}: cannot read the parameter {words!r}, expected 'type name' or 'type* name'")
    before = match["type"].split()
    marks = {"const", "OPTIONAL", "UNORDERED", "PER_BLOCK"}
    spelt = " ".join(word for word in before if word not in marks)
    if spelt not in DTYPES:
        raise ValueError(f"{kernel}: parameter {match['name']} has type {spelt!r}, expected one of "
                         f"{', '.join(DTYPES)}: define the variant's macro, or use one of them")
    pointer = bool(match["pointer"])
    return Parameter(match["name"], np.dtype(DTYPES[spelt]), pointer, pointer and "const" not in before,
                     bool(match["restrict"]), "OPTIONAL" in before, "UNORDERED" not in before, "PER_BLOCK" in before)
