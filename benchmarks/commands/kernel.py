"""Compare a kernel with its formula on each backend, then time it beside a copy of its bytes, or beside sgemm."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from textwrap import fill

from benchmarks import kernel, rehearsal
from benchmarks.inputs import family_of
from benchmarks.timing import Settings
from sparsenet.info import processor_name
from sparsenet.kernels import find, get_num_threads
from sparsenet.kernels.table import names

ROOT = Path(__file__).resolve().parents[2]


def main(arguments: list[str]) -> int:
    plain = Settings(seconds=5.0)
    parser = argparse.ArgumentParser(prog="sparsenet benchmark kernel", description=__doc__, epilog=_examples(),
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", metavar="NAME", help="one of the kernels below")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(kernel.SIZES), metavar="N",
                        help="rows: sites, points or triangles (default: %(default)s)")
    parser.add_argument("--backends", nargs="+", choices=kernel.BACKENDS, help="default: those of this machine")
    parser.add_argument("--repeats", type=int, default=plain.repeats, metavar="N", help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=plain.seconds, metavar="N",
                        help="a size ends after this time, but not before 3 repeats (default: %(default)g)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    args = parser.parse_args(arguments)
    try:
        kernel.check_name(args.name)
    except KeyError as error:
        parser.error(error.args[0])
    if args.repeats < 1:
        parser.error(f"argument --repeats: {args.repeats} is not a positive whole number")
    if small := [size for size in args.sizes if size < 4]:
        parser.error(f"argument --sizes: {small[0]}, expected 4 or more")
    on_host = rehearsal.choose_driver(ROOT) == "host"
    there = kernel.available()
    backends = args.backends or there
    if "cuda" in backends and "cuda" not in there:
        parser.error("argument --backends: cuda: there is no GPU that CuPy finds (sparsenet info)")
    implemented = kernel.implemented(args.name, backends)
    if not implemented:
        parser.error(f"{args.name} has no implementation on {' or '.join(backends)}")
    for lacking in (where for where in backends if where not in implemented):
        print(f"{args.name} has no implementation on {lacking}", file=sys.stderr)
    settings = Settings(args.repeats, args.seconds, quick=on_host)
    found = kernel.measure_all(args.name, args.sizes, implemented, settings,
                               lambda line: print(line, file=sys.stderr, flush=True))
    print(f"{find(args.name)!r}\nsparsenet/kernels/{family_of(args.name)}/\n{_machine(implemented)}\n")
    print(kernel.table(found))
    print(kernel.NOTE + (kernel.NOTE_OF_PRODUCTS if found[0].multiply_adds else ""))
    if args.json:
        args.json.write_text(json.dumps([asdict(one) for one in found], indent=2) + "\n", encoding="utf-8")
    return 0


def _machine(backends: list[str]) -> str:
    from benchmarks.machine import gpu_name

    return f"{processor_name()}, {get_num_threads()} threads" + (f"; {gpu_name()}" if "cuda" in backends else "")


def _examples() -> str:
    families: dict[str, list[str]] = {}
    for name in names():
        families.setdefault(family_of(name), []).append(name)
    lines = [fill(f"  {family:12} {', '.join(kernels)}", 100, subsequent_indent=" " * 15)
             for family, kernels in families.items()]
    return "\n".join(["""examples:
  sparsenet benchmark kernel convolution_forward
  sparsenet benchmark kernel segment_sum --sizes 1000 1000000 --backends cpu
  SPARSENET_DRIVER=host sparsenet benchmark kernel leaky_relu_forward --sizes 100    # the CUDA source on the host:
                                                                                     # checked; its time says nothing

The inputs are in benchmarks/inputs/FAMILY.py, a function for each kernel.  A result that differs from the formula's by
more than 1e-4 of its largest value, or by anything if it is of whole numbers, ends the command before anything is
timed, with exit code 1.

kernels:""", *lines])
