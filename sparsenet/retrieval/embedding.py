"""Embeds shapes: the output of a network's layer, or its class probabilities, one row for each shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sparsenet.autograd import Tensor
from sparsenet.nn.prediction import mean_rows, output_rows
from sparsenet.ops.global_pool import global_pool
from sparsenet.retrieval.distances import unit_rows
from sparsenet.sparse import SparseTensor

if TYPE_CHECKING:
    from sparsenet.data import SparseBatch, SparseDataset
    from sparsenet.nn import SparseNetwork


OUTPUTS = ("descriptor", "probabilities")


def embed(net: SparseNetwork, dataset: SparseDataset | SparseBatch | SparseTensor, layer: int | None = None,
          output: str = "descriptor", poses: str | Sequence[int] = "first", batch_size: int = 64, workers: int = 0,
          repetitions: int = 1, unit: bool = False, logit_offsets: Any = None, **options: Any) -> np.ndarray:
    """The descriptor of each object of a dataset, or of each sample of a batch.

    Parameters
    ----------
    net : runs in evaluation mode without a graph; its mode is restored.
    dataset : SparseDataset; or a SparseBatch or SparseTensor, which is run unchanged: poses, batch_size, workers,
        repetitions and the options do not apply to it.
    layer : number of the layer whose output is the descriptor, from 1 as in Table 1 (17 in S3DCNN).  A grid
        of several cells is averaged over all its cells.  Default: the last layer before the classifier, or
        the last layer if the network has no classifier (see `descriptor_layer`).
    output : "descriptor", the layer's output; or "probabilities", the softmax of the network's last layer, the class
        posterior of a classifier, to be ranked by cosine.  It says little of shapes of other classes.
    poses : "first" embeds an object's first pose; "mean" averages the descriptors of all its poses; a list of pose
        numbers, such as [0, 4, 8], averages those of these poses; "max" takes the greatest of each number over all
        poses (the view pooling of Su et al., Multi-view CNNs, 2015); "all" keeps each pose as an item, a row for each
        sample.
    batch_size, workers : as in `dataset.batches`; the result does not depend on workers.
    repetitions : number of passes to average; pass r draws its augmentation as epoch r.
    unit : divide each descriptor by its norm (a zero vector stays) before poses and passes are combined.  Ranking by
        cosine looks at directions alone, so a pose with long vectors should not outweigh the others; ranking by L2
        looks at lengths too: leave it False there.
    logit_offsets : (classes,) numbers added to the logits before the softmax, for "probabilities" only; see
        `logit_adjustment`.
    options : of `dataset.batches`: field, render_size, augment, seed, device, ...

    Returns
    -------
    (O, C) float32, one row for each object, in the order of `dataset.object_samples` (the order of the
    samples if each object has one pose, or with poses="all").

    Raises
    ------
    TypeError : another kind of dataset, or an option that does not apply to a batch.
    ValueError : no such layer or output, a layer or unit given for probabilities, offsets for descriptors, an output
        that is not a row or grid per sample; unknown poses, or an object without one of them; an empty dataset; NaN or
        infinity in the output.
    """
    if output not in OUTPUTS:
        raise ValueError(f"embed: output is {output!r}, expected one of {', '.join(OUTPUTS)}")
    if output == "probabilities" and (layer is not None or unit):
        raise ValueError("embed: output is 'probabilities', which have no layer and are not divided by their norm: "
                         "leave out layer and unit")
    if output != "probabilities" and logit_offsets is not None:
        raise ValueError("embed: logit_offsets are for output='probabilities'")
    if hasattr(dataset, "batches") and not len(dataset):
        raise ValueError("embed: the dataset is empty, expected at least one sample")
    number = checked_layer(net, layer) if output == "descriptor" else 0
    offsets = None if logit_offsets is None else np.asarray(logit_offsets, np.float64)

    def rows(batch: Any) -> np.ndarray:
        if output == "probabilities":
            return output_rows(net, batch, True, offsets, "embed")
        return _rows(net, batch, number, unit)

    found = mean_rows("embed", net, rows, dataset, batch_size, poses, repetitions, workers=workers, **options)
    return found.astype(np.float32)


def logit_adjustment(class_counts: Any, tau: float) -> np.ndarray:
    """(classes,) float64 to add to the logits: -tau times the log of each class's share of the training samples.

    With tau = 1 a classifier trained on unequal classes predicts as if all were equally likely, which balanced test
    sets and means over classes reward; a negative tau puts the shares in, for one trained on balanced batches.  Menon
    et al., Long-tail learning via logit adjustment (2021), section 4.1.

    class_counts : (classes,) numbers of training samples, at least 1 each

    Raises
    ------
    ValueError : a class without a training sample.
    """
    counts = np.asarray(class_counts, np.float64)
    if counts.ndim != 1 or not counts.size or not (counts >= 1).all():
        raise ValueError(f"logit_adjustment: class_counts are {counts.tolist()}, expected at least 1 for each class")
    return -tau * np.log(counts / counts.sum())


def descriptor_layer(net: SparseNetwork) -> int:
    """The default layer of `embed`: `net.descriptor`, or the last one before a final Linear or CosineLinear and the
    GlobalPool and Dropout layers around it (17 in S3DCNN)."""
    if net.descriptor is not None and net.descriptor <= len(net.layers):
        return net.descriptor
    kinds = [layer.kind for layer in net.layers]
    if kinds and kinds[-1] in ("linear", "cosine_linear"):
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


def _rows(net: SparseNetwork, x: SparseBatch | SparseTensor, layer: int, unit: bool) -> np.ndarray:
    """(B, C): one row per sample, empty ones included."""
    output: SparseTensor | Tensor = net.run(x, 0, layer)
    if isinstance(output, SparseTensor):
        output = global_pool(output, "mean")
    if output.ndim != 2:
        raise ValueError(f"embed: layer {layer} returns shape {output.shape}, expected (B, C) or a SparseTensor: name "
                         "another layer")
    rows = output.numpy()
    return unit_rows(rows.astype(np.float64)) if unit else rows

