"""The parts of `smoke`: functions of a device name that return the largest error relative to the largest value; exact
comparisons return 0 if equal."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sparsenet import nn, ops
from sparsenet.autograd import Tensor
from sparsenet.backend import to_device
from sparsenet.data import SparseDataset
from sparsenet.data.convert import Conversion
from sparsenet.data.importers import import_parametric
from sparsenet.kernels import launch
from sparsenet.nn import s3dcnn
from sparsenet.optim import SGD, AdamW
from sparsenet.random import keyed_rng
from sparsenet.shapes import CLASSES, Augmentation, MeshBatch, parametric_mesh
from sparsenet.sparse import Geometry, SparseTensor

CHANNELS = (8, 12, 16, 24)  # channels of a small S3DCNN
SITES = 1500  # of its input
TIMES = 10  # number of repeated trainings that must have the same bits
_GEOMETRIES = (Geometry.make(3, 2), Geometry.make(3, 3, 2), Geometry.make_submanifold(3, 3))


@dataclass(frozen=True)
class Layer:
    """A layer and its test input.

    multiplies : whether it is also tested in each tensor-core precision
    """

    make: Callable[[], nn.Module]
    channels: int = 5
    count: int = 400
    side: int = 10
    dimension: int = 3
    background: bool = True
    multiplies: bool = False


SUBMANIFOLD = Layer(lambda: nn.SubmanifoldConv(32, 64, 3, rng=0), channels=32, count=500, side=9, multiplies=True)
LAYERS = {
    "submanifold 3^3": Layer(lambda: nn.SubmanifoldConv(5, 7, 3, rng=0), multiplies=True),
    "submanifold 3^3, 32 -> 64": SUBMANIFOLD,
    "convolution 2^3": Layer(lambda: nn.SparseConv(5, 8, 2, rng=0)),
    "convolution 3^3, stride 2": Layer(lambda: nn.SparseConv(5, 8, 3, 2, rng=0), multiplies=True),
    "convolution 3^3, padding, dilation": Layer(lambda: nn.SparseConv(5, 8, 3, 1, 1, 2, rng=0)),
    "convolution, no background": Layer(lambda: nn.SparseConv(5, 8, 2, rng=0), background=False),
    "convolution 5^2": Layer(lambda: nn.SparseConv(5, 8, 5, dimension=2, rng=0), dimension=2, count=150),
    "convolution 2^4": Layer(lambda: nn.SparseConv(5, 8, 2, dimension=4, rng=0), dimension=4, side=5),
    "convolution 3^3 in groups": Layer(lambda: nn.SparseConv(6, 8, 3, 2, groups=2, rng=0), channels=6),
    "depthwise 3^3": Layer(lambda: nn.SubmanifoldConv(5, 10, 3, groups=5, rng=0)),
    "max-pooling": Layer(lambda: nn.SparseMaxPool(3, 2)),
    "max-pooling, padded": Layer(lambda: nn.SparseMaxPool(3, 2, 1)),
    "average pooling, padded": Layer(lambda: nn.SparseAvgPool(3, 2, 1), channels=32),
    "sum pooling": Layer(lambda: nn.SparseSumPool(2)),
    "upsampling": Layer(lambda: nn.Upsample(2, 19)),
    "depth images": Layer(lambda: nn.Sequential(nn.DepthImages(5), nn.SparseConv(6, 8, 3, 2, dimension=2, rng=0))),
    "linear on sites": Layer(lambda: nn.Linear(5, 7, rng=0)),
    "leaky ReLU": Layer(lambda: nn.LeakyReLU(0.33)),
    "ELU, GELU, SiLU": Layer(lambda: nn.Sequential(nn.ELU(0.7), nn.GELU(), nn.SiLU())),
    "tanh, sigmoid": Layer(lambda: nn.Sequential(nn.Tanh(), nn.Sigmoid())),
    "PReLU": Layer(lambda: nn.PReLU(5)),
    "PReLU, one slope": Layer(nn.PReLU),
    "softmax": Layer(nn.Softmax),
    "batch norm": Layer(lambda: nn.BatchNorm(5)),
    "batch norm, statistics of the grid": Layer(lambda: nn.BatchNorm(5, statistics="grid")),
    "instance norm, statistics of the grid": Layer(lambda: nn.InstanceNorm(5, statistics="grid")),
    "group norm": Layer(lambda: nn.GroupNorm(2, 6), channels=6),
    "layer norm": Layer(lambda: nn.LayerNorm(5)),
}


def relative_error(found: Any, expected: Any) -> float:
    """The largest difference relative to the largest value; infinite if the result is not finite."""
    got, wanted = (np.asarray(one, np.float64) for one in (found, expected))
    if got.shape != wanted.shape or not np.isfinite(got).all():
        return np.inf
    return float(np.abs(got - wanted).max(initial=0) / max(np.abs(wanted).max(initial=0), 1e-30))


def differences(found: list[Any], expected: list[Any]) -> float:
    """The number of arrays that differ in any bit."""
    pairs = zip(map(host, found), map(host, expected), strict=True)
    return float(sum(one.dtype != other.dtype or one.tobytes() != other.tobytes() for one, other in pairs))


def host(array: Any) -> np.ndarray:
    return array.numpy() if isinstance(array, Tensor) else to_device(array, "cpu")


def some_sites(count: int, side: int, batch: int, dimension: int = 3) -> np.ndarray:
    """(count, 1 + dimension) int32, in order."""
    cells = np.sort(np.random.default_rng(count).choice(batch * side**dimension, count, replace=False))
    return np.stack(np.unravel_index(cells, (batch,) + (side,) * dimension), axis=1).astype(np.int32)


def copies(device: str) -> float:
    array = np.arange(1000, dtype=np.float32)
    return differences([to_device(array, device) + np.float32(1)], [array + np.float32(1)])


def hash_table(device: str) -> float:
    keys = np.random.default_rng(1).permutation(40_000)[:20_000].astype(np.int64)
    rows = np.full(40_000, -1, np.int32)
    rows[keys] = np.arange(len(keys))
    table = launch("hash_insert", to_device(keys, device), True)
    return differences([launch("hash_lookup", *table, to_device(np.arange(40_000), device))], [rows])


def rulebooks(device: str) -> float:
    found: list[list[Any]] = []
    for where in ("cpu", device):
        found.append([])
        for count, side in ((2000, 16), (60, 200)):  # outputs are marked in a bit map, or sorted if there are few
            coordinates = some_sites(count, side, 3)
            sites = SparseTensor(np.zeros((count, 1), np.float32), coordinates, (side,) * 3, 3).to(where).sites
            for geometry in _GEOMETRIES:
                rulebook = sites.rulebook(geometry)
                found[-1] += [rulebook.neighbours, rulebook.transposed_neighbours, rulebook.pairs,
                              rulebook.pair_splits]
                sites = rulebook.output_sites
                found[-1] += [sites.keys, sites.coordinates]
    return differences(found[1], found[0])


def segment_sums(device: str) -> float:
    values, splits = _rows()
    expected = np.stack([values[a:b].sum(axis=0, dtype=np.float64) for a, b in zip(splits, splits[1:], strict=False)])
    return relative_error(host(launch("segment_sum", to_device(values, device), to_device(splits, device))), expected)


def segment_maxima(device: str) -> float:
    values, splits = _rows()
    found = launch("segment_max", to_device(values, device), to_device(splits, device))
    return differences(list(found), list(launch("segment_max", values, splits)))


def _rows() -> tuple[np.ndarray, np.ndarray]:
    return np.random.default_rng(2).standard_normal((9000, 6)).astype(np.float32), np.array([0, 3, 3, 8000, 9000])


def unions(device: str) -> float:
    rng, found = np.random.default_rng(6), []
    rows = [np.flatnonzero(rng.random(900) < share) for share in (0.5, 0.8)]
    x, y, joined = (rng.standard_normal((count, width), np.float32)
                    for count, width in ((len(rows[0]), 5), (len(rows[1]), 5), (900, 40)))
    backgrounds, coordinates = rng.standard_normal((2, 3, 5), np.float32), np.zeros((900, 2), np.int32)
    coordinates[:, 0] = np.sort(rng.integers(0, 3, 900))
    for where in ("cpu", device):
        both = [to_device(array, where) for array in (x, y, *rows, backgrounds[0, :1], backgrounds[1], coordinates)]
        found.append([launch("concatenate_rows", *both),
                      *(launch(f"{name}_rows", *both) for name in ("add", "subtract", "multiply")),
                      *launch("split_rows", to_device(joined, where), both[2], None, 7)])
    return differences(found[1], found[0])


def points(device: str) -> float:
    """Reduced in every way, and read back in both, with gradients."""
    rng = np.random.default_rng(6)
    places, rows = rng.uniform(-1, 9, (300, 3)).astype(np.float32), rng.standard_normal((300, 5)).astype(np.float32)
    found: list[list[np.ndarray]] = []
    for where, dtype in ((device, np.float32), ("cpu", np.float64)):
        found.append([])
        at = to_device(places, where)
        for reduce in ops.points.REDUCTIONS:
            features = Tensor(to_device(rows.astype(dtype), where), requires_grad=True)
            x = ops.from_points(at, features, 0.7, 0.0, (12, 12, 12), reduce=reduce)
            background = Tensor(to_device(np.ones(5, dtype), where), requires_grad=True)
            x = x.with_features(x.features, background)
            read = [x.at_points(at, 0.7, 0.2, mode=mode) for mode in ops.points.MODES]
            (read[0] * read[1]).sum().backward()
            found[-1] += [host(one) for one in (x.features, *read, features.grad, background.grad)]
    return max(relative_error(one, other) for one, other in zip(*found, strict=True))


def meshes(device: str) -> float:
    batch = MeshBatch([parametric_mesh(name, keyed_rng(number)) for number, name in enumerate(CLASSES[:4])])
    placements = [Augmentation("so3", 0.2, 0.2).draw(keyed_rng(1, number), 30) for number in range(4)]
    found: list[list[Any]] = []
    for where in ("cpu", device):
        sites, dropped = batch.to(where).voxelize(40, 30, placements)
        found.append([sites.keys, dropped])
    return differences(found[1], found[0])


def solids(device: str) -> float:
    batch = MeshBatch([parametric_mesh(name, keyed_rng(number)) for number, name in enumerate(CLASSES[:3])])
    found = [batch.to(where).voxelize(30, 20, fill=True)[0].keys for where in ("cpu", device)]
    coordinates = np.argwhere(np.ones((5, 6, 7), bool)).astype(np.int32)
    shell = coordinates[((coordinates == 0) | (coordinates == (4, 5, 6))).any(axis=1)]
    filled = launch("fill_solid", to_device(shell, device), (5, 6, 7))
    return differences([found[1], filled], [found[0], launch("fill_solid", shell, (5, 6, 7))])


def loader(device: str) -> float:
    """Batches with rulebooks, made by a worker on its own stream."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shapes.h5"
        import_parametric(path, {"train": 1}, conversion=Conversion(20, keep_meshes=True, progress=False))
        with SparseDataset.open(path) as dataset:
            found = [_batches(dataset, where) for where in ("cpu", device)]
    return differences(found[1], found[0])


