"""Run each family of kernels once on this GPU against float64 on the CPU: one verdict per line, in half a minute."""

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

After a failed part the next ones still run; if it makes the GPU unusable for the process, a new process
continues.  Exit code: 0, or 1 if a part failed or there is no GPU."""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="gpu_smoke.py", description=__doc__, epilog=EXAMPLES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[], metavar="PART", help="run only these parts (default: all)")
    args = parser.parse_args(arguments)
    parts = smoke.parts()
    names = [part.name for part in parts]
    if unknown := set(args.only) - set(names):
        parser.error(f"--only {', '.join(sorted(unknown))}: expected some of {', '.join(names)}")
    rehearsal.choose_driver(ROOT)
    backend.cupy()
    chosen = [part for part in parts if not args.only or part.name in args.only]
    failed, left = smoke.run(chosen, "cuda", lambda line: print(line, flush=True))
    if left:
        print(f"this process cannot use the GPU any more: a new one continues with {left[0]}", flush=True)
        again = subprocess.run([sys.executable, str(ROOT / "tools" / "gpu_smoke.py"), "--only", *left], check=False)
        return 1 if failed else again.returncode
    print(f"{len(failed)} of {len(chosen)} parts failed{': ' if failed else ''}{', '.join(failed)}")
    return 1 if failed else 0
