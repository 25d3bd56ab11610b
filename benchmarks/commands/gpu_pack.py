"""Pack real shapes and peers for a GPU machine that has the checkout but no network."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from benchmarks import carried
from sparsenet.files import size_text

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = """examples:
  SPARSENET_DATA=data python tools/gpu_pack.py carried                  # 512 meshes of PSB, and spconv
  SPARSENET_DATA=data python tools/gpu_pack.py carried2 --modelnet40    # the data of a whole training
  SPARSENET_DATA=data python tools/gpu_pack.py carried --count 256      # of a transfer that takes 64 MiB in all
  python tools/gpu_pack.py carried --peers
  python tools/gpu_campaign.py --carried carried                        # there

The shapes come from the folder SPARSENET_DATA, the peers from the package index by pip.  The terms of the shapes
do not permit redistribution: never commit the folder."""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="gpu_pack.py", description=__doc__, epilog=EXAMPLES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="created if it does not exist")
    parser.add_argument("--meshes", action="store_true", help="meshes of PSB")
    parser.add_argument("--count", type=int, default=carried.MESH_COUNT, metavar="N", help="of meshes (%(default)s)")
    parser.add_argument("--peers", action="store_true", help="spconv, for Python 3.12")
    parser.add_argument("--modelnet40", action="store_true", help="all of ModelNet40's voxels")
    parser.add_argument("--unpack", type=Path, metavar="TARGET", help="unpack the peers of FOLDER, for PYTHONPATH")
    args = parser.parse_args(arguments)
    if args.unpack:
        carried.unpack_peers(args.folder, args.unpack)
        return 0
    unnamed = not (args.meshes or args.peers or args.modelnet40)
    packs = ((partial(carried.pack_meshes, count=args.count), args.meshes or unnamed),
             (carried.pack_peers, args.peers or unnamed), (carried.pack_modelnet40, args.modelnet40))
    for pack in (pack for pack, wanted in packs if wanted):
        path = pack(args.folder)
        print(f"{path}: {size_text(path.stat().st_size)}", flush=True)
    folder, checkout = carried.folder_bytes(args.folder), carried.checkout_bytes(ROOT)
    print(f"with the checkout: {size_text(folder + checkout)}")
    return 0