def _batches(dataset: SparseDataset, device: str) -> list[np.ndarray]:
    arrays: list[np.ndarray] = []
    with dataset.batches(batch_size=3, shuffle=True, epoch=1, workers=1, field=24, render_size=20, backward=True,
                         geometries=list(_GEOMETRIES), augment=Augmentation("so3"), device=device) as batches:
        for batch in batches:
            rulebook = batch.input.sites.rulebook(_GEOMETRIES[0])
            arrays += [host(one) for one in (batch.input.sites.keys, batch.input.features, rulebook.neighbours)]
    return arrays


def round_trip(device: str) -> float:
    rng = np.random.default_rng(4)
    dense = np.where(rng.random((2, 3, 9, 9, 9)) < 0.1, rng.standard_normal((2, 3, 9, 9, 9)), 0).astype(np.float32)
    return differences([SparseTensor.from_dense(to_device(dense, device)).to_dense()], [dense])


def layer_error(layer: Layer, device: str) -> float:
    """The error of its output and of the gradients of its input, background and parameters."""
    coordinates = some_sites(layer.count, layer.side, 3, layer.dimension)
    rng = np.random.default_rng(0)
    features = rng.standard_normal((len(coordinates), layer.channels)).astype(np.float32)
    row = rng.standard_normal(layer.channels).astype(np.float32) if layer.background else None
    found: list[list[np.ndarray]] = []
    for where, dtype in ((device, np.float32), ("cpu", np.float64)):
        made = layer.make().to(where, dtype)
        x = SparseTensor(features.astype(dtype), coordinates, (layer.side,) * layer.dimension, 3,
                         None if row is None else row.astype(dtype)).to(where)
        leaves = [x.features] if row is None else [x.features, x.background]
        for leaf in leaves:
            leaf.requires_grad = True
        y = made(x)
        weight = np.random.default_rng(1).standard_normal(y.features.shape).astype(np.float32).astype(dtype)
        (y.features * Tensor(to_device(weight, where))).sum().backward()
        gradients = [leaf.grad for leaf in (*leaves, *made.parameters()) if leaf.grad is not None]  # not every layer's
        found.append([host(one) for one in (y.features, *gradients)])  # features depend on the background
    return max(relative_error(one, other) for one, other in zip(*found, strict=True))


