"""trace: one record per layer of any Module: its work, its values, its gradients."""

from __future__ import annotations

import csv
import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
import reference

import sparsenet as sn
from sparsenet import nn
from sparsenet.inspect import Trace, statistics, trace

FIELD = (9, 9)


def small_network(seed=1):
    net = sn.SparseNetwork(dimension=2, in_channels=2, seed=seed)
    net.add_convolution(4, 2).add_leaky_relu(0.33).add_max_pool(2)
    return net.add_convolution(5, 2).add_linear(3)


def small_batch(rng, dtype="f4"):
    coordinates = reference.random_coordinates(rng, 20, FIELD, 3, empty=(1,))
    return sn.SparseTensor(rng.standard_normal((20, 2)).astype(dtype), coordinates, FIELD, 3)


class Residual(nn.Module):
    """x + block(x): something that no layer inside gives."""

    def __init__(self, channels):
        self.block = nn.Sequential(nn.SubmanifoldConv(channels, channels, 3, dimension=2, rng=0), nn.LeakyReLU(0.2))

    def forward(self, x):
        return sn.ops.add(x, self.block(x))


class TestWhatIsRecorded:
    def test_a_network_s_layers_in_order_numbered_from_1(self, rng):
        net, x = small_network(), small_batch(rng)
        seen = trace(net, x)
        assert isinstance(seen, Trace) and len(seen) == 6
        assert [record.name for record in seen] == net.names()
        assert [record.index for record in seen] == [1, 2, 3, 4, 5, 6]
        assert [record.operation for record in seen] == [layer.kind for layer in net.layers]
        assert seen.input is x and seen.output is seen[-1].output

    def test_the_same_as_the_network_tells_itself(self, rng):
        net, x = small_network(), small_batch(rng)
        for record, own in zip(trace(net, x), net.activations(x), strict=True):
            assert (record.name, record.layer, record.spatial_size) == (own.name, own.layer, own.spatial_size)
            assert (record.pairs, record.multiply_adds) == (own.pairs, own.multiply_adds)
            np.testing.assert_array_equal(record.features, own.features)

    def test_tracing_changes_no_bit(self, rng):
        net, x = small_network(), small_batch(rng)
        np.testing.assert_array_equal(trace(net, x, repeats=2).output.numpy(), net(x).numpy())

    def test_a_batch_is_replaced_by_its_input(self, rng):
        net, x = small_network(), small_batch(rng)
        assert trace(net, SimpleNamespace(input=x)).input is x

    def test_nested_modules_are_named_by_their_path(self, rng):
        net = nn.Sequential(Residual(2), nn.SparseMaxPool((2, 2)))
        seen = trace(net, small_batch(rng))
        assert [record.name for record in seen] == ["0.block.0", "0.block.1", "0", "1"]
        assert seen["0"].operation == "residual" and seen["0"].layer is net[0]
        np.testing.assert_array_equal(seen["0"].features, seen["1"].input.features.numpy())

    def test_a_layer_on_its_own(self, rng):
        (record,) = trace(nn.LeakyReLU(0.1), small_batch(rng))
        assert (record.index, record.name) == (1, "leaky_relu")

    def test_a_layer_used_twice_comes_twice(self, rng):
        layer = nn.SubmanifoldConv(2, 2, 3, dimension=2, rng=0)
        seen = trace(nn.Sequential(layer, nn.LeakyReLU(), layer), small_batch(rng))
        assert [record.name for record in seen] == ["0", "1", "2"]
        assert seen[0].layer is seen[2].layer and seen.to_dict()["total"]["parameters"] == layer.parameter_count()

    def test_several_outputs_have_a_record_each(self, rng):
        class Split(nn.Module):
            def forward(self, x):
                return {"sum": x.sum(axis=0), "mean": (x.mean(axis=0), x)}

        class Both(nn.Module):
            def __init__(self):
                self.split = Split()

            def forward(self, x):
                parts = self.split(x)
                return parts["sum"], parts["mean"][0]

        x = sn.Tensor(rng.standard_normal((4, 3)))
        assert [record.name for record in trace(Both(), x)] == ["split[0]", "split[1]", "split[2]"]

    def test_networks_of_plain_tensors(self, rng):
        net = nn.Sequential(nn.Linear(3, 4, rng=0), nn.LeakyReLU(), nn.Linear(4, 2, rng=1))
        seen = trace(net, sn.Tensor(rng.standard_normal((5, 3)).astype("f4")))
        assert [record.multiply_adds for record in seen] == [5 * 3 * 4, 0, 5 * 4 * 2]
        assert all(record.sites is record.pairs is record.spatial_size is None for record in seen)

    def test_dropout_acts_as_the_mode_says(self, rng):
        net = nn.Sequential(nn.Dropout(0.5, rng=0))
        x = small_batch(rng)
        assert (trace(net, x)[0].features == 0).any()
        assert trace(net.eval(), x)[0].features is x.features.array

    def test_nothing_is_watched_afterwards_even_after_an_error(self, rng):
        class Fails(nn.Module):
            def forward(self, x):
                raise ArithmeticError("on purpose")

        net, x = small_network(), small_batch(rng)
        with pytest.raises(ArithmeticError):
            trace(nn.Sequential(net, Fails()), x)
        seen = trace(net, x)
        net(x)
        assert len(seen.records) == 6

    def test_what_can_not_be_traced(self, rng):
        with pytest.raises(TypeError, match="trace: net is function, expected a Module"):
            trace(lambda x: x, small_batch(rng))
        with pytest.raises(ValueError, match="repeats is -1"):
            trace(small_network(), small_batch(rng), repeats=-1)

    def test_records_by_name_place_and_slice(self, rng):
        seen = trace(small_network(), small_batch(rng))
        assert seen["max_pool1"] is seen[2] and seen[1:3] == list(seen.records[1:3])
        with pytest.raises(KeyError, match="no layer 'max_pool2', expected one of convolution1, "):
            seen["max_pool2"]


