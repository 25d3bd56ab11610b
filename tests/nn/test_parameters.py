"""Parameters, buffers and constants of a Module; what is refused because it would be lost silently."""

from __future__ import annotations

import copy
import pickle
from collections import deque

import numpy as np
import pytest

import sparsenet as sn
from sparsenet import nn


class Scale(nn.Module):
    """A factor that is trained, running statistics, and a constant."""

    def __init__(self):
        self.factor = nn.Parameter([2.0, 3.0])
        self.shift = sn.Tensor([1.0, 1.0])
        self.register_buffer("mean", np.zeros(2, np.float32))
        self.register_buffer("count", np.array(0))

    def forward(self, x):
        return x * self.factor + self.shift


def names(pairs):
    return [name for name, _ in pairs]


class TestParameter:
    def test_is_a_tensor_that_requires_a_gradient(self):
        parameter = nn.Parameter(np.ones(2, np.float32))
        assert isinstance(parameter, sn.Tensor) and parameter.requires_grad and parameter.is_leaf
        assert repr(parameter) == "Parameter(array([1., 1.], dtype=float32), requires_grad=True)"
        assert not nn.Parameter([1.0], requires_grad=False).requires_grad

    def test_of_a_tensor_shares_its_array_and_version(self):
        tensor = sn.Tensor([1.0], requires_grad=True) * 2
        parameter = nn.Parameter(tensor)
        assert parameter.array is tensor.array and parameter.is_leaf
        tensor.mark_modified()
        assert parameter.version == tensor.version == 1

    def test_of_whole_numbers_raises_unless_it_is_frozen(self):
        with pytest.raises(TypeError, match="array is int64, which cannot require a gradient"):
            nn.Parameter([1, 2])
        assert nn.Parameter([1, 2], requires_grad=False).dtype.kind == "i"

    def test_what_is_computed_from_it_is_a_plain_tensor(self):
        parameter = nn.Parameter([1.0])
        assert type(parameter * 2) is type(parameter.detach()) is type(parameter == parameter) is sn.Tensor

    @pytest.mark.parametrize("twin", [copy.deepcopy, copy.copy, lambda p: pickle.loads(pickle.dumps(p))])
    @pytest.mark.parametrize("frozen", [False, True])
    def test_copies_are_parameters_with_the_version(self, twin, frozen):
        parameter = nn.Parameter([1.0, 2.0])
        parameter.array = np.array([5.0, 6.0])
        parameter.grad, parameter.requires_grad = np.ones(2), not frozen
        other = twin(parameter)
        assert type(other) is nn.Parameter and other.requires_grad is not frozen and other.version == 1
        assert other.array.tolist() == [5, 6] and other.grad.tolist() == [1, 1]

    def test_the_graph_notices_a_write_as_for_any_tensor(self):
        parameter = nn.Parameter([1.0])
        y = parameter * parameter
        parameter.array = np.array([2.0], np.float32)
        with pytest.raises(RuntimeError, match="Multiply: an array that it saved was assigned or modified"):
            y.backward()


class TestWhatAModuleHolds:
    def test_parameters_buffers_and_constants_are_told_apart(self):
        net = nn.Sequential(Scale(), nn.Linear(2, 1, rng=0))
        assert names(net.named_parameters()) == ["0.factor", "1.weight", "1.bias"]
        assert names(net.named_buffers()) == ["0.mean", "0.count"]
        assert list(net.state_dict()) == ["0.factor", "1.weight", "1.bias", "0.mean", "0.count"]
        assert [id(b) for b in net.buffers()] == [id(net[0].mean), id(net[0].count)]

    def test_frozen_parameters_stay_parameters_and_get_no_gradient(self):
        net = nn.Sequential(Scale(), nn.Linear(2, 1, rng=0))
        net[0].factor.requires_grad = False
        assert names(net.named_parameters()) == ["0.factor", "1.weight", "1.bias"] and "0.factor" in net.state_dict()
        net(sn.Tensor(np.ones((3, 2), np.float32))).sum().backward()
        assert net[0].factor.grad is None and net[1].weight.grad is not None

    def test_a_list_and_a_tuple_may_hold_both(self):
        module = nn.Module()
        module.parts = [nn.Parameter([1.0]), nn.LeakyReLU(), nn.Linear(1, 1, bias=False), sn.Tensor([1.0]), "word"]
        module.pair = (nn.Parameter([2.0]),)
        assert names(module.named_parameters()) == ["parts.0", "pair.0", "parts.2.weight"]
        assert names(module.named_children()) == ["parts.1", "parts.2"]

    def test_a_shared_buffer_comes_once(self):
        first, second = Scale(), Scale()
        second.mean = first.mean
        assert names(nn.Sequential(first, second).named_buffers()) == ["0.mean", "0.count", "1.count"]

    def test_constants_of_any_shape_are_left_alone(self):
        module = nn.Module()
        module.constants = {"a": sn.Tensor([1.0]), "b": [sn.Tensor([2])]}
        module.table = sn.Tensor([1.0])
        module.table = sn.Tensor([2.0])
        module._last = sn.Tensor([1.0], requires_grad=True) * 2  # a result that is looked at later
        module._other = nn.Linear(1, 1)  # another module that is not this one's
        assert not list(module.parameters()) and not module.state_dict()


