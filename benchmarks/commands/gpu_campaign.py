"""On a machine with a GPU: check it, measure it and run the tests, in two calls of eight and five minutes."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks import campaign, rehearsal
from sparsenet import backend

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = """examples:
  python tools/gpu_campaign.py --call 1                     # into docs/results/<name of the GPU>-1: at most 480 s
  python tools/gpu_campaign.py --call 2                     # tests and NVIDIA's checkers: at most 300 s
  python tools/gpu_campaign.py --call tune                  # time tile sizes, write tiles.toml: at most 300 s
  python tools/gpu_campaign.py --call 1 results --carried carried --archive out/results.tgz
  python tools/gpu_campaign.py --call 1 --only imports compile large
  SPARSENET_DRIVER=host python tools/gpu_campaign.py --call 1 results     # a rehearsal without a GPU

Each stage is a process that is interrupted at its time limit, so a call always ends in time.  Each stage writes
NAME.txt, the benchmark NAME.json, and each figure is appended to figures.jsonl as it is measured; campaign.json
contains GPU, date, commit and stages, summary.txt the final output.  All of it is packed into the archive after each
stage.  Exit code: 0, or 1 if a stage failed or there is no GPU; a stage that cannot run is left out, with the
reason."""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="gpu_campaign.py", description=__doc__, epilog=EXAMPLES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, nargs="?", metavar="FOLDER",
                        help="default: docs/results/<name of the GPU>-<call>")
    parser.add_argument("--call", choices=tuple(campaign.SECONDS), default="1", help="default: 1")
    parser.add_argument("--only", nargs="+", default=[], metavar="STAGE", help="run only these stages")
    parser.add_argument("--seconds", type=float, metavar="N", help="limit of the whole call (default: "
                        + ", ".join(f"{name}: {seconds}" for name, seconds in campaign.SECONDS.items()) + ")")
    parser.add_argument("--peers", default=sys.executable, metavar="PYTHON",
                        help="interpreter with torch and spconv, or 'none' (default: this one)")
    parser.add_argument("--carried", type=Path, metavar="FOLDER", help="packed by tools/gpu_pack.py: shapes, peers")
    parser.add_argument("--archive", type=Path, metavar="FILE", help="default: results.tgz in FOLDER")
    parser.add_argument("--commit", default="", metavar="NAME", help="commit to record if git is not available")
    args = parser.parse_args(arguments)
    driver = rehearsal.choose_driver(ROOT)
    backend.cupy()  # reports a missing CuPy or GPU first
    out = (args.out or ROOT / "docs" / "results" / f"{campaign.folder_name()}-{args.call}").resolve()
    carried = args.carried.resolve() if args.carried else None
    setting = campaign.Setting(ROOT, out, driver, args.peers, carried)
    listed = campaign.stages(args.call, setting)
    names = [stage.name for stage in listed]
    if unknown := set(args.only) - set(names):
        parser.error(f"--only {' '.join(sorted(unknown))}: expected some of {', '.join(names)}")
    chosen = [stage for stage in listed if not args.only or stage.name in args.only]
    archive = (args.archive or out / campaign.ARCHIVE).resolve()
    seconds = args.seconds or campaign.SECONDS[args.call] * campaign.SLOWER[driver]
    passed = campaign.run_campaign(chosen, ROOT, out, seconds, archive, commit_name=args.commit)
    print(f"\n{(out / campaign.SUMMARY).read_text(encoding='utf-8')}\nall of it: {archive}")
    return 0 if passed else 1
