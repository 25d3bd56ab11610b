"""What a mistyped word may have meant, for the end of an error message."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str], prefix: str = "") -> str:
    """": did you mean PREFIX+NEAREST?", or nothing where no known word is near.

    >>> did_you_mean("chiar", ["chair", "table"])
    ': did you mean chair?'
    """
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f": did you mean {prefix}{matches[0]}?" if matches else ""
