"""Each family of kernels once on this GPU against float64 on the CPU: a verdict a line, in half a minute."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from benchmarks import rehearsal, smoke
from sparsenet import backend

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = """examples:
  python tools/gpu_smoke.py
  python tools/gpu_smoke.py --only "hash table" "leaky ReLU"
  SPARSENET_DRIVER=host python tools/gpu_smoke.py     # a rehearsal without a GPU: kernels run on the host (g++)

A part that fails does not keep the next ones from running; where one takes the GPU away from the process, a new
process goes on.  Exit code: 0, or 1 if a part failed or there is no GPU."""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="gpu_smoke.py", description=__doc__, epilog=EXAMPLES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[], metavar="PART", help="these parts (default: all)")
    given = parser.parse_args(arguments)
    parts = smoke.parts()
    names = [part.name for part in parts]
    if unknown := set(given.only) - set(names):
        parser.error(f"--only {', '.join(sorted(unknown))}: expected some of {', '.join(names)}")
    rehearsal.choose_driver(ROOT)
    backend.cupy()
    chosen = [part for part in parts if not given.only or part.name in given.only]
    failed, left = smoke.run(chosen, "cuda", lambda line: print(line, flush=True))
    if left:
        print(f"the GPU is lost to this process: a new one goes on with {left[0]}", flush=True)
        again = subprocess.run([sys.executable, str(ROOT / "tools" / "gpu_smoke.py"), "--only", *left], check=False)
        return 1 if failed else again.returncode
    print(f"{len(failed)} of {len(chosen)} parts failed{': ' if failed else ''}{', '.join(failed)}")
    return 1 if failed else 0
