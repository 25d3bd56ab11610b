"""A Markdown extension: the first column of a table names its rows if the corner above it is empty.

Its cells become headers of their rows, and a head without a word is left out, so that a screen reader reads each cell
with what it is about.
"""

from __future__ import annotations

from xml.etree.ElementTree import Element

from markdown import Markdown
from markdown.extensions import Extension
from markdown.treeprocessors import Treeprocessor

AFTER_INLINE = 15  # priority: the cells hold their links and bold words


class HeaderCells(Treeprocessor):
    def run(self, root: Element) -> None:
        for table in root.iter("table"):
            self._mend(table)

    def _mend(self, table: Element) -> None:
        head, body = table.find("thead"), table.find("tbody")
        cells = list(head.iter("th"))
        empty = [cell for cell in cells if _is_empty(cell)]
        if len(empty) == len(cells):
            table.remove(head)
        for cell in empty:
            cell.tag = "td"
        if body is None or not empty or empty[0] is not cells[0]:
            return
        for row in body.iter("tr"):
            first = row.find("td")
            if not _is_empty(first):
                first.tag = "th"
                first.set("scope", "row")


def _is_empty(cell: Element) -> bool:
    return not len(cell) and not (cell.text or "").strip()


class HeaderCellsExtension(Extension):
    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802
        md.treeprocessors.register(HeaderCells(md), "header_cells", AFTER_INLINE)


def makeExtension(**options: object) -> HeaderCellsExtension:  # noqa: N802
    """Called by Markdown, by this name."""
    return HeaderCellsExtension(**options)
