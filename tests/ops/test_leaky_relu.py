"""Leaky ReLU on tensors and sparse tensors."""

import numpy as np
import pytest

from sparsenet import SparseTensor, Tensor, gradcheck
from sparsenet.ops import leaky_relu


@pytest.mark.parametrize("slope", [0.33, 0.0, -0.2])
def test_values_and_gradients(slope):
    x = np.array([[-2.0, 0.0, 3.0], [1.0, -1.0, 0.5]])
    tensor = Tensor(x, requires_grad=True)
    y = leaky_relu(tensor, slope)
    assert np.array_equal(y.array, np.where(x > 0, x, slope * x))
    y.backward(np.ones_like(x))
    assert np.array_equal(tensor.grad, np.where(x > 0, 1.0, slope))


def test_gradient_by_differences():
    x = Tensor(np.array([-2.0, -0.4, 0.3, 1.7]), requires_grad=True)
    assert gradcheck(lambda x: leaky_relu(x, 0.33), [x])


@pytest.mark.parametrize("of", ["features", "background", "both"])
def test_features_and_background_each_get_their_gradient(of):
    features, background = (Tensor(np.array(rows), requires_grad=True) for rows in ([[-1.0], [2.0]], [-4.0]))
    x = SparseTensor(features, np.array([[0, 0], [0, 1]]), (3,), 1, background=background)
    y = leaky_relu(x, 0.25)
    total = {"features": y.features.sum(), "background": y.background.sum()}
    (total[of] if of in total else total["features"] + total["background"]).backward()
    assert features.grad is None if of == "background" else features.grad.tolist() == [[0.25], [1.0]]
    assert background.grad is None if of == "features" else background.grad.tolist() == [0.25]


def test_the_background_is_treated_as_any_row():
    x = SparseTensor(np.array([[-1.0], [2.0]]), np.array([[0, 0], [0, 1]]), (3,), 1, background=np.array([-4.0]))
    y = leaky_relu(x, 0.25)
    assert y.sites is x.sites
    assert y.to_dense().array.tolist() == [[[-0.25, 2.0, -1.0]]]
    skipped = SparseTensor(np.ones((1, 1)), np.array([[0, 0]]), (3,), 1, background=None)
    assert leaky_relu(skipped, 0.25).background is None
