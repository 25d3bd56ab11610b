"""Table 1: what each layer of S3DCNN holds and computes on real meshes, beside the dense layer."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from sparsenet.nn import s3dcnn
from sparsenet.sparse import SparseTensor

if TYPE_CHECKING:
    from sparsenet.data import SparseDataset

FLOAT = INDEX = 4  # bytes of a float32 feature, and of a neighbour


@dataclass
class LayerFigures:
    """Sums over samples of what a layer's output holds.

    side : of its grid;  channels : of its features
    sites, pairs, multiply_adds, bytes : of features and neighbours;  dense_... : of the dense layer
    fractions : of active cells, one for each sample;  seconds : of the forward pass
    """

    name: str
    side: int
    channels: int
    fractions: list[float] = field(default_factory=list)
    sites: int = 0
    pairs: int = 0
    multiply_adds: int = 0
    bytes: int = 0
    dense_multiply_adds: int = 0
    dense_bytes: int = 0
    seconds: float = 0.0


def anatomy(shapes: SparseDataset, render_size: int = 40, batch_size: int = 16) -> list[LayerFigures]:
    """The figures of S3DCNN's input and its layers, summed over the shapes.

    shapes : a dataset with meshes, or with voxels of this render size
    """
    from sparsenet.inspect import trace

    net = s3dcnn(seed=0).eval()
    found: list[LayerFigures] = []
    for batch in shapes.batches(batch_size, field=net.field, render_size=render_size, geometries=net.geometries()):
        seen = trace(net, batch, repeats=1)
        outputs = [("input", seen.input, None), *((record.name, record.output, record) for record in seen
                                                   if record.sites is not None)]
        if not found:
            found = [LayerFigures(name, x.spatial_size[0], x.channels) for name, x, _ in outputs]
        for figures, (_, x, record) in zip(found, outputs, strict=True):
            _add(figures, x, record)
    return found


def _add(figures: LayerFigures, x: SparseTensor, record: object) -> None:
    cells = prod(x.spatial_size)
    sites = np.bincount(np.asarray(x.coordinates)[:, 0], minlength=x.batch_size)
    figures.fractions += (sites / cells).tolist()
    figures.sites += len(x)
    figures.bytes += len(x) * x.channels * FLOAT
    figures.dense_bytes += x.batch_size * cells * x.channels * FLOAT
    rulebook = getattr(record, "rulebook", None)
    if record is not None:
        figures.seconds += record.seconds or 0.0
        figures.multiply_adds += record.multiply_adds or 0
    if rulebook is not None:
        figures.pairs += record.pairs
        figures.bytes += len(x) * record.layer.geometry.volume * INDEX
        figures.dense_multiply_adds += record.dense_multiply_adds


def table_rows(found: list[LayerFigures], published: dict[int, float]) -> list[list[str]]:
    """A row for each layer, per sample: size, channels, share of active cells beside the published one, pairs,
    multiply-adds, memory and time, sparse and dense; and the totals."""
    shapes = len(found[0].fractions)
    rows = []
    for number, one in enumerate(found):
        rows.append([str(number), one.name, f"{one.side}^3", str(one.channels), f"{100 * np.mean(one.fractions):.2f}",
                     f"{published[one.side]:g}" if one.side in published else "", f"{one.pairs / shapes:,.0f}",
                     f"{one.multiply_adds / shapes / 1e6:.2f}", f"{one.dense_multiply_adds / shapes / 1e6:,.1f}",
                     f"{one.bytes / shapes / 1e6:.2f}", f"{one.dense_bytes / shapes / 1e6:,.1f}",
                     f"{1e3 * one.seconds / shapes:.2f}"])
    total = {name: sum(getattr(one, name) for one in found) / shapes
             for name in ("multiply_adds", "dense_multiply_adds", "bytes", "dense_bytes", "seconds")}
    rows.append(["", "total", "", "", "", "", "", f"{total['multiply_adds'] / 1e6:.2f}",
                 f"{total['dense_multiply_adds'] / 1e6:,.1f}", f"{total['bytes'] / 1e6:.2f}",
                 f"{total['dense_bytes'] / 1e6:,.1f}", f"{1e3 * total['seconds']:.2f}"])
    return rows


TABLE_HEADER = ("layer", "name", "size", "channels", "active, %", "published, %", "pairs", "multiply-adds, M",
                "dense, M", "memory, MB", "dense, MB", "time, ms")


def box_shares(shapes: SparseDataset, render_size: int = 40) -> dict[str, tuple[int, float]]:
    """Class -> number of its shapes, and the mean share of the cells of the box that they occupy, 0 to 1."""
    shares: dict[str, list[float]] = defaultdict(list)
    for batch in shapes.batches(64, field=render_size, render_size=render_size):
        sites = np.bincount(np.asarray(batch.input.coordinates)[:, 0], minlength=len(batch))
        for label, count in zip(batch.labels.tolist(), sites.tolist(), strict=True):
            shares[shapes.classes[label] if label >= 0 else "?"].append(count / render_size**3)
    return {name: (len(values), float(np.mean(values))) for name, values in sorted(shares.items())}
