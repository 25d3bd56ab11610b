#!/usr/bin/env python3
"""Pack what a machine with a GPU, which reaches no network, needs besides the checkout: real shapes, peers."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import carried  # noqa: E402
from sparsenet.cli.exit_code import run  # noqa: E402
from sparsenet.files import size_text  # noqa: E402

EXAMPLES = """examples:
  SPARSENET_DATA=data python tools/gpu_pack.py carried                  # 512 meshes of PSB, and spconv
  SPARSENET_DATA=data python tools/gpu_pack.py carried2 --modelnet40    # the data of a whole training
  python tools/gpu_pack.py carried --peers
  python tools/gpu_campaign.py --carried carried                        # there

The shapes come from the folder that SPARSENET_DATA names, peers by pip from the package index.  Terms of the shapes
forbid to pass them on: the folder is never committed."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="made if it is not there")
    parser.add_argument("--meshes", action="store_true", help=f"{carried.MESH_COUNT} meshes of PSB")
    parser.add_argument("--peers", action="store_true", help="spconv, for Python 3.12")
    parser.add_argument("--modelnet40", action="store_true", help="all of ModelNet40's voxels")
    parser.add_argument("--unpack", type=Path, metavar="TARGET", help="unpack the peers of FOLDER, for PYTHONPATH")
    arguments = parser.parse_args()
    if arguments.unpack:
        carried.unpack_peers(arguments.folder, arguments.unpack)
        return 0
    chosen = {pack for pack, wanted in ((carried.pack_meshes, arguments.meshes), (carried.pack_peers, arguments.peers),
                                        (carried.pack_modelnet40, arguments.modelnet40)) if wanted}
    for pack in (carried.pack_meshes, carried.pack_peers, carried.pack_modelnet40):
        if pack in (chosen or (carried.pack_meshes, carried.pack_peers)):
            path = pack(arguments.folder)
            print(f"{path}: {size_text(path.stat().st_size)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
