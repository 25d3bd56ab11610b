"""Tile sizes: which variant of a convolution kernel runs, by (architecture, precision, channels).

The committed table is tiles.toml beside this file; `set_tile_table` replaces it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cache, cached_property
from pathlib import Path

from sparsenet.toml import TomlError, read_toml

KINDS = ("forward", "weight_gradient")
ITEM_SIZES = {"float32": 4, "float64": 8}  # bytes, of the precisions without tensor cores
TENSOR_CORES = ("tf32", "fp16", "bf16")
GROUP = 32  # offsets staged at a time (convolution/tile.cuh)
WINDOW = 1024  # rows listed at a time by the weight gradient
# Bytes of shared memory that a block may have; "any": on all architectures from sm_80 on.
MAX_SHARED = {"any": 99 << 10, "sm_75": 64 << 10, "sm_80": 163 << 10, "sm_87": 163 << 10, "sm_90": 227 << 10,
               "sm_100": 227 << 10}
COMMITTED = Path(__file__).with_name("tiles.toml")


class TileError(ValueError):
    """A table that cannot be used; the message names the file and the line."""


@dataclass(frozen=True)
class Tile:
    """One line of the table; tiles.toml explains the numbers."""

    architecture: str
    precision: str
    channels: int
    rows: int
    columns: int
    depth: int
    own_rows: int
    own_columns: int
    stages: int
    resident: int

    @property
    def threads(self) -> int:
        """Threads of a block."""
        owners = (self.rows // self.own_rows) * (self.columns // self.own_columns)
        return owners * (32 if self.precision in TENSOR_CORES else 1)

    def shared_bytes(self, kind: str) -> int:
        """Shared memory of a block; the source asserts that its layout has this size."""
        if kind == "forward":
            lists = 4 * (GROUP * (self.rows + 1) + GROUP + 1)
        else:
            lists = 4 * (2 * WINDOW + self.threads // 32 + 1)
        return -(-(self.stages * self._stage_bytes(kind) + lists) // 16) * 16

    def _stage_bytes(self, kind: str) -> int:
        if self.precision in ITEM_SIZES:
            item = ITEM_SIZES[self.precision]
            pad = self.rows * 16 if kind == "forward" else 0
            return item * self.depth * (self.rows + self.columns) + pad
        if kind == "forward":
            return 4 * (self.rows + self.columns) * (self.depth + 4)
        per_word, pad = (1, 8) if self.precision == "tf32" else (2, 4)
        return 4 * self.depth * ((self.rows + self.columns) // per_word + 2 * pad)

    def fault(self, kind: str) -> str:
        """Why the kernels cannot use this tile; "" if they can."""
        if self.rows % self.own_rows or self.columns % self.own_columns:
            return "rows and columns are not multiples of own_rows and own_columns"
        if not 32 <= self.threads <= 1024 or self.threads % 32:
            return f"a block would have {self.threads} threads, expected a multiple of 32 up to 1024"
        if self.stages < 2:
            return "stages is below 2: one step is multiplied while another loads"
        limit = MAX_SHARED.get(self.architecture, MAX_SHARED["any"])
        if self.shared_bytes(kind) > limit:
            return f"a block would need {self.shared_bytes(kind)} bytes of shared memory, the limit is {limit}"
        if self.precision in TENSOR_CORES:
            steps = 8 if kind == "forward" else 16
            if self.own_rows % 16 or self.own_columns % 16 or self.depth % steps:
                return f"own_rows and own_columns are not multiples of 16, or depth is not a multiple of {steps}"
            copies = self.depth // 4
        else:
            vector = 16 // ITEM_SIZES[self.precision]
            if self.own_columns % vector or (self.own_rows if kind == "weight_gradient" else self.depth) % vector:
                return f"the numbers that a thread reads are not a multiple of {vector}"
            copies = self.depth
        if kind == "forward" and self.threads % copies:
            return f"{self.threads} threads cannot share {copies} copies a row evenly"
        if kind == "weight_gradient" and (WINDOW % self.threads or WINDOW % self.depth):
            return f"threads and depth do not divide the window of {WINDOW} rows"
        return ""


@dataclass(frozen=True)
class TileTable:
    """The lines of a table and its other settings.

    order_window, order_work : rows in a window that is sorted, and the multiply-adds of a product from which on sorting
        pays; split_blocks : blocks that a weight gradient is split into
    wgmma_architectures, wgmma_work : GPUs on which products of at least so many multiply-adds use the kernels of
        convolution/wgmma.py
    """

    forward: tuple[Tile, ...]
    weight_gradient: tuple[Tile, ...]
    order_window: int
    order_work: int
    split_blocks: int
    wgmma_work: int
    wgmma_architectures: tuple[str, ...]

    def lines(self, kind: str) -> tuple[Tile, ...]:
        return self.forward if kind == "forward" else self.weight_gradient

    def choose(self, kind: str, architecture: str, precision: str, channels: int) -> Tile:
        """The line with the lowest sufficient `channels`; of two, the architecture's own before "any"'s."""
        asked = kind, architecture, precision, channels
        return self._chosen.get(asked) or self._chosen.setdefault(asked, self._choose(*asked))

    @cached_property
    def _chosen(self) -> dict[tuple, Tile]:
        """The results of `choose`."""
        return {}

    def _choose(self, kind: str, architecture: str, precision: str, channels: int) -> Tile:
        fits = [tile for tile in self.lines(kind) if tile.precision == precision
                and tile.architecture in (architecture, "any") and not 0 < tile.channels < channels]
        if not fits:
            raise TileError(f"tile table: no {kind} line for {precision}, {channels} channels on {architecture}")
        return min(fits, key=lambda tile: (tile.channels or float("inf"), tile.architecture == "any"))


def load_tile_table(path: str | Path) -> TileTable:
    """Read and check a table.

    Raises
    ------
    TileError : not TOML, an unknown or missing key, a tile that the kernels cannot use, or no line for "any"
        architecture and any number of channels.
    """
    try:
        content = read_toml(Path(path))
    except TomlError as error:
        raise TileError(f"tile table {path}: {error}") from None
    _check_keys(path, "table", content, (*KINDS, "order", "split", "wgmma"))
    _check_keys(path, "[order]", content["order"], ("window", "work"))
    _check_keys(path, "[split]", content["split"], ("blocks",))
    _check_keys(path, "[wgmma]", content["wgmma"], ("architectures", "work"))
    numbers = (content["order"]["window"], content["order"]["work"], content["split"]["blocks"],
               content["wgmma"]["work"])
    if not all(isinstance(number, int) and number > 0 for number in numbers):
        raise TileError(f"tile table {path}: window, work, blocks and work are {numbers}, expected whole numbers from "
                        "1 up")
    architectures = content["wgmma"]["architectures"]
    if not isinstance(architectures, list) or not all(isinstance(name, str) for name in architectures):
        raise TileError(f"tile table {path}: [wgmma] architectures are {architectures!r}, expected a list of words")
    return TileTable(*(tuple(_lines(path, kind, content[kind])) for kind in KINDS), *numbers, tuple(architectures))


def _lines(path: str | Path, kind: str, lines: list[dict]) -> Iterator[Tile]:
    names = tuple(field.name for field in fields(Tile))
    unlimited = set()
    for number, line in enumerate(lines, 1):
        place = f"{kind} line {number}"
        _check_keys(path, place, line, names)
        for name, value in line.items():
            expected, least = (str, "") if name in ("architecture", "precision") else (int, name != "channels")
            if not isinstance(value, expected) or value < least:
                raise TileError(f"tile table {path}: {place} has {name} = {value!r}, expected "
                                f"{'a word' if expected is str else f'a whole number from {int(least)} up'}")
        tile = Tile(**line)
        if tile.precision not in (*ITEM_SIZES, *TENSOR_CORES):
            raise TileError(f"tile table {path}: {place} has precision {tile.precision!r}, expected one of "
                            f"{', '.join((*ITEM_SIZES, *TENSOR_CORES))}")
        if fault := tile.fault(kind):
            raise TileError(f"tile table {path}: {place}: {fault}")
        if tile.architecture == "any" and not tile.channels:
            unlimited.add(tile.precision)
        yield tile
    if missing := [name for name in (*ITEM_SIZES, *TENSOR_CORES) if name not in unlimited]:
        raise TileError(f"tile table {path}: {kind} has no line for {', '.join(missing)} with architecture 'any' "
                        "and channels 0: add one, for what fits no other line")


def _check_keys(path: str | Path, place: str, found: dict, expected: tuple[str, ...]) -> None:
    if set(found) != set(expected):
        unknown, missing = sorted(set(found) - set(expected)), sorted(set(expected) - set(found))
        raise TileError(f"tile table {path}: {place} has unknown keys {unknown} and lacks {missing}")


def write_tile_table(table: TileTable, path: str | Path, heading: str = "") -> None:
    """Write a table that `load_tile_table` reads back; heading : comment lines above it."""
    text = [f"# {line}".rstrip() for line in heading.splitlines()]
    for kind in KINDS:
        text.append(f"\n{kind} = [")
        for tile in table.lines(kind):
            pairs = ((field.name, getattr(tile, field.name)) for field in fields(Tile))
            values = ", ".join(f'{name} = "{value}"' if isinstance(value, str) else f"{name} = {value}"
                               for name, value in pairs)
            text.append(f"    {{ {values} }},")
        text.append("]")
    text += ["\n[order]", f"window = {table.order_window}", f"work = {table.order_work}",
             "\n[split]", f"blocks = {table.split_blocks}",
             "\n[wgmma]", f"architectures = {list(table.wgmma_architectures)}".replace("'", '"'),
             f"work = {table.wgmma_work}", ""]
    Path(path).write_text("\n".join(text), encoding="utf-8")


_committed = cache(lambda: load_tile_table(COMMITTED))
_chosen: TileTable | None = None


def set_tile_table(path: str | Path | None) -> None:
    """Take tile sizes from the file `path`, from the next launch on; None: the committed table.

    The bits of forward results and input gradients do not change; the last bits of weight gradients may.
    """
    global _chosen
    _chosen = None if path is None else load_tile_table(path)


@contextmanager
def using(table: TileTable) -> Iterator[TileTable]:
    """Context in which tile sizes come from `table`."""
    global _chosen
    before, _chosen = _chosen, table
    try:
        yield table
    finally:
        _chosen = before


def tile_table() -> TileTable:
    """The table in use."""
    return _chosen or _committed()
