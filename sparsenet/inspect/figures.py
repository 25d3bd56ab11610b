"""Writes figures to files."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from sparsenet.files import check_folder, replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".pdf", ".svg")


def check_picture(path: str | Path) -> Path:
    """The path for a picture, checked before the work that leads to it.

    Raises
    ------
    RuntimeError : matplotlib is not installed.
    ValueError : the suffix of the name is not in SUFFIXES.
    FileNotFoundError : its folder does not exist.
    """
    path = Path(path)
    if importlib.util.find_spec("matplotlib") is None:
        raise RuntimeError(f"picture {path}: pictures need matplotlib: pip install 'sparsenet[plot]'")
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"picture {path}: its suffix is {path.suffix!r}, expected one of {', '.join(SUFFIXES)}")
    check_folder(path)
    return path


def save_figure(figure: Figure, path: str | Path, dpi: int = 150) -> None:
    """Write a figure to a file atomically.  Raises the errors of `check_picture`."""
    path = check_picture(path)
    with replacing(path) as beside, warnings.catch_warnings():
        # Names in a script that the font lacks are drawn as boxes, which needs no warning.
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from", category=UserWarning)
        figure.savefig(beside, format=path.suffix[1:].lower(), dpi=dpi)
