"""docs/reading.md: its links lead somewhere, its exercises have the printed answers, and its numbers, like those of the
README, are right.  All pages: the files and objects that they name exist."""

from __future__ import annotations

import ast
import pkgutil
import re
from functools import cache
from pathlib import Path

import line_counts
import pytest

import sparsenet as sn

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "reading.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
PACKAGE = line_counts.PACKAGE
TOLERANCE = 0.05  # of the numbers that the texts state
QUESTIONS = ["tie in max-pooling", "order of sites", "learning-rate schedule", "checkpoint stores", "OFF is parsed",
             "triplet is drawn", "block height of the CPU convolution", "tile of the CUDA", "tie rule of mAP",
             "colours of the inspector page"]
DEFINITIONS = {  # how a definition of NAME begins, on a line of its own
    ".cu": r"^[^\s/*].*\b{}\s*\([^;]*$",
    ".js": r"^(?:function|const|let|class)\s+{}\b",
    ".toml": r"^\[?\[?{}\b\s*[=\]]",
    ".css": r"(?:^|[;{{])\s*{}\s*:",
}


def rows(heading: str) -> list[list[str]]:
    """The cells of the table whose first column has that heading."""
    table = PAGE.split(f"\n| {heading} |")[1].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


READING = [(path.strip("`"), int(lines), re.findall(r"`([^`]+)`", names))
           for path, lines, names in rows("file in `sparsenet/`")]
CHANGES = [(question, path.strip("`"), name.strip("`")) for question, path, name in rows("...")]


def is_defined(path: Path, name: str) -> bool:
    """Whether a file defines a name: in Python a class, function or variable, of a class if the name has a dot."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return bool(re.search(DEFINITIONS[path.suffix].format(re.escape(name)), text, re.MULTILINE))
    nodes: list[ast.AST] = [ast.parse(text)]
    for part in name.split("."):
        nodes = [child for node in nodes for child in getattr(node, "body", ()) if part in names_of(child)]
    return bool(nodes)


def names_of(node: ast.AST) -> list[str]:
    """The names that a statement defines."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return [node.target.id] if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) else []


@pytest.mark.parametrize("path, lines, names", READING, ids=[path for path, _, _ in READING])
def test_a_file_to_read_has_what_to_look_for(path, lines, names):
    file = PACKAGE / path
    assert names and all(is_defined(file, name) for name in names)
    actual = line_counts.lines_of(file)
    assert abs(lines - actual) <= max(8, TOLERANCE * actual), f"docs/reading.md: {path} has {actual} lines, not {lines}"


def test_there_are_nine_in_an_order():
    assert len(READING) == 9
    sections = re.findall(r"^## (\d)\. .*\n\n`([^`]+)`\.", PAGE, re.MULTILINE)
    assert sections == [(str(i + 1), path) for i, (path, _, _) in enumerate(READING)]
    assert PAGE.count("**Exercise.**") == PAGE.count("<summary>Answer</summary>") == len(READING)


@pytest.mark.parametrize("path, name", [(path, name) for _, path, name in CHANGES])
def test_what_to_change_is_where_the_page_says(path, name):
    assert (PACKAGE / path).is_file() and is_defined(PACKAGE / path, name)
    assert path.count("/") <= 2, "more than two folders from sparsenet/"


def test_every_question_is_answered():
    asked = [question for question, _, _ in CHANGES]
    assert [question for question in QUESTIONS if not any(question in one for one in asked)] == []


def test_a_definition_that_is_missing_would_be_noticed(tmp_path):
    for name, text, defined, others in (
            ("a.py", "class A:\n    x: int\n    def f(self): pass\ng = A().f()\n", ("A.f", "A.x", "g"), ("f", "A.g")),
            ("a.cu", "__device__ inline void f(int k) {\n    g(k);\n}\n", ("f",), ("g", "k", "in")),
            ("a.toml", "forward = [\n    { rows = 1 }]\n", ("forward",), ("rows", "for")),
            ("a.css", ":root {\n  --a: #fff; --b: #000;\n}\np { color: var(--c); }\n", ("--a", "--b"), ("--c",)),
            ("a.js", "function f(x) {\n  const y = g(x);\n}\n", ("f",), ("g", "y"))):
        (tmp_path / name).write_text(text)
        assert all(is_defined(tmp_path / name, one) for one in defined)
        assert not any(is_defined(tmp_path / name, one) for one in others)


BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_each_answer_is_a_program():
    assert len(BLOCKS) == 1 + len(READING)
    assert all("assert" in block for block in BLOCKS[1:])


@pytest.mark.parametrize("number", range(1, len(BLOCKS)))
def test_the_answer_of_an_exercise_is_right(number):
    before = sn.get_backend()
    names: dict = {}
    try:
        for block in (BLOCKS[0], BLOCKS[number]):
            exec(compile(block, "docs/reading.md", "exec"), names)
    finally:
        sn.set_backend(before)


