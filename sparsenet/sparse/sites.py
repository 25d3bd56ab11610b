"""Active sites: sorted coordinates, their keys, a hash table, and the rulebooks that start here."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from math import prod
from operator import index
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import ReferenceType, WeakKeyDictionary, ref

import numpy as np

from sparsenet.backend import array_module, device_of, to_device
from sparsenet.kernels import launch
from sparsenet.sparse.geometry import MAX_DIMENSION, Geometry
from sparsenet.sparse.rulebook import Rulebook

if TYPE_CHECKING:
    from sparsenet.kernels.hash_table import HashTable

_MAX_ROWS = 2**31 - 1  # rows are int32


class Origin(NamedTuple):
    """The sites that others were made from, by a filter that steps over the grid."""

    sites: ActiveSites
    geometry: Geometry


class ActiveSites:
    """The active cells of a batch of grids, in the order of their keys.

    Parameters
    ----------
    coordinates : (N, 1+D) integer, rows [batch, x, y, ...] in any order, D from 1 to 4
    spatial_size : (D,) int, the grid's sides
    batch_size : int, the number of grids; some may have no site

    Attributes
    ----------
    coordinates : (N, 1+D) int32, sorted by key
    keys : (N,) int64, the row-major index of (batch, x, y, ...)
    permutation : (N,) int64; row i was given as row permutation[i]

    Raises
    ------
    TypeError : coordinates, spatial_size or batch_size are not integers.
    ValueError : wrong shape; a coordinate lies outside the grid or occurs twice (the row is named).
    OverflowError : batch_size * cells exceeds the range of int64, or N that of int32.
    """

    _unions: WeakKeyDictionary[ActiveSites, Any] | None = None  # with other sites: see sparse/union.py
    _copies: dict[Any, Any] | None = None  # on other grids: see sparse/upsampling.py, imaging.py
    _origin: Origin | None = None  # of a copy of those sites: they keep these, and a reference back would be a cycle
    _origin_itself: ReferenceType[ActiveSites] | None = None

    def __init__(self, coordinates: Any, spatial_size: Sequence[int], batch_size: int):
        self.spatial_size = checked_size(spatial_size)
        self.batch_size = checked_batch(batch_size, self.spatial_size)
        coordinates = self._checked(coordinates)
        xp = array_module(coordinates)
        self.coordinates = xp.ascontiguousarray(coordinates, dtype=np.int32)
        self.keys = self._keys_of(self.coordinates)
        if not bool((self.keys[1:] > self.keys[:-1]).all()):
            self.permutation = xp.argsort(self.keys)
            self.keys = self.keys[self.permutation]
            same = xp.flatnonzero(self.keys[1:] == self.keys[:-1])
            if same.size:
                rows = sorted(int(self.permutation[int(same[0]) + i]) for i in (0, 1))
                site = self.coordinates[rows[0]].tolist()
                raise ValueError(f"ActiveSites: coordinates of rows {rows[0]} and {rows[1]} are the same "
                                 f"site {site}: merge them first, as SparseTensor.from_points(points, features, "
                                 "voxel_size) does")
            self.coordinates = self.coordinates[self.permutation]
        self._rulebooks: dict[Geometry, Rulebook] = {}

    @classmethod
    def from_keys(cls, keys: Any, spatial_size: Sequence[int], batch_size: int) -> ActiveSites:
        """Sites from sorted distinct keys (N,) int64, which are not checked.

        Raises OverflowError if N exceeds the range of int32.
        """
        sites = cls.__new__(cls)
        sites.spatial_size = tuple(spatial_size)
        sites.batch_size = batch_size
        if keys.size > _MAX_ROWS:
            raise OverflowError(f"ActiveSites: {keys.size} sites, at most {_MAX_ROWS} fit int32 rows: use "
                                "smaller batches")
        sites.coordinates = launch("site_coordinates", keys, sites.spatial_size)
        sites.keys = keys
        sites._rulebooks = {}
        return sites

    @property
    def dimension(self) -> int:
        return len(self.spatial_size)

    @property
    def cells(self) -> int:
        """The number of cells of one grid, active or not."""
        return prod(self.spatial_size)

    @property
    def device(self) -> str:
        return device_of(self.keys)

    def __len__(self) -> int:
        return self.keys.size

    def __repr__(self) -> str:
        return (f"ActiveSites({len(self)} sites, spatial_size={self.spatial_size}, "
                f"batch_size={self.batch_size}, device={self.device!r})")

    @cached_property
    def permutation(self) -> Any:
        """(N,) int64, see the class; made at first use if the rows were given in order."""
        return array_module(self.keys).arange(self.keys.size)

    @cached_property
    def batch_splits(self) -> Any:
        """(B+1,) int64: the sites of sample b are rows batch_splits[b] to batch_splits[b+1]."""
        xp = array_module(self.keys)
        return xp.searchsorted(self.keys, xp.arange(self.batch_size + 1, dtype=np.int64) * self.cells)

    @cached_property
    def hash_table(self) -> HashTable:
        """(table_keys (T,) int64, table_rows (T,) int32) of the kernel `hash_insert`.

        Its `check`, which waits for a GPU, is left to code that waits anyway: the keys are distinct by construction.
        """
        return launch("hash_insert", self.keys, False)

    def lookup(self, coordinates: Any) -> Any:
        """(Q,) int32: the row of each site in `coordinates` (Q, 1+D) integer; -1 if the cell is not active or lies
        outside the grid.

        Raises TypeError or ValueError if `coordinates` are not integers of that shape.
        """
        xp = array_module(self.keys)
        coordinates = xp.asarray(self._as_integers(coordinates))
        inside = xp.ones(len(coordinates), bool)
        for axis, size in enumerate((self.batch_size, *self.spatial_size)):
            inside &= _is_below(coordinates[:, axis], size)
        cells = xp.where(inside[:, None], coordinates, 0)  # before the cast, which would wrap numbers beyond int64
        queries = xp.where(inside, self._keys_of(cells.astype(np.int64)), -1)
        self.hash_table.check()
        return launch("hash_lookup", *self.hash_table, queries)

    @property
    def origin(self) -> Origin | None:
        """The input sites, and the geometry, of the convolution or pooling that made these sites; None if they were
        made otherwise."""
        itself = None if self._origin_itself is None else self._origin_itself()
        return self._origin if self._origin is None or itself is None else self._origin._replace(sites=itself)

    def _set_origin(self, itself: ActiveSites, copy: ActiveSites, geometry: Geometry) -> None:
        self._origin, self._origin_itself = Origin(copy, geometry), ref(itself)

    def rulebook(self, geometry: Geometry) -> Rulebook:
        """The rulebook from these sites through a filter of that geometry; kept, so that layers of equal geometry
        share it."""
        if geometry not in self._rulebooks:
            self._rulebooks[geometry] = Rulebook(self, geometry)
        return self._rulebooks[geometry]

    def to(self, device: str) -> ActiveSites:
        """The sites on `device` ("cpu" or "cuda"), with the way back to their origin; rulebooks are not moved but built
        again when they are used."""
        if device == self.device:
            return self
        moved = ActiveSites.from_keys(to_device(self.keys, device), self.spatial_size, self.batch_size)
        if "permutation" in vars(self):
            moved.permutation = to_device(self.permutation, device)
        if self._origin is not None:
            moved._origin = self._origin._replace(sites=self._origin.sites.to(device))
        return moved

    def copy(self) -> ActiveSites:
        """Another object over the same arrays, without the rulebooks."""
        twin = object.__new__(type(self))
        vars(twin).update(vars(self), _rulebooks={}, _unions=None, _copies=None)
        return twin

    def __getstate__(self) -> dict[str, Any]:
        """The state to pickle and copy, without the rulebooks and all else that follows from the keys: these are made
        again when they are needed."""
        kept = ("spatial_size", "batch_size", "coordinates", "keys", "permutation", "_origin")
        return {name: value for name, value in vars(self).items() if name in kept} | {"_rulebooks": {}}

    def _keys_of(self, coordinates: Any) -> Any:
        keys = coordinates[:, 0].astype(np.int64)
        for axis, size in enumerate(self.spatial_size):
            keys *= size
            keys += coordinates[:, axis + 1]
        return keys

    def _check_shape(self, coordinates: Any) -> None:
        width = 1 + self.dimension
        if coordinates.ndim != 2 or coordinates.shape[1] != width:
            raise ValueError(f"ActiveSites: coordinates have shape {coordinates.shape}, expected (N, {width}): "
                             f"rows [batch, {self.dimension} coordinates]")
        if coordinates.dtype.kind not in "iu":
            raise TypeError(f"ActiveSites: coordinates are {coordinates.dtype}, expected integers: "
                            "voxelize points first, or convert with .astype('int32')")

    def _as_integers(self, coordinates: Any) -> Any:
        """The coordinates as an integer array (N, 1+D); lists are converted."""
        if not hasattr(coordinates, "dtype"):
            coordinates = np.asarray(coordinates)
            if coordinates.size == 0:
                coordinates = coordinates.reshape(0, 1 + self.dimension).astype(np.int32)
        self._check_shape(coordinates)
        return coordinates

    def _checked(self, coordinates: Any) -> Any:
        coordinates = self._as_integers(coordinates)
        if coordinates.shape[0] > _MAX_ROWS:
            raise OverflowError(f"ActiveSites: {coordinates.shape[0]} sites, at most {_MAX_ROWS} fit "
                                "int32 rows: use smaller batches")
        if not coordinates.shape[0]:
            return coordinates
        xp = array_module(coordinates)
        extremes = xp.stack([pick(column) for column in coordinates.T for pick in (xp.min, xp.max)]).tolist()
        for axis, size in enumerate((self.batch_size, *self.spatial_size)):
            if not (0 <= extremes[2 * axis] and extremes[2 * axis + 1] < size):
                column = coordinates[:, axis]
                row = int(xp.flatnonzero(~_is_below(column, size))[0])
                word = "batch_size" if axis == 0 else f"the grid {self.spatial_size} along axis {axis - 1}"
                raise ValueError(f"ActiveSites: coordinates of row {row} are {coordinates[row].tolist()}: "
                                 f"{int(column[row])} is outside {word} (0 to {size - 1}): drop such rows "
                                 "or enlarge the grid")
        return coordinates


def _is_below(column: Any, size: int) -> Any:
    """(N,) bool: whether 0 <= column < size, compared in the column's own dtype, because int64 cannot hold uint64."""
    return (column >= 0) & (column <= min(size - 1, np.iinfo(column.dtype).max))


