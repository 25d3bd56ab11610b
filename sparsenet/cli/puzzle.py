"""Puzzles: rulebooks in NumPy, and CUDA kernels without a GPU, each a file with a hole."""

from __future__ import annotations

import sys
from pathlib import Path

from sparsenet.cli.parser import command_parser

EXAMPLES = """examples:
  sparsenet puzzle                            # lists them, with what is solved in this folder
  sparsenet puzzle start offsets              # writes offsets.py: the statement, and a function with a hole
  sparsenet puzzle check offsets.py           # runs it and says what is wrong
  sparsenet puzzle hint offsets               # the next hint
  sparsenet puzzle solution offsets           # prints an answer
  sparsenet puzzle start scale --folder cuda  # a kernel: needs g++, and no GPU

What is solved is noted in progress.json, beside the files.
Exit code: 0, or 1 if an answer is wrong or after another error, 2 after a wrong command line, 130 after Ctrl-C, 143
after SIGTERM."""
ACTIONS = ("list", "start", "check", "hint", "solution")
MARKS = {"solved": "x", "changed": "~", "begun": ".", "open": " "}


def main(arguments: list[str]) -> int:
    parser = command_parser("puzzle", __doc__, EXAMPLES)
    parser.add_argument("action", nargs="?", choices=ACTIONS, default="list", help="what to do (default: list)")
    parser.add_argument("puzzle", nargs="?", metavar="NAME|FILE", help="a puzzle; for check also its file")
    parser.add_argument("--folder", type=Path, help="where the files lie (default: the present folder)")
    parser.add_argument("--seconds", type=int, default=10, metavar="N",
                        help="how long an answer may run until it counts as endless (default: 10)")
    args = parser.parse_args(arguments)
    if args.seconds < 1:
        parser.error(f"argument --seconds: {args.seconds} is not a positive whole number")
    if args.action == "list":
        if args.puzzle:
            parser.error(f"list takes no puzzle, got {args.puzzle!r}")
        return _list(args.folder or Path())
    if not args.puzzle:
        parser.error(f"{args.action} needs the name of a puzzle: `sparsenet puzzle` lists them")
    if args.action == "check":
        return _check(args.puzzle, args.folder, args.seconds)
    return {"start": _start, "hint": _hint, "solution": _solution}[args.action](args.puzzle, args.folder or Path())


def _list(folder: Path) -> int:
    from sparsenet.teach.progress import Progress
    from sparsenet.teach.puzzle import find
    from sparsenet.teach.puzzles import NAMES

    progress = Progress(folder)
    puzzles = [find(name) for name in NAMES]
    states = [progress.state(puzzle) for puzzle in puzzles]
    for suffix, heading in ((".py", "Rulebooks, in NumPy"), (".cu", "CUDA kernels, run on the host")):
        print(f"{heading}:")
        for puzzle, state in zip(puzzles, states, strict=True):
            if puzzle.suffix == suffix:
                print(f"  [{MARKS[state]}] {puzzle.name:<18} {puzzle.title}{' (changed since)' * (state == 'changed')}")
        print()
    solved = sum(state in ("solved", "changed") for state in states)
    unsolved = [puzzle.name for puzzle, state in zip(puzzles, states, strict=True) if state in ("open", "begun")]
    print(f"{solved} of {len(puzzles)} solved ([x] solved, [.] begun)." + (
        f"  Next: sparsenet puzzle start {unsolved[0]}" if unsolved else ""))
    return 0


def _start(name: str, folder: Path) -> int:
    from sparsenet.teach.puzzle import find

    puzzle = find(name)
    file = folder / puzzle.file_name
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with open(file, "x", encoding="utf-8") as new:
            new.write(puzzle.template)
    except FileExistsError:
        raise ValueError(f"{file} is there already: go on with it, or remove it to begin anew") from None
    print(f"{file}: {puzzle.title}.\nOpen it, write between the marks, then: sparsenet puzzle check {file}")
    return 0


def _check(given: str, folder: Path | None, seconds: int) -> int:
    from sparsenet.teach.progress import Progress
    from sparsenet.teach.puzzle import Wrong, find, puzzle_of
    from sparsenet.teach.puzzles import NAMES

    file = (folder or Path()) / given
    if not file.is_file() and given.replace("-", "_") in NAMES:
        file = Progress(folder or Path()).file_of(find(given))
    if not file.is_file():
        name = find(Path(given).stem).name
        raise FileNotFoundError(f"{file} is not there: `sparsenet puzzle start {name}` writes it")
    puzzle, progress = puzzle_of(file), Progress(file.parent)
    try:
        remark = puzzle.check(file, seconds)
    except Wrong as wrong:
        print(f"{file}: not yet.\n\n{wrong}", flush=True)
        return 1
    progress.solve(puzzle, file)
    print(f"{file}: solved ({remark}).")
    first = NAMES.index(puzzle.name)
    unsolved = [name for name in NAMES[first:] + NAMES[:first] if progress.state(find(name)) in ("open", "begun")]
    print(f"Next: sparsenet puzzle start {unsolved[0]}" if unsolved else f"All {len(NAMES)} puzzles are solved.")
    return 0


def _hint(name: str, folder: Path) -> int:
    from sparsenet.teach.progress import Progress
    from sparsenet.teach.puzzle import find

    puzzle = find(Path(name).stem)
    number, words = Progress(folder).next_hint(puzzle)
    print(f"hint {number} of {len(puzzle.hints)}: {words}")
    if number == len(puzzle.hints):
        print(f"(It was the last one; `sparsenet puzzle solution {puzzle.name}` prints an answer.)", file=sys.stderr)
    return 0


def _solution(name: str, folder: Path) -> int:
    from sparsenet.teach.puzzle import find

    print(find(Path(name).stem).solution, end="")
    return 0
