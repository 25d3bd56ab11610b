"""Adam and AdamW against the formulas of PyTorch's documentation; state, frozen parameters, groups."""

import numpy as np
import pytest
from reference import assert_close

from sparsenet import Tensor, adam, nn
from sparsenet.optim import Adam, AdamW, ParameterGroups, decay_groups


def run(optimizer_class, steps, start, stop_at=(), **settings):
    """The parameter after each step; at the steps in `stop_at` everything is made anew from the state."""
    parameter, path = Tensor(start.copy(), requires_grad=True), []
    optimizer = optimizer_class([("w", parameter)], **settings)
    for step in range(steps):
        if step in stop_at:
            state = optimizer.state_dict()
            parameter = Tensor(parameter.array.copy(), requires_grad=True)
            optimizer = optimizer_class([("w", parameter)], **settings)
            optimizer.load_state_dict(state)
        parameter.grad = gradient_at(parameter.array, step)
        optimizer.step()
        path.append(parameter.array.copy())
    return path


def gradient_at(x, step):
    """Of a bowl that moves, so that squares shrink and grow."""
    return (np.arange(1, x.size + 1).reshape(x.shape) * (x - np.sin(step))).astype(x.dtype)


def run_torch(steps, x, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, amsgrad=False, decoupled=False):
    mean, square, largest, path = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x), []
    for t in range(1, steps + 1):
        g = gradient_at(x, t - 1)
        if decoupled:
            x = x - lr * weight_decay * x
        else:
            g = g + weight_decay * x
        mean = betas[0] * mean + (1 - betas[0]) * g
        square = betas[1] * square + (1 - betas[1]) * g * g
        largest = np.maximum(largest, square)
        root = np.sqrt((largest if amsgrad else square) / (1 - betas[1] ** t))
        x = x - lr * (mean / (1 - betas[0] ** t)) / (root + eps)
        path.append(x)
    return path


@pytest.mark.parametrize("settings", [
    {}, {"weight_decay": 0.1}, {"betas": (0.5, 0.7), "eps": 1e-2}, {"amsgrad": True, "betas": (0.9, 0.5)},
    {"betas": (0.0, 0.0), "eps": 0.1},
], ids=str)
@pytest.mark.parametrize("kind", [Adam, AdamW])
def test_steps_follow_the_formula(kind, settings, dtype, rng):
    start = rng.standard_normal((2, 3)).astype(dtype)
    path = run(kind, 8, start, lr=0.05, **settings)
    if kind is AdamW:
        settings = {"weight_decay": 0.01, "decoupled": True} | settings
    expected = run_torch(8, start.astype(np.float64), 0.05, **settings)
    assert path[-1].dtype == dtype
    for actual, point in zip(path, expected, strict=True):
        assert_close(actual, point)


def test_the_first_step_is_lr_long_whatever_the_gradient():
    parameter = Tensor(np.zeros(3), requires_grad=True)
    parameter.grad = np.array([1e-3, -50.0, 0.0])
    Adam([parameter]).step()
    np.testing.assert_allclose(parameter.array, [-1e-3, 1e-3, 0], rtol=1e-4)


@pytest.mark.parametrize("amsgrad", [False, True])
@pytest.mark.parametrize("kind", [Adam, AdamW])
def test_resuming_from_the_state_gives_the_same_bits(kind, amsgrad, rng):
    start = rng.standard_normal((3, 4)).astype(np.float32)
    whole, stopped = (run(kind, 9, start, stop_at, lr=0.02, amsgrad=amsgrad)[-1] for stop_at in ((), (1, 4)))
    assert whole.tobytes() == stopped.tobytes()


