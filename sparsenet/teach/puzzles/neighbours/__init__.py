"""The neighbours of output sites."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sparsenet.teach.inputs import Example, examples
from sparsenet.teach.numpy_puzzle import Case, NumpyPuzzle


def cases() -> Iterator[Case]:
    for example in examples(20):
        g = example.rulebook.geometry
        inputs, outputs = example.cells
        given = {"inputs": inputs, "outputs": outputs, "offsets": g.kernel_offsets.astype(np.int64),
                 "stride": g.stride[0], "padding": g.padding[0]}
        yield Case(example.words, given, (example.rulebook.neighbours,), _explain(example))


def _explain(example: Example):
    def explain(_: int, index: tuple[int, ...]) -> str:
        (m, k), g = index, example.rulebook.geometry
        output, offset = example.cells[1][m].tolist(), g.kernel_offsets[k].tolist()
        cell = [a * g.stride[0] - g.padding[0] + b for a, b in zip(output, offset, strict=True)]
        row = example.rulebook.neighbours[m, k]
        return (f"Output {m} is the cell {output}; under offset {k}, which is {offset}, lies the input cell {output} * "
                f"{g.stride[0]} - {g.padding[0]} + {offset} = {cell}, {f'site {row}' if row >= 0 else 'no site'}.\n"
                f"{example.picture(m, k)}")

    return explain


def _table(inputs: np.ndarray, cells: np.ndarray) -> np.ndarray:
    rows = {tuple(cell): n for n, cell in enumerate(inputs.tolist())}
    return np.array([[rows.get(tuple(cell), -1) for cell in row] for row in cells.tolist()]).reshape(cells.shape[:2])


PUZZLE = NumpyPuzzle(
    __name__, "Which site lies under each offset", """
    For the output cell m and the kernel offset k a convolution reads the input cell

        n = m * stride - padding + k                                              (for each axis)

    Return the neighbours, (M, K): the row, in inputs, of the site under offset k of output m, or -1 if that cell is
    inactive or outside the grid.  Given are

        inputs (N, D)      the input sites          offsets (K, D)     the kernel offsets
        outputs (M, D)     the output sites         stride, padding    whole numbers

    A table of rows by cells is enough; sparsenet uses a hash table of keys.
    """, (
        "A dict from tuple(cell) to row answers whether a cell is a site: rows.get(cell, -1).",
        "{tuple(cell): row for row, cell in enumerate(inputs.tolist())} is such a dict.",
        "Two loops, over m and over k: table[m, k] = rows.get(tuple((outputs[m] * stride - padding + "
        "offsets[k]).tolist()), "
        "-1)"),
    results=("neighbours",), cases=cases, mistakes=(
        ("The offset is subtracted: that is a convolution with a mirrored filter.  Deep learning adds it "
         "(cross-correlation).",
         lambda inputs, outputs, offsets, stride, padding:
         _table(inputs, outputs[:, None] * stride - padding - offsets)),
        ("The padding is left out, or has the wrong sign: padding moves each window towards the first corner.",
         lambda inputs, outputs, offsets, stride, padding: _table(inputs, outputs[:, None] * stride + offsets)),
        ("The padding is left out, or has the wrong sign: padding moves each window towards the first corner.",
         lambda inputs, outputs, offsets, stride, padding:
         _table(inputs, outputs[:, None] * stride + padding + offsets)),
        ("The stride is left out: window m begins at m * stride.",
         lambda inputs, outputs, offsets, stride, padding: _table(inputs, outputs[:, None] - padding + offsets)),
        ("An inactive cell is 0 here, which is a row; it has to be -1.",
         lambda inputs, outputs, offsets, stride, padding:
         np.maximum(_table(inputs, outputs[:, None] * stride - padding + offsets), 0))))
