"""Lower bounds of a convolution's time, a model of the data that its tiles read and multiply.

A tile multiplies every offset that any of its rows has.  For each such (tile, offset), of `rows` x `columns`:

    L2 gather         rows x C_in of the features, C_in x columns of the weights, for each tile of columns
    shared memory     the same written once; rows read again by each warp beside, weights by each warp above
    mma.sync          2 x rows x columns x C_in operations, at MMA_SHARE of the matrix rate measured in the run
    wgmma             the same at the whole matrix rate

The counts follow from the table of neighbours in the order of multiplication.  The rates of L2 and shared memory are
Hopper's, so other GPUs have no such floors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks import gpu
from benchmarks.figures import Results
from sparsenet.backend import array_module, cupy
from sparsenet.kernels.convolution import wgmma as convolution_wgmma
from sparsenet.kernels.convolution.cuda import architecture, by_wgmma
from sparsenet.kernels.convolution.order import TILE_ROWS, row_order
from sparsenet.kernels.cuda.tiles import TENSOR_CORES, Tile, tile_table

if TYPE_CHECKING:
    from benchmarks.passes import Task

HOPPER = "sm_90"
L2_RATE = 7.2e12  # bytes per second, the maximum reached by our kernels on an H200
SHARED_RATE = 128  # bytes per clock of one multiprocessor
MMA_SHARE = 0.6  # share of the matrix rate that mma.sync reaches there
_CLOCK, _MULTIPROCESSORS = 13, 16  # attributes of a device (CUDA's numbers), the clock in kHz
_ITEM_SIZES = {"float32": 4, "tf32": 4, "fp16": 2, "bf16": 2, "float16 stored": 2}
_OPERANDS = {"float16 stored": "fp16"}


def multiplied_rows(neighbours: Any, order: Any | None, rows: int) -> int:
    """Number of entries, pairs and zeros, multiplied by tiles of this many rows, over all offsets."""
    xp = array_module(neighbours)
    count, offsets = neighbours.shape
    filled = neighbours >= 0
    if order is not None:
        filled = filled[order]
    whole = count // rows * rows
    tiles = filled[:whole].reshape(-1, rows, offsets).any(axis=1)
    last = filled[whole:].any(axis=0) if whole < count else xp.zeros(offsets, bool)
    return (int(tiles.sum()) + int(last.sum())) * rows


def bytes_of_l2(entries: int, tile: Tile, c_in: int, c_out: int, item: int) -> int:
    """Bytes read from the L2 cache."""
    columns = -(-c_out // tile.columns)
    return columns * (entries * c_in + entries // tile.rows * c_in * min(tile.columns, c_out)) * item


def bytes_of_shared(entries: int, tile: Tile, c_in: int, c_out: int, item: int) -> int:
    """Bytes written to and read from shared memory."""
    columns = -(-c_out // tile.columns)
    beside, above = tile.columns // tile.own_columns, tile.rows // tile.own_rows
    rows, weights = entries * c_in, entries // tile.rows * c_in * tile.columns
    return columns * ((1 + beside) * rows + (1 + above) * weights) * item


def report(section: str, case: str, task: Task, precision: str, results: Results) -> None:
    """Add the available floors of the forward pass, in milliseconds."""
    operands = _OPERANDS.get(precision, precision)
    device = architecture(cupy())
    neighbours = task.rulebook.neighbours
    hopper = by_wgmma(neighbours, task.c_in * task.c_out, operands)
    tile = (_hopper_tile(operands, task.c_out) if hopper
            else tile_table().choose("forward", device, operands, task.c_out))
    entries = multiplied_rows(neighbours, row_order(neighbours, task.c_in * task.c_out), tile.rows)
    results.add(section, case, "useful", 100 * task.pairs / max(entries, 1), "%")
    sizes = entries, tile, task.c_in, task.c_out, _ITEM_SIZES[precision]
    if device == HOPPER:
        get = cupy().cuda.runtime.deviceGetAttribute
        shared_rate = SHARED_RATE * get(_MULTIPROCESSORS, 0) * 1e3 * get(_CLOCK, 0)
        results.add(section, case, "floor: L2 gather", 1e3 * bytes_of_l2(*sizes) / L2_RATE, "ms")
        results.add(section, case, "floor: shared memory", 1e3 * bytes_of_shared(*sizes) / shared_rate, "ms")
    rate = gpu.matrix_rate(results, {"float32": "highest"}.get(precision, operands))
    if rate is None:
        return
    work = 2e3 * entries * task.c_in * task.c_out
    if operands in TENSOR_CORES and not hopper:
        results.add(section, case, "floor: mma.sync", work / (MMA_SHARE * rate), "ms")
    results.add(section, case, "floor: matrix rate", work / rate, "ms")


def _hopper_tile(operands: str, c_out: int) -> Tile:
    """The tile of convolution_wgmma: a warpgroup reads 64 rows and all columns for each product."""
    shape = convolution_wgmma.forward_shape(c_out)
    return Tile(HOPPER, operands, 0, TILE_ROWS, shape.columns, convolution_wgmma.CHUNK, 64, shape.columns, shape.stages,
                shape.resident)
