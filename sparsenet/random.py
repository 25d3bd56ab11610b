"""Random numbers keyed by what they are for, never by the order in which they are drawn."""

from __future__ import annotations

import hashlib
import operator

import numpy as np


def keyed_rng(seed: int, *keys: int | str) -> np.random.Generator:
    """A generator that depends on its keys alone, such as `keyed_rng(seed, epoch, sample)`.

    The same keys give the same numbers in any thread, process or order of calls; keys that differ
    anywhere, in number too, give streams that have nothing to do with each other.  A word among the
    keys tells apart two uses that share their numbers: `keyed_rng(seed, epoch, "dropout", sample)`.

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


def _integer(key: object) -> int:
    try:
        return operator.index(key)
    except TypeError:
        raise TypeError(f"keyed_rng: a key is {type(key).__name__}, "
                        "expected an integer or a string") from None
