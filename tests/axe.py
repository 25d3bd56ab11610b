"""axe-core in a page of a browser: the faults of accessibility that a program can find.

axe.min.js comes with the package axe-playwright-python (the extra page-test); AXE_CORE names another file.  Playwright
itself is not used.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

TAGS = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
EXPERIMENTAL = ("label-content-name-mismatch",)  # rules that are off by default


def axe_script() -> str:
    """The text of axe.min.js.  Skips the test if there is none."""
    named = os.environ.get("AXE_CORE")
    found = None if named else find_spec("axe_playwright_python")
    if not named and (found is None or not found.submodule_search_locations):
        pytest.skip("axe-core is not installed: pip install 'sparsenet[page-test]'")
    path = Path(named) if named else Path(found.submodule_search_locations[0]) / "axe.min.js"
    return path.read_text(encoding="utf-8")


def violations(driver: Any) -> list[str]:
    """A line for each element of the page that breaks a rule: the rule, what it says, and the element."""
    driver.execute_script(axe_script())
    driver.set_script_timeout(240)  # a page may be long, the machine busy
    found = driver.execute_async_script("""
        const [tags, more, done] = arguments;
        const rules = Object.fromEntries(more.map((rule) => [rule, { enabled: true }]));
        axe.run(document, { runOnly: { type: "tag", values: [...tags, "experimental"] }, rules,
                            resultTypes: ["violations"] })
          .then((result) => done(result.violations), (error) => done([{ id: "axe", help: String(error), nodes: [] }]));
        """, TAGS, EXPERIMENTAL)
    return [f"{rule['id']}: {rule['help']}: {node['html'][:120]}" for rule in found
            for node in rule["nodes"] or [{"html": ""}]]
