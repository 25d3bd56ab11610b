"""The keys of sites."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sparsenet.sparse import ActiveSites
from sparsenet.teach.inputs import sites_of
from sparsenet.teach.numpy_puzzle import Case, NumpyPuzzle


def cases() -> Iterator[Case]:
    for seed, (spatial_size, count) in enumerate((((7,), 4), ((4, 5), 5), ((3, 4, 5), 6), ((4, 4), 0))):
        sites = sites_of(seed, spatial_size, count, batch_size=2)
        yield _case(sites, f"2 grids of {spatial_size}, {count} sites in each")
    far = np.array([[0, 0, 0, 1], [0, 1999, 3, 2], [3, 1500, 1999, 1999]], np.int32)
    yield _case(ActiveSites(far, (2000, 2000, 2000), 4), "4 grids of (2000, 2000, 2000), 3 sites")


def _case(sites: ActiveSites, words: str) -> Case:
    def explain(_: int, index: tuple[int, ...]) -> str:
        return f"It is the key of the site {sites.coordinates[index[0]].tolist()}."

    return Case(words, {"coordinates": sites.coordinates, "spatial_size": sites.spatial_size}, (sites.keys,), explain)


def _strides(coordinates: np.ndarray, strides: np.ndarray) -> np.ndarray:
    return coordinates.astype(np.int64) @ strides


def _in_int32(coordinates: np.ndarray, spatial_size: tuple[int, ...]) -> np.ndarray:
    keys = coordinates[:, 0]
    for axis, side in enumerate(spatial_size, 1):
        keys = keys * np.int32(side) + coordinates[:, axis]
    return keys


PUZZLE = NumpyPuzzle(
    __name__, "A number for each site: its key", """
    A site is a row [batch, x, y, ...] of coordinates (N, 1+D), int32.  Its key is its row-major index among all
    cells of all grids: batch is the slowest axis, the last coordinate the fastest.  With spatial_size (4, 5), 20
    cells a grid:

        [0, 0, 0] -> 0     [0, 0, 1] -> 1     [0, 1, 0] -> 5     [0, 3, 4] -> 19     [1, 0, 0] -> 20

    Sites sorted by key are in one order, whoever made them, and a key is found in a sorted list by halving it.
    Return the keys, (N,) int64.  Grids may be large: 2000 cells a side are no exception.
    """, (
        "Think of the digits of a number: multiply what you have by the next side, then add the next coordinate.",
        "For the sides (X, Y): key = (batch * X + x) * Y + y.",
        "2000 * 2000 * 2000 does not fit int32: make the coordinates int64 first, coordinates.astype(np.int64)."),
    results=("keys",), cases=cases, mistakes=(
        ("The key has overflowed: the coordinates are int32, make them int64 before you multiply.", _in_int32),
        ("The first axis runs fastest here; the last one has to.",
         lambda coordinates, spatial_size: _strides(coordinates, np.array(
             [np.prod(spatial_size), *np.cumprod((1, *spatial_size[:-1]))]))),
        ("The batch is left out: sites of two samples get the same key.",
         lambda coordinates, spatial_size: _strides(coordinates[:, 1:], np.cumprod((1, *spatial_size[:0:-1]))[::-1]))))
