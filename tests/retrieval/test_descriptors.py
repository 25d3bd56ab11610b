"""Embedding a dataset, and the file of descriptors."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from sparsenet import s3dcnn
from sparsenet.data import SparseDataset
from sparsenet.data.sample import Sample
from sparsenet.files import seal
from sparsenet.retrieval import Descriptors, embed
from sparsenet.retrieval.embedding import descriptor_layer


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


def test_a_layer_with_several_cells_is_averaged_over_all_of_them(net, dataset):
    vectors = embed(net, dataset, layer=2)
    output = net.eval().run(next(dataset.batches(5, field=14)), 0, 2)
    dense = output.to_dense().numpy()
    np.testing.assert_allclose(vectors, dense.mean(axis=(2, 3, 4)), rtol=1e-4, atol=1e-6)


def test_the_last_layer_may_be_the_logits(net, dataset):
    assert embed(net, dataset, layer=len(net.layers)).shape == (5, 3)


def test_mean_of_the_poses(net, dataset):
    mean = embed(net, dataset, poses="mean", batch_size=4)
    single = np.stack([embed(net, dataset.select(np.arange(pose, 15, 3))) for pose in range(3)])
    assert np.array_equal(embed(net, dataset), single[0])
    np.testing.assert_allclose(mean, single.mean(axis=0), rtol=1e-5, atol=1e-7)


def test_workers_batch_size_and_company_change_no_bit(net, dataset):
    one = embed(net, dataset, batch_size=2)
    assert np.array_equal(one, embed(net, dataset, batch_size=2, workers=2))
    for poses in ("first", "mean"):
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
    ({"poses": "all"}, "poses is 'all', repetitions 1: expected one of first, mean"),
    ({"repetitions": 0}, "repetitions 0"),
])
def test_options_that_do_not_fit_are_named(net, dataset, options, message):
    with pytest.raises(ValueError, match=message):
        embed(net, dataset, **options)


def test_an_empty_dataset_is_refused(net, dataset):
    with pytest.raises(ValueError, match="the dataset is empty"):
        embed(net, dataset.select([]))


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


def test_what_is_saved_is_what_is_loaded(tmp_path):
    saved = some()
    saved.save(tmp_path / "d.h5")
    loaded = Descriptors.load(tmp_path / "d.h5")
    assert loaded.vectors.dtype == np.float32 and np.array_equal(loaded.vectors, saved.vectors)
    assert loaded.labels.tolist() == [0, 1, -1, 1]
    assert loaded.names.tolist() == ["a", "b", "ç", ""]
    assert (loaded.classes, loaded.checkpoint) == (["cup", "bed"], "beef")
    assert loaded.label_names() == ["cup", "bed", "?", "bed"]


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
    ({"vectors": np.full((4, 3), np.nan)}, "vectors have NaN"),
])
def test_contents_that_do_not_fit_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        some(**changes)


def test_files_of_another_kind_or_version_are_refused(tmp_path, dataset):
    with pytest.raises(ValueError, match="its format is 'sparsenet-voxels', expected 'sparsenet-descriptors'"):
        Descriptors.load(dataset.path)
    some().save(tmp_path / "d.h5")
    with h5py.File(tmp_path / "d.h5", "a") as file:
        del file["names"]
    with pytest.raises(ValueError, match="d.h5: cut short or damaged .its sha256"):
        Descriptors.load(tmp_path / "d.h5")
    seal(tmp_path / "d.h5")
    with pytest.raises(ValueError, match="d.h5: damaged .names is missing"):
        Descriptors.load(tmp_path / "d.h5")
    with h5py.File(tmp_path / "d.h5", "a") as file:
        file.attrs["version"] = 9
    seal(tmp_path / "d.h5")
    with pytest.raises(ValueError, match="version 9, this package reads up to 1"):
        Descriptors.load(tmp_path / "d.h5")
