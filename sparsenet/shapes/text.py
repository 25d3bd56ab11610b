"""Numbers and excerpts of text formats, for the readers of mesh files."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sparsenet.shapes.mesh import MeshError

LONGEST_EXCERPT = 60


def numbers(words: Sequence[bytes]) -> np.ndarray:
    """(n,) float64 of n words.  Raises MeshError for a word that is not a number."""
    try:
        values = np.fromiter(map(float, words), np.float64, len(words))
    except ValueError:
        values = None
    # Python accepts 1_000 as a number, no mesh format does
    if values is None or b"_" in b"".join(words):
        wrong = next(word for word in words if not _is_number(word))
        raise MeshError(f"expected a number, got {excerpt(wrong)}")
    return values


def indices(values: np.ndarray) -> np.ndarray:
    """Numbers as int64.  Raises MeshError for one that is not an integer or does not fit `Mesh`'s int32."""
    whole = np.abs(values) < 2**31  # false for NaN
    whole &= values == np.trunc(values)
    if not whole.all():
        raise MeshError(f"a face refers to vertex {values[~whole][0]:.12g}, expected a whole number below 2^31")
    return values.astype(np.int64)


def is_count(word: bytes) -> bool:
    """Whether a word is a non-negative integer with at most nine digits."""
    return word.isdigit() and len(word) < 10


def excerpt(words: bytes | Sequence[bytes]) -> str:
    """The start of a word or a line for a message: quoted, ASCII, on one line."""
    text = words if isinstance(words, bytes) else b" ".join(words[:LONGEST_EXCERPT])
    shown = ascii(text[:LONGEST_EXCERPT].decode("utf-8", "replace"))
    return shown if len(text) <= LONGEST_EXCERPT else shown + "..."


def _is_number(word: bytes) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return b"_" not in word
