"""Tables as Markdown and CSV, each with the command, the time, the machine and the version that gave it."""

from __future__ import annotations

import csv
import io
import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from sparsenet.files import write_text


def write_table(folder: Path, name: str, title: str, words: str, header: Sequence[str], rows: Sequence[Sequence[str]],
                seconds: float, command: str) -> None:
    """Write NAME.csv, and NAME.md with the table between words and its provenance."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    write_text(folder / f"{name}.csv", text.getvalue())
    lines = [f"# {title}", "", words, "", *markdown(header, rows), "", provenance(seconds, command), ""]
    write_text(folder / f"{name}.md", "\n".join(lines))


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table."""
    return [f"| {' | '.join(cells)} |" for cells in [header, ["---"] * len(header), *rows]]


def provenance(seconds: float, command: str) -> str:
    """One paragraph: command, run time, date, version and machine."""
    return (f"Made by `{command}` in {duration(seconds)} on {datetime.now(UTC):%Y-%m-%d}, {version()}; "
            f"{machine()}.")


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def version() -> str:
    """The version of the package and, in a clone, its commit."""
    from sparsenet import __version__

    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return f"sparsenet {__version__}"
    try:
        words = subprocess.run(["git", "-C", str(root), "rev-parse", "--short", "HEAD"], capture_output=True, text=True,
                               timeout=10, check=True).stdout.strip()
        changed = subprocess.run(["git", "-C", str(root), "status", "--porcelain", "--untracked-files=no"],
                                 capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return f"sparsenet {__version__}"
    return f"sparsenet {__version__} at commit {words}{' with changes' if changed else ''}"


def machine() -> str:
    """Processor, cores, and the versions of what computes."""
    from sparsenet.kernels.cpu.machine import processor_type

    packages = ", ".join(f"{name} {metadata.version(name)}" for name in ("numpy", "numba"))
    return (f"{processor_type('cpu')}, {os.cpu_count()} cores, {platform.system()}, Python "
            f"{platform.python_version()}, {packages}")
