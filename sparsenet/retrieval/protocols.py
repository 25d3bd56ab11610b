"""Which shapes an evaluation ranks, and checks of the columns that say so."""

from __future__ import annotations

from typing import Any

import numpy as np

PAPER_OBJECTS = 20  # objects of each class, the first by name
PROTOCOLS = (None, "paper", "3dshapenets")


def check_column(name: str, column: Any, rows: int) -> np.ndarray:
    """(S,) integers or strings."""
    column = np.asarray(column)
    if column.dtype == object and all(isinstance(entry, str) for entry in column.flat):
        column = column.astype(str)
    if column.shape != (rows,):
        raise ValueError(f"evaluate: {name} have shape {column.shape}, expected ({rows},): one for each row of "
                         "the descriptors")
    if column.dtype.kind not in "iubUS":
        raise TypeError(f"evaluate: {name} have dtype {column.dtype}, expected integers or strings")
    return column


def unknown(labels: np.ndarray) -> np.ndarray:
    """(S,) bool: whether the class is unknown."""
    return labels == -1 if labels.dtype.kind == "i" else np.zeros(len(labels), bool)


def select(protocol: str | None, labels: np.ndarray, names: np.ndarray | None) -> np.ndarray:
    """The rows that the protocol selects, ascending."""
    if protocol is None:
        return np.arange(len(labels))
    if protocol not in PROTOCOLS:
        raise ValueError(f"evaluate: protocol is {protocol!r}, expected None, 'paper' or '3dshapenets'")
    if protocol == "3dshapenets" and names is None:
        raise ValueError("evaluate: protocol '3dshapenets' needs names: rows of one name are the poses of one object")
    by_name = np.arange(len(labels)) if names is None else np.argsort(names, kind="stable")
    chosen = []
    for value in np.unique(labels[~unknown(labels)]):
        rows = by_name[labels[by_name] == value]
        if protocol == "3dshapenets":
            assert names is not None
            objects, number = np.unique(names[rows], return_inverse=True)
            rows, count = rows[number < PAPER_OBJECTS], objects.size
        else:
            rows, count = rows[:PAPER_OBJECTS], rows.size
        if count < PAPER_OBJECTS:
            raise ValueError(f"evaluate: class {value.item()!r} has {count} shapes, protocol {protocol!r} takes "
                             f"{PAPER_OBJECTS} of each class: use protocol None")
        chosen.append(rows)
    return np.sort(np.concatenate(chosen)) if chosen else np.arange(0)
