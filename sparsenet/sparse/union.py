"""The union and the intersection of the sites of several tensors, and the rows that belong to each of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from sparsenet.backend import array_module
from sparsenet.kernels import launch
from sparsenet.sparse.sites import ActiveSites


class Union(NamedTuple):
    """The result of `union`.

    sites : the union; if one operand contains all the others, that very object, with the rulebooks it keeps
    rows : for each operand, (N,) int64, the row in `sites` of each of its sites; None: its sites are `sites`
    """

    sites: ActiveSites
    rows: tuple[Any | None, ...]


class Intersection(NamedTuple):
    """The result of `intersection`.

    sites : the sites that all have; if they are those of one operand, that very object, with the rulebooks it keeps
    rows : for each operand, (M,) int64, its row of each of these sites; None: `sites` are its own
    """

    sites: ActiveSites
    rows: tuple[Any | None, ...]


def union(*parts: ActiveSites) -> Union:
    """The sites that any of them has, and where each of theirs is in it.

    The union of two is computed once: the first keeps it for as long as both exist, so that a loader can compute it
    in advance.

    Raises
    ------
    TypeError : there are none, one is not an ActiveSites, or they are on different devices.
    ValueError : spatial sizes or batch sizes differ.

    Example
    -------
    >>> import numpy as np
    >>> x, y = (ActiveSites(np.array(cells), (9,), 1) for cells in ([[0, 2], [0, 5]], [[0, 3], [0, 5]]))
    >>> sites, rows = union(x, y)
    >>> sites.coordinates[:, 1].tolist(), [row.tolist() for row in rows]
    ([2, 3, 5], [[0, 2], [1, 2]])
    """
    _check_sites("union", parts)
    sites = parts[0]
    for part in parts[1:]:
        sites = _union_of_two(sites, part).sites
    return Union(sites, tuple(_union_of_two(sites, part).rows[1] for part in parts))


def intersection(*parts: ActiveSites) -> Intersection:
    """The sites that all of them have, and where these are in each: x.features[rows] are the features there.

    Raises as `union` does.

    Example
    -------
    >>> import numpy as np
    >>> x, y = (ActiveSites(np.array(cells), (9,), 1) for cells in ([[0, 2], [0, 5]], [[0, 3], [0, 5]]))
    >>> sites, rows = intersection(x, y)
    >>> sites.coordinates[:, 1].tolist(), [row.tolist() for row in rows]
    ([5], [[1], [1]])
    """
    _check_sites("intersection", parts)
    xp, keys = array_module(parts[0].keys), parts[0].keys
    for part in parts[1:]:
        if part is not parts[0]:
            keys = keys[_are_within(xp, part.keys, keys)]
    sites = next((part for part in parts if len(part) == len(keys)), None)  # it has all of them, and no other
    if sites is None:
        sites = ActiveSites.from_keys(keys, parts[0].spatial_size, parts[0].batch_size)
    return Intersection(sites, tuple(None if part is sites else xp.searchsorted(part.keys, keys) for part in parts))


def _check_sites(operation: str, parts: Sequence[ActiveSites]) -> None:
    if not parts:
        raise TypeError(f"{operation}: there are no sites, expected at least one ActiveSites")
    for number, part in enumerate(parts):
        if not isinstance(part, ActiveSites):
            raise TypeError(f"{operation}: argument {number} is {type(part).__name__}, expected ActiveSites: pass the "
                            "sites of a SparseTensor, x.sites")
        for what in ("spatial_size", "batch_size"):
            if getattr(part, what) != getattr(parts[0], what):
                raise ValueError(f"{operation}: argument {number} has {what} {getattr(part, what)}, argument 0 has "
                                 f"{getattr(parts[0], what)}: they must agree")
        if part is not parts[0] and part.device != parts[0].device:
            raise TypeError(f"{operation}: argument {number} is on {part.device}, argument 0 on {parts[0].device}: "
                            "move one of them with .to(device)")


def _union_of_two(x: ActiveSites, y: ActiveSites) -> Union:
    if x is y:
        return Union(x, (None, None))
    if x._unions is None:
        x._unions = WeakKeyDictionary()
    known = x._unions.get(y)
    if known is None:
        known = x._unions.setdefault(y, _merge(x, y))
    sites, rows = known
    return Union(x if sites == "x" else y if sites == "y" else sites, rows)


def _merge(x: ActiveSites, y: ActiveSites) -> tuple[ActiveSites | str, tuple[Any | None, Any | None]]:
    """The union's sites and rows; "x" or "y" instead of the object itself, because a reference from one to the other
    would keep both alive."""
    xp = array_module(x.keys, y.keys)
    if len(x) == len(y) and bool((x.keys == y.keys).all()):
        return "x", (None, None)
    if len(y) < len(x):
        rows = _rows_within(xp, x.keys, y.keys)
        if rows is not None:
            return "x", (None, rows)
    elif len(x) < len(y):
        rows = _rows_within(xp, y.keys, x.keys)
        if rows is not None:
            return "y", (rows, None)
    keys = xp.union1d(x.keys, y.keys)
    sites = type(x).from_keys(keys, x.spatial_size, x.batch_size)
    return sites, (xp.searchsorted(keys, x.keys), xp.searchsorted(keys, y.keys))


def _rows_within(xp: Any, keys: Any, subset: Any) -> Any | None:
    """The rows of `subset` among the sorted keys, int64; None unless all of it is there."""
    return xp.searchsorted(keys, subset) if bool(_are_within(xp, keys, subset).all()) else None


def _are_within(xp: Any, keys: Any, wanted: Any) -> Any:
    """(M,) bool: whether each of `wanted` (M,) is among the sorted keys."""
    if not len(keys):
        return xp.zeros(len(wanted), bool)
    return keys[xp.minimum(xp.searchsorted(keys, wanted), len(keys) - 1)] == wanted


def gather(gradient: Any, rows: Any | None) -> Any:
    """(N, C): the gradient (M, C) of the features that stand at `rows` of a union."""
    return gradient if rows is None else launch("split_rows", gradient, rows, None, gradient.shape[1])[0]


def missing_rows(gradient: Any, rows: Any | None, sites: ActiveSites, shared: bool) -> Any | None:
    """The gradient of the background that stands at all other rows of a union: (C,) if it is `shared` by all samples,
    else (B, C); None if there are none."""
    if rows is None:
        return None
    missing = gradient.copy()
    missing[rows] = 0
    return launch("segment_sum", missing, None)[0] if shared else launch("segment_sum", missing, sites.batch_splits)


def check_agreement(operation: str, tensors: Sequence[Any], *properties: str) -> None:
    """Check that SparseTensors agree in these properties, in their dtype, and in whether they have a background.

    Raises ValueError or TypeError, which names the operation and the two tensors.
    """
    first = tensors[0]
    for number, other in enumerate(tensors[1:], start=1):
        names = ("x", "y") if len(tensors) == 2 else ("tensor 0", f"tensor {number}")
        for what in properties:
            if getattr(first, what) != getattr(other, what):
                raise ValueError(f"{operation}: {names[1]} has {what} {getattr(other, what)}, {names[0]} has "
                                 f"{getattr(first, what)}: they must agree")
        if first.dtype != other.dtype:
            raise TypeError(f"{operation}: {names[1]} is {other.dtype}, {names[0]} is {first.dtype}: convert one of "
                            "them")
        if (first.background is None) != (other.background is None):
            raise ValueError(f"{operation}: {names[first.background is not None]} has background None, the other has "
                             "one: give both a background, or neither")
