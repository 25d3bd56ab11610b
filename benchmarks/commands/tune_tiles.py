"""Time the tile sizes of the CUDA convolutions on this GPU and write the fastest."""

from __future__ import annotations

import argparse
from pathlib import Path

from sparsenet import backend
from sparsenet.kernels import convolution_cuda, tiles, tuning

EXAMPLES = """examples:
  python tools/tune_tiles.py tiles_h200.toml
  python tools/tune_tiles.py tiles_h200.toml --precision tf32 --channels 64 128 --candidates 40
  sparsenet train modelnet40 --set training.device=cuda --set training.tiles=tiles_h200.toml

The table is written after each line that is found, so that what was found stays if the rest does not finish.
"""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="tune_tiles.py", description=__doc__, epilog=EXAMPLES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="TABLE", help="TOML file to write")
    parser.add_argument("--precision", nargs="+", choices=(*tiles.ITEM_SIZES, *tiles.TENSOR_CORES), metavar="NAME",
                        default=["float32", "tf32", "fp16", "bf16"],
                        help="precisions to tune (default: all but float64)")
    parser.add_argument("--channels", nargs="+", type=int, metavar="C", default=list(tuning.CHANNELS),
                        help="a line for each number of channels (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=200_000, metavar="N",
                        help="rows of the product (default: %(default)s)")
    parser.add_argument("--candidates", type=int, default=0, metavar="N",
                        help="time the N tiles most like the present line's (default: all, up to 200 a line, each of "
                             "which takes seconds to compile)")
    given = parser.parse_args(arguments)
    if given.candidates < 0:
        parser.error(f"--candidates is {given.candidates}, expected 1 or more, or 0 for all")
    xp = backend.cupy()
    architecture = convolution_cuda.architecture(xp)
    name = xp.cuda.runtime.getDeviceProperties(xp.cuda.Device().id)["name"].decode()
    heading = (f"Tile sizes of the CUDA convolutions, tuned on {name} ({architecture}) with tools/tune_tiles.py.\n"
               "sparsenet/kernels/tiles.toml explains them.")
    tuning.tune(architecture, given.precision, sorted(given.channels), given.rows,
                choose=tuning.nearest(given.candidates) if given.candidates else tuning.candidates,
                say=lambda line: print(line, flush=True),
                keep=lambda table: tiles.write_tile_table(table, given.out, heading))
    print(f"wrote {given.out}")
    return 0