def test_the_state_is_named_and_copied_both_ways():
    parameter = nn.Parameter(np.ones(2))
    optimizer = Adam([("w", parameter)], betas=(0.5, 0.75), amsgrad=True)
    assert optimizer.state_dict() == {}
    parameter.grad = np.full(2, 2.0)
    optimizer.step()
    state = optimizer.state_dict()
    assert {name: array.tolist() for name, array in state.items()} == {
        "w.mean": [1, 1], "w.square": [1, 1], "w.maximum": [1, 1], "w.steps": 1}
    other = Adam([("w", parameter)], betas=(0.5, 0.75), amsgrad=True)
    other.load_state_dict(state)
    other.step()
    assert state["w.mean"].tolist() == [1, 1] and other.state_dict()["w.steps"] == 2
    other.load_state_dict({})
    assert other.state_dict() == {}


@pytest.mark.parametrize(("change", "message"), [
    ({"v.mean": np.ones(2)}, "no parameter is named 'v.mean', expected one of w"),
    ({"w": np.ones(2)}, "no parameter is named 'w'"),
    ({"w.mean": np.ones(3)}, r"mean of w has shape \(3,\), expected \(2,\)"),
    ({"w.square": np.array([1, np.nan])}, "square of w contains NaN or infinity"),
    ({"w.square": np.array([1.0, -1.0])}, "square of w has numbers below 0"),
    ({"w.square": None}, "w.square is missing: load the whole state"),
    ({"w.steps": None}, "w.steps is missing"),
    ({"w.steps": np.array(0)}, r"w.steps is array\(0\), expected a number of steps"),
    ({"w.steps": np.array(1.5)}, "w.steps is .* expected a number of steps"),
    ({"w.steps": np.ones(2, int)}, "w.steps is .* expected a number of steps"),
    ({"w.maximum": np.ones(2)}, "state has maxima, but amsgrad is False"),
])
def test_a_state_that_does_not_fit_changes_nothing(change, message):
    optimizer = Adam([("w", nn.Parameter(np.ones(2)))])
    good = {"w.mean": np.ones(2), "w.square": np.ones(2), "w.steps": np.array(3)}
    optimizer.load_state_dict(good)
    with pytest.raises(ValueError, match="^Adam.load_state_dict: " + message):
        optimizer.load_state_dict({name: value for name, value in (good | change).items() if value is not None})
    assert optimizer.state_dict()["w.steps"] == 3 and optimizer.state_dict()["w.mean"].tolist() == [1, 1]


def test_a_frozen_parameter_does_not_move_and_a_thawed_one_goes_on_with_its_own_count():
    def moved(kind, frozen):
        parameter, other = nn.Parameter(np.array([1.0])), nn.Parameter(np.array([1.0]))
        optimizer = kind([("w", parameter), ("other", other)], lr=0.1, betas=(0.5, 0.5))
        for step in range(5):
            parameter.requires_grad = step not in frozen
            parameter.grad = np.array([float(3 - len([s for s in range(step) if s not in frozen]))])
            other.grad = np.ones(1)
            optimizer.step()
        return parameter.item(), optimizer.state_dict()["w.steps"], optimizer.state_dict()["other.steps"]

    for kind in (Adam, AdamW):
        position, steps, others = moved(kind, (2, 3))
        assert (steps, others) == (3, 5)
        parameter = nn.Parameter(np.array([1.0]))
        optimizer = kind([parameter], lr=0.1, betas=(0.5, 0.5))
        for gradient in (3.0, 2.0, 1.0):
            parameter.grad = np.array([gradient])
            optimizer.step()
        assert parameter.item() == position


def test_parameters_of_one_dtype_and_step_share_a_launch(monkeypatch):
    launched = []
    monkeypatch.setattr(adam, "launch", lambda name, parameters, *rest: launched.append(len(parameters)))
    tensors = [nn.Parameter(np.ones(size, kind)) for size in (1, 5, 70) for kind in (np.float32, np.float64)]
    optimizer = Adam(tensors)
    for tensor in tensors:
        tensor.grad = np.ones_like(tensor.array)
    optimizer.step()
    tensors[0].requires_grad = False
    optimizer.step()
    tensors[0].requires_grad = True
    optimizer.step()
    assert launched == [3, 3, 3, 2, 1, 3, 2] and {tensor.version for tensor in tensors} == {2, 3}


