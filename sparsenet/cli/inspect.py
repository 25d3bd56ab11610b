"""Write an HTML page that shows a trained network and its activations for a mesh."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sparsenet.cli.parser import command_parser

EXAMPLES = """examples:
  sparsenet inspect --mesh chair.stl --out page.html       # a model of the package
  sparsenet inspect --checkpoint runs/quickstart/best.h5 --mesh chair.off --out page.html
  sparsenet inspect --checkpoint runs/psb/best.h5 --mesh plane.obj --render-size 80 --out plane.html

The page is a single file.  Any browser with WebGL opens it from disk, without an internet connection.
Exit code: 0, or 1 after an error, 2 after a wrong command line, 130 after Ctrl-C, 143 after SIGTERM."""


def main(arguments: list[str]) -> None:
    import numpy as np

    from sparsenet.files import size_text
    from sparsenet.inspect.page import check_page, write_page
    from sparsenet.inspect.page.shape import drawn_as_trained, mesh_as_trained, mesh_in_cells
    from sparsenet.models import model_path
    from sparsenet.shapes import Off3DPicture
    from sparsenet.sparse import SparseTensor
    from sparsenet.training import load_network, parse_config
    from sparsenet.training.losses import classifies

    parser = command_parser("inspect", __doc__, EXAMPLES)
    parser.add_argument("--checkpoint", default="modelnet40", metavar="FILE",
                        help="best.h5 or last.h5 of a run, or a model's name (default: %(default)s)")
    parser.add_argument("--mesh", required=True, metavar="FILE", help="mesh file: OFF, OBJ, PLY, STL or GLB")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="page to write (.html)")
    parser.add_argument("--render-size", type=int, metavar="N",
                        help="cells along the longest side of the mesh (default: as in training)")
    parser.add_argument("--fill", action=argparse.BooleanOptionalAction,
                        help="voxelize the solid, or only its surface (default: as in training)")
    parser.add_argument("--target", metavar="CLASS",
                        help="show the gradients of this class's logit (default: the predicted class)")
    args = parser.parse_args(arguments)
    check_page(args.out)

    args.checkpoint = model_path(args.checkpoint)
    net, state = load_network(args.checkpoint)
    config = parse_config(state.config, args.checkpoint)
    classes = state.classes if classifies(config) else []
    if args.target is not None and not classes:
        raise ValueError("--target: the network is not a classifier and has no logits: omit it")
    if args.target is not None and args.target not in classes:
        raise ValueError(f"--target is {args.target!r}, expected one of {', '.join(classes)}")
    if net.voxelization is None:  # a checkpoint from before they held it
        render_size, fill = drawn_as_trained(config, args.checkpoint, args.render_size, args.fill)
        mesh = mesh_as_trained(args.mesh, config, args.checkpoint)
    else:
        render_size = net.voxelization.render_size if args.render_size is None else args.render_size
        fill = net.voxelization.fill if args.fill is None else args.fill
        mesh = net.voxelization.read(args.mesh)
    picture = Off3DPicture(mesh, render_size)
    voxels = picture.voxelize(net.field, fill=fill)
    x = SparseTensor(voxels.features, np.insert(voxels.coordinates, 0, 0, axis=1), net.field, batch_size=1)
    weights = "/".join(Path(args.checkpoint).parts[-2:])
    title = f"{Path(args.mesh).name} at render size {render_size}, seen by {weights}"
    if voxels.dropped:
        lost = (f"{voxels.dropped:,} of {voxels.dropped + len(x):,} voxels are outside the network's grid and were "
                "dropped")
        title += f" - {lost}"
        print(f"{lost}: a smaller --render-size keeps them", file=sys.stderr)
    target = None if args.target is None else classes.index(args.target)
    size = write_page(args.out, net, x, mesh_in_cells(picture, net.field), classes, title, target)
    print(f"page: {args.out}, {size_text(size)}, {len(x):,} voxels through {len(net.layers)} layers")
