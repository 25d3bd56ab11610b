"""The checker itself: it must catch small errors, and must not cry wolf."""

import numpy as np
import pytest

from sparsenet import SparseTensor, gradcheck
from sparsenet.autograd import Function, Tensor
from sparsenet.gradcheck import GradcheckError, NonDifferentiableError


class ScaledTanh(Function):
    """tanh, whose gradient is off by a factor."""

    def __init__(self, factor=1.0):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        y = np.tanh(x)
        self.save(y)
        return y

    def backward(self, gradient):
        (y,) = self.saved
        return gradient * (1 - y * y) * self.factor


class Affine(Function):
    """x @ w; the gradient of either may be off by a factor."""

    def __init__(self, x_factor=1.0, w_factor=1.0):
        super().__init__()
        self.factors = x_factor, w_factor

    def forward(self, x, w):
        self.save(x, w)
        return x @ w

    def backward(self, gradient):
        x, w = self.saved
        return gradient @ w.T * self.factors[0], x.T @ gradient * self.factors[1]


class Elementwise(Function):
    def __init__(self, forward, backward):
        super().__init__()
        self._forward, self._backward = forward, backward

    def forward(self, x):
        self.save(x)
        return self._forward(x)

    def backward(self, gradient):
        return gradient * self._backward(self.saved[0])


@pytest.fixture
def x(rng):
    return Tensor(rng.standard_normal((6, 5)), requires_grad=True)


@pytest.fixture
def w(rng):
    return Tensor(rng.standard_normal((5, 4)), requires_grad=True)


def test_a_right_gradient_passes(x):
    assert gradcheck(lambda x: ScaledTanh().apply(x), [x])


@pytest.mark.parametrize("factor", [0.999, 1.001, 0.9999, 0.0, -1.0])
@pytest.mark.parametrize("seed", range(10))
def test_a_gradient_wrong_by_a_thousandth_is_caught(x, factor, seed):
    with pytest.raises(GradcheckError, match="gradient of input 0"):
        gradcheck(lambda x: ScaledTanh(factor).apply(x), [x], seed=seed)


@pytest.mark.parametrize("seed", range(10))
def test_one_entry_wrong_by_a_thousandth_is_caught(x, seed):
    wrong = np.ones(x.shape)
    wrong[2, 3] = 1.001
    with pytest.raises(GradcheckError):
        gradcheck(lambda x: ScaledTanh(wrong).apply(x), [x], seed=seed)


@pytest.mark.parametrize("factors, name", [((1.001, 1), "input 0"), ((1, 1.001), "input 1")])
def test_the_wrong_input_is_named(x, w, factors, name):
    with pytest.raises(GradcheckError, match=name):
        gradcheck(lambda x, w: Affine(*factors).apply(x, w), [x, w])


def test_parameters_are_checked_too(x, w):
    assert gradcheck(lambda x: Affine().apply(x, w), [x], parameters={"weight": w})
    with pytest.raises(GradcheckError, match="parameter weight"):
        gradcheck(lambda x: Affine(1, 1.001).apply(x, w), [x], parameters={"weight": w})
    with pytest.raises(GradcheckError, match="parameter 0"):
        gradcheck(lambda x: Affine(1, 1.001).apply(x, w), [x], parameters=[w])


def test_keyword_inputs_go_by_name(x, w):
    with pytest.raises(GradcheckError, match="input w"):
        gradcheck(lambda *, x, w: Affine(1, 1.001).apply(x, w), {"x": x, "w": w})


def test_a_missing_gradient_is_caught(x):
    with pytest.raises(GradcheckError):
        gradcheck(lambda x: ScaledTanh().apply(x.detach()), [x])


def test_all_outputs_are_checked(x):
    def outputs(x):
        return ScaledTanh().apply(x), ScaledTanh(1.001).apply(x)

    with pytest.raises(GradcheckError):
        gradcheck(outputs, [x])


def test_features_and_background_of_sparse_tensors_are_checked(rng):
    features = Tensor(rng.standard_normal((3, 2)), requires_grad=True)
    background = Tensor(rng.standard_normal(2), requires_grad=True)
    given = SparseTensor(features, np.array([[0, 0], [0, 2], [1, 1]], np.int32), (4,), 2, background)

    def function(x, factor):
        return x.with_features(ScaledTanh().apply(x.features), ScaledTanh(factor).apply(x.background))

    assert gradcheck(lambda x: function(x, 1.0), [given])
    with pytest.raises(GradcheckError, match=r"input 0\[1\]"):
        gradcheck(lambda x: function(x, 1.001), [given])


