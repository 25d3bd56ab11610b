"""The result of evaluating a retrieval: figures and precision-recall curve."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass, field, fields

import numpy as np

from sparsenet.wording import aligned, counted

CUT_OFFS = (1, 5, 10, 20)  # ranks at which precision is printed
LONGEST_LIST = 1000  # the longest list that SHREC'16 takes for a query
MEASURES = ("mAP", "AUC", "NN", "FT", "ST", "E", "NDCG")
COLUMNS = ("mAP", "chance", "AUC", "NN", "FT", "ST", "E", "NDCG")  # of a printed table


@dataclass(frozen=True)
class Scores:
    """Means of the measures defined in `metrics`, each between 0 and 1.

    chance : the mAP of a random ranking, which mAP is to be compared with
    """

    mAP: float
    AUC: float
    NN: float
    FT: float
    ST: float
    E: float
    NDCG: float
    chance: float
    interpolated_mAP: float

    @property
    def R_precision(self) -> float:
        """The precision at rank R: the same number as FT, the recall there."""
        return self.FT

    def __str__(self) -> str:
        return aligned([("", *COLUMNS), ("", *_percent(self))], left=(0,), rules=())


@dataclass(frozen=True)
class ClassHits:
    """The relevant items of a class's queries by rank.

    hits : (L,) float64, at ranks 1 to L = min(M, LONGEST_LIST), as a mean over the queries
    relevant : number of relevant items, R;  queries : number of queries
    """

    hits: np.ndarray
    relevant: int
    queries: int


@dataclass(frozen=True)
class PrecisionRecall:
    """Precision, recall and F1 up to a rank."""

    P: float
    R: float
    F1: float


@dataclass(frozen=True)
class AtRank:
    """P, R and F1 at N, as SHREC'16 reports them.  Prints as a table.

    micro : means over the queries;  macro : means over the classes of the means over a class's queries
    """

    N: int
    micro: PrecisionRecall
    macro: PrecisionRecall

    def __str__(self) -> str:
        rows = [(name, *(f"{100 * value:.2f}" for value in vars(scores).values()))
                for name, scores in (("mean over queries", self.micro), ("mean over classes", self.macro))]
        return aligned([("%", *(f"{name}@{self.N}" for name in ("P", "R", "F1"))), *rows], left=(0,), rules=())


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
    metric, protocol : as given to `evaluate`.
    unknown : number of other shapes of unknown class: ranked, but not queries and never relevant.
    hits : (M,) float64, relevant items at ranks 1 to M, as a mean over the queries.
    class_hits : the same for the queries of each class, up to rank LONGEST_LIST.
    """

    precision: np.ndarray = field(repr=False)
    recall: np.ndarray = field(repr=False)
    skipped: int
    queries: int
    unknown: int
    metric: str
    protocol: str | None
    macro: Scores
    per_class: dict[Hashable, Scores] = field(repr=False)
    per_query: dict[str, np.ndarray] = field(repr=False)
    hits: np.ndarray = field(repr=False)
    class_hits: dict[Hashable, ClassHits] = field(repr=False)

    def precision_at(self, k: int) -> float:
        """The share of relevant items among the first k, averaged over the queries.

        Raises
        ------
        ValueError : k is not from 1 to the length of the rankings.
        """
        if not 1 <= k <= self.hits.size:
            raise ValueError(f"precision_at: k is {k}, expected 1 to {self.hits.size}, the number of ranked shapes")
        return float(self.hits[:k].sum() / k)

    def at(self, n: int) -> AtRank:
        """Precision, recall and F1 of the first n, micro and macro, as SHREC'16 defines them.

        There n is the length of the list that a method returns for a query, at most 1000, and the list includes the
        query; here every query returns n shapes, and only protocol "3dshapenets" ranks the query itself.

        Raises
        ------
        ValueError : n is not from 1 to the length of the rankings, or to 1000 if they are longer.
        """
        longest = min(self.hits.size, LONGEST_LIST)
        if not 1 <= n <= longest:
            raise ValueError(f"at: n is {n}, expected 1 to {longest}")
        found = np.array([(h / n, h / of.relevant, 2 * h / (n + of.relevant))
                          for of in self.class_hits.values() for h in (of.hits[:n].sum(),)])
        weights = np.array([of.queries for of in self.class_hits.values()])
        micro, macro = (weights @ found / weights.sum()).tolist(), found.mean(axis=0).tolist()
        return AtRank(n, PrecisionRecall(*micro), PrecisionRecall(*macro))

    def figures(self, classes: Sequence[str] = ()) -> dict[str, object]:
        """The figures as a JSON-compatible dict.

        classes : names of the classes, if labels are indices into them
        """
        own = {f.name: getattr(self, f.name) for f in fields(Scores)}
        at = self.at(min(self.hits.size, LONGEST_LIST))
        per_class = {classes[label] if classes else str(label): asdict(scores)
                     for label, scores in self.per_class.items()}
        return {**own, "macro": asdict(self.macro), "queries": self.queries, "skipped": self.skipped,
                "unknown": self.unknown, "metric": self.metric, "protocol": self.protocol,
                "R_precision": self.R_precision, "shrec16": asdict(at),
                "precision_at": {str(k): self.precision_at(k) for k in self._cut_offs()}, "per_class": per_class}

    def _cut_offs(self) -> list[int]:
        return [k for k in CUT_OFFS if k <= self.hits.size]

    def __str__(self) -> str:
        rows = [("%", *COLUMNS), ("mean over queries", *_percent(self)), ("mean over classes", *_percent(self.macro))]
        skipped = f", {self.skipped} skipped (no other shape of their class)" if self.skipped else ""
        unknown = f", {self.unknown} of unknown class are ranked but are not queries" if self.unknown else ""
        precision = ", ".join(f"at {k} {100 * self.precision_at(k):.2f}" for k in self._cut_offs())
        itself = ""
        if self.protocol == "3dshapenets":
            itself = (f"interpolated mAP, %: {100 * self.interpolated_mAP:.2f}; each pose is a query and its own first "
                      "hit\n")
        queries = (f"{counted(self.queries, 'query', 'queries')} of "
                   f"{counted(len(self.per_class), 'class', 'classes')}, each ranks {counted(self.hits.size, 'shape')}")
        return (f"{aligned(rows, left=(0,), rules=())}\nprecision, %: {precision}, at R {100 * self.R_precision:.2f}\n"
                f"{itself}{queries} by {self.metric}{skipped}{unknown}")


def _percent(scores: Scores) -> list[str]:
    return [f"{100 * getattr(scores, name):.2f}" for name in COLUMNS]
