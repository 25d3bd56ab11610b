"""Puts the search page together."""

from __future__ import annotations

import base64
import hashlib
import json
from html import escape
from pathlib import Path
from typing import Any

from sparsenet.inspect.page.document import read_part

_FOLDER = Path(__file__).parent
_DRAWING = ("solid.js", "raster.js")  # of the inspector page
_SCRIPTS = ("decode.js", "sources.js", "view.js", "results.js", "main.js")


def served_page() -> str:
    """The page as a server sends it, which asks for its style, its scripts and its shapes by address."""
    return _page('<link rel="stylesheet" href="/page.css">', '<script src="/page.js"></script>', "")


def static_page(facts: dict[str, Any]) -> str:
    """The page as one file that holds its shapes and opens from disk; its policy allows its own scripts alone.

    facts : of `Gallery.facts`, with what `sources.js` reads besides
    """
    style, script = page_style(), page_script()
    policy = (f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; img-src data:; "
              "base-uri 'none'; form-action 'none'")
    held = json.dumps(facts, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    head = f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">\n<style>{style}</style>'
    data = f'<script type="application/json" id="held">{held}</script>'
    return _page(head, f"{data}\n<script>{script}</script>", escape(facts["title"]) + " - ")


def page_style() -> str:
    """The style sheet."""
    return _read("page.css")


def page_script() -> str:
    """All scripts as one."""
    scripts = [*map(read_part, _DRAWING), *map(_read, _SCRIPTS)]
    return "(() => {\n\"use strict\";\n" + "\n".join(scripts) + "\nstart();\n})();\n"


def _page(head: str, scripts: str, title: str) -> str:
    parts = {"<!-- HEAD -->": head, "<!-- SCRIPTS -->": scripts, "<!-- TITLE -->": title}
    page = _read("page.html")
    for mark, text in parts.items():
        before, _, after = page.partition(mark)
        page = before + text + after
    return page


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")
