"""SparseTensors and activations as pictures."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("matplotlib")

import sparsenet as sn
from sparsenet.inspect import activation_slices, activation_voxels, sparse_tensor, trace


def sparse(rng, size, channels=2, batch=2, background="zeros"):
    cells = rng.choice(batch * int(np.prod(size)), size=12, replace=False)
    coordinates = np.stack(np.unravel_index(cells, (batch, *size)), axis=1)
    return sn.SparseTensor(rng.standard_normal((12, channels)).astype("f4"), coordinates, size, batch, background)


def seen_network(rng, dimension=3, background="zeros"):
    net = sn.SparseNetwork(dimension, 2, seed=0).add_convolution(6, 2).add_max_pool(2).add_linear(2)
    net.layers[0].bias.array = np.arange(6, dtype="f4")
    return trace(net, sparse(rng, (7, 6, 5)[:dimension], background=background))


@pytest.mark.parametrize("size", [(30,), (9, 7), (6, 5, 4), (3, 4, 4, 4)])
def test_a_sparse_tensor_of_any_dimension(rng, size, readable):
    x = sparse(rng, size)
    figure = sparse_tensor(x, channel=1, samples=(0, 1) if len(size) < 4 else (0,))
    readable(figure)
    counts = np.diff(x.sites.batch_splits)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles[0].startswith(f"sample 0, grid {'x'.join(map(str, size))}\n{counts[0]} sites")


def test_flat_grids_show_values_in_their_cells(rng):
    x = sparse(rng, (9, 7))
    image = sparse_tensor(x, channel=0).axes[0].images[0].get_array()
    rows = x.coordinates[:, 0] == 0
    shown = np.asarray(image.filled(np.nan)).T
    np.testing.assert_array_equal(shown[tuple(x.coordinates[rows, 1:].T)], x.features.array[rows, 0])
    assert np.isfinite(shown).sum() == rows.sum()


def test_a_sample_without_sites(rng):
    x = sn.SparseTensor(np.ones((1, 1), "f4"), [[0, 1, 1, 1]], (4, 4, 4), 2)
    assert sparse_tensor(x, samples=(1,)).axes[0].texts[0].get_text() == "no voxels"


def test_layers_in_space_one_panel_each(rng, readable):
    seen = seen_network(rng)
    figure = activation_voxels(seen)
    readable(figure)
    titles = [axes.get_title().split("\n")[0] for axes in figure.axes if axes.get_title()]
    assert titles == ["1 convolution1", "2 max_pool1"]  # the others give plain Tensors


def test_gradients_in_space(rng):
    seen = seen_network(rng)
    with pytest.raises(ValueError, match="there are no gradients: first call .backward"):
        activation_voxels(seen, gradient=True)
    seen.output.sum().backward()
    bars = [axes.get_ylabel() for axes in activation_voxels(seen, channel=3, gradient=True).axes]
    assert "gradient, channel 3" in bars


@pytest.mark.parametrize(("dimension", "background"), [(2, "zeros"), (3, "zeros"), (3, None)])
def test_slices_show_sites_and_background(rng, readable, dimension, background):
    seen = seen_network(rng, dimension, background)
    figure = activation_slices(seen, channels=[1, 4])
    readable(figure)
    record, axes = seen[0], figure.axes[0]
    shown = np.ma.filled(axes.images[0].get_array(), np.nan).T
    left, right, bottom, top = (round(edge) for edge in axes.images[0].get_extent())
    place = axes.get_ylabel().removesuffix("\ny, cells").split("= ")
    grid = record.output.to_dense().numpy()[0, 1]
    if background is None:
        grid = np.where((record.output.to_dense().numpy()[0] != 0).any(axis=0), grid, np.nan)
    cut = grid if dimension == 2 else grid[:, :, int(place[1])]
    np.testing.assert_array_equal(shown, cut[left:right, bottom:top])


def test_slices_choose_the_channels_that_differ_most(rng):
    record = seen_network(rng, 2)[0]
    titles = [axes.get_title() for axes in activation_slices([record], channels=2).axes[:2]]
    liveliest = sorted(np.argsort(-record.features.std(axis=0))[:2])
    assert titles == [f"channel {channel}" for channel in liveliest]


def test_what_can_not_be_drawn(rng):
    seen, flat = seen_network(rng), seen_network(rng, 2)
    with pytest.raises(ValueError, match="channel is 9, expected 'norm' or 0 to 5"):
        activation_voxels(seen, channel=9)
    with pytest.raises(ValueError, match="sample is 2, expected 0 to 1"):
        sparse_tensor(seen.input, samples=(2,))
    with pytest.raises(ValueError, match="grids have 2 dimensions, expected 3: draw them with activation_slices"):
        activation_voxels(flat)
    with pytest.raises(ValueError, match="no record has sites"):
        activation_slices(seen[-1:])
    with pytest.raises(ValueError, match=r"channels are \[6\], convolution1 has 6"):
        activation_slices(seen[:1], channels=[6])
