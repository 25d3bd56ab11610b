"""The ranks of the relevant items of a query, with tie groups.

    rank      1   2   3   4   5   6        distances of the ranked items
    distance .1  .3  .3  .3  .5  .8
    group    [1] [2   2   2] [3] [4]       items at one distance
    relevant      x       x       x        R = 3

    start    1, 1, 5     items ranked before the group of each relevant item
    end      4, 4, 6     items ranked up to the end of its group
    hits     2, 2, 3     relevant items among those

All measures of `metrics` are sums over the relevant items of functions of start, end and hits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparsenet.retrieval.space import Space

E_RANK = 32


@dataclass(frozen=True)
class Standing:
    """The relevant items of Q queries with R each: int64 arrays (Q, R), by rank.

    ranked : M, the number of items in each ranking.
    """

    start: np.ndarray
    end: np.ndarray
    hits: np.ndarray
    ranked: int

    @property
    def precision(self) -> np.ndarray:
        """(Q, R) float64: the precision at each relevant item, at the end of its tie group."""
        return self.hits / self.end

    def hits_within(self, rank: int) -> np.ndarray:
        """(Q,) float64: relevant items up to a rank; a tie group that straddles it counts in proportion."""
        share = (rank - self.start) / (self.end - self.start)
        return np.clip(share, 0.0, 1.0).sum(axis=1)

    def hits_at_ranks(self) -> np.ndarray:
        """(M,) float64: relevant items at each rank, summed over the queries; those of a tie group
        are spread evenly over its ranks."""
        share = (1.0 / (self.end - self.start)).ravel()
        steps = np.bincount(self.start.ravel(), share, self.ranked + 1)
        steps -= np.bincount(self.end.ravel(), share, self.ranked + 1)
        return np.cumsum(steps[:-1])

    def hits_up_to(self, rank: int, chosen: np.ndarray) -> np.ndarray:
        """(rank,) float64: relevant items at ranks 1 to `rank`, summed over the chosen queries (Q,) bool."""
        part = Standing(self.start[chosen], self.end[chosen], self.hits[chosen], self.ranked)
        return part.hits_at_ranks()[:rank]

    def measures(self) -> dict[str, np.ndarray]:
        """(Q,) float64 for each of AP, AUC, NN, FT, ST, E, NDCG and interpolated_AP (defined in `metrics`)."""
        relevant = self.start.shape[1]
        precision = self.precision
        average = precision.mean(axis=1)
        interpolated = np.maximum.accumulate(precision[:, ::-1], axis=1)  # the greatest at this recall or a higher one
        cut = min(E_RANK, self.ranked)
        return {
            "AP": average,
            "AUC": average + (1.0 - precision[:, -1]) / (2 * relevant),
            "NN": self.hits_within(1),
            "FT": self.hits_within(relevant) / relevant,
            "ST": self.hits_within(2 * relevant) / relevant,
            "E": 2.0 * self.hits_within(cut) / (cut + relevant),
            "NDCG": self._discounted_gain() / _discounts(relevant).sum(),
            "interpolated_AP": interpolated.mean(axis=1),
        }

    def _discounted_gain(self) -> np.ndarray:
        discounts = _discounts(self.ranked)
        total = np.concatenate(([0.0], np.cumsum(discounts)))
        size = self.end - self.start
        mean = (total[self.end] - total[self.start]) / size
        return np.where(size == 1, discounts[self.start], mean).sum(axis=1)


def _discounts(ranks: int) -> np.ndarray:
    """(ranks,) float64: 1 / log2(1 + rank) for rank = 1, 2, ..."""
    return 1.0 / np.log2(np.arange(2.0, ranks + 2.0))


@dataclass(frozen=True)
class Queries:
    """Q queries: their vectors, prepared by `Space.place`, their classes, and, if they are themselves among the ranked
    vectors, their rows there.

    vectors : (Q, C) float64;  classes : (Q,) int
    own : (Q,) int, or None
    ranks_itself : whether a query is ranked itself, at rank 1 and as a relevant item, rather than left out
    """

    vectors: np.ndarray
    classes: np.ndarray
    own: np.ndarray | None = None
    ranks_itself: bool = False

    def __getitem__(self, chosen: np.ndarray) -> Queries:
        own = None if self.own is None else self.own[chosen]
        return Queries(self.vectors[chosen], self.classes[chosen], own, self.ranks_itself)


def stand(space: Space, classes: np.ndarray, queries: Queries) -> Standing:
    """Rank all vectors for each query, except the query itself unless it ranks itself.

    Parameters
    ----------
    space : N vectors.
    classes : (N,) int, the class of each.
    queries : they all have the same number of relevant vectors, at least 1.
    """
    distances, count = space.compare(queries.vectors), len(queries.classes)
    if queries.own is not None:
        distances[np.arange(count), queries.own] = -np.inf  # the query ranks first
    order = np.argsort(distances, axis=1)
    if queries.own is not None and not queries.ranks_itself:
        order = order[:, 1:]
    distances = np.take_along_axis(distances, order, axis=1)
    ranked = order.shape[1]
    group_starts = np.ones(order.shape, bool)
    group_starts[:, 1:] = np.diff(distances, axis=1) > space.step(distances[:, 1:])
    borders = np.append(np.flatnonzero(group_starts), group_starts.size)
    # Positions in the concatenated rankings: query i starts at i * ranked.
    relevant = np.flatnonzero(classes[order] == queries.classes[:, None])
    group = np.searchsorted(borders, relevant, side="right")
    begin = np.arange(count)[:, None]
    start = borders[group - 1].reshape(count, -1)
    end = borders[group].reshape(count, -1)
    hits = np.searchsorted(relevant, end) - begin * start.shape[1]
    return Standing(start - begin * ranked, end - begin * ranked, hits, ranked)
