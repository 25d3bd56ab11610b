"""The measures of shape retrieval for rankings by descriptors, exact in the presence of ties.

Every shape is a query once; the other M = N - 1 are ranked by distance, and the R of its own class
are relevant.  Shapes at the same distance form a tie group and are treated alike: a
relevant item has the precision at the end of its group (as in scikit-learn's
`average_precision_score`), and a group that straddles a cut-off at rank k counts in proportion
to its ranks up to k.  So an embedding that maps all shapes to one point scores at chance level.

    AP    mean over the relevant items of the precision at their rank; mAP is its mean
    AUC   trapezoidal area under the precision-recall curve through (0, 1) and the points
          (i / R, precision at relevant item i): AP + (1 - last precision) / 2R
    NN    share of relevant items at rank 1
    FT    first tier, the recall at rank R;  ST: second tier, the recall at rank 2R
    E     2PR / (P + R) of precision and recall at rank 32 (at rank M if that is less)
    NDCG  sum of 1 / log2(1 + rank) over the relevant items, divided by its maximum;
          over the whole list; a tied item has the mean of its group's terms

Sources: Shilane et al., The Princeton Shape Benchmark (2004), for NN, FT, ST and E; Järvelin and
Kekäläinen (2002) for NDCG.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sparsenet.kernels.cpu.threads import run_blocks, single_threaded_blas
from sparsenet.retrieval.distances import Space, check_metric, check_vectors
from sparsenet.retrieval.ranking import stand
from sparsenet.retrieval.result import MEASURES, Evaluation, Scores

PAPER_OBJECTS = 20  # objects of each class, the first by name
_BLOCK = 1 << 20  # distances that a thread holds at a time


def evaluate(descriptors: Any, labels: Any, metric: str = "cosine", protocol: str | None = None,
             names: Any = None) -> Evaluation:
    """Rank all other shapes for each shape by their descriptors, and measure how high those of its
    class rank.

    Parameters
    ----------
    descriptors : (S, C) real numbers; computations are in float64.
    labels : (S,) integers or strings, the class of each shape; -1 if unknown: such a shape is
        ranked, but is not a query and never relevant (protocol "paper" leaves it out).
    metric : "cosine" or "l2"; a zero vector has cosine 0 with every vector.
    protocol : None uses all shapes; "paper" the first 20 of each class by name (by row without
        names), for both queries and rankings.
    names : (S,) strings, the name of each shape; used only by protocol "paper".

    Returns
    -------
    Evaluation : mAP, AUC, NN, FT, ST, E and NDCG as means over queries and over classes, the
        precision-recall curve, and the figures of each query.  A shape without a relevant item is not a
        query, but is ranked; `skipped` counts such shapes, `unknown` those labelled -1.

    Raises
    ------
    TypeError, ValueError : NaN or infinite descriptors, arrays that do not match, an unknown
        metric or protocol, under "paper" a class with fewer than 20 shapes, or no shape with a
        relevant item.

    Works in blocks: 12,311 descriptors of 256 numbers take seconds and a few hundred MB.

    Example
    -------
    >>> found = evaluate([[0.0, 1.0], [0.1, 1.0], [1.0, 0.0], [1.0, 0.1]], ["chair", "chair", "table", "table"])
    >>> found.mAP, found.NN, found.skipped
    (1.0, 1.0, 0)
    """
    check_metric("evaluate", metric)
    vectors = check_vectors("evaluate", "descriptors", descriptors)
    labels = _check_column("labels", labels, len(vectors))
    names = None if names is None else _check_column("names", names, len(vectors))
    rows = _select(protocol, labels, names)
    values, classes = np.unique(labels[rows], return_inverse=True)
    relevant = np.bincount(classes, minlength=1)[classes] - 1
    unknown = _unknown(labels[rows])
    relevant[unknown] = 0
    queries = np.flatnonzero(relevant)
    if not queries.size:
        raise ValueError(f"evaluate: none of the {len(rows)} shapes shares its class with another, so "
                         "nothing can be retrieved")

    blocks = _blocks(relevant)
    space = Space(vectors[rows], metric)
    figures = {name: np.full(len(vectors), np.nan) for name in ("AP", "AUC", "NN", "FT", "ST", "E", "NDCG")}
    sums: list[Any] = [None] * len(blocks)

    def measure(block: int) -> None:
        standing = stand(space, classes, blocks[block])
        for name, of_queries in standing.measures().items():
            figures[name][rows[blocks[block]]] = of_queries
        sums[block] = standing.precision.sum(axis=0), standing.hits_at_ranks()

    with single_threaded_blas():
        run_blocks(measure, len(blocks))

    recall, precision = _mean_curve([precision for precision, _ in sums], [b.size for b in blocks])
    per_class = {values[c].item(): _means(figures, rows[classes == c]) for c in np.unique(classes[queries])}
    macro = {name: float(np.mean([getattr(s, name) for s in per_class.values()])) for name in MEASURES}
    return Evaluation(
        **vars(_means(figures, rows[queries])), precision=precision, recall=recall,
        skipped=len(rows) - queries.size - int(unknown.sum()), unknown=int(unknown.sum()), queries=queries.size,
        metric=metric, macro=Scores(**macro), per_class=per_class, per_query=figures,
        hits=sum(hits for _, hits in sums) / queries.size,
    )


def _check_column(name: str, column: Any, rows: int) -> np.ndarray:
    """(S,) integers or strings."""
    column = np.asarray(column)
    if column.dtype == object and all(isinstance(entry, str) for entry in column.flat):
        column = column.astype(str)
    if column.shape != (rows,):
        raise ValueError(f"evaluate: {name} have shape {column.shape}, expected ({rows},): one for each row of "
                         "the descriptors")
    if column.dtype.kind not in "iubUS":
        raise TypeError(f"evaluate: {name} have dtype {column.dtype}, expected integers or strings")
    return column


def _unknown(labels: np.ndarray) -> np.ndarray:
    """(S,) bool: whether the class is unknown."""
    return labels == -1 if labels.dtype.kind == "i" else np.zeros(len(labels), bool)


def _select(protocol: str | None, labels: np.ndarray, names: np.ndarray | None) -> np.ndarray:
    """The rows selected by the protocol, ascending."""
    if protocol is None:
        return np.arange(len(labels))
    if protocol != "paper":
        raise ValueError(f"evaluate: protocol is {protocol!r}, expected None or 'paper'")
    by_name = np.arange(len(labels)) if names is None else np.argsort(names, kind="stable")
    chosen = []
    for value in np.unique(labels[~_unknown(labels)]):
        rows = by_name[labels[by_name] == value]
        if rows.size < PAPER_OBJECTS:
            raise ValueError(f"evaluate: class {value.item()!r} has {rows.size} shapes, protocol 'paper' takes "
                             f"{PAPER_OBJECTS} of each class: use protocol None")
        chosen.append(rows[:PAPER_OBJECTS])
    return np.sort(np.concatenate(chosen)) if chosen else np.arange(0)


def _blocks(relevant: np.ndarray) -> list[np.ndarray]:
    """The queries in groups with the same number of relevant items that fit in memory."""
    per_block = max(1, _BLOCK // relevant.size)
    blocks = []
    for number in np.unique(relevant[relevant > 0]):
        queries = np.flatnonzero(relevant == number)
        blocks += [queries[start : start + per_block] for start in range(0, queries.size, per_block)]
    return blocks


def _mean_curve(precisions: list[np.ndarray], counts: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """The mean of the queries' piecewise linear precision-recall curves.

    precisions : for each block of queries (R,), their summed precisions at recall 1/R, 2/R, ..., 1.
    counts : number of queries of each block.

    Returns
    -------
    recall, precision : (L,) float64 from (0, 1) on, at every recall level of every query, so that
        the trapezoidal area under it is exactly the mean of the areas.
    """
    total: dict[int, np.ndarray] = {}
    number: dict[int, int] = {}
    for precision, count in zip(precisions, counts, strict=True):
        total[precision.size] = total.get(precision.size, 0.0) + precision
        number[precision.size] = number.get(precision.size, 0) + count
    levels = {r: np.arange(r + 1) / r for r in total}
    recall = np.unique(np.concatenate(list(levels.values())))
    mean = np.zeros(recall.size)
    for r, precision in total.items():
        mean += np.interp(recall, levels[r], np.append(number[r], precision))
    return recall, mean / sum(counts)


def _means(figures: dict[str, np.ndarray], rows: np.ndarray) -> Scores:
    means = {name: float(values[rows].mean()) for name, values in figures.items()}
    return Scores(mAP=means.pop("AP"), **means)