@pytest.mark.parametrize("point", [0.0, 1e-6, -3e-6, 4e-6, 8e-6])
def test_a_kink_within_the_step_is_distinguished_from_a_wrong_gradient(point):
    x = Tensor(np.array([point]), requires_grad=True)
    with pytest.raises(NonDifferentiableError, match="no derivative in input 0"):
        gradcheck(lambda x: Elementwise(np.abs, np.sign).apply(x), [x])


def test_a_tie_among_many_elements_is_found(rng):
    array = rng.standard_normal((10, 10))
    array[3, 4] = 0
    x = Tensor(array, requires_grad=True)
    with pytest.raises(NonDifferentiableError):
        gradcheck(lambda x: Elementwise(lambda a: np.maximum(a, 0), lambda a: a > 0.0).apply(x), [x])


def test_kinks_beyond_the_step_do_no_harm(rng):
    array = rng.standard_normal((10, 10))
    array[np.abs(array) < 0.01] = 1
    x = Tensor(array, requires_grad=True)
    assert gradcheck(lambda x: Elementwise(np.abs, np.sign).apply(x), [x])


@pytest.mark.parametrize("forward, backward", [
    (lambda a: a * 1e6, lambda a: np.full_like(a, 1e6)),
    (lambda a: a * 1e-9, lambda a: np.full_like(a, 1e-9)),
    (lambda a: a + 1e4, np.ones_like),
    (lambda a: a**3, lambda a: 3 * a**2),
    (np.exp, np.exp),
    (lambda a: np.sin(30 * a), lambda a: 30 * np.cos(30 * a)),
    (np.zeros_like, np.zeros_like),
], ids=["large", "small", "offset", "cube", "exp", "fast", "constant"])
def test_right_gradients_pass_at_any_scale(x, forward, backward):
    for seed in range(5):
        assert gradcheck(lambda x: Elementwise(forward, backward).apply(x), [x], seed=seed)


def test_nan_is_no_pass(x):
    with pytest.raises(GradcheckError):
        gradcheck(lambda x: Elementwise(lambda a: a + np.nan, np.ones_like).apply(x), [x])


def test_empty_inputs_pass():
    x = Tensor(np.zeros((0, 3)), requires_grad=True)
    assert gradcheck(lambda x: ScaledTanh().apply(x), [x])


def test_arrays_and_grads_are_left_as_they_were(x):
    array, grad = x.array, np.ones(x.shape)
    x.grad = grad
    before = array.copy()
    gradcheck(lambda x: ScaledTanh().apply(x), [x])
    assert x.array is array and np.array_equal(array, before) and x.grad is grad


def test_a_function_that_writes_to_its_input_is_caught(x):
    class Writes(ScaledTanh):
        def backward(self, gradient):
            result = super().backward(gradient)
            x.array[0, 0] += 1
            return result

    with pytest.raises(GradcheckError, match="wrote to input 0"):
        gradcheck(lambda x: Writes().apply(x), [x])


def test_a_function_that_draws_random_numbers_is_refused(x, rng):
    with pytest.raises(ValueError, match="different values"):
        gradcheck(lambda x: Elementwise(lambda a: a + rng.random(), np.ones_like).apply(x), [x])


def test_only_float64_is_checked():
    x = Tensor(np.ones(3, np.float32), requires_grad=True)
    with pytest.raises(TypeError, match="input 0 is float32, expected float64"):
        gradcheck(lambda x: ScaledTanh().apply(x), [x])


def test_computed_tensors_cannot_be_moved(x):
    with pytest.raises(TypeError, match="input 0 is computed from other tensors"):
        gradcheck(lambda x: ScaledTanh().apply(x), [ScaledTanh().apply(x)])


def test_nothing_to_check_is_an_error():
    with pytest.raises(TypeError, match="nothing to check"):
        gradcheck(lambda x: ScaledTanh().apply(x), [Tensor(np.ones(3))])
