#!/usr/bin/env python3
"""Lesson 1: a sparse convolution by hand, on a 5x5 grid, against the dense loop.

    python examples/convolution_by_hand.py --out pictures
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

import sparsenet as sn


def main(out: Path) -> None:
    # A 5x5 grid with four active cells.  Rows of coordinates are [batch, x, y].
    coordinates = np.array([[0, 1, 1], [0, 1, 2], [0, 3, 1], [0, 4, 4]])
    features = np.array([[1], [2], [3], [4]], np.float32)
    x = sn.SparseTensor(features, coordinates, spatial_size=(5, 5), batch_size=1)
    print("The input, x to the right, y upwards; a dot is an inactive cell:\n" + drawn(x))

    # A filter of 2x2 weights: K = 4 offsets, one channel in, one out.  Weights are (K, C_in, C_out),
    # the offsets row-major with the last axis fastest: (0,0), (0,1), (1,0), (1,1).
    layer = sn.nn.SparseConv(1, 1, kernel_size=(2, 2), bias=False)
    layer.weight.array = np.array([1, 10, 100, 1000], np.float32).reshape(4, 1, 1)

    # 1. The dense loop: every output cell and every offset, mostly multiplying by zero.
    grid = np.zeros((5, 5), np.float32)
    grid[tuple(coordinates[:, 1:].T)] = features[:, 0]
    dense, products = np.zeros((4, 4), np.float32), 0
    for place in np.ndindex(4, 4):
        for k, offset in enumerate(layer.geometry.kernel_offsets):
            dense[place] += layer.weight.array[k, 0, 0] * grid[place[0] + offset[0], place[1] + offset[1]]
            products += 1
    print(f"\nThe dense loop takes {products} multiplications.")

    # 2. The sparse loop: the rulebook says which input site meets which weight for which output site.
    #    An output site is active if at least one offset hits an active cell.
    rulebook = x.sites.rulebook(layer.geometry)
    by_hand = np.zeros((len(rulebook.output_sites), 1), np.float32)
    products = 0
    for m, row in enumerate(rulebook.neighbours):  # (M, K): the input row under offset k, or -1
        for k, n in enumerate(row):
            if n >= 0:
                by_hand[m] += x.features.array[n] @ layer.weight.array[k]
                products += 1
    print(f"The rulebook has {products} pairs, one multiplication each:")
    for k, offset in enumerate(layer.geometry.kernel_offsets):
        pairs = rulebook.pairs[rulebook.pair_splits[k] : rulebook.pair_splits[k + 1]]
        words = ", ".join(f"{n} -> {m}" for n, m in pairs.tolist())
        weight = f"weight {layer.weight.array[k, 0, 0]:4g}"
        print(f"  offset {k} {tuple(offset.tolist())}, {weight}: input row -> output row {words}")

    # 3. The layer does the same, and equals the dense loop in every cell, active or not.
    y = layer(x)
    print("\nThe output (each digit shows which offset met which site):\n" + drawn(y))
    assert np.array_equal(y.features.numpy(), by_hand)
    assert np.array_equal(y.to_dense().numpy()[0, 0], dense)
    print("\nThe layer, the loop over the rulebook and the dense loop agree in all 16 cells.")

    sn.inspect.save_figure(sn.inspect.rulebook(x, layer.geometry, output=1), out / "rulebook.png")
    sn.inspect.save_figure(sn.inspect.sparse_tensor(y, channel=0), out / "output.png")
    print(f"Pictures: {out / 'rulebook.png'}, {out / 'output.png'}")


def drawn(x: sn.SparseTensor) -> str:
    """The grid as text, y upwards."""
    cells = {tuple(cell): f"{value:g}" for cell, value in zip(x.coordinates[:, 1:].tolist(), x.features.array[:, 0],
                                                              strict=True)}
    width, height = x.spatial_size
    return "\n".join("  " + " ".join(f"{cells.get((a, b), '.'):>5}" for a in range(width)) for b in range(height)[::-1])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder for the pictures (default: a new temporary one)")
    folder = parser.parse_args().out or Path(tempfile.mkdtemp(prefix="sparsenet-"))
    folder.mkdir(parents=True, exist_ok=True)
    main(folder)
