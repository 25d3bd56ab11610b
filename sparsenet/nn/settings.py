"""Checks of the settings that layers are made with."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from operator import index
from typing import Any

from sparsenet.sparse.geometry import several

Size = int | Sequence[int]


def dimension_of(kernel_size: Size, dimension: int) -> int:
    """D: as many as there are sizes, or `dimension` if one holds for all."""
    sizes = several(kernel_size)
    return dimension if sizes is None else len(sizes)


def checked_groups(layer: Any, in_channels: Any, out_channels: Any, groups: Any) -> tuple[int, int, int]:
    """The three as ints.  Raises TypeError or ValueError unless they are whole numbers of at least 1, of which the
    last divides the others."""
    owner = type(layer).__name__
    counts = (whole_channels(owner, "in_channels", in_channels), whole_channels(owner, "out_channels", out_channels),
              whole_channels(owner, "groups", groups))
    if counts[0] % counts[2] or counts[1] % counts[2]:
        raise ValueError(f"{owner}: {counts[0]} to {counts[1]} channels in {counts[2]} groups, expected a number of "
                         "groups that divides both")
    return counts


def finite_number(owner: str, name: str, value: Any) -> float:
    """The value as a float.  Raises ValueError unless it is a finite number."""
    if not (isinstance(value, numbers.Real) and math.isfinite(value)):
        raise ValueError(f"{owner}: {name} is {value!r}, expected a finite number")
    return float(value)


def whole_channels(owner: str, name: str, count: Any) -> int:
    """The number of channels as an int.  Raises TypeError if it is not a whole number, ValueError if it is below 1."""
    try:
        if isinstance(count, bool):  # a bias in the place of the groups
            raise TypeError
        count = int(index(count))
    except TypeError:
        raise TypeError(f"{owner}: {name} is {count!r}, expected a whole number") from None
    if count < 1:
        raise ValueError(f"{owner}: {name} is {count}, expected at least 1")
    return count