def weight():
    return sn.Tensor([1.0], requires_grad=True)


class TestRefused:
    @pytest.mark.parametrize(("value", "message"), [
        (weight(), r"Module\.w is a Tensor that requires a gradient, expected a Parameter: .*sn\.nn\.Parameter\("),
        (weight() * 2, r"Module\.w is a Tensor that requires a gradient"),
        ({"a": nn.Parameter([1.0])}, r"Module\.w holds a Parameter within a dict"),
        ({"a": nn.Linear(1, 1)}, r"Module\.w holds a Linear within a dict"),
        ({"a": weight()}, r"Module\.w holds a Tensor within a dict"),
        ([weight()], r"Module\.w holds a Tensor within a list"),
        ([[nn.Linear(1, 1)]], r"Module\.w holds a Linear within a list"),
        (({"a": [nn.Parameter([1.0])]},), r"Module\.w holds a Parameter within a tuple"),
        ({nn.Parameter([1.0])}, r"Module\.w holds a Parameter within a set"),
        (deque([nn.Linear(1, 1)]), r"Module\.w holds a Linear within a deque"),
        ({nn.Parameter([1.0]): "a"}, r"Module\.w holds a Parameter within a dict"),
    ])
    def test_weights_that_would_be_overlooked(self, value, message):
        with pytest.raises(TypeError, match=message):
            nn.Module().w = value

    @pytest.mark.parametrize("value", [nn.Parameter([1.0]), weight(), [nn.Parameter([1.0])], {"a": weight()}])
    def test_weights_behind_an_underscore(self, value):
        with pytest.raises(TypeError, match=r"Module\._w .*underscore"):
            nn.Module()._w = value

    def test_what_comes_later_is_noticed_when_it_is_looked_for(self):
        for spoil in (lambda m: m.constants.update(a=nn.Parameter([1.0])), lambda m: m.layers.append(weight()),
                      lambda m: setattr(m.table, "requires_grad", True)):
            module = nn.Module()
            module.constants, module.layers, module.table = {}, [], sn.Tensor([1.0])
            assert not list(module.parameters())
            spoil(module)
            for look in (module.parameters, module.state_dict, module.modules):
                with pytest.raises(TypeError, match=r"Module\.(constants|layers|table)"):
                    list(look())

    @pytest.mark.parametrize("value", [sn.Tensor([1.0]), np.ones(2), 3])
    def test_a_parameter_does_not_become_a_constant(self, value):
        module = Scale()
        with pytest.raises(TypeError, match=r"Scale\.factor is a Parameter, got a .*parameter\.array = array"):
            module.factor = value
        module.factor = nn.Parameter([1.0, 1.0])
        module.factor = None
        assert not list(module.parameters())

    @pytest.mark.parametrize("value", [np.ones(2), nn.Parameter([1.0, 1.0])])
    def test_a_buffer_does_not_become_anything_else(self, value):
        module = Scale()
        with pytest.raises(TypeError, match=r"Scale\.mean is a buffer, got a .*buffer\.array = array"):
            module.mean = value
        module.mean = sn.Tensor([5.0, 5.0])
        assert module.state_dict()["mean"].tolist() == [5, 5]
        module.mean = None
        assert list(module.state_dict()) == ["factor", "count"]

    @pytest.mark.parametrize("name", ["", "a.b", "_mean", "mean", "forward", "training", 3, None])
    def test_names_that_a_buffer_can_not_have(self, name):
        with pytest.raises(ValueError, match="register_buffer: name is"):
            Scale().register_buffer(name, np.zeros(1))

    def test_a_buffer_requires_no_gradient(self):
        with pytest.raises(TypeError, match=r"Scale\.w is a Tensor that requires a gradient"):
            Scale().register_buffer("w", weight())

    @pytest.mark.parametrize("requires_grad", [True, False])
    def test_a_parameter_does_not_become_a_buffer(self, requires_grad):
        module = Scale()
        with pytest.raises(TypeError, match="register_buffer: w is a Parameter, expected an array or a Tensor"):
            module.register_buffer("w", nn.Parameter([1.0], requires_grad))
        assert not hasattr(module, "w")


