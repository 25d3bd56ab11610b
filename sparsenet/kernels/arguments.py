"""Descriptions of the arguments of a kernel, and the generated check of them (see `quick_check`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Protocol

import numpy as np

from sparsenet.backend import HALF, wide_dtype
from sparsenet.kernels.quick_check import Check, Lines


@dataclass(frozen=True)
class Array:
    """An array argument.

    dtype : "float" (float32 or float64) or "feature" (on a GPU float16, too), the same for all such arguments of
        the kernel; "wide" (the dtype of their arithmetic: float32 for float16, else their own); or the name of
        one NumPy dtype, such as "int32".
    shape : one letter or word per axis, separated by blanks; within a kernel a word stands for the same number wherever
        it occurs, a number for itself.
    optional : None is accepted; at the end of the arguments it may be left out.
    """

    dtype: str
    shape: str
    optional: bool = False

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The words of the shape."""
        return tuple(self.shape.split())

    @cached_property
    def only(self) -> np.dtype | None:
        """The one dtype it may have; None if that depends on the features."""
        return None if self.dtype in ("float", "feature", "wide") else np.dtype(self.dtype)


@dataclass(frozen=True)
class Arrays:
    """A list of arrays, each as described by an Array of that dtype and shape.  All lists of a kernel have the same
    length, and a word of the shape stands for the same number in arrays at the same position.  None is accepted if
    optional."""

    dtype: str
    shape: str
    optional: bool = False

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The words of the shape."""
        return tuple(self.shape.split())

    def at(self, position: int) -> Array:
        return _numbered(self.dtype, self.shape, position)


@cache
def _numbered(dtype: str, shape: str, position: int) -> Array:
    """An Array whose words are those of its position."""
    return Array(dtype, " ".join(word if word.isdigit() else f"{word}{position}" for word in shape.split()))


@dataclass(frozen=True)
class Scalar:
    """A scalar argument of type `int`, `float` or `bool`.

    optional : None is accepted; at the end of the arguments it may be left out.
    """

    type: type
    optional: bool = False


@dataclass(frozen=True)
class Integers:
    """A tuple of integers, one per axis of a grid, on the host for all backends.

    length : a word, as in the shape of an Array
    """

    length: str


@dataclass(frozen=True)
class Rulebook:
    """A rulebook argument, an object with the attributes of `RulebookViews` on the device of the arrays.

    shape : words for the numbers of input sites, output sites and kernel offsets, as in the shape of an Array
    """

    shape: str = "N M K"

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The words of the shape."""
        return tuple(self.shape.split())


class RulebookViews(Protocol):
    """The attributes of a rulebook, such as `sparsenet.sparse.Rulebook`, that kernels read; see there for the views.

    A view is built at first use: an implementation reads only the views that it needs, and names them (`Kernel.reads`).
    """

    shape: tuple[int, int, int]  # (N, M, K)
    device: str  # "cpu" or "cuda"
    submanifold: bool  # the transposed neighbours are the neighbours with the offsets reversed
    non_overlapping: bool  # each input site is in at most one pair
    max_pairs: int  # an upper bound of P, known without counting
    pair_count: int  # P
    neighbours: Any  # (M, K) int32
    transposed_neighbours: Any  # (N, K) int32
    pairs: Any  # (P, 2) int32
    pair_splits: Any  # (K+1,) int64
    windows: Any  # (M, K) int32


def quick_check(arguments: dict[str, Any]) -> Check:
    """The generated form of `Kernel.check`: (values, class of arrays, dtypes that features may have)."""
    names = [f"given_{i}" for i in range(len(arguments))]
    lines, known, lists = Lines(names, "allowed"), set(), []
    floating = ""  # the name of the dtype of features, once it is known
    for name, expected in zip(names, arguments.values(), strict=True):
        depth, optional = 0, getattr(expected, "optional", False)
        if optional:
            lines.add(f"if {name} is not None:")
            depth = 1
        if isinstance(expected, Scalar):
            lines.refuse_unless(f"type({name}) is {expected.type.__name__}", depth)
        elif isinstance(expected, Integers):
            lines.refuse_unless(f"type({name}) is tuple")
            lines.add(f"for number in {name}:")
            lines.refuse_unless("type(number) is int", 1)
            _add_sizes(lines, [expected.length], f"(len({name}),)", known, 0)
        elif isinstance(expected, Arrays):
            lines.refuse_unless(f"type({name}) is list", depth)
            if lists:
                lines.refuse_unless(f"len({name}) == len({lists[0]})", depth)
            like = lists[0] if lists else name
            lines.add(f"for array, other in zip({name}, {like}):", depth)
            lines.array("array", depth + 1)
            lines.refuse_unless(f"array.ndim == {len(expected.words)} and array.shape == other.shape", depth + 1)
            floating = _add_dtype(lines, expected, "array", floating, f"{like}[0].dtype", depth + 1)
            lists.append(name)
        elif isinstance(expected, Rulebook):
            lines.refuse_unless(f"hasattr(type({name}), 'pair_count')")
            lines.refuse_unless(f"({name}.device == 'cpu') is (ndarray is {lines.constant(np.ndarray)})")
            lines.add(f"shape = {name}.shape")
            _add_sizes(lines, expected.words, "shape", known, 0)
        elif isinstance(expected, Array):
            lines.array(name, depth)
            floating = _add_dtype(lines, expected, name, floating, f"{name}.dtype", depth)
            _add_sizes(lines, expected.words, f"{name}.shape", known, depth)
    return lines.compiled()


def _add_dtype(lines: Lines, expected: Array | Arrays, name: str, floating: str, source: str, depth: int) -> str:
    """Add lines that check the dtype; returns the name of the dtype of features, once it is known."""
    if expected.dtype not in ("float", "feature", "wide"):
        lines.refuse_unless(f"{name}.dtype is {lines.constant(np.dtype(expected.dtype))}", depth)
    elif not floating and (expected.optional or expected.dtype == "wide"):
        lines.refuse_unless("False", depth)  # nothing to compare with: left to `Kernel.check`
    elif expected.dtype == "wide":
        lines.refuse_unless(f"{name}.dtype is {lines.constant(wide_dtype)}({floating})", depth)
    else:
        if not floating:
            floating = "floating"
            lines.add(f"floating = {source}", depth)
        lines.refuse_unless(f"{name}.dtype is floating and floating in allowed", depth)
        if expected.dtype == "float":
            lines.refuse_unless(f"floating is not {lines.constant(HALF)}", depth)
    return floating


def _add_sizes(lines: Lines, words: Sequence[str], shape: str, known: set[str], depth: int) -> None:
    """Add lines that check a shape.

    known : words whose number is known whatever optional arguments are given
    """
    lines.refuse_unless(f"len({shape}) == {len(words)}", depth)
    for axis, word in enumerate(words):
        size = f"{shape}[{axis}]"
        if word.isdigit():
            lines.refuse_unless(f"{size} == {word}", depth)
        elif word in known:
            lines.refuse_unless(f"{size} == size_{word}", depth)
        else:
            lines.declare(f"size_{word}")
            lines.add(f"if size_{word} is None: size_{word} = {size}", depth)
            lines.refuse_unless(f"{size} == size_{word}", depth)
            if not depth:
                known.add(word)
