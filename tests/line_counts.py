"""How long the package is, and through which of its files a training step runs.  Blank lines and comments count.

    python tests/line_counts.py        prints both, for the reference backend and the CPU

A step makes the sites of two samples and all rulebooks, runs S3DCNN forward, the loss, backward and the update.  It
runs through a file if a Python function of the file is called; what Numba has compiled is not seen.  Modules are
imported before, and two steps run before the one that is observed, so what happens once is not counted: the second is
the first whose biases are not zero.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType
from typing import NamedTuple

import sparsenet

PACKAGE = Path(sparsenet.__file__).parent
SPECIFICATION = ("contract.py", "reference.py")  # of each family


class Parts(NamedTuple):
    """Lines of the package: Python above the seam; contracts, with the guards that they share, and formulas; the rest
    of kernels/, CUDA sources too."""

    above: int
    specification: int
    below: int


class Step(NamedTuple):
    """A training step: name -> lines of the files that it runs through, and of the functions that it calls there."""

    files: dict[str, int]
    called: dict[str, int]

    @property
    def lines(self) -> int:
        return sum(self.files.values())

    @property
    def called_lines(self) -> int:
        return sum(self.called.values())


def lines_of(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def specification_files() -> list[Path]:
    kernels = PACKAGE / "kernels"
    return [kernels / "guards.py", *sorted(path for name in SPECIFICATION for path in kernels.glob(f"*/{name}"))]


def parts() -> Parts:
    """The lines of the installed package, divided by the seam."""
    kernels = PACKAGE / "kernels"
    above = sum(lines_of(path) for path in PACKAGE.rglob("*.py") if kernels not in path.parents)
    specification = sum(map(lines_of, specification_files()))
    whole = sum(lines_of(path) for path in kernels.rglob("*") if path.suffix in (".py", ".cu", ".cuh"))
    return Parts(above, specification, whole - specification)


def step(backend: str) -> Step:
    """A training step, observed in a process of its own.  backend : "reference" or "cpu"."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path),  # the package that this process imports
                                "SPARSENET_BACKEND": "reference" if backend == "reference" else ""}
    done = subprocess.run([sys.executable, __file__, "observe"], env=environment, capture_output=True, text=True,
                          check=False)
    if done.returncode:
        raise RuntimeError(f"the step failed:\n{done.stderr}")
    return Step(*json.loads(done.stdout))


def observe() -> Step:
    """A training step, observed in this process, on one thread."""
    import numpy as np

    import sparsenet as sn

    rng = np.random.default_rng(0)
    net = sn.s3dcnn(4, channels=(2, 3, 4, 5))
    optimizer = sn.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, nesterov=True)
    sn.set_num_threads(1)

    def one_step() -> None:
        cells = [np.unique(rng.integers(5, 25, (60, 3)), axis=0) for _ in range(2)]
        sites = np.vstack([np.insert(own, 0, sample, axis=1) for sample, own in enumerate(cells)])
        x = sn.SparseTensor(np.ones((len(sites), 1), np.float32), sites, (30, 30, 30), batch_size=2)
        sn.ops.softmax_cross_entropy(net(x), np.array([0, 1])).backward()
        optimizer.step()
        optimizer.zero_grad()

    for _ in range(2):
        one_step()
    return called_by(one_step)


def called_by(function: Callable[[], object]) -> Step:
    """The files of the package and the lines of the functions that a call of `function` runs through."""
    codes: set[CodeType] = set()

    def note(frame, event, _):
        if event == "call":
            codes.add(frame.f_code)

    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
    called: dict[str, set[int]] = {}
    for code in codes:
        path = Path(code.co_filename)
        if PACKAGE in path.parents:
            called.setdefault(path.relative_to(PACKAGE).as_posix(), set()).update(
                range(code.co_firstlineno, last_line(code) + 1))
    return Step({name: lines_of(PACKAGE / name) for name in sorted(called)},
                {name: len(called[name]) for name in sorted(called)})


def last_line(code: CodeType) -> int:
    """The last line of a function, of functions within it too."""
    inner = [last_line(constant) for constant in code.co_consts if isinstance(constant, CodeType)]
    return max([line for _, _, line in code.co_lines() if line] + inner)


def main() -> None:
    above, specification, below = parts()
    print(f"lines of the package: {above} above the seam, {specification} of specification, {below} of kernels below")
    for backend in ("reference", "cpu"):
        found = step(backend)
        print(f"a training step, {backend}: {len(found.files)} files of {found.lines} lines, "
              f"{found.called_lines} of them in functions that it calls")
        for name in sorted(found.files, key=found.files.__getitem__, reverse=True):
            print(f"    {name:36} {found.files[name]:5} {found.called[name]:5}")


if __name__ == "__main__":
    print(json.dumps(observe())) if sys.argv[1:] == ["observe"] else main()
