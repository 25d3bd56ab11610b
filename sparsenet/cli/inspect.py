"""Write an HTML page that shows a trained network and its activations for a mesh."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sparsenet.cli.parser import command_parser

if TYPE_CHECKING:
    from sparsenet.data import SparseDataset
    from sparsenet.inspect import TopShapes
    from sparsenet.nn import SparseNetwork
    from sparsenet.shapes import Off3DPicture
    from sparsenet.sparse import SparseTensor
    from sparsenet.training import Config

EXAMPLES = """examples:
  sparsenet inspect --mesh chair.stl --out page.html       # a model of the package
  sparsenet inspect --checkpoint runs/quickstart/best.h5 --mesh chair.off --out page.html
  sparsenet inspect --checkpoint runs/psb/best.h5 --mesh plane.obj --render-size 80 --out plane.html
  sparsenet inspect --checkpoint furniture --mesh chair.glb --shapes meshes/ --out page.html
  sparsenet inspect --checkpoint runs/psb/best.h5 --mesh plane.obj --shapes psb.h5 --split test --out plane.html

The page is a single file.  Any browser with WebGL opens it from disk, without an internet connection.
With --shapes it shows for each channel which of those shapes excite it most, and where.
Exit code: 0, or 1 after an error, 2 after a wrong command line, 130 after Ctrl-C, 143 after SIGTERM."""
DATASETS = (".h5", ".hdf5")
COUNT = 5  # shapes for each channel


def main(arguments: list[str]) -> None:
    from sparsenet.files import size_text
    from sparsenet.inspect.page import check_page, write_page
    from sparsenet.inspect.page.shape import drawn_as_trained, mesh_as_trained, mesh_in_cells
    from sparsenet.models import model_path
    from sparsenet.shapes import Off3DPicture
    from sparsenet.training import load_network, parse_config
    from sparsenet.training.losses import classifies
    from sparsenet.wording import counted

    args = _arguments(arguments)
    check_page(args.out)
    args.checkpoint = model_path(args.checkpoint)
    net, state = load_network(args.checkpoint)
    config = parse_config(state.config, args.checkpoint)
    classes = state.classes if classifies(config) else []
    if args.target is not None and not classes:
        raise ValueError("--target: the network is not a classifier and has no logits: omit it")
    if args.target is not None and args.target not in classes:
        raise ValueError(f"--target is {args.target!r}, expected one of {', '.join(classes)}")
    treatment = net.voxelization
    if treatment is None:  # a checkpoint from before they held it
        render_size, fill = drawn_as_trained(config, args.checkpoint, args.render_size, args.fill)
    else:
        render_size = treatment.render_size if args.render_size is None else args.render_size
        fill = treatment.fill if args.fill is None else args.fill

    def read(path: str | Path) -> Off3DPicture:
        mesh = mesh_as_trained(path, config, args.checkpoint) if treatment is None else treatment.read(path)
        return Off3DPicture(mesh, render_size)

    picture = read(args.mesh)
    x, dropped = _input(picture, net, fill)
    weights = "/".join(Path(args.checkpoint).parts[-2:])
    title = f"{Path(args.mesh).name} at render size {render_size}, seen by {weights}"
    if dropped:
        lost = f"{dropped:,} of {dropped + len(x):,} voxels are outside the network's grid and were dropped"
        title += f" - {lost}"
        print(f"{lost}: a smaller --render-size keeps them", file=sys.stderr)
    target = None if args.target is None else classes.index(args.target)
    tops = _tops(args, net, config, lambda path: _input(read(path), net, fill)[0], render_size, fill)
    size = write_page(args.out, net, x, mesh_in_cells(picture, net.field), classes, title, target, tops)
    ranked = "" if tops is None else f", {counted(len(tops.names), 'shape')} ranked for each channel"
    print(f"page: {args.out}, {size_text(size)}, {len(x):,} voxels through {len(net.layers)} layers{ranked}")


def _arguments(arguments: list[str]) -> argparse.Namespace:
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
    parser.add_argument("--shapes", nargs="+", type=Path, default=[], metavar="PATH",
                        help="show the shapes that excite each channel most: a dataset file, or mesh files and folders "
                             "of them")
    parser.add_argument("--split", metavar="NAME", help="split of the dataset, or 'all' (default: the test split)")
    parser.add_argument("--at-most", type=int, default=200, metavar="N",
                        help="of more shapes take so many, evenly spread (default: 200)")
    args = parser.parse_args(arguments)
    datasets = [path for path in args.shapes if path.suffix.lower() in DATASETS]
    if datasets and len(args.shapes) > 1:
        parser.error("argument --shapes: a dataset file stands alone")
    if args.split is not None and not datasets:
        parser.error("argument --split: it is a part of a dataset: name the dataset's file with --shapes")
    if args.at_most < 1:
        parser.error(f"argument --at-most: {args.at_most} is below 1")
    return args


def _input(picture: Off3DPicture, net: SparseNetwork, fill: bool) -> tuple[SparseTensor, int]:
    """The voxels of a mesh in the network's grid, and how many lie outside."""
    import numpy as np

    from sparsenet.sparse import SparseTensor

    voxels = picture.voxelize(net.field, fill=fill)
    cells = np.insert(voxels.coordinates, 0, 0, axis=1)
    return SparseTensor(voxels.features, cells, net.field, batch_size=1), voxels.dropped


