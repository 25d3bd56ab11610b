"""Module: what it finds in its attributes, weights by name, modes, moves."""

from __future__ import annotations

import numpy as np
import pytest

import sparsenet as sn
from sparsenet import nn


class Branches(nn.Module):
    """A module with a parameter, a child, a list of children, and attributes that are none of these."""

    def __init__(self):
        self.scale = nn.Parameter(np.ones(2, np.float32))
        self.first = nn.Linear(2, 3, rng=0)
        self.rest = [nn.Linear(3, 3, rng=1), nn.Sequential(nn.LeakyReLU(0.1), nn.Linear(3, 1, bias=False, rng=2))]
        self.note = "not a module"
        self._hidden = nn.Linear(2, 2)

    def forward(self, x):
        x = self.first(x * self.scale)
        for layer in self.rest:
            x = layer(x)
        return x


NAMES = ["scale", "first.weight", "first.bias", "rest.0.weight", "rest.0.bias", "rest.1.1.weight"]


def test_parameters_are_found_by_looking_at_the_attributes():
    module = Branches()
    assert [name for name, _ in module.named_parameters()] == NAMES
    assert len(list(module.parameters())) == 6
    assert module.parameter_count() == 2 + 9 + 12 + 3
    assert [name for name, _ in module.named_children()] == ["first", "rest.0", "rest.1"]
    assert [type(m).__name__ for m in module.modules()] == ["Branches", "Linear", "Linear", "Sequential", "LeakyReLU",
                                                            "Linear"]


def test_a_shared_parameter_comes_once():
    first, second = nn.Linear(2, 2, rng=0), nn.Linear(2, 2, rng=1)
    second.weight = first.weight
    assert [name for name, _ in nn.Sequential(first, second).named_parameters()] == ["0.weight", "0.bias", "1.bias"]


def test_gradients_reach_every_parameter_and_zero_grad_forgets_them(rng):
    module = Branches()
    module(sn.Tensor(rng.standard_normal((4, 2)).astype("f4"))).sum().backward()
    assert all(p.grad.shape == p.shape for p in module.parameters())
    module.zero_grad()
    assert all(p.grad is None for p in module.parameters())


class TestStateDict:
    def test_round_trip(self, rng):
        module, other = Branches(), Branches()
        for parameter in module.parameters():
            parameter.array = rng.standard_normal(parameter.shape).astype("f4")
        other.load_state_dict(module.state_dict())
        x = sn.Tensor(rng.standard_normal((4, 2)).astype("f4"))
        np.testing.assert_array_equal(module(x).numpy(), other(x).numpy())

    def test_holds_copies(self):
        module = Branches()
        state = module.state_dict()
        assert list(state) == NAMES
        state["scale"][:] = 7
        assert module.scale.array.tolist() == [1, 1]
        module.load_state_dict(state)
        state["scale"][:] = 8
        assert module.scale.array.tolist() == [7, 7]

    def test_keeps_the_parameter_s_dtype_and_the_tensor_itself(self):
        module = Branches()
        scale = module.scale
        module.load_state_dict({name: array.astype(np.float64) for name, array in module.state_dict().items()})
        assert module.scale is scale and scale.dtype == np.float32

    def test_says_everything_that_does_not_fit_and_changes_nothing(self):
        module = Branches()
        before, state = module.state_dict(), module.state_dict()
        state["scale"] = np.full(2, 5, np.float32)
        del state["first.bias"]
        state["firts.bias"] = np.zeros(3, np.float32)
        state["rest.0.weight"] = np.zeros((3, 4), np.float32)
        state["rest.0.bias"] = np.zeros(3, np.int64)
        with pytest.raises(ValueError) as error:
            module.load_state_dict(state)
        for part in ("Branches", "missing: first.bias", "unexpected: firts.bias",
                     "shape of rest.0.weight is (3, 4), expected (3, 3)",
                     "dtype of rest.0.bias is int64, expected float32"):
            assert part in str(error.value)
        for name, array in module.state_dict().items():
            np.testing.assert_array_equal(array, before[name])


def test_train_and_eval_reach_all_modules():
    module = Branches()
    assert all(m.training for m in module.modules())
    assert module.eval() is module
    assert not any(m.training for m in module.modules())
    assert all(m.training for m in module.train().modules())


def test_to_changes_dtype_in_place_with_the_gradients():
    module = Branches()
    tensors = list(module.parameters())
    tensors[0].grad = np.ones(2, np.float32)
    assert module.to("cpu", dtype="float64") is module
    assert [a is b for a, b in zip(tensors, module.parameters(), strict=True)] == [True] * 6
    assert {p.dtype for p in tensors} == {np.dtype("float64")} == {tensors[0].grad.dtype}
    with pytest.raises(ValueError, match="device is 'cpu' or 'cuda', got 'gpu'"):
        module.to("gpu")


def test_sequential_is_a_list_that_may_be_changed(rng):
    net = nn.Sequential(nn.Linear(2, 3, rng=0), nn.LeakyReLU(0.1))
    net.layers.append(nn.Linear(3, 1, rng=1))
    assert len(net) == 3 and net[2] is net.layers[2] and list(net) == net.layers
    assert [name for name, _ in net.named_parameters()] == ["0.weight", "0.bias", "2.weight", "2.bias"]
    x = sn.Tensor(rng.standard_normal((4, 2)).astype("f4"))
    np.testing.assert_array_equal(net(x).numpy(), net[2](net[:2](x)).numpy())
    with pytest.raises(TypeError, match="Sequential: layer 1 is str, expected a Module"):
        nn.Sequential(nn.LeakyReLU(), "relu")


def test_a_module_prints_what_it_holds():
    assert repr(nn.Linear(2, 3, bias=False)) == "Linear(2 -> 3, no bias)"
    assert repr(nn.Sequential(nn.SparseConv(1, 8, 2), nn.Sequential(nn.LeakyReLU(0.33)))) == (
        "Sequential(\n"
        "  (0) SparseConv(1 -> 8, 2/1)\n"
        "  (1) Sequential(\n"
        "    (0) LeakyReLU(0.33)\n"
        "  )\n"
        ")")


def test_a_module_without_forward_says_so():
    with pytest.raises(NotImplementedError, match="Module: forward is not defined"):
        nn.Module()(1)


class TestIntercepting:
    def test_every_call_goes_through_and_only_within(self):
        from sparsenet.nn.module import intercepting

        seen = []

        def watch(module, inputs):
            seen.append(type(module).__name__)
            return module.forward(*inputs)

        net, x = nn.Sequential(nn.LeakyReLU(), nn.LeakyReLU()), sn.Tensor(np.ones(3, np.float32))
        with intercepting(watch):
            net(x)
        net(x)
        assert seen == ["Sequential", "LeakyReLU", "LeakyReLU"]

    def test_other_threads_are_left_alone(self):
        import threading

        from sparsenet.nn.module import intercepting

        layer, x, given = nn.LeakyReLU(), sn.Tensor(np.ones(3, np.float32)), []
        with intercepting(lambda module, inputs: None):
            assert layer(x) is None
            thread = threading.Thread(target=lambda: given.append(layer(x)))
            thread.start()
            thread.join()
        assert given[0].numpy().tolist() == [1, 1, 1]