class TestState:
    def test_buffers_are_loaded_in_their_dtype(self):
        module, other = Scale(), Scale()
        module.mean.array, module.count.array = np.array([1.5, 2.5], np.float32), np.array(7)
        assert other.load_state_dict(module.state_dict()) == ([], [])
        assert other.mean.array.tolist() == [1.5, 2.5] and other.count.item() == 7 and other.count.dtype == np.int64

    def test_not_strict_takes_what_is_there_and_says_what_was_not(self):
        module = Scale()
        unmatched = module.load_state_dict({"factor": np.ones(2), "fctor": np.ones(2)}, strict=False)
        assert unmatched.missing == ["mean", "count"] and unmatched.unexpected == ["fctor"]
        assert module.factor.array.tolist() == [1, 1]
        with pytest.raises(ValueError, match=r"missing: mean; missing: count; unexpected: fctor"):
            module.load_state_dict({"factor": np.ones(2), "fctor": np.ones(2)})

    @pytest.mark.parametrize(("name", "value", "message"), [
        ("factor", np.array([1, np.nan]), r"factor holds nan at \(1,\), expected finite numbers"),
        ("factor", np.array([-np.inf, 1]), r"factor holds -inf at \(0,\)"),
        ("factor", np.array([1, 1e300]), r"factor holds inf at \(1,\)"),  # beyond float32
        ("mean", np.array([np.nan, 1]), r"mean holds nan at \(0,\)"),
        ("count", np.array(1.0), "dtype of count is float64, expected int64"),
        ("count", np.array(2**64 - 1, np.uint64), "count holds numbers beyond the range of int64"),
    ])
    def test_numbers_that_do_not_fit_are_named_and_nothing_changes(self, name, value, message):
        module = Scale()
        with pytest.raises(ValueError, match=f"load_state_dict: .*{message}"):
            module.load_state_dict(module.state_dict() | {"factor": np.zeros(2), name: value})
        assert module.factor.array.tolist() == [2, 3]

    def test_a_number_alone_may_be_named_too(self):
        module = nn.Module()
        module.factor = nn.Parameter(1.0)
        with pytest.raises(ValueError, match=r"factor holds nan at \(\)"):
            module.load_state_dict({"factor": np.array(np.nan)})

    def test_to_moves_buffers_and_keeps_whole_numbers(self):
        module = Scale().to(dtype="float64")
        assert (module.factor.dtype, module.mean.dtype, module.count.dtype) == ("f8", "f8", "i8")
        assert module.shift.dtype == np.float32  # a constant is not looked at

    @pytest.mark.parametrize("twin", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
    def test_copies_keep_what_is_parameter_and_what_is_buffer(self, twin):
        module = twin(Scale())
        assert names(module.named_parameters()) == ["factor"] and names(module.named_buffers()) == ["mean", "count"]


class TestNetworkFiles:
    def net(self):
        net = sn.SparseNetwork(dimension=2).add_convolution(2, 2).add_linear(2)
        return net.add(Scale())

    def test_frozen_weights_and_buffers_are_saved_and_loaded(self, tmp_path):
        net, other = self.net(), self.net()
        net.layers[0].weight.requires_grad = False
        net.set_weights({"convolution1.weight": np.full((4, 1, 2), 7.0), "scale1.mean": np.array([3.0, 4.0]),
                         "scale1.count": np.array(9)})
        net.save_weights(tmp_path / "weights.h5")
        other.load_weights(tmp_path / "weights.h5")
        for name, array in net.get_weights().items():
            np.testing.assert_array_equal(other.get_weights()[name], array)
        assert other.get_weights()["scale1.count"] == 9 and "convolution1.weight" in other.get_weights()

    def test_a_file_with_numbers_that_are_not_finite_is_refused_by_name(self, tmp_path):
        net, other = self.net(), self.net()
        net.layers[0].bias.array = np.array([0, np.nan], np.float32)
        net.save_weights(tmp_path / "weights.h5")
        with pytest.raises(ValueError, match=r"convolution1\.bias contains NaN"):
            other.load_weights(tmp_path / "weights.h5")

    def test_part_of_the_weights_can_be_set_while_others_are_broken(self):
        net = self.net()
        net.layers[0].bias.array = np.full(2, np.nan, np.float32)
        net.set_weights({"scale1.factor": np.ones(2)})
        with pytest.raises(ValueError, match="convolution1.bias holds inf at"):
            net.set_weights({"convolution1.bias": np.full(2, np.inf)})
