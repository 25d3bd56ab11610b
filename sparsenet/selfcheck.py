"""The checks of `sparsenet selfcheck`: the package's promises on small examples, on each device.

It includes the dense network for comparison, as plain loops over kernel offsets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

import numpy as np

from sparsenet.autograd import Tensor
from sparsenet.backend import DEVICES, cupy
from sparsenet.gradcheck import gradcheck
from sparsenet.kernels import get_num_threads, set_num_threads
from sparsenet.nn import SparseNetwork
from sparsenet.sparse import SparseTensor

ALLOWED = 1e-4  # relative to the largest value, in float32
FIELD, BATCH, CHANNELS = (15, 16, 17), 3, 2


@dataclass(frozen=True)
class Finding:
    """One check on one device.

    passed : None if the check could not run
    words : description of the result
    """

    device: str
    passed: bool | None
    words: str

    def __str__(self) -> str:
        verdict = {True: "PASS", False: "FAIL", None: "skipped"}[self.passed]
        return f"{self.device:<5} {verdict:<8} {self.words}"


def selfcheck(say: Callable[[str], None] = print) -> bool:
    """Check each promise on each device and report line by line, with a verdict at the end.

    Returns False if a check failed.  A missing device is skipped, with the reason.
    """
    say("The first run compiles kernels: it may take a minute; later ones take seconds.")
    findings = []
    for finding in findings_of_all_devices():
        findings.append(finding)
        say(str(finding))
    failed = [finding for finding in findings if finding.passed is False]
    good = sorted({f.device for f in findings if f.passed} - {f.device for f in failed})
    if failed:
        devices = ", ".join(sorted({finding.device for finding in failed}))
        say(f"{len(failed)} of {len(findings)} checks failed, on {devices}: do not trust results from it; report this "
            "with the output of `sparsenet info`.")
    else:
        say(f"All checks passed on: {', '.join(good)}.")
    return not failed


def findings_of_all_devices() -> Iterator[Finding]:
    """Yield the finding of each check on each device."""
    for device in DEVICES:
        if device == "cuda" and (missing := _missing_gpu()):
            yield Finding(device, None, missing)
            continue
        for check in (dense_equals_sparse, gradients_are_right, same_bits, voxels_are_exact, models_are_whole):
            if check in (voxels_are_exact, models_are_whole) and device != "cpu":
                continue  # meshes are voxelized on the CPU
            try:
                yield Finding(device, *check(device))
            except RuntimeError as error:  # a kernel does not compile, memory is short, the driver fails
                yield Finding(device, False, f"{check.__name__.replace('_', ' ')}: {error}")


def dense_equals_sparse(device: str) -> tuple[bool, str]:
    """Compare every cell of the sparse network's output with loops over the dense grid."""
    net, x = _example(np.float32)
    expected = dense_forward(net, x.to_dense().numpy())
    found = net.to(device)(x.to(device)).to_dense().numpy()
    error = float(np.abs(found - expected).max() / np.abs(expected).max())
    return error <= ALLOWED, (f"the sparse network equals the dense one at all {found.size:,} values: "
                              f"largest difference {error:.1e} of the largest value, {ALLOWED:.0e} allowed")


def gradients_are_right(device: str) -> tuple[bool, str]:
    """Compare gradients of input, background and parameters with finite differences, in float64."""
    net, x = _example(np.float64)
    net, x = net.to(device), x.to(device)
    x.features.requires_grad = x.background.requires_grad = True
    try:
        gradcheck(net, [x], parameters=dict(net.named_parameters()))
    except AssertionError as error:
        return False, str(error)
    count = 2 + len(list(net.parameters()))
    return True, f"the gradients of {count} arrays (features, background, weights, biases) match finite differences"


def same_bits(device: str) -> tuple[bool, str]:
    """Compute values and gradients repeatedly; on the CPU with 1, 2 and 5 threads."""
    before = get_num_threads()
    counts = (1, 2, 5) if device == "cpu" else (before,) * 3
    try:
        runs = []
        for threads in counts:
            set_num_threads(threads)
            runs.append(_bits(device))
    finally:
        set_num_threads(before)
    how = "with 1, 2 and 5 threads" if device == "cpu" else "three times in a row"
    return len(set(runs)) == 1, f"values and gradients have the same bits {how}"


