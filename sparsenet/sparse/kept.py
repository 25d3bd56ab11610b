"""The memory of sites and of all that was made from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sparsenet.backend import array_class
from sparsenet.sparse.reversed_rulebook import ReversedRulebook
from sparsenet.sparse.rulebook import Rulebook
from sparsenet.sparse.sites import ActiveSites


def kept_arrays(*sites: ActiveSites) -> Iterator[Any]:
    """The arrays that exist of these sites, of the views of rulebooks, unions and finer grids that start at them, and
    so on of all sites that these lead to; they may share memory."""
    waiting: list[Any] = list(sites)
    found: set[int] = set()
    while waiting:
        one = waiting.pop()
        if array_class(one)[1] is not None:
            yield one
        elif id(one) not in found:
            found.add(id(one))
            waiting += _within(one)


def _within(value: Any) -> Iterable[Any]:
    """The objects that an object of this package, or a container, refers to."""
    if isinstance(value, ActiveSites | Rulebook | ReversedRulebook):
        return list(vars(value).values())
    if isinstance(value, Mapping):
        return list(value.values())
    return value if isinstance(value, tuple | list) else ()
