"""Chapters of the course: Python files in the percent format of Jupytext, run cell by cell; as pages and as notebooks.

    # %% [markdown]
    # Prose, each line a comment.
    # %% tags=["picture"] alt="What the picture shows"
    figure, axes = plt.subplots()

A code cell shows what it prints, the value of its last line if that is an expression, and the figures that it leaves
open.  Tags: "picture" folds the code of a cell; neighbouring cells with "solution" are folded together.
"""

from __future__ import annotations

import ast
import base64
import io
import json
import re
import shlex
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from html import escape
from itertools import groupby
from math import ceil
from pathlib import Path
from typing import Any

LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:)[^)]+\)")  # to a page of the site
HEAD = re.compile(r"^# %%(.*)$")
WORDS_PER_MINUTE, LINES_PER_MINUTE, PICTURES_PER_MINUTE = 170, 10, 1  # of prose, of code
DPI = 144
WIDE = 700  # pixels of a page, above which a phone scrolls a picture instead of shrinking it


@dataclass(frozen=True)
class Cell:
    """A part of a chapter.

    text : Markdown, or Python
    line : of its first line in the file
    """

    kind: str
    text: str
    line: int
    tags: tuple[str, ...] = ()
    alt: str = ""


@dataclass
class Output:
    """The output of a code cell; pictures are PNG files."""

    printed: str = ""
    value: str = ""
    html: str = ""
    pictures: list[bytes] = field(default_factory=list)


def read(path: Path) -> list[Cell]:
    """The cells of a chapter.

    Raises ValueError if there is text before the first cell, a word in the head of a cell is unknown, or a line of
    prose is not a comment.
    """
    cells: list[Cell] = []
    head, first, lines = None, 0, []
    for number, line in enumerate([*path.read_text(encoding="utf-8").splitlines(), "# %%"], start=1):
        found = HEAD.match(line)
        if not found:
            lines.append(line)
            continue
        if head is not None:
            cells.append(_cell(head, lines, first, path))
        elif any(lines):
            raise ValueError(f"{path.name}: line 1 to {number - 1} are before the first cell: begin with # %%")
        head, first, lines = found[1], number + 1, []
    return cells


def _cell(head: str, lines: list[str], first: int, path: Path) -> Cell:
    where = f"{path.name}, line {first - 1}"
    words = shlex.split(re.sub(r"tags=\[(.*?)\]", lambda m: "tags=" + m[1].replace('"', "").replace(" ", ""), head))
    kind = "markdown" if "[markdown]" in words else "code"
    options = dict(word.split("=", 1) for word in words if "=" in word)
    if set(options) - {"tags", "alt"} or len(words) != len(options) + (kind == "markdown"):
        raise ValueError(f"{where}: the head of a cell is {head!r}, expected [markdown], tags=[...] or alt=\"...\"")
    if kind == "markdown":
        for number, line in enumerate(lines):
            if line and line != "#" and not line.startswith("# "):
                raise ValueError(f"{path.name}, line {first + number}: prose that is not a comment: begin with '# '")
        lines = [line[2:] for line in lines]
    tags = tuple(filter(None, options.get("tags", "").split(",")))
    return Cell(kind, "\n".join(lines).strip("\n"), first + _blank(lines), tags, options.get("alt", ""))


def _blank(lines: list[str]) -> int:
    """How many lines are empty at the beginning."""
    return next((number for number, line in enumerate(lines) if line.strip()), 0)


def run(cells: list[Cell], path: Path) -> Iterator[Output]:
    """Run the code cells in one namespace; what each cell shows, also of prose, which shows nothing.

    An exception is that of the cell; its traceback names the line of the chapter.
    """
    import matplotlib

    matplotlib.use("agg")
    names: dict[str, Any] = {"__name__": "__main__"}
    for cell in cells:
        yield _run(cell, path, names) if cell.kind == "code" else Output()


def _run(cell: Cell, path: Path, names: dict[str, Any]) -> Output:
    from matplotlib import pyplot
    from matplotlib.figure import Figure

    tree = ast.increment_lineno(ast.parse(cell.text), cell.line - 1)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    output, printed, value = Output(), io.StringIO(), None
    with redirect_stdout(printed):
        exec(compile(tree, str(path), "exec"), names)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), str(path), "eval"), names)
    figures = [pyplot.figure(number) for number in pyplot.get_fignums()]
    if isinstance(value, Figure):
        figures, value = [*(one for one in figures if one is not value), value], None
    output.printed = printed.getvalue()
    output.pictures = [_png(figure) for figure in figures]
    pyplot.close("all")
    if value is not None and "picture" not in cell.tags:  # plotting calls return what they drew
        output.value = repr(value)
        output.html = value._repr_html_() if hasattr(value, "_repr_html_") else ""
    return output


