"""Gather, multiply, scatter."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import sparsenet as sn
from sparsenet.teach.inputs import Example, examples
from sparsenet.teach.numpy_puzzle import Case, NumpyPuzzle

CHANNELS = ((2, 2), (1, 1), (3, 2), (2, 3), (2, 4), (2, 2))


def cases() -> Iterator[Case]:
    for example, (c_in, c_out) in zip(examples(40), CHANNELS, strict=True):
        book, rng = example.rulebook, example.rng()
        inputs, outputs, offsets = book.shape
        features, weights = rng.normal(size=(inputs, c_in)), rng.normal(size=(offsets, c_in, c_out))
        given = {"features": features, "weights": weights, "pairs": book.pairs, "splits": book.pair_splits,
                 "outputs": outputs}
        x = sn.SparseTensor.from_sites(features, book.input_sites)
        expected = np.asarray(sn.ops.convolution(x, sn.Tensor(weights), None, book.geometry).features)
        yield Case(f"{example.words}, {c_in} -> {c_out} channels", given, (expected,), explained(example))


def explained(example: Example):
    """The explanation of a wrong number of an output: its neighbours, drawn."""
    return lambda _, index: f"{example.pairs_of_output(index[0])}\n{example.picture(index[0])}"


def _mistaken(features, weights, pairs, splits, outputs, assign=False, transposed=False, unsplit=False):
    out = np.zeros((outputs, weights.shape[2]))
    for k in range(len(weights)):
        n, m = pairs[splits[k]:splits[k + 1]].T
        product = features[n] @ (weights[k].T if transposed else weights[0] if unsplit else weights[k])
        if assign:
            out[m] = product
        else:
            out[m] += product
    return out


PUZZLE = NumpyPuzzle(
    __name__, "Gather, multiply, scatter", """
    A sparse convolution is one small matrix product for each kernel offset.  For offset k, with its pairs (n, m):

        gather      the rows n of features (N, C_in)
        multiply    by weights[k]; weights are (K, C_in, C_out)
        scatter     add the products to the rows m of the result

    The pairs of offset k are pairs[splits[k]:splits[k + 1]], rows [input, output]; within one offset no output
    occurs twice.  Return the result, (outputs, C_out), where outputs is the number M of output sites; there is no
    bias, and inactive cells are zero.
    """, (
        "Begin with zeros, then loop over k.",
        "n, m = pairs[splits[k]:splits[k + 1]].T are the rows to gather and the rows to add to.",
        "An output has a product from each of its offsets: add, result[m] += features[n] @ weights[k]."),
    results=("result",), cases=cases, mistakes=(
        ("Each offset overwrites what the offsets before it have added: use += .",
         lambda **given: _mistaken(**given, assign=True)),
        ("The weights are transposed: a row of features times weights[k], which is (C_in, C_out).",
         lambda **given: _mistaken(**given, transposed=True)),
        ("All offsets use the weights of offset 0.", lambda **given: _mistaken(**given, unsplit=True))))
