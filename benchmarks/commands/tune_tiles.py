"""Time the tile sizes of the CUDA convolutions on this GPU and write the fastest."""

from __future__ import annotations

import argparse
from pathlib import Path

from sparsenet import backend
from sparsenet.kernels.convolution import cuda as convolution_cuda
from sparsenet.kernels.convolution import tuning
from sparsenet.kernels.cuda import tiles

EXAMPLES = """examples:
  python tools/tune_tiles.py tiles_h200.toml
  python tools/tune_tiles.py tiles_h200.toml --precision tf32 --channels 64 128 --candidates 40
  sparsenet train modelnet40 --set training.device=cuda --set training.tiles=tiles_h200.toml

The file is written after each line, so that results are kept if the rest does not finish.
"""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="tune_tiles.py", description=__doc__, epilog=EXAMPLES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="FILE", help="TOML file to write")
    parser.add_argument("--precision", nargs="+", choices=(*tiles.ITEM_SIZES, *tiles.TENSOR_CORES), metavar="NAME",
                        default=["float32", "tf32", "fp16", "bf16"],
                        help="precisions to tune (default: all but float64)")
    parser.add_argument("--channels", nargs="+", type=int, metavar="C", default=list(tuning.CHANNELS),
                        help="one line per number of channels (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=200_000, metavar="N",
                        help="rows of the product (default: %(default)s)")
    parser.add_argument("--candidates", type=int, default=0, metavar="N",
                        help="time the N tiles most similar to the current line's (default: all, up to 200 per line, "
                             "each of which takes seconds to compile)")
    args = parser.parse_args(arguments)
    if args.candidates < 0:
        parser.error(f"--candidates is {args.candidates}, expected 1 or more, or 0 for all")
    xp = backend.cupy()
    architecture = convolution_cuda.architecture(xp)
    name = xp.cuda.runtime.getDeviceProperties(xp.cuda.Device().id)["name"].decode()
    heading = (f"Tile sizes of the CUDA convolutions, tuned on {name} ({architecture}) with tools/tune_tiles.py.\n"
               "sparsenet/kernels/cuda/tiles.toml explains them.")
    tuning.tune(architecture, args.precision, sorted(args.channels), args.rows,
                choose=tuning.nearest(args.candidates) if args.candidates else tuning.candidates,
                say=lambda line: print(line, flush=True),
                keep=lambda table: tiles.write_tile_table(table, args.out, heading))
    print(f"wrote {args.out}")
    return 0
