#!/usr/bin/env python3
"""Verify each pass against a reference, then time it: beside its ceiling, and beside other packages."""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import benchmarks  # noqa: E402
from benchmarks import SECTIONS, comparison, figures, picture, report  # noqa: E402
from sparsenet.cli.exit_code import run  # noqa: E402

EXAMPLES = """examples:
  python tools/benchmark.py                                    # all of it: some 15 minutes on two cores
  python tools/benchmark.py --quick                            # a minute: does everything run?
  python tools/benchmark.py --only convolution hash            # some sections
  python tools/benchmark.py --peers .venv-peers/bin/python     # torch and spconv live in another environment
  python tools/benchmark.py --json cpu.json --picture cpu.png --compare docs/results/cpu.json

sections:
""" + "\n".join(f"  {name:14} {title}" for name, (title, *_) in SECTIONS.items()) + """

A section that fails (a pass disagrees with its reference, memory does not suffice) is named, and the next one
begins; FILE is written after each.  A figure that a comparison calls worse does not change the exit code: 0, or 1
after an error or a section that failed, 2 after a wrong command line, 130 after Ctrl-C."""


def main() -> int:
    plain = benchmarks.Settings()
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default=plain.device, help=f"default: {plain.device}")
    parser.add_argument("--only", nargs="+", default=[], choices=list(SECTIONS), metavar="SECTION",
                        help="these sections (default: all that the device has)")
    parser.add_argument("--repeats", type=int, default=plain.repeats, metavar="N",
                        help=f"rounds of each group of cases (default: {plain.repeats})")
    parser.add_argument("--seconds", type=float, default=plain.seconds, metavar="N",
                        help=f"a group ends early after so long, with 3 rounds at least (default: {plain.seconds:g})")
    parser.add_argument("--quick", action="store_true", help="1 repeat, small batches: the figures mean nothing")
    parser.add_argument("--peers", metavar="PYTHON", default=sys.executable,
                        help="interpreter that has torch and spconv, or 'none' (default: this one)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    parser.add_argument("--follow", type=Path, metavar="FILE", help="append each figure to FILE as it is found")
    parser.add_argument("--carried", type=Path, metavar="FOLDER", help="what tools/gpu_pack.py packed: shapes")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw them to FILE (needs matplotlib)")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="report what changed since FILE was written")
    arguments = parser.parse_args()
    if arguments.repeats < 1:
        parser.error(f"--repeats is {arguments.repeats}, expected 1 or more")
    if arguments.picture:
        picture.check(arguments.picture)
    before = benchmarks.Results.load(arguments.compare) if arguments.compare else None

    settings = benchmarks.Settings(1 if arguments.quick else arguments.repeats, arguments.seconds, arguments.quick,
                                  arguments.device, None if arguments.peers == "none" else arguments.peers,
                                  arguments.carried)

    def keep(so_far: benchmarks.Results) -> None:
        if arguments.json:
            so_far.save(arguments.json)

    with ExitStack() as stack:
        following = stack.enter_context(open(arguments.follow, "a", encoding="utf-8")) if arguments.follow else None

        def heard(figure: benchmarks.Figure) -> None:
            if following:
                print(figures.line(figure), file=following, flush=True)

        results = benchmarks.run(settings, arguments.only, lambda line: print(line, file=sys.stderr, flush=True), keep,
                                heard)
    print(report.text(results))
    if arguments.picture:
        picture.draw(results, arguments.picture)
    if before is not None:
        print(f"\n{comparison.report(benchmarks.compare(results, before))}")
    return 1 if results.failed else 0


if __name__ == "__main__":
    sys.exit(run(main))
