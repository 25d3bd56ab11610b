"""The process that runs a learner's Python file: `python -m sparsenet.teach.judge NAME FILE VERDICT SECONDS`.

VERDICT, a file, gets {"wrong": words, "remark": words}; "wrong" is empty if the answer is right.  What the learner
prints goes to the console.
"""

from __future__ import annotations

import faulthandler
import json
import re
import sys
import traceback
from pathlib import Path
from types import CodeType
from typing import Any

from sparsenet.teach.puzzle import Wrong, find

MEMORY = 4 << 30  # bytes


def judge(name: str, path: Path) -> str:
    """Check the function of a file, and return a remark.

    Raises Wrong, for whatever the file raises too.
    """
    puzzle = find(name)
    names: dict[str, Any] = {"__name__": puzzle.name, "__file__": str(path)}
    try:
        exec(_compiled(path), names)
        function = names.get(puzzle.name)
        if not callable(function):
            raise Wrong(f"{path.name} has no function named {puzzle.name}: keep its first line, def {puzzle.name}(...)")
        return puzzle.judge(function)  # type: ignore[attr-defined]
    except Wrong:
        raise
    except NotImplementedError:
        raise Wrong(f"{_place(path)}: raise NotImplementedError is still there: replace it by your code") from None
    except MemoryError:
        raise Wrong(f"{_place(path)}: the program needs more than {MEMORY >> 30} GB of memory: does a loop add to a "
                    "list "
                    "without end?") from None
    except BaseException as error:  # whatever a learner's code raises, SystemExit too, is told
        raise Wrong(f"{_place(path)}: {type(error).__name__}: {error}") from None


def _compiled(path: Path) -> CodeType:
    text = path.read_text(encoding="utf-8")
    try:
        return compile(text, str(path), "exec")
    except SyntaxError as error:
        line = (error.text or "").rstrip()
        pointer = "\n    " + " " * max((error.offset or 1) - 1, 0) + "^" if line else ""
        raise Wrong(f"line {error.lineno} of {path.name}: {error.msg}\n    {line}{pointer}") from None


def _place(path: Path) -> str:
    """The line of the file that the present exception comes from, and its text."""
    frames = [frame for frame in traceback.extract_tb(sys.exc_info()[2]) if frame.filename == str(path)]
    return f"line {frames[-1].lineno} of {path.name}, `{frames[-1].line}`" if frames else path.name


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # not on Windows
        return
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, resource.getrlimit(resource.RLIMIT_DATA)[1]))


def endless(trace: str, path: Path, seconds: int) -> str:
    """Words for a program that did not end, from faulthandler's report of where it was."""
    found = re.search(rf'File "{re.escape(str(path))}", line (\d+)', trace)
    where = ""
    if found:
        lines = path.read_text(encoding="utf-8").splitlines()
        where = f", and was at line {found[1]}: `{lines[int(found[1]) - 1].strip()}`"
    return f"endless loop? The program had not ended after {seconds} seconds{where}"


def main(arguments: list[str]) -> None:
    name, path, verdict, seconds = arguments[0], Path(arguments[1]), Path(arguments[2]), int(arguments[3])
    find(name).prepare()  # type: ignore[attr-defined]
    trace = verdict.with_suffix(".trace")
    _limit_memory()
    with open(trace, "w", encoding="utf-8") as file:
        faulthandler.dump_traceback_later(seconds, exit=True, file=file)
        told = {"wrong": "", "remark": ""}
        try:
            told["remark"] = judge(name, path)
        except Wrong as wrong:
            told["wrong"] = str(wrong)
        faulthandler.cancel_dump_traceback_later()
    sys.stdout.flush()
    verdict.write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
