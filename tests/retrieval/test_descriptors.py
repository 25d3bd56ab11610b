"""Embedding a dataset, and the file of descriptors."""

from __future__ import annotations

import copy
import pickle

import h5py
import numpy as np
import pytest

import sparsenet as sn
from sparsenet import s3dcnn
from sparsenet.data import SparseDataset
from sparsenet.data.sample import Sample
from sparsenet.files import seal
from sparsenet.retrieval import Descriptors, embed
from sparsenet.retrieval.embedding import descriptor_layer, logit_adjustment


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Five objects with three poses each in a grid of 12; the last object is empty."""
    rng = np.random.default_rng(0)
    samples = []
    for number in range(5):
        for pose in range(3):
            cells = np.unique(rng.integers(0, 12, (0 if number == 4 else 60, 3)), axis=0)
            samples.append(Sample(cells, number % 2, f"shape{number}", "test", number, pose))
    path = tmp_path_factory.mktemp("data") / "data.h5"
    return SparseDataset.create(path, samples, (12, 12, 12), 12, ["cup", "bed"])


@pytest.fixture
def net():
    return s3dcnn(3, channels=(4, 5, 6), seed=1)  # field 14


def test_a_row_for_each_object_from_the_layer_before_the_classifier(net, dataset):
    vectors = embed(net, dataset, batch_size=2)
    assert vectors.shape == (5, 6) and vectors.dtype == np.float32
    batch = next(dataset.batches(5, field=14))
    expected = net.eval().run(batch, 0, descriptor_layer(net) + 1).numpy()
    np.testing.assert_allclose(vectors, expected, rtol=1e-5, atol=1e-7)


def test_a_network_in_float64_embeds_and_predicts_what_a_loader_gives_in_float32(net, dataset):
    expected, probabilities = embed(net, dataset), net.predict(dataset)
    net.to(dtype="float64")
    np.testing.assert_allclose(embed(net, dataset), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(net.predict(dataset), probabilities, rtol=1e-4, atol=1e-6)


def test_descriptor_layer_is_17_in_the_papers_network():
    assert descriptor_layer(s3dcnn(40)) == descriptor_layer(s3dcnn()) == 17


def test_descriptor_layer_is_the_last_that_is_no_classifier():
    net = sn.SparseNetwork().add_convolution(2, 2).add_leaky_relu()
    assert descriptor_layer(net) == 2
    assert descriptor_layer(net.add_dropout()) == descriptor_layer(net.add_linear(3)) == 2
    for empty in (sn.SparseNetwork(), sn.SparseNetwork().add_linear(3)):
        with pytest.raises(ValueError, match="the network has no layer before its classifier"):
            descriptor_layer(empty)


def test_a_layer_with_several_cells_is_averaged_over_all_of_them(net, dataset):
    vectors = embed(net, dataset, layer=2)
    output = net.eval().run(next(dataset.batches(5, field=14)), 0, 2)
    dense = output.to_dense().numpy()
    np.testing.assert_allclose(vectors, dense.mean(axis=(2, 3, 4)), rtol=1e-4, atol=1e-6)


def test_the_first_layer_and_the_logits_may_be_embedded_too(net, dataset):
    assert embed(net, dataset, layer=1).shape == (5, 4)
    np.testing.assert_allclose(embed(net, dataset, layer=len(net.layers)), net.predict(dataset, output="raw"))


def test_mean_of_the_poses(net, dataset):
    mean = embed(net, dataset, poses="mean", batch_size=4)
    single = np.stack([embed(net, dataset.select(np.arange(pose, 15, 3))) for pose in range(3)])
    assert np.array_equal(embed(net, dataset), single[0])
    np.testing.assert_allclose(mean, single.mean(axis=0), rtol=1e-5, atol=1e-7)


def test_poses_by_number_and_the_greatest_over_poses_and_each_pose(net, dataset):
    single = np.stack([embed(net, dataset.select(np.arange(pose, 15, 3))) for pose in range(3)])
    np.testing.assert_allclose(embed(net, dataset, poses=[2, 0]), single[[0, 2]].mean(axis=0), rtol=1e-5, atol=1e-7)
    assert np.array_equal(embed(net, dataset, poses=(1,)), single[1])
    assert np.array_equal(embed(net, dataset, poses="max"), single.max(axis=0))
    assert np.array_equal(embed(net, dataset, poses="all"), single.transpose(1, 0, 2).reshape(15, -1))
    assert np.array_equal(net.predict(dataset, poses=[1]), net.predict(dataset.select(np.arange(1, 15, 3))))


def test_poses_by_number_are_those_of_each_object_in_any_order_of_the_samples(net, dataset):
    mixed = dataset.select([4, 14, 0, 13, 3, 5, 2, 12, 1])  # objects 1, 4, 0
    expected = np.stack([embed(net, dataset.select([3 * i, 3 * i + 2]), poses="mean")[0] for i in (1, 4, 0)])
    assert np.array_equal(embed(net, mixed, poses=[0, 2]), expected)
    assert mixed.object_labels.tolist() == [1, 0, 0]


def test_unit_descriptors_are_averaged_as_directions(net, dataset):
    single = np.stack([embed(net, dataset.select(np.arange(pose, 15, 3))) for pose in range(3)]).astype(np.float64)
    unit = single / np.maximum(np.linalg.norm(single, axis=2, keepdims=True), 1e-30)  # the empty shape's are zero
    np.testing.assert_allclose(embed(net, dataset, poses="mean", unit=True), unit.mean(axis=0), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(embed(net, dataset, unit=True), unit[0], rtol=1e-5, atol=1e-7)
    plain = embed(net, dataset, poses="mean")
    directions = [vectors[:4] / np.linalg.norm(vectors[:4], axis=1, keepdims=True)
                  for vectors in (plain, embed(net, dataset, poses="mean", unit=True))]
    assert not np.allclose(*directions, rtol=1e-3)
    layer = len(net.layers)
    net.layers[-1].weight.array[:] = 0
    net.layers[-1].bias.array[:] = 0
    assert not embed(net, dataset, layer=layer, unit=True).any()  # zero vectors stay


def test_the_class_posterior_is_the_softmax_averaged_over_poses(net, dataset):
    assert np.array_equal(embed(net, dataset, output="probabilities"), net.predict(dataset))
    logits = np.stack([net.predict(dataset.select(np.arange(pose, 15, 3)), output="raw") for pose in range(3)])
    shares = np.exp(logits.astype(np.float64))
    shares /= shares.sum(axis=2, keepdims=True)
    for poses, expected in (("mean", shares.mean(axis=0)), ("max", shares.max(axis=0))):
        np.testing.assert_allclose(embed(net, dataset, output="probabilities", poses=poses), expected, rtol=1e-5)
    batch = next(dataset.batches(5, field=14))
    np.testing.assert_allclose(embed(net, batch, output="probabilities"), net.predict(batch), rtol=1e-6)


def test_logit_adjustment_takes_the_share_of_each_class_out_of_the_posterior(net, dataset):
    counts, tau = np.array([10, 30, 60]), 0.7
    offsets = logit_adjustment(counts, tau)
    np.testing.assert_allclose(offsets, -tau * np.log([0.1, 0.3, 0.6]), rtol=1e-12)
    probabilities = embed(net, dataset, output="probabilities").astype(np.float64)
    expected = probabilities * (counts / 100) ** -tau
    expected /= expected.sum(axis=1, keepdims=True)
    found = embed(net, dataset, output="probabilities", logit_offsets=offsets)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    found = embed(net, dataset, output="probabilities", logit_offsets=logit_adjustment([7, 7, 7], 1.0))
    np.testing.assert_allclose(found, probabilities, rtol=1e-5)
    with pytest.raises(ValueError, match="expected at least 1 for each class"):
        logit_adjustment([3, 0, 1], 1.0)


def test_workers_batch_size_and_company_change_no_bit(net, dataset):
    one = embed(net, dataset, batch_size=2)
    assert np.array_equal(one, embed(net, dataset, batch_size=2, workers=2))
    for poses in ("first", "mean", "max", [2, 1], "all"):
        whole, probabilities = embed(net, dataset, poses=poses), net.predict(dataset, poses=poses)
        for size in (1, 2, 5):
            assert np.array_equal(embed(net, dataset, batch_size=size, poses=poses), whole)
            assert np.array_equal(net.predict(dataset, batch_size=size, poses=poses), probabilities)
        parts = [embed(net, dataset.select(np.arange(3 * first, 3 * last)), poses=poses)
                 for first, last in ((0, 1), (1, 4), (4, 5))]
        assert np.array_equal(np.concatenate(parts), whole)


def test_each_module_is_put_back_into_its_mode_and_no_gradient_is_left(net, dataset):
    net.train()
    net.layers[0].eval()
    embed(net, dataset)
    assert [layer.training for layer in net.layers] == [False] + [True] * (len(net.layers) - 1)
    assert all(parameter.grad is None for parameter in net.parameters())
    with pytest.raises(ValueError, match="layer is 99"):
        embed(net, dataset, layer=99)
    assert net.layers[1].training


@pytest.mark.parametrize(("options", "message"), [
    ({"layer": 0}, "layer is 0, expected 1 to "),
    ({"layer": 11}, "layer is 11, expected 1 to 10: convolution1, "),
    ({"poses": "last"}, "poses is 'last', expected one of first, mean, max, all, or a list of pose numbers"),
    ({"poses": []}, r"poses is \[\], expected one of first, .*, or distinct pose numbers such as"),
    ({"poses": [0, 0]}, r"poses is \[0, 0\], expected .* distinct pose numbers"),
    ({"poses": [-1]}, r"poses is \[-1\], expected"), ({"poses": 2}, "poses is 2, expected"),
    ({"poses": [0, 7]}, "the object 'shape0' has no pose 7, only 0, 1, 2"),
    ({"repetitions": 0}, "repetitions is 0"),
    ({"output": "logits"}, "output is 'logits', expected one of descriptor, probabilities"),
    ({"output": "probabilities", "layer": 3}, "leave out layer and unit"),
    ({"output": "probabilities", "unit": True}, "leave out layer and unit"),
    ({"output": "probabilities", "logit_offsets": [0.0, 1]}, r"logit_offsets have shape \(2,\), expected \(3,\)"),
    ({"logit_offsets": [0.0, 1, 2]}, "logit_offsets are for output='probabilities'"),
])
def test_options_that_do_not_fit_are_named(net, dataset, options, message):
    with pytest.raises(ValueError, match=message):
        embed(net, dataset, **options)


def test_an_empty_dataset_is_refused(net, dataset):
    with pytest.raises(ValueError, match="the dataset is empty"):
        embed(net, dataset.select([]))
    assert net.predict(dataset.select([])).shape == net.predict(dataset.select([]), poses="mean").shape == (0, 3)


# ---- a single batch ----


def test_a_batch_is_embedded_and_predicted_as_it_is(net, dataset):
    batch = next(dataset.batches(5, field=14))
    for x in (batch, batch.input):
        np.testing.assert_allclose(embed(net, x), embed(net, dataset), rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(net.predict(x), net.predict(dataset), rtol=1e-5, atol=1e-7)
        assert embed(net, x).dtype == net.predict(x).dtype == np.float32
        assert embed(net, x, layer=2).shape == (5, 4)
    np.testing.assert_allclose(net.predict(batch).sum(axis=1), 1, rtol=1e-6)
    assert net.training


def test_a_batch_without_a_site_has_a_row_for_each_sample(net):
    x = sn.SparseTensor(np.empty((0, 1), np.float32), np.empty((0, 4), np.int32), (14, 14, 14), 3)
    assert net.predict(x).shape == (3, 3) and embed(net, x).shape == (3, 6)


@pytest.mark.parametrize("ask", [lambda net, x, **options: net.predict(x, **options), embed])
def test_what_is_no_dataset_or_batch_is_refused(net, dataset, ask):
    x = next(dataset.batches(2, field=14))
    with pytest.raises(TypeError, match="got ndarray, expected a SparseDataset, SparseBatch or SparseTensor"):
        ask(net, np.zeros((1, 1, 14, 14, 14), np.float32))
    with pytest.raises(TypeError, match="seed, repetitions given with a single batch, expected a SparseDataset"):
        ask(net, x, repetitions=2, seed=5)


@pytest.mark.parametrize("ask", [lambda net, x, **options: net.predict(x, **options), embed])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_name_the_first_shape(net, dataset, ask, bad, monkeypatch):
    run = type(net).run

    def broken(self, x, *places):
        result = run(self, x, *places)
        value = result if isinstance(result, sn.Tensor) else result.features
        value.array[3:] = bad
        return result

    monkeypatch.setattr(type(net), "run", broken)
    with pytest.raises(ValueError, match=r"NaN or infinite numbers for . of 5 shapes, first for shape 3 \('shape3'\)"):
        ask(net, dataset, batch_size=5)
    with pytest.raises(ValueError, match="of 5 shapes, first for shape 3: has the training diverged"):
        ask(net, next(dataset.batches(5, field=14)))


# ---- the file ----


def some(**changes):
    values = {"vectors": np.random.default_rng(0).normal(size=(4, 3)), "labels": [0, 1, -1, 1],
              "names": ["a", "b", "ç", ""], "classes": ["cup", "bed"], "checkpoint": "beef"}
    return Descriptors(**{**values, **changes})


def test_descriptors_of_a_dataset_carry_labels_names_and_digest(net, dataset):
    descriptors = Descriptors.of(net, dataset, "1234", batch_size=3)
    assert len(descriptors) == 5
    assert np.array_equal(descriptors.vectors, embed(net, dataset, batch_size=3))
    assert descriptors.names.tolist() == [f"shape{i}" for i in range(5)]
    assert descriptors.label_names() == ["cup", "bed", "cup", "bed", "cup"]
    assert descriptors.checkpoint == "1234"


def test_each_pose_may_be_an_item_and_probabilities_say_so(net, dataset, tmp_path):
    each = Descriptors.of(net, dataset, poses="all")
    assert each.names.tolist() == [f"shape{i}" for i in range(5) for _ in range(3)]
    assert each.samples.tolist() == list(range(15)) and np.array_equal(each.labels, dataset.labels)
    posterior = Descriptors.of(net, dataset, output="probabilities", poses="mean")
    assert (posterior.output, posterior.layer, each.output) == ("probabilities", 0, "descriptor")
    posterior.save(tmp_path / "d.h5")
    assert Descriptors.load(tmp_path / "d.h5").output == "probabilities"
    with pytest.raises(ValueError, match="output is 'logits', expected one of descriptor, probabilities"):
        some(output="logits")


def test_what_is_saved_is_what_is_loaded(tmp_path):
    saved = some()
    saved.save(tmp_path / "d.h5")
    loaded = Descriptors.load(tmp_path / "d.h5")
    assert loaded.vectors.dtype == np.float32 and np.array_equal(loaded.vectors, saved.vectors)
    assert loaded.labels.tolist() == [0, 1, -1, 1]
    assert loaded.names.tolist() == ["a", "b", "ç", ""]
    assert (loaded.classes, loaded.checkpoint) == (["cup", "bed"], "beef")
    assert loaded.label_names() == ["cup", "bed", "?", "bed"]


def test_the_up_axis_is_kept_and_z_in_files_that_do_not_tell_it(tmp_path):
    some(up_axis="y").save(tmp_path / "d.h5")
    assert Descriptors.load(tmp_path / "d.h5").up_axis == "y"
    with h5py.File(tmp_path / "d.h5", "a") as file:
        del file.attrs["up_axis"]
    seal(tmp_path / "d.h5")
    assert Descriptors.load(tmp_path / "d.h5").up_axis == "z"


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    some().save(tmp_path / "d.h5")
    before = (tmp_path / "d.h5").read_bytes()

    def fail(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(h5py.File, "create_dataset", fail)
    with pytest.raises(KeyboardInterrupt):
        some(checkpoint="other").save(tmp_path / "d.h5")
    assert (tmp_path / "d.h5").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["d.h5"]


@pytest.mark.parametrize(("changes", "message"), [
    ({"labels": [0]}, r"labels have shape \(1,\), expected \(4,\)"),
    ({"names": ["a"]}, r"names have shape \(1,\), expected \(4,\)"),
    ({"labels": [0, 1, 2, 0]}, "labels go from 0 to 2, expected -1 to 1"),
    ({"labels": [0, 1, -2, 0]}, "labels go from -2 to 1, expected -1 to 1"),
    ({"classes": [], "labels": [0, 0, 0, 0]}, "labels go from 0 to 0, expected -1 to -1"),
    ({"vectors": np.full((4, 3), np.nan)}, "vectors have NaN, .* 4 of 4 rows, first in row 0"),
    ({"vectors": np.diag([1.0, -np.inf, 1.0, 1.0])}, "vectors have NaN, infinite .* 1 of 4 rows, first in row 1"),
])
def test_contents_that_do_not_fit_are_named(changes, message):
    with pytest.raises((ValueError, TypeError), match=message):
        some(**changes)


def test_no_shapes_at_all_are_descriptors_too():
    empty = Descriptors(np.empty((0, 3)), [], [])
    assert len(empty) == 0 and empty.label_names() == [] and empty.labels.dtype == np.int64


def test_what_is_not_known_has_a_default():
    descriptors = Descriptors(np.eye(3), [-1, -1, -1], ["a", "b", "c"])
    assert descriptors.samples.tolist() == [0, 1, 2] and (descriptors.render_size, descriptors.fill) == (40, False)
    assert (descriptors.checkpoint, descriptors.layer, descriptors.dataset, descriptors.classes) == ("", 0, "", [])


def test_the_index_is_built_once_for_each_metric():
    descriptors = some()
    index = descriptors.index("l2")
    assert descriptors.index("l2") is index and descriptors.index() is not index
    assert (index.metric, descriptors.index().metric) == ("l2", "cosine")
    with pytest.raises(ValueError, match="Descriptors.index: metric is 'dot', expected one of cosine, l2"):
        descriptors.index("dot")


def test_the_index_follows_the_vectors():
    descriptors = some()
    descriptors.index("l2")
    descriptors.vectors[0] = [7, 8, 9]
    assert np.array_equal(descriptors.index("l2").vectors, descriptors.vectors)
    descriptors.vectors = np.ones((4, 5), np.float32)
    assert descriptors.index("l2").vectors.shape == (4, 5)
    descriptors.vectors[3, 1] = np.nan
    with pytest.raises(ValueError, match="NaN, .* first in row 3"):
        descriptors.index("l2")


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_a_copy_holds_the_same_before_and_after_use(copied):
    descriptors = some()
    fresh = copied(descriptors)
    index = descriptors.index()
    size = len(pickle.dumps(descriptors))
    for other in (fresh, copied(descriptors)):
        assert np.array_equal(other.vectors, descriptors.vectors) and other.label_names() == descriptors.label_names()
        assert other.index() is not index and len(pickle.dumps(other)) == size


@pytest.mark.parametrize(("changes", "error", "message"), [
    ({"vectors": np.diag([1.0, 1.0, -4e38, 1.0])}, ValueError, "exceed float32 in 1 of 4 rows, first in row 2"),
    ({"labels": [0.5, 1, 1, 1]}, TypeError, "labels have dtype float64, expected integers"),
    ({"labels": [True, False, True, True]}, TypeError, "labels have dtype bool, expected integers"),
    ({"labels": np.array([0, 1, 1, 2**64 - 1], np.uint64)}, ValueError, "labels go to 18446744073709551615"),
    ({"samples": [0.0, 1, 2, 3]}, TypeError, "samples have dtype float64, expected integers"),
    ({"vectors": np.array([[1.0], [2], [1e60], [3]])}, ValueError, "exceed float32 in 1 of 4 rows, first in"),
])
def test_values_that_would_be_changed_silently_are_refused(changes, error, message):
    with pytest.raises(error, match=message):
        some(**changes)


def changed(path, key, value):
    some().save(path)
    with h5py.File(path, "a") as file:
        if key.startswith("@"):
            file.attrs[key[1:]] = value
        else:
            del file[key]
            file[key] = value
    seal(path)


@pytest.mark.parametrize(("key", "value", "message"), [
    ("vectors", np.array([[1.0], [np.nan], [1], [1]]), "vectors have NaN.* in 1 of 4 rows, first in row 1"),
    ("vectors", np.array([[1.0], [1], [np.inf], [1]]), "vectors have NaN, infinite.* first in row 2"),
    ("vectors", ["a", "b"], "vectors is object .2,., expected 2 axes and a dtype of kind 'fiu'"),
    ("vectors", np.ones(4), "vectors is float64 .4,., expected 2 axes"),
    ("labels", np.zeros(4), "labels is float64 .4,."), ("labels", [0, 1, 7, 1], "labels go from 0 to 7"),
    ("labels", [0, 1], r"labels have shape \(2,\)"), ("names", [1, 2, 3, 4], "names is int64"),
    ("classes", "cup", "classes is str"), ("samples", np.zeros((4, 1), int), "samples is int64 .4, 1."),
    ("@layer", 1.5, "layer is 1.5, expected a whole number"), ("@fill", "no", "fill is 'no', expected true or false"),
    ("@dataset", 3, "dataset is 3, expected a text"), ("@render_size", [4], "render_size is array.*expected a whole"),
])
def test_wrong_contents_of_a_file_are_one_line_with_file_and_key(tmp_path, key, value, message):
    changed(tmp_path / "d.h5", key, value)
    with pytest.raises(ValueError, match=f"^[^\n]*d.h5: [^\n]*{message}[^\n]*$"):
        Descriptors.load(tmp_path / "d.h5")


def test_files_of_another_kind_or_version_are_refused(tmp_path, dataset):
    with pytest.raises(ValueError, match="its format is 'sparsenet-voxels', expected 'sparsenet-descriptors'"):
        Descriptors.load(dataset.path)
    some().save(tmp_path / "d.h5")
    with h5py.File(tmp_path / "d.h5", "a") as file:
        del file["names"]
    with pytest.raises(ValueError, match="d.h5: truncated or damaged .its sha256"):
        Descriptors.load(tmp_path / "d.h5")
    seal(tmp_path / "d.h5")
    with pytest.raises(ValueError, match="d.h5: damaged .names is missing"):
        Descriptors.load(tmp_path / "d.h5")
    with h5py.File(tmp_path / "d.h5", "a") as file:
        file.attrs["version"] = 9
    seal(tmp_path / "d.h5")
    with pytest.raises(ValueError, match="version 9, this package reads up to 1"):
        Descriptors.load(tmp_path / "d.h5")