def _png(figure: Any) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI, facecolor="white", metadata={"Software": None})
    return file.getvalue()


def title(cells: list[Cell]) -> str:
    """The first heading."""
    return cells[0].text.splitlines()[0].removeprefix("# ")


def minutes(cells: list[Cell]) -> int:
    """How long a chapter takes to read, without its exercises' solutions."""
    shown = [cell for cell in cells if "solution" not in cell.tags]
    words = sum(len(cell.text.split()) for cell in shown if cell.kind == "markdown")
    lines = sum(bool(line.strip()) for cell in shown if cell.kind == "code" and "picture" not in cell.tags
                for line in cell.text.splitlines())
    pictures = sum(bool(cell.alt) for cell in shown)
    return ceil(words / WORDS_PER_MINUTE + lines / LINES_PER_MINUTE + pictures / PICTURES_PER_MINUTE)


def to_markdown(cells: list[Cell], outputs: list[Output], name: str) -> tuple[str, dict[str, bytes]]:
    """A page with all outputs, and its pictures by file name.  `name` is that of the chapter's file."""
    pictures: dict[str, bytes] = {}
    parts: list[str] = []
    for folded, group in groupby(zip(cells, outputs, strict=True), lambda pair: "solution" in pair[0].tags):
        shown = [_markdown(cell, output, name, pictures) for cell, output in group]
        parts += _folded("Solution", shown, "solution") if folded else shown
    heading, _, rest = parts[0].partition("\n")
    facts = (f'<p class="chapter" markdown="1">About {minutes(cells)} minutes &nbsp;·&nbsp; '
             f"[notebook]({name}.ipynb) &nbsp;·&nbsp; [Python file]({name}.py)</p>")
    return "\n\n".join([heading, facts, rest.strip("\n"), *parts[1:]]) + "\n", pictures


def _markdown(cell: Cell, output: Output, name: str, pictures: dict[str, bytes]) -> str:
    if cell.kind == "markdown":
        return cell.text
    parts = [f"```python\n{cell.text}\n```"]
    if "picture" in cell.tags:
        parts = _folded("Code of this picture", parts, "code")
    if text := (output.printed + ("" if output.html else output.value)).rstrip("\n"):
        parts.append(f"```{{ .text .output }}\n{text}\n```")
    if output.html:
        parts.append(f'<div class="output">{" ".join(output.html.split(chr(10)))}</div>')
    for picture in output.pictures:
        file = f"{name}-{len(pictures) + 1}.png"
        pictures[file] = picture
        width = int.from_bytes(picture[16:20], "big") * 96 // DPI  # of a PNG file; in the pixels of a page
        classes = ".picture .wide" if width > WIDE else ".picture"
        parts.append(f'[![{escape(cell.alt)}]({file}){{ {classes} width="{width}" }}]({file})')
    return "\n\n".join(parts)


def _folded(summary: str, parts: list[str], kind: str) -> list[str]:
    return [f'<details class="{kind}" markdown="1"><summary>{summary}</summary>', *parts, "</details>"]


def to_notebook(cells: list[Cell], outputs: list[Output]) -> str:
    """A Jupyter notebook (format 4.5) with all outputs; links to pages of the site become text."""
    made, count = [], 0
    for number, (cell, output) in enumerate(zip(cells, outputs, strict=True)):
        hidden = cell.kind == "code" and bool({"solution", "picture"} & set(cell.tags))
        metadata: dict[str, Any] = {"tags": list(cell.tags)} if cell.tags else {}
        if hidden:
            metadata["jupyter"] = {"source_hidden": True}
        one: dict[str, Any] = {"id": f"cell-{number}", "cell_type": cell.kind, "metadata": metadata,
                               "source": cell.text.splitlines(keepends=True)}
        if cell.kind == "markdown":
            one["source"] = LINK.sub(r"\1", cell.text).splitlines(keepends=True)
        else:
            count += 1
            one |= {"execution_count": count, "outputs": _notebook_outputs(output, count)}
        made.append(one)
    metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
                "language_info": {"name": "python"}}
    return json.dumps({"cells": made, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}, indent=1) + "\n"


def _notebook_outputs(output: Output, count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    if output.printed:
        found.append({"output_type": "stream", "name": "stdout", "text": output.printed.splitlines(keepends=True)})
    if output.value:
        data = {"text/plain": output.value} | ({"text/html": output.html} if output.html else {})
        found.append({"output_type": "execute_result", "execution_count": count, "metadata": {}, "data": data})
    for picture in output.pictures:
        data = {"image/png": base64.b64encode(picture).decode()}
        found.append({"output_type": "display_data", "metadata": {}, "data": data})
    return found
