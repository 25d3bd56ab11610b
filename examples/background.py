#!/usr/bin/env python3
"""Lesson 2: the background, and why it makes a sparse network exact.

    python examples/background.py --out pictures
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import sparsenet as sn


def main(out: Path) -> None:
    # A ring of active cells on a 16x16 grid: 1 on the ring, 0 elsewhere.
    distance = np.hypot(*np.meshgrid(np.arange(16) - 7.5, np.arange(16) - 7.5, indexing="ij"))
    image = ((distance > 3.5) & (distance < 5)).astype(np.float32)[None, None]  # (B, C, X, Y)
    x = sn.SparseTensor.from_dense(image)
    print(f"The input: {x}\nIts background, the vector of every inactive cell: {x.background.numpy()}")

    # A layer with a bias changes the inactive cells too: a dense network computes 0 * W + b there.
    # This needs no sites: all inactive cells still hold the same vector, which the layer computes once
    # and passes on: the background.
    net = sn.SparseNetwork(dimension=2, in_channels=1, seed=7)
    net.add_convolution(2, 3).add_leaky_relu(0.1).add_max_pool(2).add_convolution(1, 2)
    net.layers[0].bias.array = np.array([0.3, -0.2], np.float32)
    net.layers[3].bias.array = np.array([0.1], np.float32)
    print("\nThe background after each layer:")
    for record in net.activations(x):
        sites = f"{len(record.sites):>3} sites of {record.spatial_size}"
        print(f"  {record.name:<14} {sites}, background {record.background}")

    # So the sparse network equals the dense one in every cell.
    dense = dense_network(net, image)
    sparse = net(x).to_dense().numpy()
    print(f"\nWith the background: largest difference from the dense network {np.abs(sparse - dense).max():.1e}")

    # Without a background (as in most sparse libraries) inactive cells are skipped, even their bias.  Windows
    # at the border of the shape then miss values that the dense network has.
    skipping = sn.SparseTensor(x.features, x.coordinates, x.spatial_size, 1, background=None)
    without = net(skipping).to_dense().numpy()
    print(f"Without a background: largest difference                    {np.abs(without - dense).max():.1e}")
    assert np.abs(sparse - dense).max() < 1e-5 < np.abs(without - dense).max()

    # In max-pooling the background competes: if all sites of a window are below it, it wins.
    pooled = net.activations(x)[2]
    won = (pooled.features == pooled.background).mean()
    print(f"Of all maxima over pooling windows with a site, {100 * won:.0f}% are the background.")

    # Figures: each layer, with inactive cells in the background's colour; then the output, and its error
    # without a background.
    sn.inspect.save_figure(sn.inspect.activation_slices(net.activations(x)[:3], channels=2), out / "layers.png")
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    limit = np.abs([sparse, without]).max()
    off = without - sparse
    panels = (("as dense", sparse, limit), ("no background", without, limit), ("difference", off, np.abs(off).max()))
    for axes, (title, grid, limit) in zip(figure.subplots(1, 3), panels, strict=True):
        image = axes.imshow(grid[0, 0].T, origin="lower", cmap="RdBu_r", vmin=-limit, vmax=limit)
        axes.set(title=title, xlabel="x, cells", ylabel="y, cells")
        figure.colorbar(image, ax=axes, label="output", shrink=0.8)
    sn.inspect.save_figure(figure, out / "difference.png")
    print(f"Pictures: {out / 'layers.png'}, {out / 'difference.png'}")


def dense_network(net: sn.SparseNetwork, grid: np.ndarray) -> np.ndarray:
    """The same layers on the whole grid (B, C, X, Y), as plain loops over the kernel offsets."""
    for layer in net.layers:
        if layer.kind == "leaky_relu":
            grid = np.where(grid > 0, grid, np.float32(layer.negative_slope) * grid)
            continue
        size, stride = layer.geometry.output_size(grid.shape[2:]), layer.geometry.stride
        windows = [grid[:, :, a : a + (size[0] - 1) * stride[0] + 1 : stride[0],
                        b : b + (size[1] - 1) * stride[1] + 1 : stride[1]] for a, b in layer.geometry.kernel_offsets]
        if layer.kind == "max_pool":
            grid = np.max(windows, axis=0)
        else:
            products = [np.einsum("bcxy,cd->bdxy", w, k) for w, k in zip(windows, layer.weight.array, strict=True)]
            grid = sum(products) + layer.bias.array[:, None, None]
    return grid


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder for the pictures (default: a new temporary one)")
    folder = parser.parse_args().out or Path(tempfile.mkdtemp(prefix="sparsenet-"))
    folder.mkdir(parents=True, exist_ok=True)
    main(folder)
