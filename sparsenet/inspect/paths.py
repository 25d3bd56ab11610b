"""The path through a network: its layers in order, and the rows of one from which each row of the next is computed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from sparsenet.autograd import Tensor
from sparsenet.backend import to_device
from sparsenet.nn.activations import Activation
from sparsenet.nn.pooling import Upsample
from sparsenet.sparse import SparseTensor
from sparsenet.sparse.upsampling import copies_of

if TYPE_CHECKING:
    Source = SparseTensor | Tensor | None

# How the rows of a layer are computed from those of the layer before
FILTER, COPY, SAME, ALL, NONE = "filter", "copy", "same", "all", "none"


def path_of(records: Iterable[Activation]) -> Iterator[tuple[Activation, Source]]:
    """Each layer on the path from the input to the output, with its input.

    A layer that is made of layers is replaced by those on the path within it, and followed by its own result unless a
    layer within returned it: the sum of a Residual stands on the sites that the path leads to.  A shortcut is left out;
    its work is in the numbers of the Residual.
    """
    for record in records:
        yield from _within(record, record.input)


def _within(record: Activation, source: Source) -> Iterator[tuple[Activation, Source]]:
    path, x = [], record.input
    for part in record.parts:
        if part.input is x:
            path.append(part)
            x = part.output
    if not path or not isinstance(x, SparseTensor) or x.sites is not record.sites:
        yield record, source
        return
    for part in path:
        yield from _within(part, part.input)
    if x is not record.output:
        yield record, x


def relation_of(record: Activation, source: Source, operation: str) -> tuple[str, np.ndarray | None]:
    """How the rows of a layer are computed from those of its input.

    operation : in whose name errors are raised

    Returns
    -------
    relation : FILTER or COPY, by the neighbours; the SAME row; or ALL rows
    neighbours : (N, K) int32 for a FILTER, (N, 1) for a COPY, otherwise None

    Raises
    ------
    ValueError : the layer returns neither a row for each site nor one for the sample, or changes the sites without a
        rulebook.
    """
    features = record.features
    if features.ndim != 2 or (record.sites is None and len(features) != 1):
        raise ValueError(f"{operation}: {record.name} returns shape {features.shape}, expected a row per site or one "
                         "for the sample: cut the network before it (del net.layers[...])")
    if record.rulebook is not None:
        return FILTER, to_device(record.rulebook.neighbours, "cpu")
    if record.sites is None:
        return ALL if isinstance(source, SparseTensor) else SAME, None
    if isinstance(source, SparseTensor) and record.sites is source.sites:
        return SAME, None
    if isinstance(record.layer, Upsample) and isinstance(source, SparseTensor):
        return COPY, to_device(copies_of(source.sites, record.layer.upsampling).parents, "cpu")
    raise ValueError(f"{operation}: {record.name} changes the sites without a rulebook, so that they cannot be traced "
                     "back: cut the network before it (del net.layers[...])")
