"""Join the parts of a dataset or of descriptors to one file."""

from __future__ import annotations

import sys
from pathlib import Path

from sparsenet.cli.parser import command_parser

EXAMPLES = """examples:
  for i in 1 2 3 4; do sparsenet make-dataset folder meshes/ shapes.h5 --part $i/4; done
  sparsenet join shapes.h5                   # shapes.1-of-4.h5, ... shapes.4-of-4.h5
  sparsenet join all.h5 a/d.1-of-2.h5 b/d.2-of-2.h5 --remove

OUTPUT has the bits that the command would have written without --part.  A temporary file is written and renamed to
OUTPUT once complete.
Exit code: 0, or 1 after an error, 2 after a wrong command line, 130 after Ctrl-C, 143 after SIGTERM."""


def main(arguments: list[str]) -> None:
    from sparsenet.data import join_datasets
    from sparsenet.data.layout import FORMAT as DATASET
    from sparsenet.data.layout import VERSION as DATASET_VERSION
    from sparsenet.data.parts import parts_beside
    from sparsenet.files import open_hdf5
    from sparsenet.retrieval import Descriptors
    from sparsenet.retrieval.descriptors import FORMAT, VERSION
    from sparsenet.training.trained import check_output

    parser = command_parser("join", __doc__, EXAMPLES)
    parser.add_argument("output", metavar="OUTPUT", help="file to write")
    parser.add_argument("parts", metavar="PART", nargs="*",
                        help="files written by make-dataset --part or embed --part, in any order (default: those "
                             "beside OUTPUT)")
    parser.add_argument("--remove", action="store_true", help="remove the parts once OUTPUT is complete")
    parser.add_argument("--quiet", action="store_true", help="no report, only its warnings")
    args = parser.parse_args(arguments)
    paths = list(map(Path, args.parts)) or parts_beside(args.output)
    check_output(args.output, *paths)
    with open_hdf5(paths[0], {DATASET: DATASET_VERSION, FORMAT: VERSION}) as file:
        is_dataset = file.attrs["format"] == DATASET
    if is_dataset:
        report = join_datasets(args.output, paths)
        lines, warnings = report.lines(), report.warnings()
    else:
        descriptors = Descriptors.joined(paths)
        descriptors.save(args.output)
        lines, warnings = [f"{args.output}: {len(descriptors)} descriptors of {len(paths)} parts"], []
    if args.remove:
        for path in paths:
            path.unlink()
    if not args.quiet:
        print("\n".join(lines))
    for line in warnings:
        print(line, file=sys.stderr)
