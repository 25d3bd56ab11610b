"""Active sites: their permutation, empty and large grids, and bad coordinates named by row."""

import numpy as np
import pytest

from sparsenet.sparse import ActiveSites


@pytest.mark.parametrize("shuffled", [False, True])
def test_the_permutation_goes_with_the_sites(placed, shuffled):
    cells = np.array([3, 1, 2] if shuffled else [1, 2, 3])
    sites = ActiveSites(np.stack([0 * cells, cells], axis=1), (5,), 1)
    for there in (sites, sites.copy(), placed(sites)):
        assert there.permutation.dtype == np.int64
        assert there.permutation.tolist() == ([1, 2, 0] if shuffled else [0, 1, 2])
    assert ActiveSites.from_keys(sites.keys, (5,), 1).permutation.tolist() == [0, 1, 2]


def test_no_sites_at_all():
    for given_value in ([], np.empty((0, 4), np.int64)):
        sites = ActiveSites(given_value, (5, 5, 5), 2)
        assert len(sites) == 0 and sites.batch_splits.tolist() == [0, 0, 0]
        assert sites.lookup(np.array([[0, 1, 1, 1]])).tolist() == [-1]
    assert len(ActiveSites([], (5,), 0)) == 0


@pytest.mark.parametrize(
    ("coordinates", "size", "batch", "error", "message"),
    [
        ([[0, 1, 1], [0, 2, 9]], (4, 4), 1, ValueError,
         r"row 1 are \[0, 2, 9\]: 9 is outside the grid \(4, 4\) along axis 1"),
        ([[0, 1, 1], [0, -1, 1]], (4, 4), 1, ValueError, r"row 1 .*-1 is outside"),
        ([[0, 1, 1], [2, 1, 1]], (4, 4), 2, ValueError, r"row 1 .*2 is outside batch_size \(0 to 1\)"),
        ([[0, 1, 1], [0, 3, 3], [0, 1, 1]], (4, 4), 1, ValueError, r"rows 0 and 2 are the same site \[0, 1, 1\]"),
        ([[0.0, 1.0]], (4,), 1, TypeError, "coordinates are float64, expected integers"),
        ([[0, 1, 1]], (4,), 1, ValueError, r"shape \(1, 3\), expected \(N, 2\)"),
        ([[0, 1]], (2**31,), 1, OverflowError, "coordinates are int32"),
        ([[0] * 5], (2**16,) * 4, 1, OverflowError, "more cells than int64 keys can name"),
        ([[0, 0]], (0,), 1, ValueError, "expected 1 to 4 positive numbers"),
        ([[0] * 6], (2,) * 5, 1, ValueError, "expected 1 to 4 positive numbers"),
        ([[0, 0]], 5, 1, TypeError, "expected one whole number per dimension"),
        ([[0, 0, 0]], (3.7, 3), 1, TypeError, r"spatial_size is \(3.7, 3\), expected one whole number"),
        ([[0, 0, 0]], "33", 1, TypeError, "spatial_size is '33', expected one whole number"),
        ([[0, 0, 0]], (3, 3), 1.5, TypeError, "batch_size is 1.5, expected a whole number"),
        ([[0, 0, 0]], (3, 3), "1", TypeError, "batch_size is '1', expected a whole number"),
        ([[0, 0]], (5,), -1, ValueError, "batch_size is -1"),
    ],
)
def test_what_is_refused(coordinates, size, batch, error, message):
    with pytest.raises(error, match=message):
        ActiveSites(np.array(coordinates), size, batch)


def test_sizes_may_be_numpy_s():
    sites = ActiveSites([[0, 1, 1]], np.array([3, 4]), np.int64(2))
    assert sites.spatial_size == (3, 4) and type(sites.batch_size) is int


def test_a_grid_with_more_than_2_to_the_32_cells():
    far = 2**20 - 1
    coordinates = np.array([[1, far, far, far], [0, 0, 0, 0], [1, far, far, 0]])
    sites = ActiveSites(coordinates, (2**20,) * 3, 2)
    assert sites.lookup(coordinates).tolist() == [2, 0, 1]


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", ">i4", ">u8"])
def test_every_integer_dtype_is_looked_up_as_it_is_given(placed, backend, dtype):
    if backend == "gpu" and dtype.startswith(">"):
        pytest.skip("CuPy has no arrays in foreign byte order")
    cells = np.array([[0, 0, 0, 0], [0, 1, 1, 1], [1, 3, 3, 3]]).astype(dtype)
    sites = placed(ActiveSites(cells, (4, 4, 300), 2))
    assert sites.coordinates.dtype == np.int32 and sites.coordinates.tolist() == cells.tolist()
    assert sites.lookup(cells[::-1]).tolist() == [2, 1, 0]
    assert sites.lookup(np.zeros((0, 4), dtype)).tolist() == []


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint32, np.int64, np.uint64])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_what_lies_outside_is_never_another_cell(placed, dtype, axis):
    """Neither by the key, whose next line it would name, nor by a cast that wraps."""
    sites = placed(ActiveSites(np.indices((2, 3, 3)).reshape(3, -1).T, (3, 3), 2))  # all cells are active
    side = (2, 3, 3)[axis]
    limits = np.iinfo(dtype)
    outside = [number for number in (-1, -side, side, side + 1, 2**7, 2**32, 2**32 + 1, 2**53 + 1, 2**63, 2**63 + 1,
                                     2**64 - 1, limits.min, limits.max)
               if limits.min <= number <= limits.max and not 0 <= number < side]
    queries = np.ones((len(outside) + 1, 3), dtype)
    queries[:-1, axis] = outside
    assert sites.lookup(queries).tolist() == [-1] * len(outside) + [int(sites.lookup([[1, 1, 1]])[0])]
    for number in outside:
        with pytest.raises(ValueError, match=rf"{number} is outside"):
            ActiveSites(np.insert(np.ones((1, 2), dtype), axis, number, axis=1), (3, 3), 2)


def test_lists_are_looked_up():
    sites = ActiveSites([[0, 1]], (5,), 1)
    assert sites.lookup([[0, 1], [0, 2]]).tolist() == [0, -1] and sites.lookup([]).tolist() == []
    with pytest.raises(TypeError, match="coordinates are float64, expected integers"):
        sites.lookup([[0.0, 1.0]])
