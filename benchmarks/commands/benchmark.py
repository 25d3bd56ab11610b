"""Verify each pass against a reference, then time it and compare it with its ceiling and other packages."""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path

import benchmarks
from benchmarks import SECTIONS, comparison, figures, picture, report
from benchmarks.commands import kernel

EXAMPLES = """examples:
  sparsenet benchmark                                    # everything: about 15 minutes on two cores
  sparsenet benchmark --quick                            # a minute: does everything run?
  sparsenet benchmark --only convolution hash            # some sections
  sparsenet benchmark kernel convolution_forward         # one kernel, on each backend (its options: kernel --help)
  sparsenet benchmark --peers .venv-peers/bin/python     # torch and spconv are in another environment
  sparsenet benchmark --json cpu.json --picture cpu.png --compare docs/results/cpu.json

sections:
""" + "\n".join(f"  {name:14} {title}" for name, (title, *_) in SECTIONS.items()) + """

A section that fails (a pass does not match its reference, memory is insufficient) is reported, and the next one
starts; FILE is written after each.  Worse figures in a comparison do not change the exit code: 0, or 1 after an
error or a failed section, 2 after a wrong command line, 130 after Ctrl-C."""


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["kernel"]:
        return kernel.main(arguments[1:])
    plain = benchmarks.Settings()
    parser = argparse.ArgumentParser(prog="sparsenet benchmark", description=__doc__, epilog=EXAMPLES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default=plain.device, help=f"default: {plain.device}")
    parser.add_argument("--only", nargs="+", default=[], choices=list(SECTIONS), metavar="SECTION",
                        help="sections to run (default: all of the device)")
    parser.add_argument("--repeats", type=int, default=plain.repeats, metavar="N",
                        help=f"rounds of each group of cases (default: {plain.repeats})")
    parser.add_argument("--seconds", type=float, default=plain.seconds, metavar="N",
                        help=f"a group ends after this time, but not before 3 rounds (default: {plain.seconds:g})")
    parser.add_argument("--quick", action="store_true", help="1 repeat, small batches: the figures are meaningless")
    parser.add_argument("--peers", metavar="PYTHON", default=sys.executable,
                        help="interpreter with torch and spconv, or 'none' (default: this one)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    parser.add_argument("--follow", type=Path, metavar="FILE", help="append each figure to FILE as it is measured")
    parser.add_argument("--carried", type=Path, metavar="FOLDER", help="folder packed by tools/gpu_pack.py: shapes")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the figures to FILE (needs matplotlib)")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="report the changes since FILE was written")
    args = parser.parse_args(arguments)
    if args.repeats < 1:
        parser.error(f"--repeats is {args.repeats}, expected 1 or more")
    if args.picture:
        picture.check(args.picture)
    before = benchmarks.Results.load(args.compare) if args.compare else None

    settings = benchmarks.Settings(1 if args.quick else args.repeats, args.seconds, args.quick,
                                  args.device, None if args.peers == "none" else args.peers,
                                  args.carried)

    def keep(so_far: benchmarks.Results) -> None:
        if args.json:
            so_far.save(args.json)

    with ExitStack() as stack:
        following = stack.enter_context(open(args.follow, "a", encoding="utf-8")) if args.follow else None

        def heard(figure: benchmarks.Figure) -> None:
            if following:
                print(figures.line(figure), file=following, flush=True)

        results = benchmarks.run(settings, args.only, lambda line: print(line, file=sys.stderr, flush=True), keep,
                                heard)
    print(report.text(results))
    if args.picture:
        picture.draw(results, args.picture)
    if before is not None:
        print(f"\n{comparison.report(benchmarks.compare(results, before))}")
    return 1 if results.failed else 0
