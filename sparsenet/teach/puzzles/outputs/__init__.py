"""The output sites of a convolution."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sparsenet.teach.inputs import Example, examples
from sparsenet.teach.numpy_puzzle import Case, NumpyPuzzle


def cases() -> Iterator[Case]:
    for example in examples(10):
        g = example.rulebook.geometry
        inputs, outputs = example.cells
        given = {"inputs": inputs, "offsets": g.kernel_offsets.astype(np.int64), "stride": g.stride[0],
                 "padding": g.padding[0], "output_size": example.rulebook.output_size}
        yield Case(example.words, given, (outputs,), _explain(example))


def _explain(example: Example):
    return lambda _, index: example.picture(index[0])


def _without(bounds: bool, divisible: bool):
    def outputs(inputs, offsets, stride, padding, output_size):
        cells = (inputs[:, None] + padding - offsets).reshape(-1, inputs.shape[1])
        good = np.ones(len(cells), bool)
        if divisible:
            good &= (cells % stride == 0).all(axis=1)
        cells = cells // stride
        if bounds:
            good &= ((cells >= 0) & (cells < output_size)).all(axis=1)
        return np.unique(cells[good], axis=0)

    return outputs


PUZZLE = NumpyPuzzle(
    __name__, "Which output cells are active", """
    A convolution reads, for the output cell m and the kernel offset k, the input cell

        n = m * stride - padding + k                                              (for each axis)

    An output cell is active if at least one of its offsets meets an active input site.  Return the active output
    cells, (M, D), each once, in row-major order, from

        inputs (N, D)      the input sites, without the batch          offsets (K, D)     the kernel offsets
        stride, padding    whole numbers                               output_size (D,)   sides of the output grid
    """, (
        "Turn the formula round: an input site n and an offset k belong to m = (n + padding - k) / stride.",
        "Such an m is an output cell only if the division leaves no rest, along each axis ...",
        "... and if m lies in the output grid: 0 <= m < output_size along each axis.",
        "np.unique(cells, axis=0) keeps each row once, in order.  (inputs[:, None] - offsets) has the shape (N, K, "
        "D)."),
    results=("outputs",), cases=cases, mistakes=(
        ("Some of these cells lie outside the output grid: keep 0 <= m < output_size along each axis.",
         _without(bounds=False, divisible=True)),
        ("Some of these cells come of a division with a rest: no offset joins them to the site.",
         _without(bounds=True, divisible=False)),
        ("Some of these cells lie outside the output grid, or come of a division with a rest.",
         _without(bounds=False, divisible=False))))
