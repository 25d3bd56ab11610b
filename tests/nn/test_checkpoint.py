"""Activations that are computed again: the same bits as activations that are kept, in less memory."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from reference import random_coordinates

from sparsenet import SparseTensor, Tensor, anomaly, autograd, gradcheck, inspect, nn, no_grad, ops, set_backend
from sparsenet.nn.checkpoint import parts_of

SIZE = (7, 7, 7)


@pytest.fixture(params=[None, "reference"], ids=["cpu", "reference"])
def backend(request):
    set_backend(request.param)
    yield
    set_backend(None)


def sparse(background, dtype=np.float32, channels=3, count=80, size=SIZE, seed=0):
    """Three samples, the second without a site; features and background require gradients."""
    rng = np.random.default_rng(seed)
    shape = {"vector": (channels,), "rows": (3, channels)}.get(background)
    row = background if shape is None else Tensor(rng.standard_normal(shape).astype(dtype), requires_grad=True)
    features = Tensor(rng.standard_normal((count, channels)).astype(dtype), requires_grad=True)
    return SparseTensor(features, random_coordinates(rng, count, size, 3, empty=(1,)), size, 3, row), features, row


def layers(rng=7):
    """Convolutions with biases, norms, dropout, a pooling, and a residual block."""
    block = nn.Residual(nn.SubmanifoldConv(4, 4, 3, rng=rng), nn.BatchNorm(4), nn.LeakyReLU(0.1),
                        nn.SubmanifoldConv(4, 4, 3, rng=rng + 1), shortcut=nn.SubmanifoldConv(4, 4, 1, rng=rng + 2))
    made = [nn.SparseConv(3, 4, 2, rng=rng), nn.BatchNorm(4, statistics="grid"), nn.LeakyReLU(0.2),
            nn.Dropout(0.3, rng=5), nn.SparseMaxPool(2), block, nn.Dropout(0.5, rng=6), nn.SparseConv(4, 5, 2, rng=9)]
    drawn = np.random.default_rng(1)
    for layer in made:
        for parameter in layer.parameters():
            if parameter.ndim == 1:
                parameter.array = drawn.standard_normal(parameter.shape).astype(np.float32)
    return made


def result(net, x, leaves):
    """All that a step leaves: the loss, gradients, buffers with their versions, and what dropout draws next."""
    y = net(x)
    weight = np.random.default_rng(2).standard_normal(y.features.shape).astype(y.dtype)
    loss = (y.features * Tensor(weight)).sum()
    if y.background is not None:
        loss = loss + (y.background * y.background).sum()
    loss.backward()
    found = {"loss": loss.array, "sites": y.coordinates, "output": y.features.array}
    found |= {f"gradient of {i}": leaf.grad for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)}
    found |= {name: one.grad for name, one in net.named_parameters()}
    found |= {name: one.array for name, one in net.named_buffers()}
    found |= {f"version of {name}": np.array(one.version) for name, one in net.named_buffers()}
    found |= {f"draw {i}": one.rng.random(3) for i, one in enumerate(net.modules()) if isinstance(one, nn.Dropout)}
    return found


def check_equal(found, expected):
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert array is not None and found[name].dtype == array.dtype, name
        assert found[name].tobytes() == array.tobytes(), name


@pytest.mark.parametrize("background", ["vector", "rows", "zeros", None])
@pytest.mark.parametrize("wrap", [
    lambda made: nn.Checkpoint(*made),
    lambda made: nn.Sequential(nn.Checkpoint(*made[:3]), nn.Checkpoint(*made[3:5]), *made[5:]),
    lambda made: nn.Sequential(nn.Checkpoint(nn.Checkpoint(*made[:2]), *made[2:5]), nn.Checkpoint(*made[5:])),
], ids=["one", "some", "nested"])
def test_loss_gradients_and_buffers_have_the_same_bits(backend, background, wrap):
    expected = result(nn.Sequential(*layers()), *_arguments(background))
    found = result(wrap(layers()), *_arguments(background))
    check_equal(dict(zip(expected, found.values(), strict=True)), expected)  # names differ by the wrapping


def _arguments(background):
    x, *leaves = sparse(background)
    return x, leaves


@pytest.mark.parametrize("background", ["vector", "rows", None])
@pytest.mark.parametrize("inner", [
    lambda one: nn.Residual(nn.Checkpoint(*one[:3]), shortcut=one[3]),
    lambda one: nn.Residual(*one[:3], shortcut=nn.Checkpoint(one[3])),
    lambda one: nn.Residual(nn.Checkpoint(*one[:3])),
], ids=["layers", "shortcut", "around"])
def test_an_input_that_others_use_too_gets_the_same_sum(background, inner):
    """Its gradient is a sum of many parts, whose order counts: the checkpoint hands on each by itself."""
    def net(checkpointed):
        made = [nn.SubmanifoldConv(4, 4, 3, rng=1), nn.BatchNorm(4), nn.SubmanifoldConv(4, 4, 3, rng=2),
                nn.SubmanifoldConv(4, 4, 1, rng=3)]
        block = inner(made)
        if not checkpointed:
            shortcut = block.shortcut
            block = nn.Residual(*made[:3], shortcut=shortcut and made[3])
        stem = [nn.SparseConv(3, 4, 2, rng=0), nn.LeakyReLU(0.1), nn.SparseMaxPool(2)]
        stem = [nn.Checkpoint(*stem)] if checkpointed else [nn.Sequential(*stem)]
        return nn.Sequential(*stem, block, nn.SparseConv(4, 2, 2, rng=5))

    (expected, found) = (result(net(checkpointed), *_arguments(background)) for checkpointed in (False, True))
    check_equal(dict(zip(expected, found.values(), strict=True)), expected)


@pytest.mark.parametrize("dimension", [1, 2, 4])
def test_any_dimension_no_site_at_all_and_float64(dimension):
    for count in (0, 15 if dimension == 1 else 60):
        outcomes = []
        for kind in (nn.Sequential, nn.Checkpoint):
            net = kind(nn.SparseConv(3, 2, 2, rng=0, dimension=dimension), nn.LeakyReLU(0.1),
                       nn.SparseMaxPool(2, dimension=dimension)).to(np.float64)
            x, *leaves = sparse("vector", np.float64, count=count, size=(9,) * dimension)
            outcomes.append(result(net, x, leaves))
        check_equal(*reversed(outcomes))


def test_rows_and_gradcheck():
    net = nn.Checkpoint(nn.Linear(3, 4, rng=0), nn.LeakyReLU(0.3), nn.Linear(4, 2, rng=1)).to(np.float64)
    x = Tensor(np.random.default_rng(0).standard_normal((5, 3)), requires_grad=True)
    gradcheck(lambda *_: net(x), [x, *net.parameters()])


def saved_bytes(tensor):
    """The bytes of all arrays that the graph of a Tensor saved, each array once."""
    arrays, seen, waiting = {}, set(), [tensor._creator]
    while waiting:
        function = waiting.pop()
        if function is None or function in seen:
            continue
        seen.add(function)
        for value in (*function.saved, *vars(function).values()):
            if isinstance(value, np.ndarray):
                owner = value if value.base is None else value.base
                arrays[id(owner)] = owner.nbytes
        waiting += [edge.creator for edge in function._inputs if edge is not None]
    return sum(arrays.values())


def deep(recompute):
    net = nn.SparseNetwork(in_channels=8, seed=0)
    for _ in range(8):
        net.add_submanifold(8, 3).add_batch_norm().add_leaky_relu(0.1)
    net.add_global_pool().add_linear(2)
    net.recompute = recompute
    return net


def test_less_is_saved_and_the_network_gives_the_same_bits():
    saved, outcomes = {}, []
    for recompute in (0, 1, 2, 4, 9):
        net, (x, features, _) = deep(recompute), sparse("vector", channels=8, count=200)
        loss = ops.softmax_cross_entropy(net(x), [0, 1, 0])
        saved[recompute] = saved_bytes(loss)
        loss.backward()
        outcomes.append({"loss": loss.array, "features": features.grad, **net.state_dict(),
                         **{f"of {name}": one.grad for name, one in net.named_parameters()}})
        check_equal(outcomes[-1], outcomes[0])
    weights = sum(parameter.array.nbytes for parameter in net.parameters())
    activations = {recompute: count - weights for recompute, count in saved.items()}
    assert activations[1] == activations[0]
    assert activations[2] < 0.7 * activations[0] and activations[4] < 0.45 * activations[0]
    assert activations[9] < 0.45 * activations[0]


def test_parts_begin_at_weights_and_are_about_equally_long():
    net = deep(0)
    for count, lengths in ((1, [26]), (2, [12, 14]), (4, [6, 6, 6, 8]), (100, [3] * 7 + [4, 1])):
        parts = parts_of(net.layers, count)
        assert [len(part) for part in parts] == lengths and sum(map(list, parts), []) == net.layers
    assert [len(part) for part in parts_of([nn.ReLU(), nn.ReLU()], 3)] == [2] and parts_of([], 2) == [[]]
    for wrong in (-1, 1.5, True):
        with pytest.raises(ValueError, match="recompute is .*, expected a number of parts, or 0"):
            parts_of(net.layers, wrong)


def test_frozen_parameters_and_inputs_that_need_no_gradient():
    outcomes = []
    for kind in (nn.Sequential, nn.Checkpoint):
        made = layers()
        made[0].weight.requires_grad = made[5].layers[0].bias.requires_grad = False
        x, *_ = sparse("zeros")
        net, x = kind(*made), x.detach()
        y = net(x)
        (y.features * y.features).sum().backward()
        outcomes.append({name: one.grad for name, one in net.named_parameters()})
    plain, again = outcomes
    assert [name for name, one in plain.items() if one is None] == ["0.weight", "5.0.bias"]
    assert [name for name, one in again.items() if one is None] == ["0.weight", "5.0.bias"]
    check_equal(*({name: one for name, one in outcome.items() if one is not None} for outcome in (again, plain)))


def test_without_a_graph_nothing_runs_again():
    net = nn.Checkpoint(*layers()).eval()
    x, *_ = sparse("vector")
    plain = nn.Sequential(*net.layers)
    with no_grad():
        assert net(x).features.array.tobytes() == plain(x).features.array.tobytes()
    for parameter in net.parameters():
        parameter.requires_grad = False
    assert not net(x.detach()).features.requires_grad


def test_the_second_run_is_as_the_first_whatever_happened_between():
    outcomes = []
    for kind in (nn.Sequential, nn.Checkpoint):
        net, (x, *_) = kind(*layers()), sparse("vector")
        loss = net(x).features.sum()
        net.eval()
        net.reseed(3)
        net.layers[1].running_mean.array[:] = 100
        with no_grad():
            loss.backward()
        assert not net.training and net.layers[1].running_mean.array[0] == 100
        outcomes.append({name: one.grad for name, one in net.named_parameters()} | {
            "draw": net.layers[3].rng.random(2)})
    check_equal(*reversed(outcomes))


def test_changes_between_the_passes_are_noticed():
    net, (x, *_) = nn.Checkpoint(*layers()), sparse("vector")
    loss = net(x).features.sum()
    net.layers[0].weight.mark_modified()
    with pytest.raises(RuntimeError, match="Recompute: an array that it saved was assigned or modified"):
        loss.backward()
    loss = net(x).features.sum()
    x.features.array = x.features.array.copy()
    with pytest.raises(RuntimeError, match="Recompute: an array that it saved was assigned or modified"):
        loss.backward()
    assert all(parameter.grad is None for parameter in net.parameters())


def test_a_graph_that_is_retained_runs_backward_twice():
    grads = []
    for kind in (nn.Sequential, nn.Checkpoint):
        net, (x, *_) = kind(*layers()), sparse("rows")
        loss = net(x).features.sum()
        loss.backward(retain_graph=True)
        loss.backward()
        grads.append({name: one.grad for name, one in net.named_parameters()})
        with pytest.raises(RuntimeError, match="an earlier backward"):
            loss.backward()
    check_equal(*reversed(grads))


def test_traces_records_and_anomalies_see_each_layer_once():
    net = deep(3)
    x, *_ = sparse("vector", channels=8, count=50)
    assert len(net.activations(x)) == len(net.layers)
    seen = [record.name for record in inspect.trace(net, x).records]
    net.recompute = 0
    assert seen == [record.name for record in inspect.trace(net, x).records]
    net.recompute = 3
    net.layers[3].weight.array[:] = np.inf
    with pytest.raises(FloatingPointError, match="submanifold2"), anomaly.detect_anomaly():
        net(x)


def test_it_is_a_layer_of_a_network_like_any_other(tmp_path):
    def network(kind):
        net = nn.SparseNetwork(in_channels=3, seed=0).add_convolution(4, 2)
        return net.add(kind(nn.SubmanifoldConv(4, 6, 3, rng=1), nn.ReLU())).add_max_pool(2).add_linear(2)

    x, *_ = sparse("vector")
    plain, net = network(nn.Sequential), network(nn.Checkpoint)
    assert list(net.state_dict()) == [name.replace("sequential", "checkpoint") for name in plain.state_dict()]
    assert net.summary(x) == plain.summary(x).replace("sequential1", "checkpoint1")
    assert net.geometries() == plain.geometries() and net.field_for(1) == plain.field_for(1)
    net.save_weights(tmp_path / "weights.h5")
    other = network(nn.Checkpoint)
    other.load_weights(tmp_path / "weights.h5")
    assert other(x).numpy().tobytes() == plain(x).numpy().tobytes()


class Fickle(nn.Module):
    """Gives fewer channels at each call."""

    def __init__(self):
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return x[:, self.calls:] * 2


class Pair(nn.Module):
    def forward(self, x):
        return x, x


def test_what_cannot_be_run_again_raises():
    x = Tensor(np.ones((2, 5), np.float32), requires_grad=True)
    with pytest.raises(RuntimeError, match=r"the layers computed {'': \(\(2, 3\), 'float32'\)} when they ran again"):
        nn.Checkpoint(Fickle())(x).sum().backward()
    with pytest.raises(TypeError, match="Checkpoint: the output is tuple, expected a Tensor or SparseTensor"):
        nn.Checkpoint(Pair())(x)
    with pytest.raises(TypeError, match="Checkpoint: the input is ndarray"):
        nn.Checkpoint(nn.ReLU())(x.array)
    with pytest.raises(TypeError, match="layer 1 is int, expected a Module"):
        nn.Checkpoint(nn.ReLU(), 3)


def test_it_is_copied_before_and_after_use():
    net, (x, *_) = nn.Checkpoint(*layers()), sparse("vector")
    net(x).features.sum().backward()
    twin = copy.deepcopy(net)
    assert [name for name, _ in twin.named_parameters()] == [name for name, _ in net.named_parameters()]
    assert twin(x).features.array.tobytes() == net(x).features.array.tobytes()


def test_parts_of_a_gradient_are_added_one_by_one():
    """1 + tiny + tiny is 1 in float32, 1 + (tiny + tiny) is not."""
    tiny = np.float32(2**-24)

    class Several(autograd.Function):
        def forward(self, x):
            return x.sum(keepdims=True)

        def backward(self, gradient):
            return autograd.Parts([np.full(1, value, np.float32) for value in (1, tiny, tiny)])

    x = Tensor(np.ones(1, np.float32), requires_grad=True)
    Several().apply(x).backward()
    assert x.grad[0] == 1
