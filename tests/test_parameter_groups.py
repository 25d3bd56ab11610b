"""Groups of parameters: the same steps as separate optimizers, one state, learning rates in proportion."""

from __future__ import annotations

import numpy as np
import pytest

from sparsenet import nn
from sparsenet.optim import SGD, ParameterGroups, decay_groups

SETTINGS = {"lr": 0.1, "momentum": 0.9, "dampening": 0.5, "nesterov": True, "weight_decay": 0.3}


def network():
    return nn.Sequential(nn.Linear(3, 4, rng=1), nn.BatchNorm(4), nn.Linear(4, 2, rng=2))


def stepped(net, optimizer, steps, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        for parameter in net.parameters():
            parameter.grad = rng.standard_normal(parameter.shape).astype(np.float32)
        optimizer.step()
    return net.state_dict()


def test_groups_of_equal_settings_are_one_optimizer_bit_for_bit():
    one, two = network(), network()
    whole = SGD(one.named_parameters(), **SETTINGS)
    names = list(two.named_parameters())
    grouped = ParameterGroups(SGD, [{"params": names[:2]}, {"params": []}, {"params": names[2:]}], **SETTINGS)
    expected, found = stepped(one, whole, 3), stepped(two, grouped, 3)
    assert all(found[name].tobytes() == expected[name].tobytes() for name in expected)
    states = whole.state_dict(), grouped.state_dict()
    assert all(states[0][name].tobytes() == states[1][name].tobytes() for name in states[0])
    assert len(grouped.optimizers) == 2 and list(grouped.parameters) == list(dict(names))


def test_norms_and_biases_do_not_decay():
    net = network()
    groups = decay_groups(net.named_parameters())
    assert [name for name, _ in groups[0]["params"]] == ["0.weight", "2.weight"]
    assert [name for name, _ in groups[1]["params"]] == ["0.bias", "1.weight", "1.bias", "2.bias"]
    optimizer = ParameterGroups(SGD, groups, lr=0.5, weight_decay=0.2)
    before = net.state_dict()
    for parameter in net.parameters():
        parameter.grad = np.zeros(parameter.shape, np.float32)
    optimizer.step()
    for name, value in net.state_dict().items():
        factor = np.float32(1 - 0.5 * 0.2) if name in ("0.weight", "2.weight") else 1
        np.testing.assert_allclose(value, before[name] * factor, rtol=1e-6)


def test_learning_rates_move_in_proportion():
    net = network()
    (first, *rest) = net.parameters()
    optimizer = ParameterGroups(SGD, [{"params": [first], "lr": 0.01}, {"params": rest}], lr=0.1)
    optimizer.lr = 0.2
    np.testing.assert_allclose([one.lr for one in optimizer.optimizers], [0.02, 0.2])
    assert optimizer.lr == 0.2
    optimizer.loss_scale = 8
    assert optimizer.loss_scale == 8 and {one.loss_scale for one in optimizer.optimizers} == {8}
    assert list(optimizer.parameters) == list(map(str, range(6))), "positions count over all groups"


def test_it_continues_from_its_state_also_under_other_groups():
    whole, net = network(), network()
    stepped(whole, optimizer := ParameterGroups(SGD, decay_groups(whole.named_parameters()), **SETTINGS), 2, seed=1)
    expected = stepped(whole, optimizer, 2, seed=2)
    stepped(net, optimizer := ParameterGroups(SGD, decay_groups(net.named_parameters()), **SETTINGS), 2, seed=1)
    state = optimizer.state_dict()
    again = ParameterGroups(SGD, decay_groups(net.named_parameters()), **SETTINGS)
    again.load_state_dict(state)
    found = stepped(net, again, 2, seed=2)
    assert all(found[name].tobytes() == expected[name].tobytes() for name in expected)
    SGD(net.named_parameters(), **SETTINGS).load_state_dict(state)
    with pytest.raises(ValueError, match="no parameter is named 'other', expected one of 0.weight"):
        again.load_state_dict({"other": np.zeros(3)})


def test_a_gradient_of_another_shape_moves_nothing():
    net = network()
    optimizer = ParameterGroups(SGD, decay_groups(net.named_parameters()), lr=0.1)
    before = net.state_dict()
    for parameter in net.parameters():
        parameter.grad = np.ones(parameter.shape, np.float32)
    net.layers[2].bias.grad = np.ones(3, np.float32)
    with pytest.raises(ValueError, match=r"ParameterGroups: gradient of 2.bias has shape \(3,\)"):
        optimizer.step()
    assert all(np.array_equal(before[name], value) for name, value in net.state_dict().items())
    optimizer.zero_grad()
    assert all(parameter.grad is None for parameter in net.parameters())


@pytest.mark.parametrize(("groups", "options", "error", "message"), [
    (lambda p: [{"params": p}, {"params": p[:1]}], {}, ValueError, "parameter 0 occurs twice|occurs twice"),
    (lambda p: [p], {}, TypeError, "group 0 is list, expected a mapping with 'params'"),
    (lambda p: [{"lr": 1}], {}, TypeError, "expected a mapping with 'params'"),
    (lambda p: [{"params": []}], {}, ValueError, "there are no parameters"),
    (lambda p: [{"params": p, "lr": 0.1}], {"lr": 0.0}, ValueError, "lr is 0, and group 0 states 0.1"),
    (lambda p: [{"params": p, "weight_decay": -1}], {}, ValueError, "weight_decay is -1"),
])
def test_groups_that_are_none_are_refused(groups, options, error, message):
    with pytest.raises(error, match=message):
        ParameterGroups(SGD, groups(list(network().parameters())), **{"lr": 0.1, **options})


def test_an_optimizer_given_groups_names_them():
    with pytest.raises(TypeError, match=r"SGD: parameter 0 is dict, .*to optim.ParameterGroups\(SGD, groups"):
        SGD([{"params": list(network().parameters())}], lr=0.1)
