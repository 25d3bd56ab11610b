"""How chapters become pages and notebooks, and how pages find each other on the site."""

from __future__ import annotations

import json
import re
import sys
import traceback
from pathlib import Path

import pytest

pytest.importorskip("matplotlib", reason="cells draw: they need matplotlib")
DOCS = Path(__file__).parents[2] / "docs"
sys.path.append(str(DOCS))

import build_site  # noqa: E402
import notebooks  # noqa: E402

CHAPTER = '''# %% [markdown]
# # 1. Title
#
# Prose with a [link](../reading.md) and one [outside](https://example.org/).

# %%
print("printed")
1 + 1

# %% tags=["picture"] alt="a line"
import matplotlib.pyplot as plt
plt.plot([0, 1])

# %% tags=["solution"]
class Table:
    def _repr_html_(self):
        return "<b>table</b>\\n<i>more</i>"

Table()

# %%
x = 0
1 / x
'''


@pytest.fixture
def chapter(tmp_path) -> Path:
    path = tmp_path / "01_title.py"
    path.write_text(CHAPTER, encoding="utf-8")
    return path


@pytest.fixture
def shown(chapter):
    """The cells and outputs of the chapter, without its last cell, which fails."""
    cells = notebooks.read(chapter)[:-1]
    return cells, list(notebooks.run(cells, chapter))


def test_cells_are_read_with_their_lines_and_tags(chapter):
    cells = notebooks.read(chapter)
    assert [(cell.kind, cell.line, cell.tags, cell.alt) for cell in cells] == [
        ("markdown", 2, (), ""), ("code", 7, (), ""), ("code", 11, ("picture",), "a line"),
        ("code", 15, ("solution",), ""), ("code", 22, (), "")]
    assert cells[0].text.startswith("# 1. Title\n\nProse with")
    assert notebooks.title(cells) == "1. Title" and notebooks.minutes(cells) == 2


@pytest.mark.parametrize(("text", "message"), [
    ("x = 1\n# %%\n", "before the first cell"),
    ("# %% hidden\n", r"line 1: the head of a cell is ' hidden'"),
    ("# %% colour=red\n", "expected .*tags"),
    ("# %% [markdown]\n# a\nb\n", "line 3: prose that is not a comment")])
def test_a_chapter_that_cannot_be_read_says_where(tmp_path, text, message):
    path = tmp_path / "bad.py"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        notebooks.read(path)


def test_a_cell_shows_what_it_prints_its_value_and_its_figures(shown):
    _, (prose, number, picture, table) = shown
    assert prose == notebooks.Output()
    assert (number.printed, number.value, number.pictures) == ("printed\n", "2", [])
    assert [one[:8] for one in picture.pictures] == [b"\x89PNG\r\n\x1a\n"] and picture.value == ""
    assert table.html.startswith("<b>table")


def test_an_error_names_the_line_of_the_chapter(chapter):
    with pytest.raises(ZeroDivisionError) as error:
        list(notebooks.run(notebooks.read(chapter), chapter))
    last = traceback.extract_tb(error.value.__traceback__)[-1]
    assert (last.filename, last.lineno) == (str(chapter), 23)


def test_the_page_of_a_chapter(shown):
    page, pictures = notebooks.to_markdown(*shown, "01_title")
    assert list(pictures) == ["01_title-1.png"]
    for part in ('# 1. Title\n\n<p class="chapter"', "[notebook](01_title.ipynb)",
                 "```{ .text .output }\nprinted\n2\n```",
                 "<summary>Code of this picture</summary>\n\n```python\nimport",
                 "[![a line](01_title-1.png){ .picture width=", "<summary>Solution</summary>\n\n```python\nclass",
                 '<div class="output"><b>table</b> <i>more</i></div>'):
        assert part in page
    assert page.count("<details") == page.count("</details>") == 2


def test_a_wide_picture_is_one_that_a_phone_scrolls(shown, monkeypatch):
    monkeypatch.setattr(notebooks, "WIDE", 100)
    page, _ = notebooks.to_markdown(*shown, "01_title")
    assert "[![a line](01_title-1.png){ .picture .wide width=" in page


