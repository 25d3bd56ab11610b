#!/usr/bin/env python3
"""Begin a kernel of your own: contract, formula, Numba, CUDA, operation, layer, tests, benchmark inputs and a page.

    python examples/new_kernel/start.py hard_shrink
    pytest tests/kernels/test_hard_shrink.py tests/nn/test_hard_shrink.py
    sparsenet benchmark kernel hard_shrink_forward

It copies the files of `template/` into the clone under the new name, and adds the lines of `LINES` to files that list
kernels, operations and layers.  What there is afterwards works and is tested, and computes soft shrinkage: change the
formula first, then the plain loop in the test, then each backend until its tests pass again.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
TEMPLATE = "soft_shrink"


class Line(NamedTuple):
    """A line, or several, of a file that lists things.

    before : the beginning of the line that it goes before; or, if `sorted_among`, of the lines among which it is sorted
    """

    file: str
    text: str
    before: str
    sorted_among: bool = False


LINES = (
    # the kernel
    Line("sparsenet/kernels/__init__.py", "import sparsenet.kernels.soft_shrink.contract\n", "import sparsenet.", True),
    Line("tests/kernels/cold_start.py", '    "soft_shrink": lambda: launch("soft_shrink_forward", _F, 0.3),\n',
         '    "losses": '),
    Line("benchmarks/smoke_parts.py", '    "soft shrink": Layer(lambda: nn.SoftShrink(0.3)),\n', '    "PReLU": '),
    Line("tests/benchmarks/test_smoke.py",
         '    "soft shrink": smoke_parts.Layer(lambda: SoftShrink(0.3), count=40, side=4),\n', '    "PReLU": '),
    Line("tests/benchmarks/test_smoke.py", "from sparsenet.nn.soft_shrink import SoftShrink\n", "\nROOT"),
    Line("docs/kernels.md", "| [Soft shrink](kernels/soft_shrink.md) | `soft_shrink_forward`, `soft_shrink_backward` | "
                            "numbers move towards zero |\n", "| [Average and sum"),
    Line("mkdocs.yml", "      - kernels/soft_shrink.md\n", "      - kernels/sum_pool.md"),
    # the operation
    Line("sparsenet/ops/__init__.py", "from sparsenet.ops.soft_shrink import soft_shrink\n", "from sparsenet.ops.",
         True),
    Line("sparsenet/ops/__init__.py", '    "soft_shrink",\n', '    "', True),
    Line("docs/api/operations.md", "::: sparsenet.ops.soft_shrink\n\n", "::: sparsenet.ops.upsample"),
    # the layer: by hand, in a config (its kind and settings are those of the method), exported
    Line("sparsenet/nn/__init__.py", "from sparsenet.nn.soft_shrink import SoftShrink\n", "from sparsenet.nn.", True),
    Line("sparsenet/nn/__init__.py", '    "SoftShrink",\n', '    "', True),
    Line("sparsenet/nn/network.py", "from sparsenet.nn.soft_shrink import SoftShrink\n", "from sparsenet.nn.", True),
    Line("sparsenet/nn/network.py", '''    def add_soft_shrink(self, limit: float = 0.5) -> SparseNetwork:
        """Append a SoftShrink."""
        return self.add(SoftShrink(limit))

''', "    def add_batch_norm("),
    Line("sparsenet/export/layers.py", "from sparsenet.nn.soft_shrink import SoftShrink\n", "from sparsenet.sparse"),
    Line("sparsenet/export/layers.py", '''@dense_equivalent(SoftShrink)
def soft_shrink(graph: DenseGraph, name: str, layer: SoftShrink, x: Value) -> Value:
    return graph.operation("soft_shrink", name, layer, x, {"limit": layer.limit})


''', "@dense_equivalent(Softmax)"),
    Line("sparsenet/export/onnx_nodes.py", '''@operation("soft_shrink")
def _soft_shrink(graph: OnnxNodes, node: Node) -> None:
    graph.of("Shrink", node, lambd=node.settings["limit"], bias=node.settings["limit"])


''', '@operation("prelu")'),
    Line("sparsenet/export/torch_module.py", '''@operation("soft_shrink")
def _soft_shrink(node: Node) -> nn.Module:
    return nn.Softshrink(node.settings["limit"])


''', '@operation("prelu")'),
    Line("docs/api/layers.md", "::: sparsenet.nn.soft_shrink\n\n", "::: sparsenet.nn.inverse"),
    Line("docs/export.md", "| SoftShrink | the same |\n", "| Softmax |"),
    Line("docs/features.md", "| [soft shrink](api/layers.md) | yes |" + " - |" * 7 + "\n", "| [concatenation"),
)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the family and its operation, in lower case, such as hard_shrink")
    parser.add_argument("--clone", type=Path, default=HERE.parents[1], metavar="FOLDER", help="default: this clone")
    args = parser.parse_args(arguments)
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", args.name):
        parser.error(f"{args.name}: expected a name in lower case, such as hard_shrink")
    if taken := [path for path in new_files(args.clone, args.name) if path.exists()]:
        parser.error(f"{args.name}: there is {taken[0].relative_to(args.clone)} already: take another name")
    edits = with_lines(args.clone, args.name)  # raises before anything is written
    written = new_files(args.clone, args.name)
    for path, source in written.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(renamed(source.read_text(encoding="utf-8"), args.name), encoding="utf-8")
    for path, text in edits.items():
        path.write_text(text, encoding="utf-8")
    print("new files:", *(f"  {path.relative_to(args.clone)}" for path in written), "lines added to:",
          *(f"  {path.relative_to(args.clone)}" for path in edits), sep="\n")
    print(f"\nnext: ruff check --fix .\n      pytest tests/kernels/test_{args.name}.py tests/nn/test_{args.name}.py\n"
          f"      sparsenet benchmark kernel {args.name}_forward")
    return 0


def new_files(clone: Path, name: str) -> dict[Path, Path]:
    """The files to write -> those of the template."""
    folder = HERE / "template"
    return {clone / renamed(path.relative_to(folder).as_posix(), name): path for path in sorted(folder.rglob("*.*"))
            if path.suffix != ".pyc"}


def with_lines(clone: Path, name: str) -> dict[Path, str]:
    """The files of `LINES` -> their texts with the lines added.

    Raises ValueError if a file has no line that begins so.
    """
    texts: dict[Path, str] = {}
    for line in LINES:
        path = clone / line.file
        text = texts.get(path) or path.read_text(encoding="utf-8")
        new = renamed(line.text, name)
        texts[path] = text[:(at := place(line, text, new))] + new + text[at:]
    return texts


def place(line: Line, text: str, new: str) -> int:
    """The position in the text at which the new line goes."""
    found = [match.start() for match in re.finditer("^" + re.escape(line.before), text, re.MULTILINE)]
    if not found:
        raise ValueError(f"{line.file}: no line begins with {line.before!r}, before which to add {new.strip()!r}: mend "
                         f"LINES in {HERE / 'start.py'}")
    if not line.sorted_among:
        return found[0]
    larger = [at for at in found if text[at:text.index("\n", at)].lower() > new.rstrip().lower()]
    return larger[0] if larger else text.index("\n", found[-1]) + 1


def renamed(text: str, name: str) -> str:
    """The text with the template's name replaced in each of its spellings."""
    words = name.split("_")
    for old, new in ((TEMPLATE, name), ("SoftShrink", "".join(word.capitalize() for word in words)),
                     (TEMPLATE.upper(), name.upper()), ("oft shrinkage", None), ("oft shrink", None)):
        text = text.replace(old, new) if new else re.sub(f"([sS]){old}", lambda match: _spelled(match, words), text)
    return text


def _spelled(match: re.Match, words: list[str]) -> str:
    """The name in prose, with a capital where the template has one."""
    spelled = " ".join(words)
    return spelled.capitalize() if match[1] == "S" else spelled


if __name__ == "__main__":
    sys.exit(main())