def voxels_are_exact(device: str) -> tuple[bool, str]:
    """A cube of n cells has n^3 cells when filled, and n^3 - (n-2)^3 on its surface."""
    from sparsenet.shapes import Mesh, Off3DPicture

    corners = np.array(list(product((0.0, 1.0), repeat=3)))
    squares = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = np.array([face for a, b, c, d in squares for face in ((a, b, c), (a, c, d))])
    cube = Off3DPicture(Mesh(corners, faces), render_size=8)
    surface, solid = (len(cube.voxelize(14, fill=fill).coordinates) for fill in (False, True))
    return (surface, solid) == (296, 512), (f"a cube of side 8 has {surface} voxels on its surface and {solid} when "
                                            "filled; 296 and 512 are correct")


def models_are_whole(device: str) -> tuple[bool, str]:
    """Recompute the descriptor that each model of the package states of a shape."""
    from sparsenet.models import check_models

    findings = check_models()
    worst = max((difference for _, difference in findings), default=0.0)
    names = ", ".join(name for name, _ in findings) or "none is installed"
    return worst <= ALLOWED, (f"the models give the descriptors that their files state ({names}): largest difference "
                              f"{worst:.1e} of the norm, {ALLOWED:.0e} allowed")


def _missing_gpu() -> str:
    try:
        cupy()
    except RuntimeError as error:
        return str(error)
    return ""


def _example(dtype: Any) -> tuple[SparseNetwork, SparseTensor]:
    """A network with every kind of exact sparse layer, and a batch with an empty sample."""
    rng = np.random.default_rng(0)
    net = SparseNetwork(3, CHANNELS, seed=0).add_convolution(5, 3, stride=2).add_leaky_relu(0.33)
    net.add_max_pool(3, 1).add_convolution(4, 2).to(dtype=dtype)
    for parameter in net.parameters():
        parameter.array = rng.standard_normal(parameter.shape).astype(dtype)
    cells = rng.choice(2 * prod(FIELD), size=60, replace=False)
    batch, *cell = np.unravel_index(cells, (2, *FIELD))
    coordinates = np.stack([2 * batch, *cell], axis=1)  # sample 1 has no site
    features = rng.standard_normal((len(cells), CHANNELS)).astype(dtype)
    background = rng.standard_normal(CHANNELS).astype(dtype)
    return net, SparseTensor(features, coordinates, FIELD, BATCH, background)


def _bits(device: str) -> bytes:
    net, x = _example(np.float32)
    net, x = net.to(device), x.to(device)
    x.features.requires_grad = True
    out = net(x).to_dense()
    (out * out).sum().backward()
    tensors = [Tensor(x.features.grad), *(Tensor(parameter.grad) for parameter in net.parameters()), out]
    return b"".join(tensor.numpy().tobytes() for tensor in tensors)


# ---- the dense network ----


def dense_forward(net: SparseNetwork, grid: np.ndarray) -> np.ndarray:
    """The layers of `_example`'s network on (B, C, X, Y, Z), in float64."""
    grid = grid.astype(np.float64)
    for layer in net.layers:
        if layer.kind == "leaky_relu":
            grid = np.where(grid > 0, grid, layer.negative_slope * grid)
            continue
        windows = _windows(grid, layer.geometry)
        if layer.kind == "max_pool":
            grid = np.max(list(windows), axis=0)
        else:
            weight, bias = layer.weight.numpy().astype(np.float64), layer.bias.numpy()
            grid = sum(np.einsum("bcxyz,cd->bdxyz", window, w) for window, w in zip(windows, weight, strict=True))
            grid = grid + bias[:, None, None, None]
    return grid


def _windows(grid: np.ndarray, geometry: Any) -> Iterator[np.ndarray]:
    """Yield, for each kernel offset, the cells that the outputs read there."""
    out = geometry.output_size(grid.shape[2:])
    for offset in geometry.kernel_offsets:
        axes = zip(offset, out, geometry.stride, strict=True)
        yield grid[(..., *(slice(k, k + (m - 1) * s + 1, s) for k, m, s in axes))]
