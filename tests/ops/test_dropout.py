"""Dropout: one channel mask per sample, shared by its sites and its background."""

import numpy as np
import pytest
from reference import assert_close

from sparsenet import SparseTensor, Tensor, gradcheck
from sparsenet.ops import dropout, to_dense
from sparsenet.ops.dropout import dropout_mask

COORDINATES = np.array([[0, 0, 1], [0, 2, 0], [0, 2, 2], [2, 1, 1]], np.int32)  # sample 1 is empty


def sparse(rng, background, dtype=np.float64):
    features = Tensor(rng.standard_normal((4, 5)).astype(dtype), requires_grad=True)
    return SparseTensor(features, COORDINATES, (3, 3), 3, background)


def seeded():
    return np.random.default_rng(1)


def test_mask_holds_zeros_and_the_inverse_of_what_is_kept(dtype):
    mask = dropout_mask(300, 200, 0.2, seeded(), dtype)
    assert mask.dtype == dtype and set(np.unique(mask)) == {0, dtype.type(1.25)}
    assert mask.mean() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 2, 2), (0, 3)])
def test_tensor_loses_whole_channels_of_a_sample(shape, rng, dtype):
    x = Tensor(rng.standard_normal(shape).astype(dtype), requires_grad=True)
    y = dropout(x, 0.5, seeded())
    mask = dropout_mask(shape[0], shape[1], 0.5, seeded(), dtype).reshape(shape[:2] + (1,) * (len(shape) - 2))
    assert np.array_equal(y.array, x.array * mask) and y.dtype == dtype
    assert gradcheck(lambda x: dropout(x, 0.5, seeded()), [Tensor(rng.standard_normal(shape), requires_grad=True)])


def test_sparse_equals_dense_at_every_cell(rng):
    x = sparse(rng, rng.standard_normal(5))
    assert_close(to_dense(dropout(x, 0.4, seeded())), dropout(to_dense(x), 0.4, seeded()).array)


def test_gradients_flow_through_features_and_background(rng):
    x = sparse(rng, Tensor(rng.standard_normal(5), requires_grad=True))
    assert gradcheck(lambda x: dropout(x, 0.4, seeded()), [x])
    twice = sparse(rng, Tensor(rng.standard_normal((3, 5)), requires_grad=True))  # dropped out before
    assert gradcheck(lambda x: dropout(x, 0.4, seeded()), [twice])


@pytest.mark.parametrize("background", [None, "zeros"])
def test_a_background_that_is_none_or_zero_stays(background, rng):
    x = sparse(rng, background)
    assert dropout(x, 0.4, seeded()).background is x.background


def test_a_zero_background_that_is_trained_is_masked_too(rng):
    background = Tensor(np.zeros(5), requires_grad=True)
    y = dropout(sparse(rng, background), 0.4, seeded())
    y.background.sum().backward()
    assert_close(background.grad, dropout_mask(3, 5, 0.4, seeded(), np.float64).sum(axis=0))


def test_probability_zero_changes_nothing(rng):
    x = Tensor(rng.standard_normal((3, 4)))
    assert np.array_equal(dropout(x, 0, seeded()).array, x.array)


def test_sites_are_shared(rng):
    x = sparse(rng, "zeros")
    assert dropout(x, 0.4, seeded()).sites is x.sites


@pytest.mark.parametrize("p", [-0.1, 1.0, float("nan")])
def test_a_probability_out_of_range_raises(p, rng):
    with pytest.raises(ValueError, match="Dropout: p is"):
        dropout(Tensor(np.ones((2, 2))), p=p, rng=rng)


def test_a_vector_has_no_samples(rng):
    with pytest.raises(ValueError, match=r"x has shape \(3,\)"):
        dropout(Tensor(np.ones(3)), 0.5, rng)


def test_features_in_columns_are_dropped_too(rng):
    rows = rng.standard_normal((4, 5))
    found, other = (dropout(SparseTensor(Tensor(given), COORDINATES, (3, 3), 3), 0.5, seeded()).features.array
                    for given in (np.asfortranarray(rows), rows))
    assert np.array_equal(found, other)
