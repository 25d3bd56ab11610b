"""SGD against the formula and against the paper's own update; learning rates."""

import numpy as np
import pytest
from reference import assert_close

from sparsenet import Tensor, nn
from sparsenet.optim import SGD, ConstantRate, CosineDecay, ExponentialDecay, StepDecay, clip_gradients


def quadratic(x):
    """A bowl with different slopes along its axes; its gradient."""
    return np.arange(1, x.size + 1).reshape(x.shape) * x


def run(steps, start, **settings):
    """Parameter after each step, with the optimizer."""
    parameter = Tensor(start.copy(), requires_grad=True)
    optimizer = SGD([parameter], **settings)
    path = []
    for _ in range(steps):
        parameter.grad = quadratic(parameter.array).astype(start.dtype)
        optimizer.step()
        path.append(parameter.array.copy())
    return path


def run_torch(steps, x, lr, momentum=0.0, dampening=0.0, nesterov=False, weight_decay=0.0):
    """torch.optim.SGD as its documentation writes it, but for the velocity, which starts at 0."""
    velocity, path = np.zeros_like(x), []
    for _ in range(steps):
        g = quadratic(x) + weight_decay * x
        if momentum:
            velocity = momentum * velocity + (1 - dampening) * g
            g = (1 - dampening) * g + momentum * velocity if nesterov else velocity
        x = x - lr * g
        path.append(x)
    return path


@pytest.mark.parametrize("settings", [
    {}, {"weight_decay": 0.1}, {"momentum": 0.9}, {"momentum": 0.9, "dampening": 0.5},
    {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01}, {"momentum": 0.9, "dampening": 0.9, "nesterov": True},
    {"dampening": 0.5},
], ids=str)
def test_steps_follow_the_formula(settings, dtype, rng):
    start = rng.standard_normal((2, 3)).astype(dtype)
    path = run(6, start, lr=0.05, **settings)
    assert path[-1].dtype == dtype
    for actual, expected in zip(path, run_torch(6, start.astype(np.float64), 0.05, **settings), strict=True):
        assert_close(actual, expected)


def test_dampened_nesterov_is_the_papers_update(rng):
    """m' = mu*m - lr*(1-mu)*g;  w += (1+mu)*m' - mu*m, at a constant rate."""
    start, lr, mu = rng.standard_normal(4), 0.1, 0.9
    x, m, expected = start, np.zeros(4), []
    for _ in range(8):
        before, m = m, mu * m - lr * (1 - mu) * quadratic(x)
        x = x + (1 + mu) * m - mu * before
        expected.append(x)
    for actual, point in zip(run(8, start, lr=lr, momentum=mu, dampening=mu, nesterov=True), expected, strict=True):
        assert_close(actual, point)


def test_the_step_is_in_place_and_bumps_the_version():
    parameter = Tensor(np.ones(3), requires_grad=True)
    array, version = parameter.array, parameter.version
    parameter.grad = np.ones(3)
    SGD([parameter], lr=0.5).step()
    assert parameter.array is array and parameter.version > version
    assert np.array_equal(array, [0.5, 0.5, 0.5])


def test_a_step_between_forward_and_backward_is_caught():
    parameter = Tensor(np.ones(3), requires_grad=True)
    parameter.grad = np.ones(3)
    loss = (parameter * parameter).sum()
    SGD([parameter], lr=0.5).step()
    with pytest.raises(RuntimeError, match="Multiply"):
        loss.backward()


def test_parameters_without_a_gradient_stay():
    moved, stays = Tensor(np.ones(2), requires_grad=True), Tensor(np.ones(2), requires_grad=True)
    optimizer = SGD([moved, stays], lr=1.0, momentum=0.5, weight_decay=1.0)
    moved.grad = np.ones(2)
    optimizer.step()
    assert stays.version == 0 and np.array_equal(stays.array, [1, 1]) and list(optimizer.state_dict()) == ["0"]


@pytest.mark.parametrize("array", [np.ones((3, 2)).T, np.broadcast_to(np.ones(3), (2, 3))],
                         ids=["transposed", "read-only"])
def test_arrays_that_cannot_be_written_in_place_are_replaced(array):
    parameter = Tensor(array, requires_grad=True)
    parameter.grad = np.ones((3, 2)).T
    SGD([parameter], lr=0.25).step()
    assert np.array_equal(parameter.array, np.full((2, 3), 0.75)) and array.min() == 1


def test_zero_grad_forgets():
    parameter = Tensor(np.ones(2), requires_grad=True)
    parameter.grad = np.ones(2)
    SGD([parameter], lr=1.0).zero_grad()
    assert parameter.grad is None


def test_the_rate_may_be_set():
    parameter = Tensor(np.zeros(1), requires_grad=True)
    optimizer = SGD([parameter], lr=1.0)
    parameter.grad = np.ones(1)
    optimizer.step()
    optimizer.lr = 0.1
    optimizer.step()
    assert optimizer.lr == 0.1 and parameter.array[0] == pytest.approx(-1.1)


