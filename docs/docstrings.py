"""How the reference shows this project's docstrings: lines `name : what it is` become a list.

The docstrings name arguments and attributes in lines of their own, indented continuation lines
below; Markdown would run them together.
"""

from __future__ import annotations

import re

import griffe

FIELD = re.compile(r"^(\*{0,2}[A-Za-z_][\w.]*(?:, \*{0,2}[A-Za-z_][\w.]*)*) : (.*)$")
SECTION = re.compile(r"^(Parameters|Attributes|Returns|Raises|Yields|Examples)$")


def as_markdown(text: str) -> str:
    """The docstring with its free-standing fields as list items; sections stay as they are."""
    lines, in_section, in_list = [], False, False
    for line in text.splitlines():
        if SECTION.match(line):
            in_section = True
        elif in_section and line and not line.startswith((" ", "-")) and not FIELD.match(line) and lines[-1:] == [""]:
            in_section = False
        field = None if in_section else FIELD.match(line)
        if field:
            if not in_list and lines and lines[-1]:
                lines.append("")
            lines.append(f"- `{field[1]}`: {field[2]}")
        else:
            lines.append(line)
        in_list = bool(field) or (in_list and line.startswith("    "))
    return "\n".join(lines)


class Fields(griffe.Extension):
    """Rewrites each docstring before it is parsed."""

    def on_instance(self, *, obj: griffe.Object, **options: object) -> None:
        if obj.docstring:
            obj.docstring.value = as_markdown(obj.docstring.value)