@cache
def reference_step() -> line_counts.Step:
    return line_counts.step("reference")


@cache
def measured() -> dict[str, int]:
    above, specification, below = line_counts.parts()
    step = reference_step()
    nine = sum(line_counts.lines_of(PACKAGE / path) for path, _, _ in READING)
    return {"above": above, "specification": specification, "below": below, "nine": nine, "files": len(step.files),
            "step": step.lines, "called": step.called_lines}


STATED = [
    *[("docs/reading.md", PAGE, *one) for one in (
        ("above", r"about ([\d,]+) lines above one seam"),
        ("specification", r"a specification of about ([\d,]+) lines"),
        ("below", r"about ([\d,]+) lines that make the same kernels fast"),
        ("nine", r"nine files below, about ([\d,]+) lines"),
        ("files", r"runs through about ([\d,]+) files"),
        ("called", r"functions that it calls there have about ([\d,]+) lines"),
        ("step", r"the files about ([\d,]+)"))],
    *[("README.md", README, *one) for one in (
        ("above", r"about ([\d,]+) lines above one seam"),
        ("specification", r"its specification about ([\d,]+)"),
        ("below", r"the speed below about ([\d,]+)"),
        ("nine", r"nine files, about ([\d,]+) lines"),
        ("files", r"runs through ([\d,]+) files"),
        ("step", r"files of about ([\d,]+) lines"),
        ("called", r"functions that it calls there have about ([\d,]+) lines"))],
]


@pytest.mark.parametrize("page, text, what, pattern", STATED, ids=[f"{one[0]}-{one[2]}" for one in STATED])
def test_a_stated_number_of_lines_is_right(page, text, what, pattern):
    found = re.findall(pattern, " ".join(text.split()))
    assert len(found) == 1, f"{page}: expected one place like {pattern!r}, found {len(found)}"
    stated, actual = int(found[0].replace(",", "")), measured()[what]
    print(f"{page}: {what}: {stated} stated, {actual} measured")
    assert abs(stated - actual) <= max(1, TOLERANCE * actual), f"{page}: {what}: {stated} stated, {actual} measured"


def test_a_step_calls_what_a_reader_expects():
    """The reference step runs no compiled kernel, and reads the files that the page lists for the network."""
    step = reference_step()
    expected = {"kernels/convolution/reference.py", "autograd.py", "ops/convolution.py", "sparse/rulebook.py"}
    assert expected <= set(step.files)
    assert not [name for name in step.files if name.startswith(("kernels/cpu/", "kernels/cuda/"))]


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")),
         *sorted((ROOT / "docs" / "course").glob("*.py"))]
FOLDERS = ("benchmarks", "configs", "docs", "examples", "tests", "tools")
PLACEHOLDERS = re.compile(r"\b(?:FAMILY|NAME)\b")


@cache
def sources() -> list[str]:
    """The paths of the package's files and of those beside it, all with / in front."""
    found = [path for path in PACKAGE.rglob("*") if path.is_file()]
    beside = [path.relative_to(ROOT) for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file()]
    return [f"/sparsenet/{path.relative_to(PACKAGE).as_posix()}" for path in found] + [
        f"/{path.as_posix()}" for path in beside]


def missing_files(text: str) -> list[str]:
    """The source files that a page names in backticks and that are not there; a path may begin anywhere."""
    named = [name for span in re.findall(r"`([^`\n]+)`", text)
             for name in re.findall(r"(?<![\w.*/-])[\w/-]+\.(?:py|cu|cuh|js|css)(?!\w)", span)]
    real = [name for name in named if not PLACEHOLDERS.search(name.replace("_", " "))]
    return [name for name in real if not any(one.endswith(f"/{name}") for one in sources())]


def missing_names(text: str) -> list[str]:
    """The names within the package that a page gives in backticks and that it does not have."""
    named = [name for span in re.findall(r"`([^`\n]+)`", text)
             for name in re.findall(r"(?<![\w/.-])(?:sn|sparsenet)(?:\.[a-zA-Z_]\w*)+(?![\w/-])", span)]
    return [name for name in named if not is_there(re.sub(r"^sn\b", "sparsenet", name))]


def is_there(name: str) -> bool:
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


@pytest.mark.parametrize("page", PAGES, ids=[path.relative_to(ROOT).as_posix() for path in PAGES])
def test_a_page_names_files_and_objects_that_are_there(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert missing_files(text) == [] and missing_names(text) == []


def test_a_page_that_names_what_has_moved_would_be_noticed():
    text = "`kernels/forward_gone.cu`, `python x/gone.py`, `cpu/lanes.py`, `sn.gone`, `sn.ops.gone(x)`, `sn.nn.ReLU`"
    assert missing_files(text) == ["kernels/forward_gone.cu", "x/gone.py"]
    assert missing_names(text) == ["sn.gone", "sn.ops.gone"]
