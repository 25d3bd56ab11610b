"""The shape of a filter: size, stride, padding, dilation in each dimension."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import gcd, prod
from operator import index
from typing import Any

import numpy as np

MAX_DIMENSION = 4
_LIMIT = 2**31 - 1  # of each number, and of the kernel offsets: kernels take them as int32


@dataclass(frozen=True)
class Geometry:
    """A box-shaped filter and how it steps over the grid.

    size, stride, padding, dilation : (D,) int each, D from 1 to 4
    submanifold : the output sites are the input sites

    Equal geometries share one rulebook.  Raises ValueError if there are more than 2^31 - 1 kernel offsets.

    Example
    -------
    >>> pool = Geometry.make(dimension=3, size=3, stride=2)
    >>> pool.output_size((125, 125, 125)), pool.volume
    ((62, 62, 62), 27)
    """

    size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    submanifold: bool = False

    def __post_init__(self) -> None:
        if self.volume > _LIMIT:
            raise ValueError(f"Geometry: kernel_size is {self.size}, which is {self.volume} offsets, expected at most "
                             f"{_LIMIT}: use a smaller filter")

    @classmethod
    def make(cls, dimension: int, size: int | Sequence[int], stride: int | Sequence[int] = 1,
             padding: int | Sequence[int] = 0, dilation: int | Sequence[int] = 1) -> Geometry:
        """A geometry from single numbers, which hold for every dimension, or one number per dimension.

        Raises ValueError if there are too many or too few, or one is not a whole number or is out of range.
        """
        try:
            dimension = index(dimension)
        except TypeError:
            raise ValueError(f"Geometry: dimension is {dimension!r}, expected a whole number, 1 to "
                             f"{MAX_DIMENSION}") from None
        if not 1 <= dimension <= MAX_DIMENSION:
            raise ValueError(f"Geometry: dimension is {dimension}, expected 1 to {MAX_DIMENSION}")
        return cls(
            _per_axis("kernel_size", size, dimension, 1),
            _per_axis("stride", stride, dimension, 1),
            _per_axis("padding", padding, dimension, 0),
            _per_axis("dilation", dilation, dimension, 1),
        )

    @classmethod
    def make_submanifold(cls, dimension: int, size: int | Sequence[int],
                         dilation: int | Sequence[int] = 1) -> Geometry:
        """An odd filter of stride 1 whose output sites are its input sites (Graham, van der Maaten 2017).

        Raises ValueError as `make` does, and if a size is even.
        """
        plain = cls.make(dimension, size, dilation=dilation)
        if any(k % 2 == 0 for k in plain.size):
            raise ValueError(f"SubmanifoldConv: kernel_size is {plain.size}, expected odd numbers, "
                             "so that the filter has a centre")
        centre = tuple(d * (k // 2) for k, d in zip(plain.size, plain.dilation, strict=True))
        if max(centre) > _LIMIT:
            raise ValueError(f"SubmanifoldConv: a filter of size {plain.size}, dilation {plain.dilation} reaches "
                             f"{max(centre)} cells from its centre, expected at most {_LIMIT}: use a smaller dilation")
        return cls(plain.size, plain.stride, centre, plain.dilation, submanifold=True)

    @property
    def dimension(self) -> int:
        """D"""
        return len(self.size)

    @property
    def volume(self) -> int:
        """K, the number of kernel offsets."""
        return prod(self.size)

    @property
    def non_overlapping(self) -> bool:
        """Whether windows never overlap, so that each input site is in one pair at most."""
        return all(s > d * (k - 1) for k, s, d in zip(self.size, self.stride, self.dilation, strict=True))

    @property
    def max_pairs_per_input(self) -> int:
        """The limit of the pairs of an input site: along an axis, the offsets whose k * dilation has one remainder by
        the stride."""
        return prod(-(-k // (s // gcd(s, d))) for k, s, d in zip(self.size, self.stride, self.dilation, strict=True))

    @cached_property
    def kernel_offsets(self) -> np.ndarray:
        """(K, D) int32, row-major, last axis fastest."""
        return np.stack(np.unravel_index(np.arange(self.volume), self.size), axis=1).astype(np.int32)

    def output_size(self, spatial_size: tuple[int, ...]) -> tuple[int, ...]:
        """The output's spatial size (D,): floor((size + 2*padding - dilation*(k-1) - 1) / stride) + 1.

        Raises
        ------
        ValueError : the input has another number of dimensions, or the filter is larger than the padded grid.
        """
        if len(spatial_size) != self.dimension:
            raise ValueError(f"Geometry: the layer has {self.dimension} dimensions, the input's "
                             f"spatial size {tuple(spatial_size)} has {len(spatial_size)}")
        result = []
        for size, k, s, p, d in zip(spatial_size, self.size, self.stride, self.padding, self.dilation,
                                    strict=True):
            slack = size + 2 * p - d * (k - 1) - 1
            if slack < 0:
                raise ValueError(
                    f"Geometry: a filter of size {self.size}, dilation {self.dilation} does not fit a "
                    f"grid of {tuple(spatial_size)} with padding {self.padding}: use a larger input"
                )
            result.append(slack // s + 1)
        return tuple(result)

    def __str__(self) -> str:
        words = [f"{_short(self.size)}/{_short(self.stride)}"]
        if self.submanifold:
            words.append("submanifold")
        elif any(self.padding):
            words.append(f"padding {_short(self.padding)}")
        if any(d != 1 for d in self.dilation):
            words.append(f"dilation {_short(self.dilation)}")
        return " ".join(words)


def several(value: Any) -> tuple[Any, ...] | None:
    """The numbers of a sequence or an array; None if `value` is a single number."""
    if getattr(value, "ndim", 0):
        return tuple(value.tolist())
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else None


def _per_axis(name: str, value: int | Sequence[int], dimension: int, minimum: int) -> tuple[int, ...]:
    values = several(value)
    values = (value,) * dimension if values is None else values
    if len(values) != dimension:
        raise ValueError(f"Geometry: {name} is {values}, expected {dimension} numbers")
    for number in values:
        if not isinstance(number, (int, np.integer)) or not minimum <= number <= _LIMIT:
            raise ValueError(f"Geometry: {name} is {value!r}, expected whole numbers from {minimum} to {_LIMIT}")
    return tuple(int(v) for v in values)


def _short(values: tuple[int, ...]) -> str:
    return str(values[0]) if len(set(values)) == 1 else "x".join(map(str, values))