class TestNumbers:
    def test_work_of_the_paper_s_network(self):
        cube = np.argwhere(np.ones((3, 3, 3))) + 60
        x = sn.SparseTensor(np.ones((27, 1), "f4"), np.insert(cube, 0, 0, axis=1), (126,) * 3, 1)
        total = trace(sn.s3dcnn(), x).to_dict()["total"]
        assert round(total["dense_multiply_adds"] / 1e9, 2) == 5.65  # as the paper's Table 1
        assert total["parameters"] == 574_368

    def test_times_are_of_each_layer_alone(self, rng):
        seen = trace(nn.Sequential(Residual(2), nn.SparseMaxPool((2, 2))), small_batch(rng))
        again = trace(nn.Sequential(Residual(2), nn.SparseMaxPool((2, 2))), small_batch(rng), repeats=3)
        for record in (*seen, *again):
            assert 0 < record.seconds < 60

    def test_statistics_against_numpy(self, rng):
        seen = trace(small_network(), small_batch(rng))
        for record in seen:
            numbers = statistics(record)
            x = record.features.astype("f8")
            expected = {"mean": x.mean(), "std": x.std(), "minimum": x.min(), "maximum": x.max()}
            assert {name: numbers[name] for name in expected} == pytest.approx(expected)
            assert (numbers["index"], numbers["name"]) == (record.index, record.name)
        first = statistics(seen[0])
        neighbours = seen[0].rulebook.neighbours
        assert first["pairs"] == (neighbours >= 0).sum() and first["rulebook_bytes"] == neighbours.nbytes
        assert first["feature_bytes"] == seen[0].features.nbytes + 4 * 4
        assert first["multiply_adds"] == first["pairs"] * 2 * 4
        assert first["dense_multiply_adds"] == 3 * 8 * 8 * 4 * 2 * 4
        assert first["background_norm"] == pytest.approx(np.linalg.norm(first["background"]))

    def test_constant_channels_are_dead(self, rng):
        net = nn.Sequential(nn.SparseConv(2, 4, (2, 2), rng=0))
        weight = net[0].weight.array.copy()
        weight[:, :, 1:3] = 0
        net[0].weight.array = weight
        x = small_batch(rng)
        assert statistics(trace(net, x)[0])["dead_channels"] == 0.5

    def test_one_row_can_not_tell(self):
        x = sn.SparseTensor(np.ones((1, 2), "f4"), [[0, 1, 1]], FIELD, 1)
        assert statistics(trace(nn.LeakyReLU(), x)[0])["dead_channels"] is None

    def test_without_a_site_there_is_nothing_to_tell(self):
        x = sn.SparseTensor(np.zeros((0, 2), "f4"), np.zeros((0, 3), int), FIELD, 2)
        numbers = statistics(trace(small_network(), x)[0])
        assert numbers["mean"] is numbers["maximum"] is numbers["dead_channels"] is None
        assert numbers["sites"] == numbers["pairs"] == numbers["multiply_adds"] == 0

    def test_gradients_come_with_the_backward_pass(self, rng):
        net, labels = small_network(), np.array([0, 2, 1])
        seen = trace(net, small_batch(rng))
        assert statistics(seen[0])["gradient_norm"] is None
        sn.ops.softmax_cross_entropy(seen.output, labels).backward()
        probabilities = np.exp(seen.output.numpy())
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(seen[-1].gradient, (probabilities - np.eye(3)[labels]) / 3, atol=1e-6)
        for record in seen:
            assert record.gradient.shape == record.features.shape
            assert statistics(record)["gradient_norm"] == pytest.approx(np.linalg.norm(record.gradient), rel=1e-5)
        own = np.sqrt(sum((p.grad**2).sum() for p in seen[0].layer.parameters()))
        assert statistics(seen[0])["parameter_gradient_norm"] == pytest.approx(own, rel=1e-5)

    def test_after_repeats_too(self, rng):
        seen = trace(small_network(), small_batch(rng), repeats=1)
        seen.output.sum().backward()
        assert seen[0].gradient is not None