def test_the_notebook_of_a_chapter(shown):
    made = json.loads(notebooks.to_notebook(*shown))
    assert (made["nbformat"], made["nbformat_minor"]) == (4, 5)
    prose, number, picture, solution = made["cells"]
    assert "".join(prose["source"]).endswith("Prose with a link and one [outside](https://example.org/).")
    assert [one["output_type"] for one in number["outputs"]] == ["stream", "execute_result"]
    assert picture["outputs"][0]["data"]["image/png"].startswith("iVBORw0KGgo")
    assert [cell["metadata"].get("jupyter") for cell in made["cells"]] == [
        None, None, {"source_hidden": True}, {"source_hidden": True}]
    assert len({cell["id"] for cell in made["cells"]}) == 4


KNOWN = {"README.md": "overview.md", "docs/reading.md": "reading.md", "docs/course/01_a.py": "course/01_a.md",
         "docs/api/data.md": "api/data.md"}


@pytest.mark.parametrize(("source", "link", "expected"), [
    ("README.md", "docs/reading.md", "reading.md"), ("README.md", "docs/reading.md#sites", "reading.md#sites"),
    ("docs/reading.md", "../README.md", "overview.md"), ("docs/api/data.md", "../course/01_a.py", "../course/01_a.md"),
    ("docs/course/01_a.py", "../../README.md", "../overview.md"), ("docs/reading.md", "#here", "#here"),
    ("docs/reading.md", "https://example.org/a", "https://example.org/a")])
def test_links_between_files_lead_to_pages(source, link, expected):
    assert build_site.relink(f"a [b]({link}) c", source, KNOWN[source], KNOWN) == f"a [b]({expected}) c"


def test_a_link_to_a_file_that_is_not_on_the_site_is_an_error():
    with pytest.raises(ValueError, match=r"docs/reading.md links to ../setup.py, which is not on the site"):
        build_site.relink("[b](../setup.py)", "docs/reading.md", "reading.md", KNOWN)
    code = "```python\nx[0](a)\n```"
    assert build_site.relink(code, "docs/reading.md", "reading.md", KNOWN) == code


@pytest.mark.extra("docs")
@pytest.mark.parametrize(("table", "expected"), [
    ("| a | b |\n|---|---|\n| 1 | 2 |", [["th a", "th b"], ["td 1", "td 2"]]),
    ("| | b |\n|---|---|\n| 1 | *2* |", [["td ", "th b"], ["th row 1", "td 2"]]),
    ("| | |\n|---|---|\n| **1** | 2 |\n| | 3 |", [["th row 1", "td 2"], ["td ", "td 3"]]),
    ("| a | |\n|---|---|\n| 1 | 2 |", [["th a", "td "], ["td 1", "td 2"]])])
def test_a_table_names_its_rows_where_the_corner_is_empty(table, expected):
    import markdown
    from header_cells import makeExtension

    html = markdown.markdown(table, extensions=["tables", makeExtension()])
    rows = [re.findall(r"<(t[hd])([^>]*)>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", html, re.DOTALL)]
    told = [[f"{kind}{' row' if 'row' in more else ''} {re.sub('<.*?>', '', text)}" for kind, more, text in row]
            for row in rows]
    assert told == expected


def test_each_page_is_in_the_navigation_once():
    config = (DOCS.parent / "mkdocs.yml").read_text(encoding="utf-8")
    nav = re.findall(r"^ *- (?:\w+: )?([\w/-]+\.md)$", config, re.MULTILINE)
    places = [place for place in build_site.places().values() if place.endswith(".md")]
    assert sorted(nav) == sorted(places)


def test_each_link_of_each_page_leads_somewhere():
    known = build_site.places()
    pages = [source for source in known if source.endswith((".md", ".py"))]
    assert len(pages) > 50
    for source in pages:
        file = build_site.file_of(source)
        text = file.read_text(encoding="utf-8") if source.endswith(".md") else "\n".join(
            cell.text for cell in notebooks.read(file) if cell.kind == "markdown")
        build_site.relink(text, source, known[source], known)