def checked_size(spatial_size: Sequence[int]) -> tuple[int, ...]:
    """The sides of a grid as a tuple of ints.  Raises TypeError, ValueError or OverflowError: see `ActiveSites`."""
    try:
        size = tuple(index(s) for s in spatial_size)
    except TypeError:
        raise TypeError(f"ActiveSites: spatial_size is {spatial_size!r}, expected one whole number per "
                        "dimension, such as (126, 126, 126)") from None
    if not 1 <= len(size) <= MAX_DIMENSION or min(size) < 1:
        raise ValueError(f"ActiveSites: spatial_size is {size}, expected 1 to {MAX_DIMENSION} positive numbers")
    if max(size) > 2**31 - 1:
        raise OverflowError(f"ActiveSites: spatial_size {size}: coordinates are int32, at most {2**31 - 1}")
    return size


def checked_batch(batch_size: int, spatial_size: tuple[int, ...]) -> int:
    """The number of grids as an int.  Raises TypeError, ValueError or OverflowError: see `ActiveSites`."""
    try:
        batch_size = index(batch_size)
    except TypeError:
        raise TypeError(f"ActiveSites: batch_size is {batch_size!r}, expected a whole number") from None
    if batch_size < 0:
        raise ValueError(f"ActiveSites: batch_size is {batch_size}, expected 0 or more")
    if batch_size * prod(spatial_size) >= 2**63:
        raise OverflowError(f"ActiveSites: {batch_size} grids of {spatial_size} have more cells than "
                            "int64 keys can name (2^63): use a smaller grid or batch")
    return batch_size
