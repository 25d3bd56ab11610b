"""Measure the tables and figures of the paper anew, beside the published numbers."""

from __future__ import annotations

import shlex
from pathlib import Path

from sparsenet.cli.parser import command_parser

EXAMPLES = """parts:
{parts}

examples:
  sparsenet reproduce table1 figure1 --psb psb/
  sparsenet reproduce --psb psb/ --modelnet40 modelnet40_voxels30/      # everything: days on two cores
  sparsenet reproduce table2 --modelnet40 modelnet40_voxels30/ --run "VoxNet's layers" --seconds 3600
  sparsenet reproduce ablation --modelnet40 modelnet40_voxels30/ --set training.epochs=15

Trainings lie in the work folder and go on where they stopped when the command is run again; what is finished is not
trained again.  Tables are written as Markdown and CSV, figures as PNG (needs matplotlib), each with the command, run
time, machine and version.
Exit code: 0, or 1 after an error, 2 after a wrong command line, 130 after Ctrl-C, 143 after SIGTERM."""


def main(arguments: list[str]) -> None:
    from sparsenet.reproduction import PARTS, Sources, reproduce
    from sparsenet.reproduction.parts import source_of

    examples = EXAMPLES.format(parts="\n".join(f"  {name:<17} {text}" for name, text in PARTS.items()))
    parser = command_parser("reproduce", __doc__, examples)
    parser.add_argument("parts", nargs="*", metavar="PART", help="parts to measure (default: all whose data are given)")
    parser.add_argument("--psb", type=Path, metavar="FOLDER", help="the Princeton Shape Benchmark")
    parser.add_argument("--modelnet40", type=Path, metavar="FOLDER", help="train.npz and test.npz, ModelNet40's voxels")
    parser.add_argument("--modelnet10", type=Path, metavar="FILE", help="ModelNet10's voxels, an .npz file")
    parser.add_argument("--out", type=Path, default=Path("results/paper"), metavar="FOLDER",
                        help="folder of tables and figures (default: results/paper)")
    parser.add_argument("--work", type=Path, default=Path("runs/reproduce"), metavar="FOLDER",
                        help="folder of datasets and trainings (default: runs/reproduce)")
    parser.add_argument("--run", action="append", metavar="NAME", help="row of a table 2 or variant of the ablation to "
                                                                      "train; may be repeated (default: all)")
    parser.add_argument("--changes", default="modelnet40", metavar="FILE",
                        help="the ablation's config and its changes: a TOML file, or the name of one that ships with "
                             "the package (default: modelnet40)")
    parser.add_argument("--shapes", type=int, metavar="N", help="shapes that table1 looks at (default: all)")
    parser.add_argument("--seconds", type=float, metavar="N", help="stop each training resumably after N seconds")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE",
                        help="override a key of every training's config; may be repeated")
    args = parser.parse_args(arguments)
    if args.shapes is not None and args.shapes < 1:
        parser.error(f"argument --shapes: {args.shapes} is not a positive whole number")
    sources = Sources(args.psb, args.modelnet40, args.modelnet10)
    given = [part for part in PARTS if getattr(sources, source_of(part))]
    if not args.parts and not given:
        parser.error("name the data: --psb FOLDER, --modelnet40 FOLDER, --modelnet10 FILE, or several")
    reproduce(args.parts or given, sources, args.out, args.work, shlex.join(["sparsenet", "reproduce", *arguments]),
              args.seconds, args.run, args.shapes, overrides=tuple(args.set), changes=args.changes)
