#!/usr/bin/env python3
"""Lesson 4: a kernel, unit-tested against its dense reference.

    python examples/kernel_against_reference.py --out pictures
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import sparsenet as sn
from sparsenet.kernels import launch
from sparsenet.sparse import ActiveSites, Geometry
from sparsenet.wording import aligned

ALLOWED = {"float32": 1e-5, "float64": 1e-13}  # rounding error relative to the largest value


# 1. The reference is the definition, written as plainly as possible: no sites, no rulebook, float64.
#    out[m] = sum_k W[k]^T x[m * stride + k]
def dense_convolution(grid: np.ndarray, weight: np.ndarray, geometry: Geometry) -> np.ndarray:
    """grid (C_in, X, Y, Z), weight (K, C_in, C_out) -> (C_out, X', Y', Z')."""
    size = geometry.output_size(grid.shape[1:])
    out = np.zeros((weight.shape[2], *size))
    for k, offset in enumerate(geometry.kernel_offsets):
        axes = zip(offset, size, geometry.stride, strict=True)
        window = grid[(slice(None), *(slice(o, o + (n - 1) * s + 1, s) for o, n, s in axes))]
        out += np.einsum("cxyz,cd->dxyz", window, weight[k])
    return out


# 2. A case: sites, features and weights, through the kernel and through the reference.
def case(count: int, c_in: int, c_out: int, geometry: Geometry, dtype: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    cells = np.stack(np.unravel_index(rng.choice(9**3, count, replace=False), (9, 9, 9)), axis=1)
    sites = ActiveSites(np.insert(cells, 0, 0, axis=1), (9, 9, 9), batch_size=1)
    features = rng.standard_normal((count, c_in)).astype(dtype)
    weight = rng.standard_normal((geometry.volume, c_in, c_out)).astype(dtype)
    rulebook = sites.rulebook(geometry)

    # Kernels are found by name; the arrays determine the backend.  `launch` checks names, dtypes and shapes.
    found = launch("convolution_forward", features, weight, rulebook, None)

    grid = np.zeros((c_in, 9, 9, 9))
    grid[(slice(None), *sites.coordinates[:, 1:].T)] = features.T
    expected = dense_convolution(grid, weight.astype(np.float64), geometry)
    return found, expected[(slice(None), *rulebook.output_sites.coordinates[:, 1:].T)].T


def main(out: Path) -> None:
    # 3. Cases that find bugs: random, empty, one site, every cell, odd channels, strides, both dtypes.
    plain, strided = Geometry.make(3, 2), Geometry.make(3, 3, stride=2)
    cases = {"random": (80, 4, 6, plain), "no site": (0, 4, 6, plain), "one site": (1, 4, 6, plain),
             "every cell": (729, 4, 6, plain), "odd channels": (80, 3, 7, plain), "one channel": (80, 1, 1, plain),
             "3^3, stride 2": (80, 4, 6, strided)}
    rows = [("case", "dtype", "output sites", "largest difference", "allowed", "")]
    for name, (count, c_in, c_out, geometry) in cases.items():
        for dtype, allowed in ALLOWED.items():
            found, expected = case(count, c_in, c_out, geometry, dtype, seed=len(rows))
            assert found.shape == expected.shape and found.dtype == dtype
            scale = np.abs(expected).max(initial=0) or 1
            error = np.abs(found - expected).max(initial=0) / scale
            rows.append((name, dtype, f"{len(found)}", f"{error:.1e}", f"{allowed:.0e}", "ok"))
            assert error <= allowed, rows[-1]
    print(aligned(rows, left=(0, 1, 5)))

    # 4. Determinism: the same bits for any number of threads.
    before, bits = sn.get_num_threads(), set()
    for threads in (1, 2, 5):
        sn.set_num_threads(threads)
        bits.add(case(729, 16, 32, plain, "float32", seed=0)[0].tobytes())
    sn.set_num_threads(before)
    assert len(bits) == 1
    print("\n1, 2 and 5 threads give the same bits")

    # 5. Wrong arguments are refused before anything runs, and the message says what to do.
    sites = ActiveSites([[0, 0, 0, 0], [0, 1, 2, 3]], (9, 9, 9), batch_size=1)
    try:
        launch("convolution_forward", np.ones((2, 4)), np.ones((8, 3, 6)), sites.rulebook(plain), None)
    except ValueError as error:
        print(f"a wrong shape is refused: {error}")

    # 6. A figure shows what a number hides: where do kernel and reference differ, if they do?
    found, expected = case(6, 4, 6, plain, "float32", seed=1)
    figure = Figure(figsize=(9, 4), layout="constrained")
    limit = np.abs(expected).max()
    panels = (("kernel", found, limit), ("reference", expected, limit), ("difference", found - expected, None))
    for axes, (title, values, limit) in zip(figure.subplots(1, 3), panels, strict=True):
        limit = limit or np.abs(values).max()
        image = axes.imshow(values, aspect="auto", cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
        axes.set(title=title, xlabel="output channel", ylabel="output site")
        figure.colorbar(image, ax=axes, label="value")
    sn.inspect.save_figure(figure, out / "kernel.png")
    print(f"Picture: {out / 'kernel.png'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder for the pictures (default: a new temporary one)")
    folder = parser.parse_args().out or Path(tempfile.mkdtemp(prefix="sparsenet-"))
    folder.mkdir(parents=True, exist_ok=True)
    main(folder)
