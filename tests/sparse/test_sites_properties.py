"""Active sites in arbitrary grids: canonical order, lookup, keys."""

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sparsenet.backend import to_device
from sparsenet.sparse import ActiveSites


@st.composite
def grids(draw):
    size = tuple(draw(st.lists(st.integers(1, 6), min_size=1, max_size=4)))
    batch = draw(st.integers(1, 3))
    cells = batch * int(np.prod(size))
    chosen = draw(st.lists(st.integers(0, cells - 1), unique=True, max_size=40))
    coordinates = np.stack(np.unravel_index(np.array(chosen, int), (batch, *size)), axis=1)
    return coordinates, size, batch


@given(grids())
def test_sites_are_sorted_and_the_permutation_says_where_rows_went(grid):
    coordinates, size, batch = grid
    sites = ActiveSites(coordinates, size, batch)
    assert (np.diff(sites.keys) > 0).all()
    assert np.array_equal(sites.coordinates, coordinates[sites.permutation])
    assert sites.coordinates.dtype == np.int32 and sites.coordinates.flags.c_contiguous
    assert np.array_equal(sites.keys, np.ravel_multi_index(tuple(sites.coordinates.T), (batch, *size)))


@given(grids())
def test_order_does_not_depend_on_insertion(grid):
    coordinates, size, batch = grid
    given_order, reverse = (ActiveSites(c, size, batch) for c in (coordinates, coordinates[::-1]))
    assert np.array_equal(given_order.coordinates, reverse.coordinates)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(grid=grids())
def test_lookup_finds_every_site_and_nothing_else(placed, grid):
    coordinates, size, batch = grid
    sites = placed(ActiveSites(coordinates, size, batch))
    every = np.stack(np.unravel_index(np.arange(batch * int(np.prod(size))), (batch, *size)), axis=1)
    rows = to_device(sites.lookup(every), "cpu")
    assert np.array_equal(every[rows >= 0], to_device(sites.coordinates, "cpu"))
    assert np.array_equal(rows[rows >= 0], np.arange(len(sites)))
    below, above, other_sample = (every + shift for shift in (
        [0, *(-np.array(size))], [0, *size], [batch, *[0] * len(size)]))
    outside = np.concatenate([below, above, other_sample])
    assert (sites.lookup(outside) == -1).all()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(grid=grids())
def test_batch_splits_and_from_keys(placed, grid):
    coordinates, size, batch = grid
    sites = ActiveSites(coordinates, size, batch)
    counts = np.bincount(coordinates[:, 0], minlength=batch)
    assert np.array_equal(np.diff(sites.batch_splits), counts)
    again = placed(ActiveSites.from_keys(sites.keys, size, batch))
    assert again.coordinates.dtype == np.int32
    assert np.array_equal(to_device(again.coordinates, "cpu"), sites.coordinates)
