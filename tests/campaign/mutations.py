"""Small changes of a source file that a test should notice.

A mutation replaces one stretch of text.  Python is mutated by its syntax tree: comparisons, arithmetic, and/or,
not, conditions, whole numbers, truth values, statements left out.  CUDA C++ is mutated by pattern, comments and
launch bounds left alone.  Texts, docstrings, annotations, assertions (`zip(strict=True)`, too) and what is raised
are never touched: a message is not a result.  No two mutations are the same: of `x != y` and `not (x == y)` there is
one.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

COMPARED = {ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==", ast.Is: "is not",
            ast.IsNot: "is", ast.In: "not in", ast.NotIn: "in"}
CALCULATED = {ast.Add: "-", ast.Sub: "+", ast.Mult: "+", ast.Div: "*", ast.FloorDiv: "*", ast.Mod: "//", ast.Pow: "*",
              ast.LShift: ">>", ast.RShift: "<<", ast.BitAnd: "|", ast.BitOr: "&", ast.MatMult: "*"}
CUDA = [(r"(?<![<\-])<(?![<=])(?=[^<>;(]*[;)&|?])", "<="), (r"<=", "<"), (r"(?<![>\-])>=", ">"), (r"==", "!="),
        (r"!=", "=="), (r"&&", "||"), (r"\|\|", "&&"), (r"(?<=[\w)\]] )\+(?= [\w(])", "-"),
        (r"(?<=[\w)\]] )-(?= [\w(])", "+"), (r"(?<=[\w)\]] )\*(?= [\w(])", "+"), (r"(?<=[\w)\]] )/(?= [\w(])", "*"),
        (r"\+=", "-="), (r"\b__sync(?:threads|warp)\(\);", ";"), (r"(?<![\w.])(\d+)(?![\w.])", None)]
COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\])*\"|^[ \t]*#[^\n]*|static_assert[^;]*;|"
                     r"__launch_bounds__\([^)]*\)", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Mutation:
    """text[start:stop] of the file becomes `new`; `old` is what stood there.

    code : the line with the change in it, such as "return n {< -> <=} limit"
    """

    path: Path
    start: int
    stop: int
    old: str
    new: str
    line: int
    code: str

    def apply(self, text: str) -> str:
        """The mutated text."""
        assert text[self.start:self.stop] == self.old
        return text[:self.start] + self.new + text[self.stop:]

    def __str__(self) -> str:
        return f"{self.path.as_posix()}:{self.line}: {self.code}"


def mutations(path: Path, text: str) -> list[Mutation]:
    """All mutations of a .py, .cu or .cuh file, in the order of the text."""
    spans = _python(text) if path.suffix == ".py" else _cuda(text)
    found = {(start, stop, new) for start, stop, new in spans if text[start:stop] != new}
    return [Mutation(path, start, stop, text[start:stop], new, text.count("\n", 0, start) + 1,
                     _code(text, start, stop, new)) for start, stop, new in sorted(found)]


def _code(text: str, start: int, stop: int, new: str) -> str:
    first, last = text.rfind("\n", 0, start) + 1, (text + "\n").find("\n", stop)
    return " ".join(f"{text[first:start]}{{{text[start:stop]} -> {new}}}{text[stop:last]}".split())


def _python(text: str) -> Iterator[tuple[int, int, str]]:
    lines = text.encode().splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    raw = text.encode()

    def place(line: int, column: int) -> int:
        return len(raw[:starts[line - 1] + column].decode())  # ast counts bytes

    def span(node: ast.AST) -> tuple[int, int]:
        return place(node.lineno, node.col_offset), place(node.end_lineno, node.end_col_offset)

    def between(left: ast.AST, right: ast.AST, old: str, new: str) -> Iterator[tuple[int, int, str]]:
        low, high = span(left)[1], span(right)[0]
        found = re.search(rf"\b{old}\b" if old.isalpha() else re.escape(old), text[low:high])
        if found:
            yield low + found.start(), low + found.end(), new

    for node in _judged(ast.parse(text)):
        if isinstance(node, ast.Compare):
            operands = [node.left, *node.comparators]
            for left, operator, right in zip(operands, node.ops, operands[1:], strict=False):
                low, high = span(left)[1], span(right)[0]
                gap = text[low:high]
                kept = gap.strip(" ()\n\\")
                if kept and kept in gap:
                    at = low + gap.index(kept)
                    yield at, at + len(kept), COMPARED[type(operator)]
        elif isinstance(node, ast.BinOp) and not isinstance(node.left, ast.Constant | ast.JoinedStr):
            symbol = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%",
                      ast.Pow: "**", ast.LShift: "<<", ast.RShift: ">>", ast.BitAnd: "&", ast.BitOr: "|",
                      ast.MatMult: "@"}.get(type(node.op))
            if symbol:
                yield from between(node.left, node.right, symbol, CALCULATED[type(node.op)])
        elif isinstance(node, ast.BoolOp):
            old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
            yield from between(node.values[0], node.values[1], old, new)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            low, high = span(node)
            yield low, high, text[slice(*span(node.operand))]
        elif isinstance(node, ast.If | ast.While | ast.IfExp) and not _turned_already(node.test):
            low, high = span(node.test)
            yield low, high, f"(not ({text[low:high]}))"
        elif isinstance(node, ast.Constant) and type(node.value) is bool:
            yield *span(node), str(not node.value)
        elif isinstance(node, ast.Constant) and type(node.value) is int:
            yield *span(node), str(node.value + 1)
        elif isinstance(node, ast.AugAssign) or isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            yield *span(node), "pass"


def _turned_already(test: ast.AST) -> bool:
    """Whether one of the other mutations gives the opposite of a condition."""
    if isinstance(test, ast.Compare) and len(test.ops) == 1:
        return isinstance(test.ops[0], ast.Eq | ast.NotEq | ast.Is | ast.IsNot | ast.In | ast.NotIn)
    return isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)


def _judged(tree: ast.AST) -> Iterator[ast.AST]:
    """Nodes whose change could change a result."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Raise | ast.Import | ast.ImportFrom | ast.JoinedStr | ast.Assert):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.FunctionDef) and node.name == "__repr__":
            continue
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "zip":
            waiting += node.args  # strict=True is an assertion
            continue
        yield node
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "decorator_list", "type_comment"):
                continue
            waiting += [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, ast.AST)]


def _cuda(text: str) -> Iterator[tuple[int, int, str]]:
    code = COMMENT.sub(lambda found: re.sub(r"[^\n]", " ", found.group()), text)
    for pattern, new in CUDA:
        for found in re.finditer(pattern, code):
            yield found.start(), found.end(), str(int(found.group()) + 1) if new is None else new