def cross_entropy(device: str) -> float:
    """For rows that fit one block, and for more."""
    rng = np.random.default_rng(5)
    worst = 0.0
    for rows in (64, 600):
        given, labels = rng.standard_normal((rows, 10)).astype(np.float32), rng.integers(0, 10, rows)
        found: list[list[np.ndarray]] = []
        for where, dtype in ((device, np.float32), ("cpu", np.float64)):
            logits = Tensor(to_device(given.astype(dtype), where), requires_grad=True)
            loss = ops.softmax_cross_entropy(logits, labels)
            (loss * 2.0).backward()
            found.append([host(loss), host(logits.grad)])
        worst = max(worst, *(relative_error(one, other) for one, other in zip(*found, strict=True)))
    return worst


def triplet(device: str) -> float:
    given = np.random.default_rng(2).standard_normal((30, 16)).astype(np.float32)
    found: list[list[np.ndarray]] = []
    for where, dtype in ((device, np.float32), ("cpu", np.float64)):
        rows = Tensor(to_device(given.astype(dtype), where), requires_grad=True)
        loss = ops.triplet_loss(rows[:10], rows[10:20], rows[20:], 0.2)
        (loss * 2.0).backward()
        found.append([host(loss), host(rows.grad)])
    return max(relative_error(one, other) for one, other in zip(*found, strict=True))


