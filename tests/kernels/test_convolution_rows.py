"""Convolutions whose rows do not depend on one another, against a loop in float64; both views to the bit."""

import numpy as np
import pytest
import reference
from convolution_cases import through

import sparsenet as sn
from sparsenet.kernels import launch
from sparsenet.sparse import ActiveSites, Geometry

GEOMETRIES = [Geometry.make(3, 2), Geometry.make(3, 3, 2, 1), Geometry.make_submanifold(3, 3), Geometry.make(3, 1)]


def views(geometry, c_in, c_out, dtype, share=0.3, seed=0):
    """features, weights, constant; rulebook."""
    rng = np.random.default_rng(seed)
    sites = ActiveSites(np.argwhere(rng.random((3, 7, 6, 8)) < share), (7, 6, 8), 3)
    arrays = (rng.standard_normal(shape).astype(dtype) for shape in
              ((len(sites), c_in), (geometry.volume, c_in, c_out), (c_out,)))
    return *arrays, sites.rulebook(geometry)


def forward(features, weights, constant, rulebook):
    """Over the neighbours, over the pairs."""
    results = []
    for view in ("neighbours", "pairs"):
        with through(view):
            results.append(launch("convolution_forward_by_row", features, weights, rulebook, constant))
    return results


def expected(features, weights, constant, neighbours):
    padded = np.concatenate([features.astype(float), np.zeros((1, features.shape[1]))])
    out = np.einsum("mkc,kcn->mn", padded[neighbours], weights.astype(float))
    return out if constant is None else out + constant


@pytest.fixture(autouse=True)
def threads():
    before = sn.get_num_threads()
    yield
    sn.set_num_threads(before)


@pytest.mark.parametrize("c_in, c_out", [(1, 5), (7, 32), (40, 70), (0, 3), (3, 0)])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_both_views_give_the_sum_and_the_same_bits(geometry, c_in, c_out, dtype):
    features, weights, constant, rulebook = views(geometry, c_in, c_out, dtype)
    for given in (constant, None):
        table, pairs = forward(features, weights, given, rulebook)
        assert table.dtype == dtype and table.shape == (len(rulebook.output_sites), c_out)
        reference.assert_close(table, expected(features, weights, given, rulebook.neighbours))
        assert np.array_equal(table, pairs)


@pytest.mark.parametrize("slope", [0.33, 0.0])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_a_leaky_relu_has_the_bits_of_one_that_follows(geometry, slope, dtype):
    features, weights, constant, rulebook = views(geometry, 7, 37, dtype)
    features[3] = np.nan
    for given in (constant, None):
        for view in ("neighbours", "pairs"):
            with through(view):
                one = launch("convolution_forward_by_row", features, weights, rulebook, given, slope)
                plain = launch("convolution_forward_by_row", features, weights, rulebook, given)
            expected = launch("leaky_relu_forward", plain, slope)
            assert np.isnan(one).any() and (plain < 0).any() and one.tobytes() == expected.tobytes()


def test_bits_do_not_depend_on_threads(dtype):
    given = views(GEOMETRIES[2], 32, 40, dtype)
    results = []
    for number in (1, 2, 5):
        sn.set_num_threads(number)
        results.append(forward(*given))
    assert all(np.array_equal(a, b) for other in results[1:] for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_no_sites_and_all_sites(share):
    features, weights, constant, rulebook = views(GEOMETRIES[1], 4, 6, "float32", share)
    for out in forward(features, weights, constant, rulebook):
        reference.assert_close(out, expected(features, weights, constant, rulebook.neighbours))


def test_a_constant_of_all_and_one_of_each_sample_give_the_same_bits(dtype):
    features, weights, constant, rulebook = views(GEOMETRIES[2], 9, 20, dtype)
    samples = np.repeat(constant[None], 3, axis=0)
    for shared, alone in zip(forward(features, weights, constant, rulebook),
                             forward(features, weights, None, rulebook), strict=True):
        assert np.array_equal(shared, launch("add_sample_rows", alone, samples, rulebook.output_sites.coordinates))


def test_numbers_that_are_not_finite_reach_those_who_meet_them_and_no_one_else():
    features, weights, _, rulebook = views(GEOMETRIES[2], 6, 8, "float32")
    features[4, 2] = np.nan
    weights[3, 1, 5] = np.inf
    met = np.zeros((len(features), 8), bool)
    met[(rulebook.neighbours == 4).any(axis=1)] = True
    met[rulebook.neighbours[:, 3] >= 0, 5] = True
    for out in forward(features, weights, None, rulebook):
        assert np.array_equal(~np.isfinite(out), met)


def test_a_gpu_gives_the_same_sums_by_its_own_kernel(host_driver):
    from sparsenet.kernels.cuda.source import use_driver
    from sparsenet.teach.cuda_host.host_driver import poisoned_empty

    features, weights, constant, rulebook = views(GEOMETRIES[2], 5, 7, "float32")
    with use_driver(host_driver), poisoned_empty():
        out = launch("convolution_forward_by_row", features, weights, rulebook, constant, backend="cuda")
    reference.assert_close(out, expected(features, weights, constant, rulebook.neighbours))