class TestTables:
    def test_two_aligned_tables_of_work_and_values(self, rng):
        seen = trace(small_network(), small_batch(rng))
        before = str(seen)
        assert repr(seen) == before
        work, values = (block.splitlines() for block in before.split("\n\n"))
        kept = work.pop()
        assert kept.startswith("kept for a step: ") and len(work) == 2 + 1 + 6 + 2 and len(values) == 2 + 6
        for heading in ("sites", "active %", "pairs", "mult-adds", "if dense", "features KB", "saved KB", "rulebook KB",
                        "ms"):
            assert heading in work[0]
        end = work[0].index("sites") + len("sites")
        assert [line[:end].split()[-1] for line in work[2:7]] == [
            f"{len(record.sites)}" for record in (SimpleNamespace(sites=seen.input.sites), *seen[:4])]
        assert work[-1].split()[:4] == ["total", "batch", "of", "3"]
        seen.output.sum().backward()
        assert "|gradient|" in values[0] and str(seen) != before

    def test_large_numbers_are_in_millions(self, rng):
        x = sn.SparseTensor.from_dense(rng.standard_normal((1, 8, 12, 12)).astype("f4"))
        words = str(trace(nn.Sequential(nn.SparseConv(8, 256, (3, 3), rng=0)), x))
        assert "M mult-adds" in words and f"{100 * 9 * 8 * 256 / 1e6:.2f}" in words

    def test_work_that_is_not_known_shows_as_such(self, rng):
        class Scale(nn.Module):
            def __init__(self):
                self.factor = sn.nn.Parameter(np.ones(2, np.float32))

            def forward(self, x):
                return x.with_features(x.features * self.factor, x.background)

        assert " ? " in str(trace(Scale(), small_batch(rng)))

    def test_a_dict_that_json_can_hold(self, rng):
        seen = trace(small_network(), small_batch(rng))
        seen.output.sum().backward()
        found = json.loads(json.dumps(seen.to_dict()))
        assert found["input"]["sites"] == 20 and found["input"]["spatial_size"] == [9, 9]
        assert [layer["name"] for layer in found["layers"]] == [record.name for record in seen]
        assert found["total"]["multiply_adds"] == sum(layer["multiply_adds"] for layer in found["layers"])

    def test_csv_has_a_line_a_layer(self, rng, tmp_path):
        seen = trace(small_network(), small_batch(rng))
        text = seen.to_csv(tmp_path / "trace.csv")
        assert (tmp_path / "trace.csv").read_text() == text
        rows = list(csv.DictReader(io.StringIO(text)))
        assert [row["name"] for row in rows] == [record.name for record in seen]
        assert rows[0]["spatial_size"] == "8x8" and rows[-1]["spatial_size"] == "" and "background" not in rows[0]
        assert float(rows[0]["mean"]) == statistics(seen[0])["mean"]
