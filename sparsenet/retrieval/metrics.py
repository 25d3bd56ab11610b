"""The measures of shape retrieval for rankings by descriptors, exact in the presence of ties.

Every shape is a query once; the other M = N - 1 are ranked by distance, and the R of its own class
are relevant.  Shapes at the same distance form a tie group and are treated alike: a
relevant item has the precision at the end of its group (as in scikit-learn's
`average_precision_score`), and a group that straddles a cut-off at rank k counts in proportion
to its ranks up to k.  So an embedding that maps all shapes to one point has a precision of R / M everywhere.

    AP    mean over the relevant items of the precision at their rank; mAP is its mean
    AUC   trapezoidal area under the precision-recall curve through (0, 1) and the points
          (i / R, precision at relevant item i): AP + (1 - last precision) / 2R
    NN    share of relevant items at rank 1
    FT    first tier, the recall at rank R, which is also the precision there, the R-precision
    ST    second tier, the recall at rank 2R
    E     2PR / (P + R) of precision and recall at rank 32 (at rank M if that is less)
    NDCG  sum of 1 / log2(1 + rank) over the relevant items, divided by its maximum;
          over the whole list; a tied item has the mean of its group's terms
    interpolated AP   mean over the relevant items of the greatest precision at their rank or a later one
    chance            the expected AP of a random ranking, see `chance`; `chance` beside mAP is its mean
    P, R, F1 at N     precision h / N, recall h / R and their harmonic mean 2h / (N + R), h of the first N
                      being relevant; micro: means over the queries, macro: over the classes (`Evaluation.at`)

Sources: Shilane et al., The Princeton Shape Benchmark (2004), for NN, FT, ST and E; Järvelin and
Kekäläinen, Cumulated gain-based evaluation of IR techniques (2002), for NDCG; Manning, Raghavan and Schütze,
Introduction to Information Retrieval (2008), section 8.4, for AP, interpolated precision, precision at k and
R-precision; Savva et al., SHREC'16 Track: Large-Scale 3D Shape Retrieval from ShapeNet Core55 (2016), for P, R and F1
at N, micro and macro; Wu et al., 3D ShapeNets (2015) and the code published with it, for protocol "3dshapenets".
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from sparsenet.kernels.cpu.threads import run_blocks, single_threaded_blas
from sparsenet.retrieval.chance import expected_average_precision
from sparsenet.retrieval.distances import check_metric, check_vectors
from sparsenet.retrieval.protocols import PAPER_OBJECTS, PROTOCOLS, check_column, select, unknown
from sparsenet.retrieval.ranking import Queries, Standing, stand
from sparsenet.retrieval.result import LONGEST_LIST, ClassHits, Evaluation, Scores
from sparsenet.retrieval.space import Space

__all__ = ["PAPER_OBJECTS", "PROTOCOLS", "evaluate"]

_BLOCK = 1 << 20  # distances that a thread holds at a time
_FIGURES = ("AP", "AUC", "NN", "FT", "ST", "E", "NDCG", "interpolated_AP", "chance")


def evaluate(descriptors: Any, labels: Any, metric: str = "cosine", protocol: str | None = None,
             names: Any = None, queries: tuple[Any, Any] | None = None) -> Evaluation:
    """Rank all other shapes for each shape by their descriptors, and measure how high those of its
    class rank.

    Parameters
    ----------
    descriptors : (S, C) real numbers; computations are in float64.
    labels : (S,) integers or strings, the class of each shape; -1 if unknown: such a shape is
        ranked, but is not a query and never relevant (the protocols leave it out).
    metric : "cosine" or "l2"; a zero vector has cosine 0 with every vector.
    protocol : None uses all shapes; "paper" the first 20 of each class by name (by row without
        names), for both queries and rankings; "3dshapenets" all poses of the first 20 objects of each class by name:
        each row is a pose of the object of that name, a query, and ranked for every query, itself included as a hit
        at rank 1.  With the 12 poses of ModelNet40 R is 240.  The code published with 3DShapeNets ranks by L2; its
        'mean_ap_auc' is `interpolated_mAP`, its 'mean_ap_trec' is `mAP`.
    names : (S,) strings, the name of each shape; used only by the protocols.
    queries : (vectors (Q, C), labels (Q,)): rank the S shapes, the gallery, for each of these instead.  No shape is
        left out of a ranking, so a query should not be in the gallery.

    Returns
    -------
    Evaluation : mAP, AUC, NN, FT, ST, E and NDCG as means over queries and over classes, the
        precision-recall curve, the chance level, and the figures of each query.  A shape without a relevant item is not
        a query, but is ranked; `skipped` counts such shapes, `unknown` those labelled -1.  With `queries`, `skipped`
        counts those whose class is unknown or not in the gallery, `unknown` the shapes of the gallery labelled -1.

    Raises
    ------
    TypeError, ValueError : NaN or infinite descriptors, arrays that do not match, an unknown
        metric or protocol, a protocol with queries, under a protocol a class with fewer than 20 shapes, under
        "3dshapenets" no names, or no shape with a relevant item.

    Works in blocks: 12,311 descriptors of 256 numbers take seconds and a few hundred MB.

    Example
    -------
    >>> found = evaluate([[0.0, 1.0], [0.1, 1.0], [1.0, 0.0], [1.0, 0.1]], ["chair", "chair", "table", "table"])
    >>> found.mAP, found.NN, found.skipped
    (1.0, 1.0, 0)
    """
    check_metric("evaluate", metric)
    vectors = check_vectors("evaluate", "descriptors", descriptors)
    labels = check_column("labels", labels, len(vectors))
    names = None if names is None else check_column("names", names, len(vectors))
    if queries is not None and protocol is not None:
        raise ValueError(f"evaluate: protocol is {protocol!r}, but a protocol chooses its queries among the shapes: "
                         "give queries or a protocol")
    rows = select(protocol, labels, names)
    space = Space(vectors[rows], metric)
    values, classes = np.unique(labels[rows], return_inverse=True)
    of_unknown_class = unknown(labels[rows])
    counts = np.bincount(classes[~of_unknown_class], minlength=max(len(values), 1))
    if queries is None:
        itself = protocol == "3dshapenets"
        asked = Queries(space.place(vectors[rows]), classes, np.arange(len(rows)), itself)
        relevant = counts[classes] - (0 if itself else 1)
        relevant[of_unknown_class] = 0
        places, skipped = rows, -int(of_unknown_class.sum())
    else:
        asked = _asked(space, values, queries, vectors.shape[1], labels.dtype.kind)
        relevant = np.where(asked.classes < 0, 0, counts[asked.classes])
        places, skipped = np.arange(len(relevant)), 0
    found = np.flatnonzero(relevant)
    if not found.size:
        raise ValueError(f"evaluate: none of the {len(rows)} shapes shares its class with another, so "
                         "nothing can be retrieved" if queries is None else
                         f"evaluate: none of the {len(relevant)} queries shares its class with one of the {len(rows)} "
                         "shapes of the gallery, so nothing can be retrieved")
    return _measured(space, values, classes, asked, relevant, places, len(vectors) if queries is None else len(places),
                     skipped=skipped + len(relevant) - found.size, unknown=int(of_unknown_class.sum()), metric=metric,
                     protocol=protocol)


def _asked(space: Space, values: np.ndarray, queries: tuple[Any, Any], width: int, kind: str) -> Queries:
    """The queries given apart from the gallery; their classes number `values`, -1 if absent or unknown."""
    if not isinstance(queries, tuple | list) or len(queries) != 2:
        raise TypeError("evaluate: queries is not a pair, expected (vectors (Q, C), labels (Q,))")
    vectors = check_vectors("evaluate", "queries", queries[0])
    if vectors.shape[1] != width:
        raise ValueError(f"evaluate: the queries have {vectors.shape[1]} numbers each, the descriptors {width}: embed "
                         "them with the same network and layer")
    labels = check_column("labels of the queries", queries[1], len(vectors))
    if (labels.dtype.kind in "US") != (kind in "US") and labels.size and values.size:
        raise TypeError(f"evaluate: labels of the queries have dtype {labels.dtype}, those of the descriptors "
                        f"{values.dtype}: expected both integers or both strings")
    number = {value: place for place, value in enumerate(values.tolist())}
    classes = [-1 if is_unknown else number.get(value, -1)
               for value, is_unknown in zip(labels.tolist(), unknown(labels), strict=True)]
    return Queries(space.place(vectors), np.array(classes, np.int64))


def _measured(space: Space, values: np.ndarray, classes: np.ndarray, asked: Queries, relevant: np.ndarray,
              places: np.ndarray, length: int, **details: Any) -> Evaluation:
    """Rank and measure.

    values : the classes' names;  classes : (N,) int, their numbers, of the ranked vectors
    relevant : (Q,) int, the relevant items of each query; 0 to leave it out
    places, length : (Q,) int, each query's place in the arrays of figures, and their length
    """
    blocks = _blocks(relevant, len(space))
    figures = {name: np.full(length, np.nan) for name in _FIGURES}
    sums: list[Any] = [None] * len(blocks)

    def measure(block: int) -> None:
        queries = asked[blocks[block]]
        standing = stand(space, classes, queries)
        for name, of_queries in standing.measures().items():
            figures[name][places[blocks[block]]] = of_queries
        figures["chance"][places[blocks[block]]] = expected_average_precision(
            standing.start.shape[1], standing.ranked, asked.ranks_itself)
        sums[block] = standing.precision.sum(axis=0), standing.hits_at_ranks(), _hits_by_class(standing, queries)

    with single_threaded_blas():
        run_blocks(measure, len(blocks))

    found = np.flatnonzero(relevant)
    recall, precision = _mean_curve([block[0] for block in sums], [b.size for b in blocks])
    present = np.unique(asked.classes[found])
    per_class = {values[c].item(): _means(figures, places[found][asked.classes[found] == c]) for c in present}
    macro = {f.name: float(np.mean([getattr(s, f.name) for s in per_class.values()])) for f in fields(Scores)}
    class_hits = {}
    for c in present:
        queries = found[asked.classes[found] == c]
        hits = sum(block[2][c] for block in sums if c in block[2]) / queries.size
        class_hits[values[c].item()] = ClassHits(hits, int(relevant[queries[0]]), queries.size)
    return Evaluation(
        **vars(_means(figures, places[found])), precision=precision, recall=recall, queries=found.size,
        macro=Scores(**macro), per_class=per_class, per_query=figures,
        hits=sum(block[1] for block in sums) / found.size, class_hits=class_hits, **details)


def _hits_by_class(standing: Standing, queries: Queries) -> dict[int, np.ndarray]:
    """Class -> relevant items at each rank up to LONGEST_LIST, summed over the class's queries."""
    rank = min(standing.ranked, LONGEST_LIST)
    return {c: standing.hits_up_to(rank, queries.classes == c) for c in np.unique(queries.classes).tolist()}


def _blocks(relevant: np.ndarray, ranked: int) -> list[np.ndarray]:
    """The queries in groups with the same number of relevant items that fit in memory."""
    per_block = max(1, _BLOCK // ranked)
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
    return Scores(mAP=means.pop("AP"), interpolated_mAP=means.pop("interpolated_AP"), **means)