def test_resuming_from_the_state_gives_the_same_bits(rng):
    start = rng.standard_normal((3, 4)).astype(np.float32)
    settings = {"lr": 0.02, "momentum": 0.9, "dampening": 0.3, "nesterov": True}
    expected = run(10, start, **settings)[-1]

    parameter = Tensor(start.copy(), requires_grad=True)
    optimizer = SGD([("layer.weight", parameter)], **settings)
    for step in range(10):
        if step == 4:
            state = optimizer.state_dict()
            assert list(state) == ["layer.weight"] and isinstance(state["layer.weight"], np.ndarray)
            parameter = Tensor(parameter.array.copy(), requires_grad=True)
            optimizer = SGD([("layer.weight", parameter)], **settings)
            optimizer.load_state_dict(state)
        parameter.grad = quadratic(parameter.array).astype(np.float32)
        optimizer.step()
    assert np.array_equal(parameter.array, expected)


def test_state_is_copied_both_ways():
    parameter = Tensor(np.ones(2), requires_grad=True)
    optimizer = SGD([parameter], lr=1.0, momentum=0.5)
    assert optimizer.state_dict() == {}
    given = {"0": np.ones(2)}
    optimizer.load_state_dict(given)
    parameter.grad = np.ones(2)
    optimizer.step()
    optimizer.state_dict()["0"][:] = 7
    assert np.array_equal(given["0"], [1, 1]) and np.array_equal(optimizer.state_dict()["0"], [1.5, 1.5])
    optimizer.load_state_dict({})
    assert optimizer.state_dict() == {}


def test_a_state_that_does_not_fit_changes_nothing():
    optimizer = SGD([("w", Tensor(np.ones(2), requires_grad=True))], lr=1.0, momentum=0.5)
    optimizer.load_state_dict({"w": np.ones(2)})
    with pytest.raises(ValueError, match="no parameter is named 'v', expected one of w"):
        optimizer.load_state_dict({"w": np.zeros(2), "v": np.ones(2)})
    with pytest.raises(ValueError, match=r"velocity of w has shape \(3,\), expected \(2,\)"):
        optimizer.load_state_dict({"w": np.ones(3)})
    assert np.array_equal(optimizer.state_dict()["w"], [1, 1])


def test_the_loss_s_scale_is_divided_out(rng):
    start, settings = rng.standard_normal(5), {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}
    plain, scaled = (Tensor(start.copy(), requires_grad=True) for _ in range(2))
    optimizers = SGD([plain], **settings), SGD([scaled], **settings, loss_scale=1024)
    for step in range(4):
        if step == 2:
            optimizers[1].loss_scale = 64
        plain.grad = quadratic(plain.array)
        scaled.grad = quadratic(scaled.array) * optimizers[1].loss_scale
        for optimizer in optimizers:
            optimizer.step()
    assert np.array_equal(plain.array, scaled.array)  # powers of two


def test_settings_out_of_range_raise():
    parameter = Tensor(np.ones(2), requires_grad=True)
    for settings, message in [({"lr": -1}, "lr is -1"), ({"lr": float("nan")}, "lr is nan"),
                              ({"lr": 1, "momentum": -0.1}, "momentum is -0.1"),
                              ({"lr": 1, "weight_decay": -1}, "weight_decay is -1"),
                              ({"lr": 1, "dampening": 1.5}, "dampening is 1.5, expected at least 0, at most 1"),
                              ({"lr": 1, "dampening": -0.1}, "dampening is -0.1"),
                              ({"lr": 1, "loss_scale": 0}, "loss_scale is 0, expected a finite number above 0"),
                              ({"lr": 1, "nesterov": True}, "needs a momentum")]:
        with pytest.raises(ValueError, match=f"SGD: .*{message}"):
            SGD([parameter], **settings)
    for parameters, error in [([], "params is empty"), ([parameter, parameter], "occurs twice"),
                              ([("a", parameter), ("a", Tensor(np.ones(1), requires_grad=True))],
                               "parameter a occurs twice")]:
        with pytest.raises(ValueError, match=error):
            SGD(parameters, lr=1)
    with pytest.raises(TypeError, match="parameter 0 is ndarray"):
        SGD([np.ones(2)], lr=1)
    for name in ("lr", "momentum", "dampening", "weight_decay", "loss_scale"):
        with pytest.raises(TypeError, match=f"SGD: {name} is '0.1', expected a number"):
            SGD([parameter], **{"lr": 1, name: "0.1"})


