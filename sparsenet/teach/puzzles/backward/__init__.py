"""The backward pass of a convolution."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import sparsenet as sn
from sparsenet.teach.inputs import examples
from sparsenet.teach.numpy_puzzle import Case, NumpyPuzzle
from sparsenet.teach.puzzles.convolution import CHANNELS


def cases() -> Iterator[Case]:
    for example, (c_in, c_out) in zip(examples(70), CHANNELS, strict=True):
        book, rng = example.rulebook, example.rng()
        inputs, outputs, offsets = book.shape
        features, weights = rng.normal(size=(inputs, c_in)), rng.normal(size=(offsets, c_in, c_out))
        gradient = rng.normal(size=(outputs, c_out))
        x, w = sn.Tensor(features, requires_grad=True), sn.Tensor(weights, requires_grad=True)
        y = sn.ops.convolution(sn.SparseTensor.from_sites(x, book.input_sites), w, None, book.geometry)
        (y.features * gradient).sum().backward()
        expected = (np.asarray(x.grad), np.asarray(w.grad))

        def explain(result: int, index: tuple[int, ...], book=book) -> str:
            if result:
                n, m = book.pairs[book.pair_splits[index[0]]:book.pair_splits[index[0] + 1]].T.tolist()
                return f"Offset {index[0]} joins the inputs {n} to the outputs {m}, one by one."
            row = book.transposed_neighbours[index[0]]
            told = ", ".join(f"offset {k}: output {m}" for k, m in enumerate(row) if m >= 0)
            return f"Input {index[0]} contributed to {np.count_nonzero(row >= 0)} outputs ({told})."

        yield Case(f"{example.words}, {c_in} -> {c_out} channels",
                   {"gradient": gradient, "features": features, "weights": weights, "pairs": book.pairs,
                    "splits": book.pair_splits}, expected, explain)


def _mistaken(gradient, features, weights, pairs, splits, assign=False, untransposed=False, exchanged=False):
    of_features, of_weights = np.zeros_like(features), np.zeros_like(weights)
    for k in range(len(weights)):
        n, m = pairs[splits[k]:splits[k + 1]].T
        product = gradient[m] @ (weights[k] if untransposed else weights[k].T)
        if assign:
            of_features[n] = product
        else:
            of_features[n] += product
        of_weights[k] = (gradient[m].T @ features[n]) if exchanged else features[n].T @ gradient[m]
    return of_features, of_weights


PUZZLE = NumpyPuzzle(
    __name__, "The backward pass of a convolution", """
    The forward pass is: for each offset k and each of its pairs (n, m), result[m] += features[n] @ weights[k].  A
    loss has the gradient (M, C_out) with respect to the result.  Go back over the same pairs, and return its
    gradients with respect to the features, (N, C_in), and to the weights, (K, C_in, C_out).

    In the forward pass a pair reads row n and adds to row m.  In the backward pass it reads row m and adds to row
    n: the transposed neighbours of a rulebook are the same pairs, sorted by input.
    """, (
        "For a product y = x @ W: the gradient of x is dy @ W.T, and that of W is x.T @ dy.",
        "An input takes part in several outputs: its gradients add up, of_features[n] += ...",
        "of_features[n] += gradient[m] @ weights[k].T, and of_weights[k] = features[n].T @ gradient[m]"),
    results=("gradient_of_features", "gradient_of_weights"), cases=cases, mistakes=(
        ("Each offset overwrites the gradient that the offsets before it have given to an input: use += .",
         lambda **given: _mistaken(**given, assign=True)),
        ("weights[k] has to be transposed on the way back: gradient[m] @ weights[k].T.",
         lambda **given: _mistaken(**given, untransposed=True)),
        ("The gradient of the weights is transposed: features[n].T @ gradient[m] is (C_in, C_out).",
         lambda **given: _mistaken(**given, exchanged=True))))