def test_the_loss_s_scale_is_divided_out(rng):
    start = rng.standard_normal(5)
    plain, scaled = (Tensor(start.copy(), requires_grad=True) for _ in range(2))
    optimizers = AdamW([plain], lr=0.1), AdamW([scaled], lr=0.1, loss_scale=1024)
    for step in range(4):
        plain.grad = gradient_at(plain.array, step)
        scaled.grad = gradient_at(scaled.array, step) * 1024
        for optimizer in optimizers:
            optimizer.step()
    assert plain.array.tobytes() == scaled.array.tobytes()  # a power of two


def test_groups_have_settings_of_their_own_and_one_state(rng):
    def network():
        return nn.Sequential(nn.Linear(3, 4, rng=1), nn.BatchNorm(4), nn.Linear(4, 2, rng=2))

    def stepped(net, optimizer, steps):
        drawn = np.random.default_rng(0)
        for _ in range(steps):
            for parameter in net.parameters():
                parameter.grad = drawn.standard_normal(parameter.shape).astype(np.float32)
            optimizer.step()
        return {name: array.tobytes() for name, array in net.state_dict().items()}

    one, two = network(), network()
    names = list(two.named_parameters())
    grouped = ParameterGroups(AdamW, [{"params": names[:2]}, {"params": names[2:]}], lr=0.01, weight_decay=0.1)
    whole = AdamW(one.named_parameters(), lr=0.01, weight_decay=0.1)
    assert stepped(one, whole, 3) == stepped(two, grouped, 3)
    state = grouped.state_dict()
    assert {name: array.tobytes() for name, array in state.items()} == {
        name: array.tobytes() for name, array in whole.state_dict().items()}
    again = ParameterGroups(AdamW, decay_groups(two.named_parameters()), lr=0.01, weight_decay=0.1)
    again.load_state_dict(state)
    assert [name for name, array in again.state_dict().items() if array.tobytes() != state[name].tobytes()] == []
    net = network()
    before = net.state_dict()
    optimizer = ParameterGroups(AdamW, decay_groups(net.named_parameters()), lr=0.5, weight_decay=0.2)
    for parameter in net.parameters():
        parameter.grad = np.zeros(parameter.shape, np.float32)
    optimizer.step()
    for name, value in net.state_dict().items():
        factor = np.float32(0.9) if name in ("0.weight", "2.weight") else 1
        np.testing.assert_allclose(value, before[name] * factor, rtol=1e-6)


@pytest.mark.parametrize(("settings", "error", "message"), [
    ({"lr": -1}, ValueError, "lr is -1"), ({"eps": 0}, ValueError, "eps is 0, expected at least 1.2e-38"),
    ({"eps": "0"}, TypeError, "eps is '0', expected a number"),
    ({"betas": 0.9}, TypeError, r"betas is 0.9, expected two numbers \(beta1, beta2\)"),
    ({"betas": (0.9, "1")}, TypeError, "betas is .* expected two numbers"),
    ({"betas": (0.9, 1.0)}, ValueError, r"betas is \(0.9, 1.0\), expected numbers of at least 0 and below 1"),
    ({"betas": (-0.1, 0.5)}, ValueError, "betas is"), ({"weight_decay": -1}, ValueError, "weight_decay is -1"),
    ({"loss_scale": 0}, ValueError, "loss_scale is 0"),
])
def test_settings_out_of_range_raise(settings, error, message):
    for kind in (Adam, AdamW):
        with pytest.raises(error, match=f"^{kind.__name__}: {message}"):
            kind([nn.Parameter(np.ones(2))], **settings)


def test_what_would_train_nothing_is_refused():
    with pytest.raises(TypeError, match="AdamW: params is Linear, expected several Tensors"):
        AdamW(nn.Linear(2, 3))
    with pytest.raises(ValueError, match="Adam: params is empty"):
        Adam([])
    parameter = nn.Parameter(np.ones(2))
    parameter.grad = np.ones(1)
    with pytest.raises(ValueError, match=r"Adam: gradient of 0 has shape \(1,\), the parameter has \(2,\)"):
        Adam([parameter]).step()
