"""SparseNetwork: building, running from and to any layer, looking inside, changing, saving."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import reference

import sparsenet as sn
from sparsenet import nn
from sparsenet.nn.weights_file import write_weights
from sparsenet.sparse import ConvolutionStep, Geometry

FIELD = (14, 14)


def small_network(num_classes=3, seed=1):
    net = sn.SparseNetwork(dimension=2, in_channels=2, seed=seed, field=14)
    net.add_convolution(4, 2).add_leaky_relu(0.33).add_max_pool(3, 2)
    net.add_convolution(5, 2, stride=1).add_leaky_relu(0.33)
    return net.add_linear(num_classes)


def small_batch(rng, field=FIELD, batch_size=3, channels=2):
    coordinates = reference.random_coordinates(rng, 20, field, batch_size, empty=(1,))
    return sn.SparseTensor(rng.standard_normal((20, channels)).astype("f4"), coordinates, field, batch_size)


NAMES = ["convolution1", "leaky_relu1", "max_pool1", "convolution2", "leaky_relu2", "global_pool1", "linear1"]


class TestBuilding:
    def test_layers_follow_each_other_s_channels_and_are_named_by_kind(self):
        net = small_network()
        assert net.names() == NAMES
        assert [name for name, _ in net.named_parameters()] == [
            "convolution1.weight", "convolution1.bias", "convolution2.weight", "convolution2.bias", "linear1.weight",
            "linear1.bias"]
        assert net.layers[3].weight.shape == (4, 4, 5) and net.layers[6].weight.shape == (5, 3)
        assert net.out_channels == 3

    def test_add_linear_pools_a_sparse_output_first_and_only_then(self):
        net = small_network().add_leaky_relu().add_linear(2)
        assert net.names()[5:] == ["global_pool1", "linear1", "leaky_relu3", "linear2"]
        own = sn.SparseNetwork().add_global_pool("max").add_linear(2)
        assert [layer.kind for layer in own.layers] == ["global_pool", "linear"]

    def test_other_layers(self):
        net = sn.SparseNetwork(dimension=2).add_submanifold(3, 3).add_dropout(0.25).add(nn.ToDense())
        assert net.names() == ["submanifold1", "dropout1", "to_dense1"]
        assert net.layers[1].p == 0.25

    @pytest.mark.parametrize("method", ["add_convolution", "add_max_pool", "add_submanifold", "add_average_pool",
                                        "add_sum_pool", "add_upsample", "add_depth_images"])
    def test_a_sparse_layer_after_a_dense_one_is_refused(self, method):
        net = small_network()
        with pytest.raises(ValueError, match=f"{method}: the network gives a plain Tensor by now"):
            getattr(net, method)(*((3, 3) if method in ("add_convolution", "add_submanifold") else (3,)))

    def test_a_linear_layer_on_the_sites(self, rng):
        net = sn.SparseNetwork(2, 2, seed=3).add_linear(4, on_sites=True).add_relu().add_linear(3)
        assert net.names() == ["linear1", "relu1", "global_pool1", "linear2"] and net.out_channels == 3
        x = small_batch(rng)
        records = net.activations(x)
        assert records[0].output.sites is x.sites
        assert records[0].multiply_adds == len(x) * 8 and records[3].multiply_adds == 3 * 12
        assert records[0].dense_multiply_adds == 3 * 14 * 14 * 8
        same = sn.SparseNetwork(2, 2, seed=3).add_linear(4, on_sites=True)
        np.testing.assert_array_equal(same.layers[0].weight.array, net.layers[0].weight.array)

    def test_what_is_no_module_is_refused(self):
        with pytest.raises(TypeError, match="SparseNetwork: layer 0 is function, expected a Module"):
            sn.SparseNetwork().add(lambda x: x)

    def test_first_weights_fit_the_pooling_that_follows(self):
        def largest(build):
            net = build(sn.SparseNetwork(in_channels=8, seed=4))
            return np.abs(net.layers[0].weight.array).max()

        last = largest(lambda net: net.add_convolution(32, 2).add_leaky_relu())
        pooled = largest(lambda net: net.add_convolution(32, 2).add_leaky_relu().add_max_pool(3, 2))
        assert last == pytest.approx(np.sqrt(6 / (8 * 8 + 32 * 4)), rel=0.01)
        assert pooled / last == pytest.approx(np.sqrt((64 + 32 * 4) / (64 + 32 * 4 / 9)), rel=1e-6)

        averaged = largest(lambda net: net.add_convolution(32, 2).add_leaky_relu().add_average_pool(3, 2))
        later = largest(lambda net: net.add_convolution(32, 2).add_average_pool(3, 2).add_max_pool(2))
        assert averaged == later == last

    def test_weights_that_were_set_stay_when_a_pooling_is_added(self):
        net = sn.SparseNetwork().add_convolution(2, 2)
        net.set_weights({"convolution1.weight": np.ones((8, 1, 2), np.float32)})
        net.add_max_pool(3, 2)
        assert (net.layers[0].weight.array == 1).all()

    def test_the_seed_gives_the_weights(self):
        one, same, other = (small_network(seed=seed).get_weights() for seed in (1, 1, 2))
        for name in one:
            np.testing.assert_array_equal(one[name], same[name])
        assert not np.array_equal(one["convolution1.weight"], other["convolution1.weight"])


class TestRunning:
    def test_a_batch_is_as_good_as_its_input(self, rng):
        net, x = small_network(), small_batch(rng)
        logits = net(SimpleNamespace(input=x))
        assert logits.shape == (3, 3)
        np.testing.assert_array_equal(logits.numpy(), net(x).numpy())

    def test_stopping_and_going_on_at_any_layer(self, rng):
        net, x = small_network(), small_batch(rng)
        expected = net(x).numpy()
        for place in range(8):
            np.testing.assert_array_equal(net.run(net.run(x, 0, place), place).numpy(), expected)

    def test_edited_activations_run_on(self, rng):
        net, x = small_network(), small_batch(rng)
        record = net.activations(x)[2]
        silenced = record.features.copy()
        silenced[:, 1] = record.background[1]
        edited = record.output.with_features(sn.Tensor(silenced), record.output.background)
        changed = net.run(edited, start=record.index).numpy()
        assert not np.array_equal(changed[0], net(x).numpy()[0])
        np.testing.assert_array_equal(changed[1], net(x).numpy()[1])  # the empty sample has no site to edit

    def test_layers_that_there_are_not(self, rng):
        net = small_network()
        for start, stop in ((0, 8), (-1, 2), (3, 2)):
            with pytest.raises(ValueError, match=f"asked for layers {start} to {stop}, there are 7: convolution1"):
                net.run(small_batch(rng), start, stop)

    def test_an_input_that_does_not_fit_is_refused_with_the_field_that_does(self, rng):
        net = small_network()
        with pytest.raises(ValueError, match=r"SparseNetwork: the input's spatial size is \(15, 15\), expected "
                                             r"\(14, 14\): .*field=\(14, 14\)"):
            net(small_batch(rng, (15, 15)))
        with pytest.raises(ValueError, match="the input has 2 dimensions and 1 channels, expected 2 and 2"):
            net(small_batch(rng, channels=1))
        with pytest.raises(TypeError, match="the input is ndarray, expected a SparseBatch or SparseTensor"):
            net(np.zeros((3, 2, 14, 14)))

    def test_a_batch_is_converted_to_what_the_network_computes_with_a_tensor_is_not(self, rng):
        net, x = small_network().to(dtype="float64"), small_batch(rng)
        assert np.array_equal(net(SimpleNamespace(input=x)).array, net(x.astype("float64")).array)
        with pytest.raises(TypeError, match="features are float32, the weights float64: convert one of them"):
            net(x)

    def test_gradients_of_the_whole_network(self, rng):
        net = small_network().to(dtype="float64")
        for parameter in net.parameters():
            parameter.array = rng.standard_normal(parameter.shape)
        x = small_batch(rng)
        x = x.with_features(sn.Tensor(x.features.array.astype("f8"), requires_grad=True),
                            sn.Tensor(np.array([0.2, -0.1]), requires_grad=True))
        assert sn.gradcheck(net, [x], parameters=dict(net.named_parameters()))


class TestLooking:
    def test_one_record_per_layer_of_what_it_read_and_gave(self, rng):
        net, x = small_network(), small_batch(rng)
        records = net.activations(x)
        assert [record.name for record in records] == NAMES
        assert [record.index for record in records] == [1, 2, 3, 4, 5, 6, 7]
        assert [record.spatial_size for record in records] == [(13, 13)] * 2 + [(6, 6)] + [(5, 5)] * 2 + [None] * 2
        assert records[0].input is x and records[3].input is records[2].output and records[3].layer is net.layers[3]
        for record in records[:5]:
            assert record.features.shape == (len(record.sites), record.output.channels)
            assert record.background.shape == (record.output.channels,)
            assert record.active_fraction == len(record.sites) / (3 * np.prod(record.spatial_size))
        assert records[6].sites is records[6].background is records[6].active_fraction is None
        assert records[6].coordinates is records[6].spatial_size is records[6].rulebook is records[6].pairs is None
        np.testing.assert_array_equal(records[6].features, net(x).numpy())

    def test_records_hold_plain_arrays_beside_the_graph(self, rng):
        record = small_network().activations(small_batch(rng))[2]
        for array in (record.features, record.background, record.coordinates):
            assert type(array) is np.ndarray
        assert record.features is record.output.features.array
        assert record.coordinates.shape == (len(record.sites), 3) and record.coordinates.dtype == np.int32

    def test_multiply_adds_count_pairs(self, rng):
        net, x = small_network(), small_batch(rng)
        records = net.activations(x)
        pairs = x.sites.rulebook(net.layers[0].geometry).pair_count
        assert records[0].multiply_adds == pairs * 2 * 4
        assert records[1].multiply_adds == records[2].multiply_adds == 0
        assert records[6].multiply_adds == 3 * 5 * 3

    def test_dense_multiply_adds_count_all_offsets_at_all_cells(self, rng):
        records = small_network().activations(small_batch(rng))
        assert [record.dense_multiply_adds for record in records] == [
            3 * 13 * 13 * 4 * 2 * 4, 0, 0, 3 * 5 * 5 * 4 * 4 * 5, 0, 0, 3 * 5 * 3]

    def test_the_work_of_a_layer_of_unknown_kind_is_not_guessed(self, rng):
        class Scale(nn.Module):
            def __init__(self):
                self.factor = nn.Parameter(np.ones(2, np.float32))

            def forward(self, x):
                return x.with_features(x.features * self.factor, x.background)

        net, x = sn.SparseNetwork(2, 2).add(Scale()).add_convolution(3, 2), small_batch(rng)
        assert [record.multiply_adds for record in net.activations(x)][0] is None
        assert "scale1" in net.summary(x)

    def test_after_a_backward_pass_there_are_gradients(self, rng):
        net = small_network()
        records = net.activations(small_batch(rng))
        assert all(record.gradient is None for record in records)
        records[-1].output.sum().backward()
        assert [record.gradient.shape for record in records] == [record.features.shape for record in records]
        assert (records[-1].gradient == 1).all()

    def test_no_graph_no_gradients(self, rng):
        net = small_network()
        with sn.no_grad():
            records = net.activations(small_batch(rng))
        assert not records[-1].output.requires_grad and records[0].gradient is None

    def test_summary_is_an_aligned_table(self, rng):
        net, x = small_network(), small_batch(rng)
        lines = net.summary(x).splitlines()
        assert len(lines) == 1 + 1 + 8 + 1 + 1
        assert lines[0].split()[:2] == ["layer", "settings"] and lines[0].endswith("weights")
        end = lines[0].index("spatial size") + len("spatial size")
        assert [line[:end].split()[-1] for line in lines[2:8]] == ["14x14", "13x13", "13x13", "6x6", "5x5", "5x5"]
        assert lines[3].split()[:4] == ["1", "convolution1", "2", "->"] and lines[3].endswith(" 36")
        assert lines[-1].split()[0] == "total" and lines[-1].endswith(f" {net.parameter_count()}")
        assert max(map(len, lines)) <= 140

    def test_summary_draws_no_random_numbers(self, rng):
        net = sn.SparseNetwork(2, 2).add_dropout(0.5).add_convolution(2, 2)
        state = net.layers[0].rng.bit_generator.state
        net.summary(small_batch(rng))
        after = net.layers[0].rng.bit_generator.state
        assert after["state"]["counter"].tolist() == state["state"]["counter"].tolist()
        assert all(module.training for module in net.modules())

    def test_geometries_in_the_order_of_use(self):
        net = small_network()
        assert net.geometries() == [ConvolutionStep(Geometry.make(2, 2), (2, 4)), Geometry.make(2, 3, 2),
                                    ConvolutionStep(Geometry.make(2, 2), (4, 5))]
        assert net.spatial_sizes() == [(14, 14), (13, 13), (6, 6), (5, 5)]
        assert net.spatial_sizes(field=16)[-1] == (6, 6)
        assert net.field_for((1, 2)) == (6, 8)

    def test_field_for_takes_padding_and_dilation_back(self):
        net = sn.SparseNetwork(2).add_convolution(2, 3, stride=2, padding=1, dilation=2).add_max_pool(2)
        field = net.field_for(3)
        assert net.spatial_sizes(field)[-1] == (3, 3)
        assert net.spatial_sizes(tuple(n - 1 for n in field))[-1] == (2, 2)


class TestChanging:
    def test_layers_can_be_inserted_replaced_removed_and_cut(self, rng):
        net, x = small_network(), small_batch(rng)
        net.layers.insert(2, nn.Dropout(0.5))
        net.layers[5] = nn.LeakyReLU(0.1)
        assert net.names() == NAMES[:2] + ["dropout1"] + NAMES[2:]
        assert net(x).shape == (3, 3)
        del net.layers[2]
        del net.layers[5:]
        assert net(x).spatial_size == (5, 5)
        net.add_global_pool("max").add_linear(4)
        assert net(x).shape == (3, 4)

    def test_a_child_of_a_subclass_is_found_beside_the_layers(self):
        class Headed(sn.SparseNetwork):
            def __init__(self):
                super().__init__()
                self.head = nn.Linear(3, 2)

        net = Headed().add_convolution(3, 2)
        assert list(net.state_dict()) == ["convolution1.weight", "convolution1.bias", "head.weight", "head.bias"]


class TestWeights:
    def test_set_some_by_name(self):
        net = small_network()
        before = net.get_weights()
        net.set_weights({"linear1.bias": np.arange(3.0)})
        after = net.get_weights()
        assert after.pop("linear1.bias").tolist() == [0, 1, 2]
        for name, array in after.items():
            np.testing.assert_array_equal(array, before[name])
        with pytest.raises(ValueError, match="unexpected: linear2.bias"):
            net.set_weights({"linear2.bias": np.arange(3.0)})

    def test_file_round_trip(self, tmp_path, rng):
        net, other, x = small_network(), small_network(seed=9), small_batch(rng)
        path = tmp_path / "weights.h5"
        net.save_weights(path)
        other.load_weights(path)
        np.testing.assert_array_equal(net(x).numpy(), other(x).numpy())
        assert [p.name for p in tmp_path.iterdir()] == ["weights.h5"]

    def test_a_file_of_another_network_says_what_does_not_fit(self, tmp_path):
        small_network().save_weights(tmp_path / "weights.h5")
        with pytest.raises(ValueError, match=r"shape of linear1.weight is \(5, 3\), expected \(5, 7\)"):
            small_network(num_classes=7).load_weights(tmp_path / "weights.h5")

    def test_files_that_hold_no_weights(self, tmp_path):
        import h5py

        net = small_network()
        with pytest.raises(FileNotFoundError, match="load_weights: .*: no such file"):
            net.load_weights(tmp_path / "absent.h5")
        (tmp_path / "text.h5").write_text("not HDF5")
        with pytest.raises(ValueError, match="load_weights: .*text.h5: not an HDF5 file"):
            net.load_weights(tmp_path / "text.h5")
        with h5py.File(tmp_path / "other.h5", "w") as file:
            file.attrs["format"] = "sparsenet-voxels"
        with pytest.raises(ValueError, match="its format is 'sparsenet-voxels', expected 'sparsenet-weights'"):
            net.load_weights(tmp_path / "other.h5")

    def test_a_write_that_fails_leaves_the_old_file(self, tmp_path):
        net = small_network()
        net.save_weights(tmp_path / "weights.h5")
        with pytest.raises((TypeError, ValueError)):
            write_weights(tmp_path / "weights.h5", {"bad": "text"})
        net.load_weights(tmp_path / "weights.h5")
        assert len(list(tmp_path.iterdir())) == 1


class StandInDataset:
    """Two objects of two poses and one of one; an epoch shifts the features a little, as augmentation does."""

    object_samples = [np.array([0, 1]), np.array([2, 4]), np.array([3])]

    def __init__(self, rng):
        self.grids = [small_batch(rng, batch_size=2) for _ in range(5)]
        self.asked = []

    def batches(self, batch_size, poses, epoch, field, geometries, **options):
        self.asked.append({"batch_size": batch_size, "field": field, "geometries": geometries, **options})
        order = [samples[0] for samples in self.object_samples] if poses == "first" else range(5)
        for i in order:
            x = self.grids[i]
            x = x.with_features(sn.Tensor(x.features.array * np.float32(1 + epoch)), x.background)
            yield SimpleNamespace(input=first_sample(x))


def first_sample(x):
    rows = slice(0, int(x.sites.batch_splits[1]))
    return sn.SparseTensor(x.features.array[rows], x.coordinates[rows], x.spatial_size, 1)


class TestPredict:
    def softmax(self, logits):
        exponentials = np.exp(logits.astype(np.float64))
        return exponentials / exponentials.sum(axis=1, keepdims=True)

    def test_probabilities_of_each_object(self, rng):
        net, dataset = small_network(), StandInDataset(rng)
        found = net.predict(dataset, batch_size=7, workers=2)
        logits = np.concatenate([net(first_sample(dataset.grids[i])).numpy() for i in (0, 2, 3)])
        np.testing.assert_allclose(found, self.softmax(logits), rtol=1e-5)
        assert found.dtype == np.float32
        assert dataset.asked == [{"batch_size": 7, "field": FIELD, "geometries": net.geometries(), "workers": 2}]

    def test_average_over_repetitions_and_poses(self, rng):
        net, dataset = small_network(), StandInDataset(rng)
        raw = [np.concatenate([net(batch).numpy() for batch in dataset.batches(1, "all", epoch, None, ())])
               for epoch in range(3)]
        mean = np.mean(raw, axis=0)
        expected = np.stack([mean[[0, 1]].mean(axis=0), mean[[2, 4]].mean(axis=0), mean[3]])
        found = net.predict(dataset, repetitions=3, poses="mean", output="raw")
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
        probabilities = net.predict(dataset, repetitions=3, poses="mean")
        each = np.mean([self.softmax(logits) for logits in raw], axis=0)
        np.testing.assert_allclose(probabilities[2], each[3], rtol=1e-5)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)

    def test_runs_in_evaluation_mode_and_puts_the_mode_back(self, rng):
        net, dataset = small_network(), StandInDataset(rng)
        net.layers.insert(1, nn.Dropout(0.5))
        net.layers[3].eval()
        np.testing.assert_array_equal(net.predict(dataset), net.predict(dataset))
        assert [layer.training for layer in net.layers] == [True, True, True, False] + [True] * 4

    def test_refuses_what_it_can_not_do(self, rng):
        with pytest.raises(ValueError, match="predict: output is 'logit'"):
            small_network().predict(StandInDataset(rng), output="logit")
        net = small_network()
        del net.layers[5:]
        with pytest.raises(ValueError, match="predict: the network does not give one row per sample"):
            net.predict(StandInDataset(rng))
