"""Union and intersection of sites, against sets of cells."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_host import cupy_of_numpy

import sparsenet as sn
from sparsenet.sparse import ActiveSites, intersection, union

SIZE, BATCH = (4, 3), 3


def some_sites(rng, share: float) -> ActiveSites:
    return ActiveSites(np.argwhere(rng.random((BATCH, *SIZE)) < share), SIZE, BATCH)


def cells(sites: ActiveSites) -> list[tuple]:
    return [tuple(row) for row in sites.coordinates.tolist()]


def named(sites: ActiveSites, rows, part: ActiveSites) -> np.ndarray:
    """The coordinates at `rows` of sites, all if it is None."""
    return sites.coordinates if rows is None else sites.coordinates[rows]


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("shares", [(0.5, 0.5, 0.5, 0.5), (0.0, 0.4, 0.9, 0.2), (0.3, 0.0, 0.0, 1.0)])
def test_they_are_those_of_sets(count, shares, rng):
    parts = [some_sites(rng, share) for share in shares[:count]]
    sets = [set(cells(part)) for part in parts]
    sites, rows = union(*parts)
    assert cells(sites) == sorted(set.union(*sets))
    for part, own in zip(parts, rows, strict=True):
        np.testing.assert_array_equal(named(sites, own, part), part.coordinates)
    sites, rows = intersection(*parts)
    assert cells(sites) == sorted(set.intersection(*sets))
    for part, own in zip(parts, rows, strict=True):
        np.testing.assert_array_equal(named(part, own, part), sites.coordinates)


def test_one_that_has_all_of_them_is_the_result(rng):
    x, y = some_sites(rng, 0.4), some_sites(rng, 0.4)
    both, shared = union(x, y).sites, intersection(x, y).sites
    assert union(x, both).sites is both and intersection(both, x, x).sites is x
    assert intersection(x, both).rows[0] is None and intersection(x, x).rows == (None, None)
    assert union(shared, x).sites is x and union(shared, x).rows[0].tolist() == intersection(x, y).rows[0].tolist()
    assert intersection(x).sites is x and union(x).sites is x


def test_features_where_both_have_sites(rng):
    x, y = (sn.SparseTensor.from_sites(sn.Tensor(rng.standard_normal((len(s), 2)), True), s)
            for s in (some_sites(rng, 0.6), some_sites(rng, 0.6)))
    sites, (of_x, of_y) = intersection(x.sites, y.sites)
    product = sn.SparseTensor.from_sites(x.features[of_x] * y.features[of_y], sites)
    np.testing.assert_array_equal(product.to_dense().numpy(), x.to_dense().numpy() * y.to_dense().numpy())
    product.features.sum().backward()
    np.testing.assert_array_equal(x.features.grad[of_x], y.features.array[of_y])
    assert np.count_nonzero(x.features.grad) == 2 * len(sites) > 0


@pytest.mark.parametrize("function", [union, intersection])
def test_what_does_not_fit_is_refused(function, host_driver, rng):
    name, x = function.__name__, some_sites(rng, 0.5)
    with pytest.raises(TypeError, match=f"{name}: there are no sites"):
        function()
    with pytest.raises(TypeError, match=f"{name}: argument 1 is SparseTensor, expected ActiveSites: pass .* x.sites"):
        function(x, sn.SparseTensor.from_sites(np.ones((len(x), 1)), x))
    with pytest.raises(ValueError, match=rf"{name}: argument 1 has spatial_size \(4, 4\), argument 0 has \(4, 3\)"):
        function(x, ActiveSites(np.zeros((0, 3), int), (4, 4), BATCH))
    with pytest.raises(ValueError, match=f"{name}: argument 1 has batch_size 2, argument 0 has 3"):
        function(x, ActiveSites(np.zeros((0, 3), int), SIZE, 2))
    with cupy_of_numpy.installed(host_driver):
        there = [one.to("cuda") for one in (x, some_sites(rng, 0.5))]
        assert function(*there).sites.device == "cuda"
        with pytest.raises(TypeError, match=f"{name}: argument 1 is on cuda, argument 0 on cpu"):
            function(x, there[0])
