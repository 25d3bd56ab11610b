"""Formats this project's docstrings for the reference: lines `name : description` become a list.

The docstrings describe arguments and attributes on separate lines, with indented continuation lines;
Markdown would join them.
"""

from __future__ import annotations

import re

import griffe

FIELD = re.compile(r"^(\*{0,2}[A-Za-z_][\w.]*(?:, \*{0,2}[A-Za-z_][\w.]*)*) : (.*)$")
SECTION = re.compile(r"^(Parameters|Attributes|Returns|Raises|Yields|Examples?)$")


def as_markdown(text: str) -> str:
    """The docstring with fields outside sections as list items; sections are unchanged."""
    lines, section, in_list = [], "", False
    for line in text.splitlines():
        if SECTION.match(line):
            section = "Examples" if line == "Example" else line
            lines.append(section)
            continue
        if section and line and set(line) == {"-"}:  # matches the length of the heading
            lines.append("-" * len(section))
            continue
        field = FIELD.match(line)
        if section not in ("", "Examples") and line and not line.startswith((" ", "-")) and not field \
                and lines[-1:] == [""]:
            section = ""
        if field and section not in ("", "Examples"):
            for name in field[1].split(", "):
                lines += [name, f"    {field[2]}"]
        elif field and section != "Examples":
            if not in_list and lines and lines[-1]:
                lines.append("")
            lines.append(f"- `{field[1]}`: {field[2]}")
        else:
            lines.append(line)
        in_list = bool(field and not section) or (in_list and line.startswith("    "))
    return "\n".join(lines)


class Fields(griffe.Extension):
    """Rewrites each docstring before it is parsed."""

    def on_instance(self, *, obj: griffe.Object, **options: object) -> None:
        if obj.docstring:
            obj.docstring.value = as_markdown(obj.docstring.value)
