"""The order in which a GPU takes the output rows of a convolution, and the lists that its tiles read.

Both are found once for a table of neighbours and kept as long as the table lives.  A stale one would still be an order,
and no order changes a result.  A function is kept that returns the array; the calling thread's stream waits until it is
made.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sparsenet.backend import array_module
from sparsenet.kernels.cuda.source import THREADS, CudaSource, blocks_for
from sparsenet.kernels.cuda.streams import shared
from sparsenet.kernels.cuda.tiles import tile_table

TILE_ROWS = 256  # of the tiles that have lists
MAX_OFFSETS = 32  # that lists are made of: a bit each
ORDER = CudaSource("convolution/order", variants=[{}])
LISTS = CudaSource("convolution/lists", variants=[{"TILE_ROWS": TILE_ROWS}])


@dataclass(frozen=True)
class Lists:
    """The input rows that tiles of TILE_ROWS output rows read; -1 for none.

    lists : (tiles, K, TILE_ROWS) int32, input rows;  masks : (tiles,) uint32, bit k for an offset that a tile has
    outputs : (tiles * TILE_ROWS,) int32, the output rows
    """

    lists: Any
    masks: Any
    outputs: Any

    @property
    def tiles(self) -> int:
        return self.masks.shape[0]


def row_order(neighbours: Any, channels: int) -> Any | None:
    """(M,) int32: rows sorted by their offsets within windows; None if sorting would not pay.

    channels : C_in * C_out
    """
    (rows, offsets), table = neighbours.shape, tile_table()
    known = _known("order", neighbours)
    if known is not None:
        return known
    if rows * offsets * channels < table.order_work or offsets == 1:
        return None
    xp = array_module(neighbours)
    keys = xp.empty(rows, "int64")
    ORDER.kernel("neighbour_keys")(blocks_for(rows), THREADS, neighbours, rows, offsets, table.order_window, keys)
    return _keep("order", neighbours, xp.argsort(keys, kind="stable").astype("int32"))


def tile_lists(neighbours: Any, order: Any | None) -> Lists:
    """The lists of a table (M, K), K at most MAX_OFFSETS, whose rows are taken in that order, or in their own."""
    known = _known("lists", neighbours)
    if known is not None:
        return known
    xp, (rows, offsets) = array_module(neighbours), neighbours.shape
    tiles = -(-rows // TILE_ROWS)
    made = Lists(xp.empty((tiles, offsets, TILE_ROWS), "int32"), xp.empty(tiles, "uint32"),
                 xp.empty(tiles * TILE_ROWS, "int32"))
    LISTS.kernel("tile_lists", TILE_ROWS=TILE_ROWS)(blocks_for(tiles, 1), THREADS, neighbours, order, rows, offsets,
                                                    tiles, made.lists, made.masks, made.outputs)
    return _keep("lists", neighbours, made)


_kept: dict[tuple[str, int], tuple[weakref.ref, Callable[[], Any]]] = {}
_lock = threading.Lock()


def _known(kind: str, neighbours: Any) -> Any | None:
    with _lock:
        found = _kept.get((kind, id(neighbours)))
    return found[1]() if found is not None and found[0]() is neighbours else None


def _keep(kind: str, neighbours: Any, made: Any) -> Any:
    place = kind, id(neighbours)
    give = (lambda: made) if array_module(neighbours) is np else shared(made)
    with _lock:
        _kept[place] = weakref.ref(neighbours, lambda _: _kept.pop(place, None)), give
    return made


def orders_known() -> int:
    """The number of tables of neighbours whose order is kept."""
    return sum(kind == "order" for kind, _ in _kept)


def forget_orders() -> None:
    """Drop the orders and lists found so far; each is found again if it pays."""
    with _lock:
        _kept.clear()