def test_what_would_train_nothing_is_refused():
    parameter = Tensor(np.ones((2, 3)), requires_grad=True)
    with pytest.raises(TypeError, match="SGD: params is Tensor, expected several Tensors: pass .* a list"):
        SGD(parameter, lr=1)
    with pytest.raises(TypeError, match="SGD: params is Linear, expected several Tensors: pass net.parameters()"):
        SGD(nn.Linear(2, 3), lr=1)
    with pytest.raises(TypeError, match="SGD: parameter w was computed from other tensors"):
        SGD([("w", parameter * 2)], lr=1)
    with pytest.raises(TypeError, match="SGD: parameter w requires no gradient and would never change, expected a"):
        SGD([("w", (parameter * 2).detach())], lr=1)
    with pytest.raises(TypeError, match="clip_gradients: params is Tensor"):
        clip_gradients(parameter, 1.0)
    with pytest.raises(TypeError, match="clip_gradients: parameter 0 is tuple, expected a Tensor"):
        clip_gradients([("w", parameter)], 1.0)


def test_a_frozen_parameter_does_not_move_and_a_thawed_one_keeps_its_velocity():
    def moved(freeze):
        parameter = nn.Parameter(np.ones(1))
        optimizer = SGD([parameter], lr=1.0, momentum=0.5)
        positions = []
        for step in range(4):
            parameter.requires_grad = not (freeze and step == 2)
            parameter.grad = np.ones(1)  # left over from an earlier step while it is frozen
            optimizer.step()
            positions.append(parameter.item())
        return positions, parameter.version, optimizer.state_dict()["0"].item()

    assert moved(freeze=False) == ([0, -1.5, -3.25, -5.125], 4, 1.875)
    assert moved(freeze=True) == ([0, -1.5, -1.5, -3.25], 3, 1.75)


def test_a_parameter_that_is_frozen_from_the_start_is_taken_up_when_it_is_thawed():
    parameter = nn.Parameter(np.ones(1), requires_grad=False)
    optimizer = SGD([parameter], lr=1.0, momentum=0.5)
    optimizer.step()
    assert optimizer.state_dict() == {}
    parameter.requires_grad = True
    (parameter * 3).sum().backward()
    optimizer.step()
    assert parameter.item() == -2 and optimizer.state_dict()["0"].item() == 3


def test_velocities_that_are_not_finite_are_refused():
    optimizer = SGD([nn.Parameter(np.ones(2))], lr=1.0, momentum=0.5)
    with pytest.raises(ValueError, match="SGD.load_state_dict: velocity of 0 contains NaN or infinity"):
        optimizer.load_state_dict({"0": np.array([1.0, np.inf])})
    assert optimizer.state_dict() == {}


def test_a_gradient_of_another_shape_raises():
    parameter = Tensor(np.ones(2), requires_grad=True)
    parameter.grad = np.ones(1)
    with pytest.raises(ValueError, match=r"gradient of 0 has shape \(1,\), the parameter has \(2,\)"):
        SGD([parameter], lr=1).step()


@pytest.mark.parametrize("schedule, expected", [
    (ConstantRate(0.5), {0: 0.5, 100: 0.5}),
    (ExponentialDecay(0.002, 0.025), {0: 0.002, 1: 0.002 * np.exp(-0.025), 40: 0.002 * np.exp(-1)}),
    (StepDecay(1.0, 10, 0.5), {0: 1.0, 9: 1.0, 10: 0.5, 29: 0.25}),
    (CosineDecay(2.0, 10), {0: 2.0, 5: 1.0, 10: 0.0, 20: 0.0}),
    (CosineDecay(2.0, 10, least=1.0), {0: 2.0, 5: 1.5, 10: 1.0}),
])
def test_schedules(schedule, expected):
    assert {epoch: schedule(epoch) for epoch in expected} == pytest.approx(expected)


def test_clip_gradients_scales_them_together():
    tensors = [Tensor(np.zeros(2, np.float32), requires_grad=True), Tensor(np.zeros((1, 1), np.float32), True),
               Tensor(np.zeros(3, np.float32), requires_grad=True)]
    tensors[0].grad, tensors[1].grad = np.array([3, 0], np.float32), np.array([[4]], np.float32)
    assert clip_gradients(tensors, 10.0) == 5.0
    assert tensors[0].grad.tolist() == [3, 0]
    assert clip_gradients(tensors, 1.0) == 5.0
    np.testing.assert_allclose(tensors[0].grad, [0.6, 0])
    np.testing.assert_allclose(tensors[1].grad, [[0.8]])
    assert tensors[2].grad is None and tensors[0].grad.dtype == np.float32


def test_without_gradients_there_is_nothing_to_clip():
    assert clip_gradients([Tensor(np.zeros(2, np.float32), requires_grad=True)], 1.0) == 0.0


def test_clip_gradients_passes_over_what_a_frozen_parameter_has_left():
    moving, frozen = nn.Parameter(np.zeros(1)), nn.Parameter(np.zeros(1))
    moving.grad, frozen.grad = np.full(1, 3.0), np.full(1, 4.0)
    frozen.requires_grad = False
    assert clip_gradients([moving, frozen], 1.0) == 3.0
    assert moving.grad == 1.0 and frozen.grad == 4.0
