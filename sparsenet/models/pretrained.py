"""The models that come with the package: checkpoints with weights in halves, and their cards."""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sparsenet.wording import did_you_mean

if TYPE_CHECKING:
    from sparsenet.nn import SparseNetwork

FOLDER = Path(__file__).parent


def model_names() -> list[str]:
    """The names of the models in the package."""
    return sorted(path.stem for path in FOLDER.glob("*.h5"))


def model_path(source: str | os.PathLike) -> Path:
    """The file of a model by its name; another source as it is, the path of a checkpoint.

    Raises FileNotFoundError, which names the models that there are, if it is neither a model nor looks like a path.
    """
    path, names = Path(source), model_names()
    if str(source) in names:
        return FOLDER / f"{source}.h5"
    if path.exists() or path.suffix or path.name != str(source):
        return path
    hint = did_you_mean(str(source), names) or f": the package has {', '.join(names) or 'none'}"
    raise FileNotFoundError(f"{source} does not exist: expected a checkpoint, or the name of a model{hint}")


def model_card(name: str) -> str:
    """A model's card, in Markdown: data, recipe, figures, terms, digest.

    Raises FileNotFoundError for another name.
    """
    if name not in model_names():
        there = ", ".join(model_names()) or "none"
        raise FileNotFoundError(f"{name}: not the name of a model: the package has {there}")
    return (FOLDER / f"{name}.md").read_text(encoding="utf-8")


def load_pretrained(source: str | os.PathLike = "modelnet40") -> SparseNetwork:
    """A trained network, in evaluation mode.

    source : the name of a model that comes with the package (`model_names`), or best.h5 or last.h5 of a run

    The network knows its `classes` and how the shapes it was trained on were voxelized, its `voxelization`.  Weights
    that are stored in halves are computed with in float32.  The first load of a model in a process prints its terms
    on stderr.

    Raises
    ------
    FileNotFoundError : there is no such model or file.
    CheckpointError : the file is damaged.

    Example
    -------
    >>> net = load_pretrained("modelnet40")                     # doctest: +SKIP
    >>> net.classes[:3]                                         # doctest: +SKIP
    ['airplane', 'bathtub', 'bed']
    """
    from sparsenet.training import load_network

    path = model_path(source)
    if path.parent == FOLDER:
        _say_terms(path.stem)
    return load_network(path)[0]


@cache
def _say_terms(name: str) -> None:
    """Print the terms of a model's card, once."""
    print(f"{name}: {_section(model_card(name), 'Terms').splitlines()[0]}", file=sys.stderr)


def _section(card: str, title: str) -> str:
    """The text below a heading of a card, up to the next."""
    return card.partition(f"## {title}\n")[2].partition("\n## ")[0].strip()


def check_models() -> list[tuple[str, float]]:
    """Recompute the descriptor that each model states of a shape; (name, relative difference) for each.

    The bits hold on equal machines only; a difference of up to 1e-4 of the descriptor's norm is rounding.
    """
    from sparsenet.retrieval import embed
    from sparsenet.sparse import SparseTensor
    from sparsenet.training import load_network

    findings = []
    for name in model_names():
        net, state = load_network(FOLDER / f"{name}.h5")
        cells, expected = state.check["cells"], state.check["descriptor"].astype(np.float64)
        x = SparseTensor(np.ones((len(cells), 1), np.float32), np.insert(cells, 0, 0, axis=1), net.field, 1)
        difference = embed(net, x)[0].astype(np.float64) - expected
        findings.append((name, float(np.linalg.norm(difference) / np.linalg.norm(expected))))
    return findings
