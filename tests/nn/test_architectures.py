"""s3dcnn: the numbers of the paper's Table 1, and its smaller relatives."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
import reference

import sparsenet as sn


def sphere(field, radius):
    """(n, 4) int32: the voxels of a sphere's surface in the middle of a grid."""
    axes = np.indices((field,) * 3) - (field - 1) / 2
    shell = np.abs(np.sqrt((axes**2).sum(axis=0)) - radius) < 0.6
    return np.insert(np.argwhere(shell), 0, 0, axis=1).astype(np.int32)


class TestTable1:
    def test_sizes(self):
        sizes = sn.s3dcnn().spatial_sizes()
        assert [size[0] for size in sizes] == [126, 125, 62, 61, 30, 29, 14, 13, 6, 5, 2, 1]
        assert all(len(set(size)) == 1 for size in sizes)

    def test_layers_and_channels(self):
        net = sn.s3dcnn()
        level = ["convolution", "leaky_relu", "max_pool"]
        assert [layer.kind for layer in net.layers] == level * 5 + level[:2] + ["global_pool"]
        convolutions = [layer for layer in net.layers if layer.kind == "convolution"]
        assert [layer.out_channels for layer in convolutions] == [32, 64, 96, 128, 160, 192]
        assert [layer.in_channels * 8 for layer in convolutions] == [8, 256, 512, 768, 1024, 1280]
        assert {layer.negative_slope for layer in net.layers if layer.kind == "leaky_relu"} == {0.33}

    def test_weights(self):
        assert sn.s3dcnn().parameter_count() == 574_368
        assert sn.s3dcnn(40).parameter_count() == 574_368 + 192 * 40 + 40

    def test_multiply_adds_of_the_dense_grid(self):
        net = sn.s3dcnn()
        cells = [size[0] ** 3 for size in net.spatial_sizes()][1::2]
        convolutions = [layer for layer in net.layers if layer.kind == "convolution"]
        total = sum(n * layer.weight.size for n, layer in zip(cells, convolutions, strict=True))
        assert total == pytest.approx(5.65e9, rel=0.01)

    def test_first_weights(self):
        net = sn.s3dcnn(40)
        channels = [1, 32, 64, 96, 128, 160, 192]
        convolutions = [layer for layer in net.layers if layer.kind == "convolution"]
        for i, layer in enumerate(convolutions):
            bound = sqrt(6 / (8 * channels[i] + channels[i + 1] * (4 / 9 if i < 5 else 4)))
            assert 0.98 * bound < np.abs(layer.weight.array).max() <= bound
            assert layer.weight.array.std() == pytest.approx(bound / sqrt(3), rel=0.05)
            assert not layer.bias.array.any()
        bound = sqrt(6 / (192 + 40))
        assert 0.98 * bound < np.abs(net.layers[-1].weight.array).max() <= bound

    def test_a_sphere_gives_a_descriptor_or_logits(self):
        coordinates = sphere(126, 19.5)
        x = sn.SparseTensor(np.ones((len(coordinates), 1), np.float32), coordinates, (126,) * 3, 2)
        net = sn.s3dcnn()
        descriptor = net(x).numpy()
        assert descriptor.shape == (2, 192) and np.isfinite(descriptor).all()
        layer17 = net.run(x, 0, 17)
        assert layer17.spatial_size == (1, 1, 1)
        np.testing.assert_array_equal(layer17.to_dense().numpy()[:, :, 0, 0, 0], descriptor)
        assert sn.s3dcnn(40)(x).shape == (2, 40)


def test_the_seed_gives_the_weights_and_classes_leave_the_others_alone():
    one, same, other, classes = sn.s3dcnn(seed=3), sn.s3dcnn(seed=3), sn.s3dcnn(seed=4), sn.s3dcnn(40, seed=3)
    for name, array in one.get_weights().items():
        np.testing.assert_array_equal(array, same.get_weights()[name])
        np.testing.assert_array_equal(array, classes.get_weights()[name])
    assert not np.array_equal(one.layers[0].weight.array, other.layers[0].weight.array)
    assert len({layer.weight.array.flat[0] for layer in one.layers if hasattr(layer, "weight")}) == 6


@pytest.mark.parametrize(("levels", "field"), [(0, 2), (1, 6), (2, 14), (3, 30), (4, 62), (5, 126)])
def test_the_number_of_channels_sets_the_field(levels, field):
    net = sn.s3dcnn(channels=(4,) * (levels + 1), dimension=2)
    assert net.field == (field, field)
    assert net.spatial_sizes()[-1] == (1, 1)
    assert len(net.layers) == 3 * levels + 3


@pytest.mark.parametrize("size", [125, 127, 64, 30])
def test_an_input_of_another_size_is_told_the_field_that_fits(size, rng):
    x = sn.SparseTensor(np.ones((4, 1), np.float32), reference.random_coordinates(rng, 4, (size,) * 3, 1), (size,) * 3,
                        1)
    with pytest.raises(ValueError, match=rf"spatial size is \({size}, {size}, {size}\), expected \(126, 126, 126\)"):
        sn.s3dcnn()(x)


def test_no_channels_is_refused():
    with pytest.raises(ValueError, match=r"s3dcnn: channels is \(\), expected a sequence"):
        sn.s3dcnn(channels=())
