"""Binary search within compiled functions; numpy.searchsorted takes half a second to compile."""

from __future__ import annotations

import numba


@numba.njit(nogil=True)
def lower_bound(values, first, last, bound):
    """The first index of `first` to `last` - 1 whose value is at least `bound`, or `last`; values (n,) ascend."""
    while first < last:
        middle = (first + last) // 2
        if values[middle] < bound:
            first = middle + 1
        else:
            last = middle
    return first
