"""EMA: the average of weights and statistics, applied and restored, saved and loaded."""

from __future__ import annotations

import numpy as np
import pytest

from sparsenet import nn
from sparsenet.optim import EMA


def moved(net, rng):
    """Set everything in the network to new values; returns copies of them."""
    for tensor in [*net.parameters(), *net.buffers()]:
        tensor.array = rng.standard_normal(tensor.shape).astype(tensor.dtype)
    return net.state_dict()


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9])
def test_it_is_the_recursion_of_all_steps(decay, rng):
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm(4)).to(dtype="float64")
    average, expected = EMA(net, decay), None
    for step in range(6):
        values = moved(net, rng)
        average.update()
        d = min(decay, step / (step + 1))
        expected = {name: d * (expected[name] if step else 0) + (1 - d) * value for name, value in values.items()}
    with average.applied():
        inside = net.state_dict()
    assert set(inside) == {"0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var"}
    for name, value in expected.items():
        np.testing.assert_allclose(inside[name], value, rtol=1e-13, atol=1e-15)
        np.testing.assert_array_equal(net.state_dict()[name], values[name])


def test_the_first_updates_give_the_plain_mean_and_one_gives_the_weights_exactly(rng):
    net = nn.Linear(3, 4)
    average, seen = EMA(net, 0.99), []
    for _ in range(5):
        seen.append(moved(net, rng)["weight"])
        average.update()
        if len(seen) == 1:
            np.testing.assert_array_equal(average.state_dict()["averages"]["weight"], seen[0])
    np.testing.assert_allclose(average.state_dict()["averages"]["weight"], np.mean(seen, axis=0), rtol=1e-5, atol=1e-6)


def test_the_networks_own_values_return_even_after_an_error(rng):
    net = nn.Linear(2, 2)
    average = EMA(net)
    with average.applied():
        pass  # before the first update it has nothing to apply
    average.update()
    before = moved(net, rng)
    array = net.weight.array
    with pytest.raises(RuntimeError, match="within"), average.applied():
        net.weight.array[:] = 7
        raise RuntimeError("within")
    assert net.weight.array is array and np.array_equal(array, before["weight"])
    with average.applied():
        assert not (net.weight.array == 7).any(), "what is written within does not touch the average"


def test_integers_are_copied_and_half_precision_is_averaged_in_float32():
    class Counting(nn.Module):
        def __init__(self):
            self.weight = nn.Parameter(np.ones(2, np.float32))
            self.register_buffer("seen", np.array([1, 2]))

    net = Counting()
    average = EMA(net, 0.9)
    average.update()
    net.seen.array = np.array([5, 9])
    average.update()
    averages = average.state_dict()["averages"]
    assert averages["seen"].tolist() == [5, 9] and averages["seen"].dtype == net.seen.dtype
    with average.applied():
        assert net.seen.array.tolist() == [5, 9]


def test_it_continues_from_its_state_with_the_same_bits():
    def run(steps, average, net, rng):
        for _ in range(steps):
            moved(net, rng)
            average.update()

    whole_net, net = nn.Linear(5, 3), nn.Linear(5, 3)
    whole, part = EMA(whole_net, 0.7), EMA(net, 0.7)
    run(7, whole, whole_net, np.random.default_rng(1))
    rng = np.random.default_rng(1)
    run(3, part, net, rng)
    state = part.state_dict()
    after = EMA(net, 0.7)
    after.load_state_dict(state)
    state["averages"]["weight"][:] = 0  # a copy
    run(4, after, net, rng)
    for name, array in whole.state_dict()["averages"].items():
        assert array.tobytes() == after.state_dict()["averages"][name].tobytes()


@pytest.mark.parametrize(("change", "message"), [
    (lambda a: a.pop("weight"), "1 updates, and weight is missing or unexpected"),
    (lambda a: a.update(other=a["weight"]), "other is missing or unexpected"),
    (lambda a: a.update(weight=np.zeros(3)), r"average of weight has shape \(3,\), expected \(2, 2\)"),
    (lambda a: a.update(weight=np.full((2, 2), np.nan)), "average of weight contains NaN"),
])
def test_a_state_that_does_not_fit_changes_nothing(change, message):
    average = EMA(nn.Linear(2, 2))
    average.update()
    state, before = average.state_dict(), average.state_dict()
    change(state["averages"])
    with pytest.raises(ValueError, match=message):
        average.load_state_dict(state)
    assert np.array_equal(average.state_dict()["averages"]["weight"], before["averages"]["weight"])


@pytest.mark.parametrize(("decay", "error"), [(1.0, ValueError), (-0.1, ValueError), (float("nan"), ValueError),
                                              ("0.9", TypeError)])
def test_a_decay_out_of_range_is_refused(decay, error):
    with pytest.raises(error, match="EMA: decay is "):
        EMA(nn.Linear(1, 1), decay)
    with pytest.raises(ValueError, match="no parameters"):
        EMA(nn.ReLU())
