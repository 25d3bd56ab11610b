"""Embeds shapes: the output of a network's layer, one row for each shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sparsenet.autograd import Tensor
from sparsenet.nn.prediction import mean_rows
from sparsenet.ops.global_pool import global_pool
from sparsenet.sparse import SparseTensor

if TYPE_CHECKING:
    from sparsenet.data import SparseBatch, SparseDataset
    from sparsenet.nn import SparseNetwork


def embed(net: SparseNetwork, dataset: SparseDataset | SparseBatch | SparseTensor, layer: int | None = None,
          batch_size: int = 64, workers: int = 0, poses: str = "first", repetitions: int = 1,
          **options: Any) -> np.ndarray:
    """The descriptor of each object of a dataset, or of each sample of a batch.

    Parameters
    ----------
    net : runs in evaluation mode without a graph; its mode is restored.
    dataset : SparseDataset; or a SparseBatch or SparseTensor, which is run unchanged: batch_size and later
        arguments do not apply to it.
    layer : number of the layer whose output is the descriptor, from 1 as in Table 1 (17 in S3DCNN).  A grid
        of several cells is averaged over all its cells.  Default: the last layer before the classifier, or
        the last layer if the network has no classifier (see `descriptor_layer`).
    batch_size, workers : as in `dataset.batches`; the result does not depend on workers.
    poses : "first" embeds an object's first pose; "mean" averages the descriptors of all its poses.
    repetitions : number of passes to average; pass r draws its augmentation as epoch r.
    options : of `dataset.batches`: field, render_size, augment, seed, device, ...

    Returns
    -------
    (S, C) float32, one row for each object, in the order of `dataset.object_samples` (the order of the
    samples if each object has one pose).

    Raises
    ------
    TypeError : another kind of dataset, or an option that does not apply to a batch.
    ValueError : no such layer, or its output is not a row or grid per sample; unknown poses; an empty
        dataset; NaN or infinity in the output.
    """
    if hasattr(dataset, "batches") and not len(dataset):
        raise ValueError("embed: the dataset is empty, expected at least one sample")
    layer = checked_layer(net, layer)
    found = mean_rows("embed", net, lambda batch: _rows(net, batch, layer), dataset, batch_size, poses, repetitions,
                      workers=workers, **options)
    return found.astype(np.float32)


def descriptor_layer(net: SparseNetwork) -> int:
    """The default layer of `embed`: `net.descriptor`, or the last one before a final Linear and the GlobalPool and
    Dropout layers around it (17 in S3DCNN)."""
    if net.descriptor is not None and net.descriptor <= len(net.layers):
        return net.descriptor
    kinds = [layer.kind for layer in net.layers]
    if kinds and kinds[-1] == "linear":
        kinds.pop()
    while kinds and kinds[-1] in ("global_pool", "dropout"):
        kinds.pop()
    if not kinds:
        raise ValueError("embed: the network has no layer before its classifier: add one, or name a layer")
    return len(kinds)


def checked_layer(net: SparseNetwork, layer: int | None) -> int:
    """The layer, or `descriptor_layer` for None.  Raises ValueError if the layer does not exist."""
    layer = descriptor_layer(net) if layer is None else layer
    if not 1 <= layer <= len(net.layers):
        raise ValueError(f"embed: layer is {layer}, expected 1 to {len(net.layers)}: {', '.join(net.names())}")
    return layer


def _rows(net: SparseNetwork, x: SparseBatch | SparseTensor, layer: int) -> np.ndarray:
    """(B, C): one row per sample, empty ones included."""
    output: SparseTensor | Tensor = net.run(x, 0, layer)
    if isinstance(output, SparseTensor):
        output = global_pool(output, "mean")
    if output.ndim != 2:
        raise ValueError(f"embed: layer {layer} returns shape {output.shape}, expected (B, C) or a SparseTensor: name "
                         "another layer")
    return output.numpy()
