"""The sites that are active in either of two tensors, and which rows of theirs each one's are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from sparsenet.backend import array_module

if TYPE_CHECKING:
    from sparsenet.sparse.sites import ActiveSites


class Union(NamedTuple):
    """sites : those of all together.  If one of them has them all, that very object, with the rulebooks it holds
    rows : of each, (N,) int64, the rows in `sites` that its sites have; None: all rows, as they are
    """

    sites: ActiveSites
    rows: tuple[Any | None, ...]


def union(*parts: ActiveSites) -> Union:
    """The union of sites on grids of one size and batch.

    Made once for each two: the first keeps it, as long as both are there, so that a loader can make it ahead.
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
    found = x._unions.get(y)
    if found is None:
        found = x._unions.setdefault(y, _join(x, y))
    sites, rows = found
    return Union(x if sites == "x" else y if sites == "y" else sites, rows)


def _join(x: ActiveSites, y: ActiveSites) -> tuple[ActiveSites | str, tuple[Any | None, Any | None]]:
    """Sites and rows; "x" or "y" in place of sites that are theirs, which would keep each other alive."""
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


def _rows_within(xp: Any, keys: Any, some: Any) -> Any | None:
    """Where `some` stand among the sorted keys; None unless all do."""
    rows = xp.searchsorted(keys, some)
    inside = bool((keys[xp.minimum(rows, len(keys) - 1)] == some).all())
    return rows if inside else None


def spread(features: Any, rows: Any | None, background: Any | None, sites: ActiveSites) -> Any:
    """(len(sites), C): features at `rows`, elsewhere the background (C,) or (B, C) of the sample, or zeros."""
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
    """The gradient of the features that `spread` took to `rows`."""
    return gradient if rows is None else gradient[rows]


def missing_rows(gradient: Any, rows: Any | None, sites: ActiveSites, shared: bool) -> Any | None:
    """The gradient of the background that `spread` put in: (C,) if it is `shared` by all samples, else (B, C); None
    if it put in none."""
    from sparsenet.kernels import launch

    if rows is None:
        return None
    rest = gradient.copy()
    rest[rows] = 0
    return launch("segment_sum", rest, None)[0] if shared else launch("segment_sum", rest, sites.batch_splits)


def check_agreement(operation: str, tensors: Sequence[Any], *properties: str) -> None:
    """Raise TypeError or ValueError unless SparseTensors agree in these properties, their dtype, and in having a
    background or none."""
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
