"""Labels of sites from a network: for a tensor, a batch and a dataset."""

from __future__ import annotations

import numpy as np
import pytest
import reference

import sparsenet as sn
from sparsenet import nn
from sparsenet.data import Sample, SparseDataset

SIDES = (8, 8, 8)


@pytest.fixture
def net():
    return sn.unet(3, seed=1, channels=(4, 6))


@pytest.fixture
def shapes(tmp_path, rng):
    """Five samples of four objects, one without a cell."""
    samples = [Sample(reference.random_coordinates(rng, count, SIDES, 1)[:, 1:], 0, str(number), object=number // 2,
                      pose=number % 2) for number, count in enumerate((30, 12, 0, 40, 5))]
    with SparseDataset.create(tmp_path / "x.h5", samples, SIDES, 8, ["a"]) as dataset:
        yield dataset


def test_of_a_tensor_in_the_order_of_its_sites(net, rng):
    cells = rng.permutation(reference.random_coordinates(rng, 50, SIDES, 2))
    x = sn.SparseTensor(np.ones((50, 1), np.float32), cells, SIDES, 2)
    labels = net.predict_sites(x)
    assert net.training, "its mode is restored"
    logits = net.eval()(x).features.numpy()
    np.testing.assert_array_equal(labels, logits.argmax(axis=1))
    np.testing.assert_array_equal(net.predict_sites(x, output="raw"), logits)
    chances = net.predict_sites(x, output="probabilities")
    assert chances.dtype == np.float32 and chances.shape == (50, 3)
    np.testing.assert_allclose(chances.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(chances.argmax(axis=1), labels)
    other = sn.SparseTensor(np.ones((50, 1), np.float32), cells[::-1], SIDES, 2)
    np.testing.assert_array_equal(x.in_given_order(labels), other.in_given_order(net.predict_sites(other))[::-1])


@pytest.mark.parametrize("workers", [0, 2])
def test_of_a_dataset_for_each_sample(net, shapes, workers):
    found = net.predict_sites(shapes, batch_size=2, workers=workers)
    assert [len(labels) for labels in found] == [len(sample) for sample in shapes] and len(found) == 5
    for index, labels in enumerate(found):
        sample = shapes[index]
        x = sn.SparseTensor(sample.features, np.insert(sample.coordinates, 0, 0, axis=1), SIDES, 1)
        np.testing.assert_array_equal(labels, net.predict_sites(x))
        np.testing.assert_array_equal(x.coordinates[:, 1:], sample.coordinates)
    wide = net.predict_sites(shapes, output="probabilities", field=12)
    assert [one.shape for one in wide] == [(len(sample), 3) for sample in shapes]


def test_of_a_batch_and_without_a_site(net, shapes):
    (batch,) = shapes.batches(5, poses="all")
    np.testing.assert_array_equal(net.predict_sites(batch), np.concatenate(net.predict_sites(shapes)))
    (empty,) = shapes.select([2]).batches(1)
    assert net.predict_sites(empty).shape == (0,) and net.predict_sites(empty, output="probabilities").shape == (0, 3)
    assert net.predict_sites(shapes.select([])) == []


def test_what_cannot_be_predicted_is_refused(net, shapes):
    (batch,) = shapes.batches(5)
    with pytest.raises(ValueError, match="predict_sites: output is 'rows', expected one of 'labels', 'probabilities'"):
        net.predict_sites(batch, output="rows")
    with pytest.raises(TypeError, match="predict_sites: got list, expected a SparseDataset, SparseBatch or SparseT"):
        net.predict_sites([1])
    with pytest.raises(TypeError, match="predict_sites: workers given with a single batch"):
        net.predict_sites(batch, workers=1)
    with pytest.raises(TypeError, match="predict_sites: augment given, expected at most field, workers, device: the"):
        net.predict_sites(shapes, augment=None)
    with pytest.raises(ValueError, match=r"cells of sample \d \('\d'\) lie outside the field \(4, 4, 4\)"):
        net.predict_sites(shapes, field=4)
    rows = sn.SparseNetwork().add_submanifold(3, 3).add_linear(2)
    with pytest.raises(ValueError, match="the network gives one row per sample, expected a row for each of the"):
        rows.predict_sites(batch)
    with pytest.raises(ValueError, match=r"the network gives SparseTensor\(.*: end it with layers that keep these or"):
        sn.SparseNetwork().add_convolution(3, 3, padding=1).predict_sites(batch)
    net.layers[-1].bias = nn.Parameter(np.full(3, np.nan, np.float32))
    with pytest.raises(ValueError, match="predict_sites: the network gives NaN or infinite numbers"):
        net.predict_sites(batch)