def adam(device: str) -> float:
    """Two steps of three parameters."""
    rng = np.random.default_rng(6)
    given = [rng.standard_normal((2, size)).astype(np.float32) for size in (1, 300, 5000)]
    found: list[list[np.ndarray]] = []
    for where, dtype in ((device, np.float32), ("cpu", np.float64)):
        tensors = [Tensor(to_device(one[0].astype(dtype), where), requires_grad=True) for one in given]
        optimizer = AdamW(tensors, lr=0.1, weight_decay=0.1, amsgrad=True)
        for _ in range(2):
            for tensor, one in zip(tensors, given, strict=True):
                tensor.grad = to_device(one[1].astype(dtype), where)
            optimizer.step()
        found.append([host(tensor) for tensor in tensors])
    return max(relative_error(one, other) for one, other in zip(*found, strict=True))


def trained(device: str, dtype: type, steps: int = 2) -> dict[str, np.ndarray]:
    """The weights of a small S3DCNN after a few steps."""
    net = s3dcnn(10, channels=CHANNELS)
    for tensor in net.parameters():
        tensor.array = tensor.array.astype(dtype)
    net = net.to(device)
    optimizer = SGD(net.named_parameters(), lr=0.01, momentum=0.9, nesterov=True)
    coordinates = some_sites(SITES, 30, 4)
    for _ in range(steps):
        x = SparseTensor(np.ones((len(coordinates), 1), dtype), coordinates, (30, 30, 30), 4).to(device)
        ops.softmax_cross_entropy(net(x), np.arange(4)).backward()
        optimizer.step()
        optimizer.zero_grad()
    return {name: host(tensor) for name, tensor in net.named_parameters()}


def two_steps(device: str) -> float:
    found, expected = trained(device, np.float32), trained("cpu", np.float64)
    return max(relative_error(found[name], value) for name, value in expected.items())


def same_bits(device: str) -> float:
    first = list(trained(device, np.float32, 1).values())
    return sum(differences(list(trained(device, np.float32, 1).values()), first) for _ in range(TIMES - 1))


def empty(device: str) -> float:
    x = SparseTensor(np.zeros((0, 1), np.float32), np.zeros((0, 4), np.int32), (30, 30, 30), 2)
    found, expected = (host(s3dcnn(3, channels=(8, 12, 16, 24)).to(where)(x.to(where))) for where in (device, "cpu"))
    return float(found.shape != expected.shape) or float(relative_error(found, expected) > 1e-5)


def half(device: str) -> float:
    """Parameters and features in float16, only on a GPU; on a CPU the error is 0."""
    if device == "cpu":
        return 0.0
    net = s3dcnn(4, channels=(8, 16, 24))
    x = SparseTensor(np.ones((400, 1), np.float32), some_sites(400, 14, 4), (14, 14, 14), 4)
    expected = net(x).numpy()
    return relative_error(host(net.to(device, "float16")(x.to(device, "float16"))), expected)
