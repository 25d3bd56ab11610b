"""The union of the sites of several tensors, and the rows in it that belong to each of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from sparsenet.backend import array_module

if TYPE_CHECKING:
    from sparsenet.sparse.sites import ActiveSites


class Union(NamedTuple):
    """The result of `union`.

    sites : the union; if one operand contains all the others, that very object, with the rulebooks it keeps
    rows : for each operand, (N,) int64, the row in `sites` of each of its sites; None: its sites are `sites`
    """

    sites: ActiveSites
    rows: tuple[Any | None, ...]


def union(*parts: ActiveSites) -> Union:
    """The union of sites on grids of one size and batch, which the caller has checked.

    The union of two is computed once: the first keeps it for as long as both exist, so that a loader can compute it
    in advance.
    """
    sites = parts[0]
    for part in parts[1:]:
        sites = _union_of_two(sites, part).sites
    return Union(sites, tuple(_union_of_two(sites, part).rows[1] for part in parts))


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
    rows = xp.searchsorted(keys, subset)
    inside = bool((keys[xp.minimum(rows, len(keys) - 1)] == subset).all())
    return rows if inside else None


def spread(features: Any, rows: Any | None, background: Any | None, sites: ActiveSites) -> Any:
    """(len(sites), C): the features (N, C) at `rows`; elsewhere the background, (C,) or (B, C) by sample, or zeros."""
    if rows is None:
        return features
    xp = array_module(features)
    if background is None:
        out = xp.zeros((len(sites), features.shape[1]), features.dtype)
    else:
        out = xp.empty((len(sites), features.shape[1]), features.dtype)
        out[:] = background if background.ndim == 1 else background[sites.coordinates[:, 0]]
    out[rows] = features
    return out


def gather(gradient: Any, rows: Any | None) -> Any:
    """(N, C): the gradient of the features that `spread` wrote to `rows`."""
    return gradient if rows is None else gradient[rows]


def missing_rows(gradient: Any, rows: Any | None, sites: ActiveSites, shared: bool) -> Any | None:
    """The gradient of the background that `spread` wrote: (C,) if it is `shared` by all samples, else (B, C); None if
    it wrote none."""
    from sparsenet.kernels import launch

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
