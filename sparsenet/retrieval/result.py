"""The result of evaluating a retrieval: figures and precision-recall curve."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from sparsenet.wording import aligned, counted

CUT_OFFS = (1, 5, 10, 20)  # ranks at which precision is printed
MEASURES = ("mAP", "AUC", "NN", "FT", "ST", "E", "NDCG")


@dataclass(frozen=True)
class Scores:
    """Means of the measures defined in `metrics`, each between 0 and 1."""

    mAP: float
    AUC: float
    NN: float
    FT: float
    ST: float
    E: float
    NDCG: float

    def __str__(self) -> str:
        return aligned([("", *MEASURES), ("", *_percent(self))], left=(0,), rules=())


@dataclass(frozen=True)
class Evaluation(Scores):
    """The result of `evaluate`: the measures as means over the queries, and details.  Prints as a table.

    precision, recall : (L,) float64, the precision-recall curve from recall 0, precision 1: the mean
        of the queries' curves, exact at each recall level i / R that a query has.
    macro : means over the classes of the means over a class's queries.
    per_class : the means over the queries of each class with queries.
    per_query : name of a measure ("AP" instead of mAP) -> (S,) float64, one figure for each row of the
        descriptors, NaN if it was not a query.
    queries, skipped : number of queries, and number of shapes without a relevant item.
    unknown : number of other shapes of unknown class: ranked, but not queries and never relevant.
    hits : (M,) float64, relevant items at ranks 1 to M, as a mean over the queries.
    """

    precision: np.ndarray = field(repr=False)
    recall: np.ndarray = field(repr=False)
    skipped: int
    queries: int
    unknown: int
    metric: str
    macro: Scores
    per_class: dict[Hashable, Scores] = field(repr=False)
    per_query: dict[str, np.ndarray] = field(repr=False)
    hits: np.ndarray = field(repr=False)

    def precision_at(self, k: int) -> float:
        """The share of relevant items among the first k, averaged over the queries.

        Raises
        ------
        ValueError : k is not from 1 to the length of the rankings.
        """
        if not 1 <= k <= self.hits.size:
            raise ValueError(f"precision_at: k is {k}, expected 1 to {self.hits.size}, the number of ranked shapes")
        return float(self.hits[:k].sum() / k)

    def figures(self, classes: Sequence[str] = ()) -> dict[str, object]:
        """The figures as a JSON-compatible dict.

        classes : names of the classes, if labels are indices into them
        """
        own = {name: getattr(self, name) for name in MEASURES}
        per_class = {classes[label] if classes else str(label): asdict(scores)
                     for label, scores in self.per_class.items()}
        return {**own, "macro": asdict(self.macro), "queries": self.queries, "skipped": self.skipped,
                "unknown": self.unknown, "metric": self.metric,
                "precision_at": {str(k): self.precision_at(k) for k in self._cut_offs()}, "per_class": per_class}

    def _cut_offs(self) -> list[int]:
        return [k for k in CUT_OFFS if k <= self.hits.size]

    def __str__(self) -> str:
        rows = [("%", *MEASURES), ("mean over queries", *_percent(self)), ("mean over classes", *_percent(self.macro))]
        skipped = f", {self.skipped} skipped (alone in their class)" if self.skipped else ""
        unknown = f", {self.unknown} of unknown class are ranked but are not queries" if self.unknown else ""
        precision = ", ".join(f"at {k} {100 * self.precision_at(k):.2f}" for k in self._cut_offs())
        queries = (f"{counted(self.queries, 'query', 'queries')} of "
                   f"{counted(len(self.per_class), 'class', 'classes')}, each ranks {counted(self.hits.size, 'shape')}")
        return (f"{aligned(rows, left=(0,), rules=())}\nprecision, %: {precision}\n"
                f"{queries} by {self.metric}{skipped}{unknown}")


def _percent(scores: Scores) -> list[str]:
    return [f"{100 * getattr(scores, name):.2f}" for name in MEASURES]
