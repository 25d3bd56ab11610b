"""Residual and ReLU; networks with batch norm and residual blocks, by name and against the dense layers."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import reference

import sparsenet as sn
from sparsenet import inspect, nn
from sparsenet.nn import resnet, s3dcnn


def batch(rng, side, count=60, dimension=3, channels=1, batch_size=2):
    coordinates = reference.random_coordinates(rng, count, (side,) * dimension, batch_size)
    return sn.SparseTensor(rng.standard_normal((len(coordinates), channels)).astype("f4"), coordinates,
                           (side,) * dimension, batch_size)


def test_relu_is_zero_where_not_positive_and_keeps_no_input(rng):
    x = sn.Tensor(np.array([-2.0, -0.0, 0.0, 3.0]), requires_grad=True)
    y = nn.ReLU()(x)
    assert y.numpy().tolist() == [0, 0, 0, 3]
    assert y._creator.saved[0] is y.array, "its output tells the sign as well"
    y.backward(np.ones(4))
    assert x.grad.tolist() == [0, 0, 0, 1]
    assert nn.ReLU().kind == "relu" and repr(nn.ReLU()) == "ReLU()"


@pytest.mark.parametrize("shortcut", [False, True])
def test_residual_is_the_sum_of_both_grids(shortcut, rng):
    x = batch(rng, 7, channels=2).astype("float64")
    layers = [nn.SparseConv(2, 3 if shortcut else 2, 3, 1, 1, rng=1), nn.ReLU()]
    around = nn.SparseConv(2, 3, 1, rng=2) if shortcut else None
    block = nn.Residual(*layers, shortcut=around).to(dtype="float64")
    y = block(x)
    main = layers[1](layers[0](x))
    expected = main.to_dense().numpy() + (around(x) if shortcut else x).to_dense().numpy()
    reference.assert_close(y.to_dense(), expected)
    names = {"0.weight", "0.bias", "shortcut.weight", "shortcut.bias"}
    assert set(block.state_dict()) == {name for name in names if shortcut or name[0] == "0"}
    rows = sn.Tensor(rng.standard_normal((4, 3)))
    np.testing.assert_array_equal(nn.Residual(nn.ReLU())(rows).numpy(), rows.numpy() + np.maximum(rows.numpy(), 0))


def test_what_is_no_module_is_refused():
    with pytest.raises(TypeError, match="Residual: layer 1 is int, expected a Module"):
        nn.Residual(nn.ReLU(), 3)
    with pytest.raises(TypeError, match="Residual: layer 1 is str, expected a Module"):
        nn.Residual(nn.ReLU(), shortcut="x")


def test_the_network_builds_them_from_what_it_gives():
    net = sn.SparseNetwork(2).add_convolution(5, 2).add_batch_norm(0.2, statistics="grid").add_relu()
    net.add_residual(nn.SubmanifoldConv(5, 7, 3, dimension=2), shortcut=nn.SubmanifoldConv(5, 7, 1, dimension=2))
    assert net.names() == ["convolution1", "batch_norm1", "relu1", "residual1"] and net.out_channels == 7
    assert net.add_batch_norm().layers[-1].channels == 7 and net.add_linear(3).layers[-1].in_features == 7
    assert (net.layers[1].channels, net.layers[1].momentum, net.layers[1].statistics) == (5, 0.2, "grid")
    assert {"batch_norm1.running_mean", "residual1.0.weight", "residual1.shortcut.bias"} <= set(net.get_weights())
    with pytest.raises(ValueError, match="add_residual: the network gives a plain Tensor by now"):
        net.add_residual(nn.ReLU())


def test_a_pooling_behind_batch_norm_still_sets_the_bound_of_first_weights():
    plain, normed = (sn.SparseNetwork(seed=3).add_convolution(4, 2) for _ in range(2))
    before = plain.layers[0].weight.array.copy()
    normed.add_batch_norm().add_leaky_relu().add_max_pool(3, 2)
    plain.add_leaky_relu().add_max_pool(3, 2)
    np.testing.assert_array_equal(plain.layers[0].weight.array, normed.layers[0].weight.array)
    assert not np.array_equal(before, plain.layers[0].weight.array)


@pytest.mark.parametrize(("make", "channels", "field"), [(s3dcnn, (4, 5, 6), 14), (resnet, (4, 5, 6), 16)])
def test_networks_by_name_train_and_evaluate(make, channels, field, rng):
    options = {"norm": "batch"} if make is s3dcnn else {"blocks": 2}
    net = make(3, seed=1, channels=channels, **options)
    assert net.field == (field,) * 3 and net.out_channels == 3
    x = batch(rng, field, 150)
    net(x)
    sn.ops.softmax_cross_entropy(net(x), np.array([0, 1])).backward()
    assert all(np.any(parameter.grad) for parameter in net.parameters()), "each parameter moves the loss"
    assert not any(np.array_equal(one.running_mean.array, np.zeros(one.channels)) for one in net.modules()
                   if isinstance(one, nn.BatchNorm))
    whole = net.eval()(x).numpy()
    rows = x.coordinates[:, 0] == 1
    cells = np.concatenate([np.zeros((rows.sum(), 1), int), x.coordinates[rows, 1:]], axis=1)
    lone = net(sn.SparseTensor(x.features.numpy()[rows], cells, x.spatial_size, 1)).numpy()
    assert lone.tobytes() == whole[1:].tobytes(), "in evaluation a sample does not depend on its batch"
    twin = make(3, seed=2, channels=channels, **options).eval()
    twin.load_state_dict(net.state_dict())
    assert twin(x).numpy().tobytes() == whole.tobytes()
    assert make(3, seed=1, channels=channels, **options).layers[0].weight.array.tobytes() == make(
        3, seed=1, channels=channels, **options).layers[0].weight.array.tobytes()


def test_blocks_of_a_level_draw_weights_of_their_own():
    net = resnet(channels=(4, 4), blocks=2)
    weights = [module.weight.array for module in net.modules() if isinstance(module, nn.SubmanifoldConv)]
    assert len({array.tobytes() for array in weights}) == len(weights)


@pytest.mark.parametrize(("make", "options", "message"), [
    (s3dcnn, {"norm": "layer"}, "s3dcnn: norm is 'layer', expected one of None, 'batch'"),
    (resnet, {"blocks": 0}, "resnet: blocks is 0, expected a whole number, 1 or more"),
    (resnet, {"channels": ()}, r"resnet: channels is \(\), expected a sequence"),
])
def test_settings_that_are_none_are_refused(make, options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_summary_and_trace_show_what_is_within(rng):
    net = resnet(3, channels=(4, 5)).eval()
    x = batch(rng, 8)
    seen = inspect.trace(net, x)
    assert [record.name for record in seen][:4] == ["submanifold1", "batch_norm1", "relu1", "residual1.0"]
    assert {"residual2.shortcut.0", "residual2"} <= {record.name for record in seen}
    records = net.activations(x)
    block = records[3]
    inner = [record for record in seen if record.name.startswith("residual1.")]
    assert block.pairs == sum(record.pairs or 0 for record in inner) > 0
    assert block.multiply_adds == sum(record.multiply_adds for record in inner) > 0
    assert block.dense_multiply_adds == sum(record.dense_multiply_adds for record in inner)
    assert sum(record.multiply_adds for record in seen) == sum(record.multiply_adds for record in records)
    lines = net.summary(x).splitlines()
    within = [line.split() for line in lines if "residual1.0" in line]
    assert within and f"{inner[0].multiply_adds:,}" in within[0]
    assert records[1].multiply_adds == 0 and f"{sum(r.multiply_adds for r in records):,}" in lines[-1]


def nested():
    """A block whose second layer is a block with a shortcut of two layers."""
    def same(seed):
        return nn.SubmanifoldConv(4, 4, 3, rng=seed)

    inner = nn.Residual(same(1), nn.ReLU(), shortcut=nn.Sequential(same(2), nn.ReLU()))
    return sn.SparseNetwork().add_submanifold(4, 3).add_residual(nn.BatchNorm(4), inner, same(3)).add_linear(3)


def test_a_block_within_a_block_has_its_work_by_named_children(rng):
    net = nested().eval()
    x = batch(rng, 6)
    block = net.activations(x)[1]
    assert [part.name for part in block.parts] == ["residual1.0", "residual1.1", "residual1.2"]
    inner = block.parts[1]
    assert [part.name for part in inner.parts] == ["residual1.1.0", "residual1.1.1", "residual1.1.shortcut"]
    one = block.parts[2]
    assert one.pairs > 0 and one.multiply_adds == 16 * one.pairs
    assert (inner.pairs, inner.multiply_adds) == (2 * one.pairs, 2 * one.multiply_adds)
    assert (block.pairs, block.multiply_adds) == (3 * one.pairs, 3 * one.multiply_adds)
    assert block.dense_multiply_adds == 3 * 2 * 6 ** 3 * 27 * 16
    shown = [line.split()[0] for line in net.summary(x).splitlines() if line.strip().startswith("residual1.")]
    assert shown == ["residual1.0", "residual1.1", "residual1.1.0", "residual1.1.1", "residual1.1.shortcut.0",
                     "residual1.1.shortcut.1", "residual1.2"], "not the Sequential, whose result is its last layer's"
    seen = inspect.trace(net, x)
    assert {*shown, "residual1"} <= {record.name for record in seen}
    assert sum(record.multiply_adds for record in seen) == sum(record.multiply_adds for record in net.activations(x))


def test_composites_move_pickle_and_save_as_other_layers_do(rng, tmp_path):
    net, x = nested(), batch(rng, 6)
    net(x)
    net.eval()
    expected = net(x).numpy()
    twin = pickle.loads(pickle.dumps(net))
    assert twin(x).numpy().tobytes() == expected.tobytes()
    net.save_weights(tmp_path / "w.h5")
    other = nested().eval()
    other.load_weights(tmp_path / "w.h5")
    assert other(x).numpy().tobytes() == expected.tobytes()
    wide = net.to(dtype="float64")
    assert {array.dtype for array in wide.state_dict().values()} == {np.dtype("f8")}
    np.testing.assert_allclose(wide(x.astype("float64")).numpy(), expected, rtol=1e-4, atol=1e-5)
