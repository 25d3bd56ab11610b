"""The committed experiments, one TOML file each; `path(name)` finds one in an installed package."""

from __future__ import annotations

from pathlib import Path


def path(name: str) -> Path:
    """The file of the experiment `name`, such as "quickstart".

    Raises
    ------
    FileNotFoundError : there is none; the message lists those there are.
    """
    folder = Path(__file__).parent
    file = folder / f"{name}.toml"
    if not file.is_file():
        raise FileNotFoundError(f"no config named {name!r}; there are {sorted(f.stem for f in folder.glob('*.toml'))}")
    return file
