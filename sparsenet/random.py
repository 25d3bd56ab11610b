"""Random numbers keyed by their purpose, never by the order in which they are drawn."""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Iterable

import numpy as np


def keyed_rng(seed: int, *keys: int | str) -> np.random.Generator:
    """A generator that depends only on its keys, such as `keyed_rng(seed, epoch, sample)`.

    The same keys give the same numbers in any thread, process or order of calls; different keys, or a
    different number of keys, give independent streams.  A word among the keys separates uses with the
    same numbers: `keyed_rng(seed, epoch, "dropout", sample)`.

    Parameters
    ----------
    seed, keys : integers of any size and sign, or strings

    Returns
    -------
    numpy.random.Generator over Philox, whose 128-bit key is the BLAKE2b digest of the keys.

    Raises
    ------
    TypeError : a key is neither an integer nor a string.
    """
    words = [key if isinstance(key, str) else _integer(key) for key in (seed, *keys)]
    digest = hashlib.blake2b(repr(words).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))


class RowStreams:
    """Random numbers row by row, each row from a generator of its own: `keyed_rng(seed, *keys, "row", number)`.  What
    a row draws does not depend on which other rows are drawn beside it.

    rows : the number of each row, any whole numbers
    """

    def __init__(self, seed: int, *keys: int | str, rows: Iterable[int]):
        self._generators = [keyed_rng(seed, *keys, "row", row) for row in rows]

    def random(self, shape: tuple[int, int]) -> np.ndarray:
        """(rows, columns) float64, uniform from 0 up to, but not including, 1.

        Raises ValueError if the shape has another number of rows.
        """
        if shape[0] != len(self._generators):
            raise ValueError(f"RowStreams: asked for {shape[0]} rows, there are streams for {len(self._generators)}: "
                             "reseed the network with a row for each sample of its input")
        return np.array([generator.random(shape[1]) for generator in self._generators]).reshape(shape)


def _integer(key: object) -> int:
    try:
        return operator.index(key)
    except TypeError:
        raise TypeError(f"keyed_rng: a key is {type(key).__name__}, "
                        "expected an integer or a string") from None
