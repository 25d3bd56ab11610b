#!/usr/bin/env python3
"""On a machine with a GPU: tests, compute-sanitizer and benchmarks, into one folder; eight minutes at most."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sparsenet import backend, command
from sparsenet.benchmark import campaign

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = """examples:
  python tools/gpu_campaign.py                       # into docs/results/<name of the GPU>
  python tools/gpu_campaign.py results --tune        # time tile sizes too: four minutes more at most
  python tools/gpu_campaign.py --only benchmark --peers .venv-peers/bin/python

Each stage has a limit of time, at which it is interrupted; all limits together are less than eight minutes (--tune:
twelve).  Each writes NAME.txt, the benchmark benchmark.json, and the whole campaign.json: GPU, date, commit, stages.
Exit code: 0, or 1 where a stage failed or there is no GPU; a stage that cannot be run is left out and says why."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, nargs="?", metavar="FOLDER", help="default: docs/results/<name of the GPU>")
    parser.add_argument("--only", nargs="+", default=[], metavar="STAGE", help="these stages alone")
    parser.add_argument("--tune", action="store_true", help="time tile sizes and write tiles.toml")
    parser.add_argument("--peers", default=sys.executable, metavar="PYTHON",
                        help="interpreter that has torch and spconv, or 'none' (default: this one)")
    arguments = parser.parse_args()
    backend.cupy()  # says what is missing, before anything else
    out = arguments.out or ROOT / "docs" / "results" / campaign.folder_name()
    listed = campaign.stages(ROOT, out.resolve(), tune=arguments.tune, peers=arguments.peers)
    names = [stage.name for stage in listed]
    if unknown := set(arguments.only) - set(names):
        parser.error(f"--only {' '.join(sorted(unknown))}: expected some of {', '.join(names)}")
    chosen = [stage for stage in listed if not arguments.only or stage.name in arguments.only]
    return 0 if campaign.run_campaign(chosen, ROOT, out.resolve()) else 1


if __name__ == "__main__":
    sys.exit(command.run(main))
