"""A convolution whose inactive cells are not zero."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import sparsenet as sn
from sparsenet.teach.inputs import examples
from sparsenet.teach.numpy_puzzle import Case, NumpyPuzzle
from sparsenet.teach.puzzles.convolution import CHANNELS, explained


def cases() -> Iterator[Case]:
    for example, (c_in, c_out) in zip(examples(50), CHANNELS, strict=True):
        book, rng = example.rulebook, example.rng()
        features, background = rng.normal(size=(book.shape[0], c_in)), rng.normal(size=c_in)
        weights, bias = rng.normal(size=(book.shape[2], c_in, c_out)), rng.normal(size=c_out)
        x = sn.SparseTensor.from_sites(features, book.input_sites, background=background)
        y = sn.ops.convolution(x, sn.Tensor(weights), sn.Tensor(bias), book.geometry)
        yield Case(f"{example.words}, {c_in} -> {c_out} channels",
                   {"features": features, "background": background, "weights": weights, "bias": bias,
                    "neighbours": book.neighbours.copy()},
                   (np.asarray(y.features), np.asarray(y.background)), _explain(explained(example)))


def _explain(at_output):
    def explain(result: int, index: tuple[int, ...]) -> str:
        if result:
            return "The output's background is what an output cell gets that no site reaches."
        return at_output(0, index)

    return explain


def _mistaken(features, background, weights, bias, neighbours, zero=False, no_bias=False, unsubtracted=False):
    shifted = features if zero or unsubtracted else features - background
    whole = np.concatenate([shifted, np.zeros((1, weights.shape[1]))])
    result = np.einsum("mki,kio->mo", whole[neighbours], weights)
    constant = bias if zero else background @ weights.sum(axis=0) + (0 if no_bias else bias)
    return result + constant, background @ weights.sum(axis=0) + (0 if no_bias else bias)


PUZZLE = NumpyPuzzle(
    __name__, "A background that is not zero", """
    After a bias and an activation the inactive cells of a grid are not zero: all of them hold one vector, the
    background (C_in,).  A convolution that is to equal the dense one has to read the background in each inactive
    cell, and outside the grid.  To add it for every missing neighbour would cost as much as the dense convolution.
    But convolution is linear: shift all cells by the background, so that inactive ones become zero, and add what
    was taken away:

        result[m] = sum over k of (x - background)[neighbours[m, k]] @ weights[k]     where there is a neighbour
                    + a row that is the same for every output

    Return (result, new_background): (M, C_out), and (C_out,), what the inactive cells of the output hold.  Given
    are features (N, C_in), background (C_in,), weights (K, C_in, C_out), bias (C_out,), neighbours (M, K), -1:
    inactive.
    """, (
        "What does an output cell get whose K neighbours are all inactive?  That is the row, and the new background.",
        "constant = background @ weights.sum(axis=0) + bias",
        "For offset k: m = np.flatnonzero(neighbours[:, k] >= 0); result[m] += (features - background)[neighbours[m, "
        "k]] @ "
        "weights[k]; at the end add the constant to each row."),
    results=("result", "new_background"), cases=cases, mistakes=(
        ("Inactive cells count as zeros in the result; they hold the background.",
         lambda **given: _mistaken(**given, zero=True)),
        ("The bias is missing.", lambda **given: _mistaken(**given, no_bias=True)),
        ("The background is added for all K cells, those with a site too: subtract it from the features first.",
         lambda **given: _mistaken(**given, unsubtracted=True))))
