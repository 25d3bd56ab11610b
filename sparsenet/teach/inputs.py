"""Seeded inputs of puzzles: sites of small grids, filters on them, and drawings of both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from sparsenet import get_backend, set_backend
from sparsenet.sparse import ActiveSites, Geometry
from sparsenet.sparse.rulebook import Rulebook
from sparsenet.teach.drawing import drawn_grid

# spatial size, sites, kernel size, stride, padding
FILTERS = (((9,), 4, 3, 1, 0), ((5, 6), 7, 3, 1, 0), ((6, 6), 8, 2, 2, 0), ((7, 6), 9, 3, 2, 1),
           ((4, 5, 4), 10, 2, 1, 0), ((5, 4), 0, 3, 1, 0))


@contextmanager
def reference_backend() -> Iterator[None]:
    """A context in which nothing is compiled: sites and rulebooks of puzzles are small."""
    before = get_backend()
    set_backend("reference")
    try:
        yield
    finally:
        set_backend(before)


def sites_of(seed: int, spatial_size: tuple[int, ...], count: int, batch_size: int = 1) -> ActiveSites:
    """That many sites at random in each grid."""
    rng = np.random.default_rng(seed)
    cells = [np.sort(rng.choice(int(np.prod(spatial_size)), count, replace=False)) for _ in range(batch_size)]
    rows = [np.column_stack([np.full(count, sample), *np.unravel_index(own, spatial_size)])
            for sample, own in enumerate(cells)]
    return ActiveSites(np.concatenate(rows).astype(np.int32), spatial_size, batch_size)


@dataclass(frozen=True)
class Example:
    """A filter on the sites of one grid.  cells : (N, D) and (M, D), without the batch"""

    rulebook: Rulebook
    seed: int

    @property
    def cells(self) -> tuple[np.ndarray, np.ndarray]:
        return tuple(sites.coordinates[:, 1:].astype(np.int64)  # type: ignore[return-value]
                     for sites in (self.rulebook.input_sites, self.rulebook.output_sites))

    @property
    def spatial_size(self) -> tuple[int, ...]:
        return self.rulebook.input_sites.spatial_size

    @property
    def words(self) -> str:
        """The example in a few words."""
        g = self.rulebook.geometry
        sides, size = (" x ".join(map(str, numbers)) for numbers in (self.spatial_size, g.size))
        return (f"{len(self.cells[0])} sites of {sides} cells, filter {size}, stride {g.stride[0]}, "
                f"padding {g.padding[0]}")

    def rng(self) -> np.random.Generator:
        return np.random.default_rng(1000 + self.seed)

    def picture(self, output: int, offset: int | None = None) -> str:
        """The input grid: rows of sites, [] around the cells of an output's window, () around that of one offset."""
        inputs, outputs = self.cells
        g = self.rulebook.geometry
        window = [tuple(int(i) for i in outputs[output] * g.stride - g.padding + k * np.array(g.dilation))
                  for k in g.kernel_offsets]
        marks = {} if offset is None else {window[offset]: "()"}
        marks |= {cell: "[]" for cell in window if cell not in marks}
        labels = {tuple(map(int, cell)): row for row, cell in enumerate(inputs)}
        return (f"The input grid: a number is the row of a site, [] the window of output {output}"
                f"{'' if offset is None else f', () the cell under offset {offset}'}.\n"
                f"{drawn_grid(self.spatial_size, labels, marks)}")

    def pairs_of_output(self, output: int) -> str:
        """The pairs of an output in words."""
        row = self.rulebook.neighbours[output]
        told = ", ".join(f"offset {k}: input {n}" for k, n in enumerate(row) if n >= 0)
        return f"Output {output} has {np.count_nonzero(row >= 0)} of {len(row)} neighbours ({told})."


def examples(seed: int, filters: tuple = FILTERS) -> Iterator[Example]:
    """A filter on random sites, for each of the filters."""
    for number, (spatial_size, count, size, stride, padding) in enumerate(filters, seed):
        geometry = Geometry.make(len(spatial_size), size, stride, padding)
        yield Example(Rulebook(sites_of(number, spatial_size, count), geometry), number)
