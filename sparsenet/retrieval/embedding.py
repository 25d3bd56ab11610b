"""From shapes to descriptors: what a network gives at a layer, a row for each shape."""

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
    net : runs in evaluation mode without a graph, and is put back into its mode.
    dataset : SparseDataset; or a SparseBatch or SparseTensor, which is run as it is: batch_size and the arguments
        after it do not apply to it.
    layer : whose output is the descriptor, counted from 1 as in Table 1 (17 in S3DCNN).  A grid with
        several cells is averaged over all its cells.  Default: the last before the classifier, or the
        last of all if the network has none (see `descriptor_layer`).
    batch_size, workers : as in `dataset.batches`; the result does not depend on workers.
    poses : "first" embeds an object's first pose; "mean" averages the descriptors of all.
    repetitions : passes that are averaged; pass r draws its augmentation as epoch r.
    options : of `dataset.batches`: field, render_size, augment, seed, device, ...

    Returns
    -------
    (S, C) float32, a row for each object, in the order of `dataset.object_samples` (the order of the
    samples, if each object has one pose).

    Raises
    ------
    TypeError : another kind of dataset, or an option that does not apply to a batch.
    ValueError : no such layer, or its output is not a row or grid per sample; unknown poses; an empty
        dataset; NaN or infinite numbers that the network gives.
    """
    if hasattr(dataset, "batches") and not len(dataset):
        raise ValueError("embed: the dataset is empty: there is nothing to embed")
    layer = checked_layer(net, layer)
    found = mean_rows("embed", net, lambda batch: _rows(net, batch, layer), dataset, batch_size, poses, repetitions,
                      workers=workers, **options)
    return found.astype(np.float32)


def descriptor_layer(net: SparseNetwork) -> int:
    """The layer that `embed` takes: the last one but a Linear at the end and the GlobalPool and
    Dropout layers around it (17 in S3DCNN)."""
    kinds = [layer.kind for layer in net.layers]
    if kinds and kinds[-1] == "linear":
        kinds.pop()
    while kinds and kinds[-1] in ("global_pool", "dropout"):
        kinds.pop()
    if not kinds:
        raise ValueError("embed: the network has no layer before its classifier: build one, or name a layer")
    return len(kinds)


def checked_layer(net: SparseNetwork, layer: int | None) -> int:
    """The layer, or `descriptor_layer` for None.  Raises ValueError if there is no such layer."""
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
        raise ValueError(f"embed: layer {layer} gives shape {output.shape}, expected (B, C) or a SparseTensor: name "
                         "another layer")
    return output.numpy()
