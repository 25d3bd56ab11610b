"""Distances of all pairs: as exact as float64 allows, wherever the vectors lie."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from sparsenet.retrieval.space import Space

ULP = 2.0**-52


def exact_squares(vectors: np.ndarray) -> np.ndarray:
    """(N, N) squared distances, computed in fractions."""
    rows = [[Fraction(float(number)) for number in row] for row in vectors]
    return np.array([[float(sum((x - y) ** 2 for x, y in zip(a, b, strict=True))) for b in rows] for a in rows])


def clouds() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    cloud = rng.normal(size=(12, 3))
    return {
        "one cloud": cloud,
        "far from the origin": cloud + 1e7,
        "two tight clusters": np.concatenate((1e-3 * cloud, 1e-3 * cloud + 1e6)),
        "pairs of near twins": np.concatenate((cloud, cloud * (1 + 1e-9))),
        "at all scales": cloud * 10.0 ** rng.integers(-8, 9, (12, 1)),
    }


@pytest.mark.parametrize("name", clouds())
def test_squared_distances_differ_by_less_than_a_step_from_the_exact_ones(name):
    vectors = clouds()[name]
    space = Space(vectors, "l2")
    exact = exact_squares(vectors)
    found = space.compare(space.place(vectors))
    assert (np.abs(found - exact) <= space.step(exact)).all()
    distances = np.stack([space.distances(row, np.arange(len(vectors))) for row in space.place(vectors)])
    np.testing.assert_allclose(distances**2, exact, rtol=1e-14)


def test_distances_are_exact_down_to_the_last_bit_of_a_number():
    space = Space(1 + ULP * np.array([[0.0], [1], [3], [4], [8]]), "l2")
    query = space.place(np.array([[1 + 6 * ULP]]))
    assert space.compare(query).tolist() == [[(n * ULP) ** 2 for n in (6, 5, 3, 2, 2)]]
    assert space.distances(query[0], np.array([4, 0, 1])).tolist() == [2 * ULP, 6 * ULP, 5 * ULP]


@pytest.mark.parametrize("length", [5e-324, 1e-200, 1e-160, 1.0, 1e150])
def test_the_angle_of_tiny_and_huge_vectors(length):
    space = Space(np.array([[length, 0], [0, length], [-length, 0], [0, 0]]), "cosine")
    query = space.place(np.array([[length, 0]]))
    assert space.compare(query).tolist() == [[0, 1, 2, 1]]
    assert space.distances(query[0], np.arange(4)).tolist() == [0, 1, 2, 1]


def test_angles_against_the_formula():
    rng = np.random.default_rng(1)
    vectors, queries = rng.normal(size=(9, 5)), rng.normal(size=(4, 5))
    space = Space(vectors, "cosine")
    placed = space.place(queries)
    lengths = np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(vectors, axis=1)
    expected = 1 - queries @ vectors.T / lengths
    np.testing.assert_allclose(space.compare(placed), expected, rtol=0, atol=space.step(expected))
    for query, row in zip(placed, expected, strict=True):
        np.testing.assert_allclose(space.distances(query, np.arange(9)), row, rtol=0, atol=1e-14)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_no_vectors_and_no_queries(metric):
    assert Space(np.empty((0, 3)), metric).compare(np.empty((2, 3))).shape == (2, 0)
    space = Space(np.eye(3), metric)
    assert space.compare(space.place(np.empty((0, 3)))).shape == (0, 3) and len(space) == 3