def _tops(args: argparse.Namespace, net: SparseNetwork, config: Config, voxelized: Callable[[Path], SparseTensor],
          render_size: int, fill: bool) -> TopShapes | None:
    """The shapes that excite each channel most, of those that --shapes names."""
    from sparsenet.inspect import top_shapes
    from sparsenet.training import open_shapes

    if not args.shapes:
        return None
    if args.shapes[0].suffix.lower() in DATASETS:
        with open_shapes(config, args.checkpoint, args.shapes[0], args.split) as dataset:
            options = {"render_size": render_size, "fill": fill} if dataset.has_meshes else {}
            return top_shapes(net, _spread(dataset, args.at_most), COUNT, progress=True, **options)
    files = list(_mesh_files(args.shapes))
    if not files:
        raise ValueError(f"--shapes: there is no mesh file in {', '.join(map(str, args.shapes))}")
    return top_shapes(net, _readable(files, args.at_most, voxelized), COUNT, progress=True)


def _spread(dataset: SparseDataset, limit: int) -> SparseDataset:
    """The first poses of at most so many objects, evenly spread over all."""
    return dataset.select(dataset.first_poses[_even(len(dataset.first_poses), limit)])


def _even(count: int, limit: int) -> list[int]:
    """At most `limit` of the numbers below `count`, evenly spread."""
    return list(range(count)) if count <= limit else [place * count // limit for place in range(limit)]


def _mesh_files(paths: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    """(name, path) of each file, those of a folder named from there.  Raises FileNotFoundError."""
    from sparsenet.models.folder import mesh_files

    for path in paths:
        if path.is_dir():
            yield from ((name, path / name) for name, _ in mesh_files(path))
        elif path.exists():
            yield path.name, path
        else:
            raise FileNotFoundError(f"--shapes: {path} does not exist")


def _readable(files: Sequence[tuple[str, Path]], limit: int, voxelized: Callable[[Path], SparseTensor]
              ) -> Iterator[tuple[str, SparseTensor]]:
    """(name, voxels) of at most so many files, evenly spread; a line on stderr for each that has none."""
    from sparsenet.shapes import MeshError

    for place in _even(len(files), limit):
        name, path = files[place]
        try:
            x = voxelized(path)
        except (MeshError, OSError) as error:
            print(f"--shapes: {error}", file=sys.stderr)
            continue
        if len(x):
            yield name, x
        else:
            print(f"--shapes: {path}: it has no voxel in the network's grid", file=sys.stderr)
