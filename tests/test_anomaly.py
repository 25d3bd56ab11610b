"""detect_anomaly: the layer or operation that made the first number that is not finite is named."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import sparsenet as sn
from sparsenet import nn
from sparsenet.autograd import thread_state
from sparsenet.layer_stack import layer_path


@pytest.fixture(autouse=True)
def quiet():
    with np.errstate(all="ignore"):
        yield


@pytest.fixture
def net():
    return sn.SparseNetwork(dimension=2).add_convolution(3, 2).add_leaky_relu(0.1).add_convolution(2, 2).add_linear(2)


@pytest.fixture
def x():
    return sn.SparseTensor.from_dense(np.eye(5, dtype=np.float32)[None, None])


def poison(parameter, value=np.nan):
    parameter.array = np.full(parameter.shape, value, parameter.dtype)


def test_finite_passes_are_left_alone(net, x):
    plain = net(x).numpy()
    with sn.detect_anomaly():
        result = net(x)
        result.sum().backward()
    assert (result.numpy() == plain).all() and net.layers[0].weight.grad is not None


@pytest.mark.parametrize("call", [lambda net, x: net.run(x), lambda net, x: net.run(net.run(x, 0, 1), 1, 3),
                                  lambda net, x: net.activations(x), lambda net, x: nn.Sequential(net)(x)])
def test_the_path_is_the_same_however_the_network_is_run(net, x, call):
    poison(net.layers[2].bias)
    with sn.detect_anomaly(), pytest.raises(FloatingPointError, match=r"in layer (0\.)?convolution2: SparseConv\(3 ->"):
        call(net, x)
    assert call(net, x) is not None and not layer_path()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_forward_names_the_layer_the_class_the_operation_and_the_parameter(net, x, value):
    poison(net.layers[2].bias, value)
    with sn.detect_anomaly(), pytest.raises(FloatingPointError) as error:
        net(x)
    text = str(error.value)
    assert "SparseConv" in text and f"in layer convolution2: SparseConv(3 -> 2, 2/1) gave {value}" in text
    assert f"its parameter bias, float32 (2,), already held {value}" in text


def test_the_path_goes_through_nested_modules(x):
    net = nn.Sequential(nn.SparseConv(1, 2, 2, dimension=2, rng=0), nn.Sequential(nn.GlobalPool(), nn.Linear(2, 2)))
    poison(net[1][1].weight)
    with sn.detect_anomaly(), pytest.raises(FloatingPointError, match=r"in layer 1\.1: Linear\(2 -> 2\) gave nan"):
        net(x)


def test_a_non_finite_input_is_distinguished_from_a_non_finite_layer(net, x):
    broken = x.with_features(sn.Tensor(np.full(x.features.shape, np.nan, np.float32)), x.background)
    with sn.detect_anomaly(), pytest.raises(FloatingPointError,
                                            match=r"convolution1: .*its input 0, float32 \(5, 1\), already held nan"):
        net(broken)


def test_an_operation_outside_all_layers_is_named_alone():
    with sn.detect_anomaly(), pytest.raises(FloatingPointError, match=r"^detect_anomaly: Divide gave inf at \(1,\) of "
                                                                      r".*: its inputs were finite$"):
        sn.Tensor([0.0, 1.0]) / sn.Tensor([1.0, 0.0])


class Logarithm(nn.Module):
    """Computes past the operations."""

    def forward(self, x):
        return x.with_features(sn.Tensor(np.log(x.features.array - 1)), x.background)


def test_a_layer_that_computes_without_operations_is_named_too(x):
    net = nn.Sequential(nn.LeakyReLU(), Logarithm())
    with sn.detect_anomaly(), pytest.raises(FloatingPointError, match=r"forward in layer 1: Logarithm\(\) gave -inf"):
        net(x)


class Root(sn.Function):
    """x**0.5, whose gradient at 0 is infinite."""

    def forward(self, x):
        self.save(x)
        return np.sqrt(x)

    def backward(self, gradient):
        (x,) = self.saved
        return gradient / (2 * np.sqrt(x))


class RootLayer(nn.Module):
    def forward(self, x):
        return Root().apply(x)


def test_backward_names_the_operation_the_layer_and_the_input():
    x = sn.Tensor([0.0, 4.0], requires_grad=True)
    with sn.detect_anomaly():
        y = nn.Sequential(nn.LeakyReLU(), RootLayer())(x).sum()
        with pytest.raises(FloatingPointError, match=r"backward of Root in layer 1: RootLayer\(\): the gradient of "
                                                     r"input 0, float32 \(2,\), is inf at \(0,\)"):
            y.backward()
    assert x.grad is None


def test_backward_of_a_pass_that_was_not_watched_names_the_operation():
    y = Root().apply(sn.Tensor([0.0], requires_grad=True))
    with sn.detect_anomaly(), pytest.raises(FloatingPointError, match="backward of Root: the gradient of input 0"):
        y.backward()


def test_a_gradient_that_backward_is_given_is_searched_first():
    y = sn.Tensor([1.0], requires_grad=True) * 2
    with sn.detect_anomaly(), pytest.raises(FloatingPointError, match="backward: the gradient given to it, output 0"):
        y.backward(np.array([np.nan], np.float32))


def test_off_outside_the_block_after_errors_too_and_on_other_threads(x):
    with pytest.raises(FloatingPointError), sn.detect_anomaly(), sn.detect_anomaly():
        sn.Tensor([1.0]) / sn.Tensor([0.0])
    assert thread_state.checks is None
    assert np.isinf((sn.Tensor([1.0]) / sn.Tensor([0.0])).item())
    seen = []
    with sn.detect_anomaly():
        thread = threading.Thread(target=lambda: seen.append(thread_state.checks))
        thread.start()
        thread.join()
    assert seen == [None]


def test_a_layer_that_raised_is_left(net, x):
    with sn.detect_anomaly():
        with pytest.raises(TypeError):
            net(None)
        with pytest.raises(FloatingPointError, match="^detect_anomaly: Divide gave inf"):
            sn.Tensor([1.0]) / sn.Tensor([0.0])


def test_as_a_decorator_and_within_no_grad(net, x):
    @sn.detect_anomaly()
    @sn.no_grad()
    def run():
        return net(x)

    assert np.isfinite(run().numpy()).all()
    poison(net.layers[0].weight)
    with pytest.raises(FloatingPointError, match="convolution1"):
        run()
