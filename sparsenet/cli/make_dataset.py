"""Convert meshes, point clouds or voxels to one dataset file (HDF5)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sparsenet.cli.parser import command_parser
from sparsenet.cli.part import add_part

if TYPE_CHECKING:
    from sparsenet.data import ImportReport
    from sparsenet.training.mpi import World

EXAMPLES = """examples:
  sparsenet make-dataset builtin shapes.h5
  sparsenet make-dataset folder ModelNet10/ modelnet10.h5 --keep-meshes
  sparsenet make-dataset points scans/ scans.h5 --render-size 60
  sparsenet make-dataset volumes masks/ masks.h5 --threshold 0.5
  sparsenet make-dataset psb psb_v1/benchmark/ psb.h5 --keep-meshes --shared-classes
  sparsenet make-dataset modelnet40-voxels modelnet40_voxels30/ modelnet40.h5
  sparsenet make-dataset modelnet10-voxels modelnet10_surface32.npz modelnet10.h5
  sparsenet make-dataset sweethome3d libraries/ furniture.h5 --render-size 24 --fill --keep-meshes
  sparsenet make-dataset csv shapes.csv shapes.h5 --render-size 60
  sparsenet make-dataset folder meshes/ shapes.h5 --part 3/8    # one job of eight; then: sparsenet join shapes.h5
  mpirun -n 8 sparsenet make-dataset folder meshes/ shapes.h5   # the same, joined at the end

A folder named train, test, val, valid, validation or evaluation can be a split: within a class, or at
the top level if all folders there have such names.  The guess is printed; --layout overrides it.

All shapes are stored with z up.  The up axis of a file is guessed from its format: y for OBJ and glTF,
which are rotated, z for the others; --up-axis y or z overrides this.

A temporary file is written and renamed to OUTPUT once complete: Ctrl-C or SIGTERM leaves an old one
unchanged.  Exit code: 0, or 1 after an error, 2 after a wrong command line, 130 after Ctrl-C, 143 after
SIGTERM.  Unreadable files are left out and listed; with --strict the first one is an error.  The report
goes to stdout, its warnings to stderr."""


def parse(arguments: list[str]) -> argparse.Namespace:
    from sparsenet.data.importers import EXTENSIONS, POINT_EXTENSIONS
    from sparsenet.data.volume_files import SUFFIXES

    parser = command_parser("make-dataset", __doc__, EXAMPLES)
    commands = parser.add_subparsers(dest="source", required=True, metavar="SOURCE")

    folder = _command(commands, "folder", "meshes in folders CLASS/, CLASS/SPLIT/ (as ModelNet's) or SPLIT/CLASS/",
                      "folder ModelNet10/ modelnet10.h5 --keep-meshes")
    _paths(folder, "folder with a folder for each class or each split; searched recursively")
    _conversion(folder)
    _up_axis(folder)
    _layout(folder)
    _extensions(folder, EXTENSIONS, "; also supported: .xyz, .binvox")
    _test_share(folder)

    points = _command(commands, "points", "point clouds (PLY, XYZ, NPY) in folders as of meshes",
                      "points scans/ scans.h5 --render-size 60 --keep-meshes")
    _paths(points, "folder with a folder for each class or each split; searched recursively")
    _conversion(points, fill=False)
    _up_axis(points)
    _layout(points)
    _extensions(points, POINT_EXTENSIONS, "; also supported, as .xyz: .txt, .pts, .asc")
    _test_share(points)

    volumes = _command(commands, "volumes", "volumes (NIfTI, NPY) in folders as of meshes",
                       "volumes masks/ masks.h5 --threshold 0.5 --occupancy")
    _paths(volumes, "folder with a folder for each class or each split; searched recursively")
    volumes.add_argument("--threshold", type=float, default=0.0, metavar="T",
                         help="cells with a larger value are active (default: 0)")
    volumes.add_argument("--occupancy", action="store_true",
                         help="store which cells are active, not their values")
    volumes.add_argument("--spatial-size", type=_positive, nargs="+", metavar="N",
                         help="sides of the grid, one for each axis (default: the largest of the volumes); "
                              "volumes lie in its middle")
    _layout(volumes)
    _extensions(volumes, SUFFIXES, "")
    _test_share(volumes)
    _processes(volumes)

    shrec = _command(commands, "shrec", "meshes labelled by classification files (.cla), as of SHREC's tracks",
                     "shrec SHREC12/test.cla shrec12.h5 --meshes SHREC12/models")
    _paths(shrec, ".cla file, or a folder with one, or with one for each split (train.cla, test.cla)")
    shrec.add_argument("--meshes", metavar="FOLDER", help="folder of the meshes, searched recursively (default: the "
                                                          "folder of the .cla file)")
    shrec.add_argument("--split", metavar="NAME", help="split of the models of a .cla file whose name is not that of "
                                                       "a split (default: drawn)")
    _conversion(shrec)
    _up_axis(shrec)
    _extensions(shrec, EXTENSIONS, "; also supported: .xyz, .binvox")
    _test_share(shrec)

    psb = _command(commands, "psb", "the Princeton Shape Benchmark: train.cla, test.cla and meshes",
                   "psb psb_v1/benchmark/ psb.h5 --keep-meshes --shared-classes")
    _paths(psb, "folder with train.cla and test.cla")
    _conversion(psb)
    psb.add_argument("--shared-classes", action="store_true", help="only the 21 classes that both splits have")

    voxels = _command(commands, "modelnet40-voxels", "ModelNet40 as packed 30^3 voxels: train.npz, test.npz",
                      "modelnet40-voxels modelnet40_voxels30/ modelnet40.h5")
    _paths(voxels, "folder with train.npz and test.npz")
    voxels.add_argument("--poses", type=int, metavar="N", help="import the first N poses of each object (default: all)")
    add_part(voxels)
    _quiet(voxels)

    ten = _command(commands, "modelnet10-voxels", "ModelNet10 as packed 32^3 voxels in one .npz file",
                   "modelnet10-voxels modelnet10_surface32.npz modelnet10.h5")
    _paths(ten, "file with the keys train, train_label, test and test_label")
    add_part(ten)
    _quiet(ten)
    home = _command(commands, "sweethome3d", "the free furniture of Sweet Home 3D's libraries (.sh3f)",
                    "sweethome3d libraries/ furniture.h5 --render-size 24 --fill --keep-meshes\n\n"
                    "Debian's package has five such libraries:\n"
                    "  apt-get download sweethome3d-furniture\n"
                    "  dpkg-deb -x sweethome3d-furniture_*.deb libraries/")
    _paths(home, "a .sh3f file, or a folder with such files or unpacked libraries; searched recursively")
    _conversion(home)
    home.add_argument("--test-share", type=float, default=0.2, metavar="SHARE",
                      help="share of each class to put in 'test' (default: 0.2)")
    home.add_argument("--validation-share", type=float, default=0.0, metavar="SHARE",
                      help="share of each class to put in 'val'; does not change 'test' (default: 0)")
    home.add_argument("--seed", type=int, default=0, help="seed of that choice (default: 0)")
    home.add_argument("--credits", metavar="FILE", help="write the creators of the models, by library and licence, to "
                                                        "this file (Markdown)")

    listed = _command(commands, "csv", "meshes listed in a CSV file with the columns path, label, split, name",
                     "csv shapes.csv shapes.h5 --render-size 60")
    _paths(listed, "CSV file; its first line names the columns, paths are relative to its folder, and "
                  "all columns except path are optional")
    _conversion(listed)
    _up_axis(listed)

    builtin = _command(commands, "builtin", "the built-in parametric shapes, generated from a seed",
                       "builtin shapes.h5 --train 60 --test 20 --keep-meshes")
    builtin.add_argument("output", metavar="OUTPUT", help="dataset file to write")
    builtin.add_argument("--train", type=_positive, default=60, metavar="N",
                         help="training shapes of each class (default: 60)")
    builtin.add_argument("--test", type=_positive, default=20, metavar="N",
                         help="test shapes of each class (default: 20)")
    builtin.add_argument("--seed", type=int, default=0, help="seed of the shapes (default: 0)")
    builtin.add_argument("--parts", action="store_true",
                         help="label each voxel with its part (seat, leg, ...), for segmentation")
    _conversion(builtin)
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> None:
    from sparsenet.training.mpi import world

    with world() as processes:
        args = parse(arguments)
        if processes.size == 1:
            _tell(_import(args), args)
            return
        if args.part is not None:
            raise ValueError("--part names one job's part, and under mpirun each process has its own: give one of them")
        with processes.watched_parts("make-dataset", args.output):
            join_ranks(args, processes)


def join_ranks(args: argparse.Namespace, processes: World) -> None:
    """Each process converts its part; the first joins them and reports."""
    from sparsenet.data import Part, join_datasets
    from sparsenet.data.convert import available_processes
    from sparsenet.kernels import get_num_threads

    args.part = Part(processes.rank + 1, processes.size)
    if getattr(args, "processes", None) == available_processes():
        args.processes = get_num_threads()  # this one's part of the cores
    _import(args, quiet=args.quiet or processes.rank > 0)
    processes.wait()
    if processes.rank == 0:
        paths = [Part(number, processes.size).path(args.output) for number in range(1, processes.size + 1)]
        _tell(join_datasets(args.output, paths), args)
        for path in paths:
            path.unlink()


def _tell(report: ImportReport, args: argparse.Namespace) -> None:
    if not args.quiet:
        print("\n".join(report.lines()))
    for line in report.warnings():
        print(line, file=sys.stderr)


def _import(args: argparse.Namespace, quiet: bool = False) -> ImportReport:
    from sparsenet.data import (
        Conversion,
        import_csv,
        import_folder,
        import_modelnet10_voxels,
        import_modelnet40_voxels,
        import_parametric,
        import_points,
        import_psb,
        import_shrec,
        import_sweethome3d,
        import_volumes,
    )

    if args.source == "modelnet40-voxels":
        return import_modelnet40_voxels(args.input, args.output, args.poses, not (args.quiet or quiet), args.part)
    if args.source == "modelnet10-voxels":
        return import_modelnet10_voxels(args.input, args.output, args.part)
    if args.source == "volumes":
        return import_volumes(args.input, args.output, args.threshold, args.occupancy, args.spatial_size,
                              Conversion(processes=args.processes, strict=args.strict,
                                         progress=not (args.quiet or quiet), part=args.part),
                              args.extensions, args.test_share, args.seed, args.layout, args.unlabelled)
    conversion = Conversion(args.render_size, getattr(args, "fill", False), args.keep_meshes, args.processes,
                            args.strict, not (args.quiet or quiet), getattr(args, "up_axis", "auto"), args.part)
    if args.source == "points":
        return import_points(args.input, args.output, conversion, args.extensions, args.test_share, args.seed,
                             args.layout, args.unlabelled)
    if args.source == "shrec":
        return import_shrec(args.input, args.output, args.meshes, args.split, conversion, args.extensions,
                            args.test_share, args.seed)
    if args.source == "folder":
        return import_folder(args.input, args.output, conversion, args.extensions,
                             args.test_share, args.seed, args.layout, args.unlabelled)
    if args.source == "psb":
        return import_psb(args.input, args.output, conversion, args.shared_classes)
    if args.source == "sweethome3d":
        return import_sweethome3d(args.input, args.output, conversion, args.test_share, args.validation_share,
                                  args.seed, args.credits)
    if args.source == "csv":
        return import_csv(args.input, args.output, conversion)
    return import_parametric(args.output, {"train": args.train, "test": args.test}, args.seed,
                             conversion, args.parts)


def _command(commands: argparse._SubParsersAction, name: str, text: str, example: str) -> argparse.ArgumentParser:
    return commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".",
                               epilog=f"example:\n  sparsenet make-dataset {example}",
                               formatter_class=argparse.RawDescriptionHelpFormatter)


def _paths(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("input", metavar="INPUT", help=text)
    parser.add_argument("output", metavar="OUTPUT", help="dataset file to write")


def _layout(parser: argparse.ArgumentParser) -> None:
    from sparsenet.data.folders import LAYOUTS

    place = parser.add_mutually_exclusive_group()
    place.add_argument("--layout", choices=LAYOUTS,
                       help="meaning of the top-level folders (default: guessed, and printed)")
    place.add_argument("--unlabelled", action="store_true",
                       help="import all files, in any folder, as shapes without a class")


def _extensions(parser: argparse.ArgumentParser, default: Sequence[str], more: str) -> None:
    parser.add_argument("--extensions", nargs="+", default=default, metavar="EXT",
                        help=f"extensions of the files, each also with .gz{more} (default: {' '.join(default)})")


def _test_share(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--test-share", type=float, default=0.2, metavar="SHARE",
                        help="share of a class's files that are in no split to put in 'test', at least "
                             "one of two or more (default: 0.2)")
    parser.add_argument("--seed", type=int, default=0, help="seed of that choice (default: 0)")


def _conversion(parser: argparse.ArgumentParser, fill: bool = True) -> None:
    parser.add_argument("--render-size", type=_positive, default=40, metavar="N",
                        help="voxels along a shape's longest side (default: 40)")
    if fill:
        parser.add_argument("--fill", action="store_true", help="voxelize solids instead of surfaces")
    parser.add_argument("--keep-meshes", action="store_true",
                        help="store the meshes too, so that training can rotate and scale them")
    _processes(parser)


def _processes(parser: argparse.ArgumentParser) -> None:
    from sparsenet.data.convert import available_processes

    parser.add_argument("--processes", type=_positive, default=available_processes(), metavar="N",
                        help="processes that read and voxelize (default: one per core)")
    parser.add_argument("--strict", action="store_true", help="stop at the first file that cannot be read")
    add_part(parser)
    _quiet(parser)


def _up_axis(parser: argparse.ArgumentParser) -> None:
    from sparsenet.data.layout import UP_AXES

    parser.add_argument("--up-axis", choices=UP_AXES, default="auto",
                        help="up axis of the files' shapes (default: auto, by format)")


def _quiet(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no report, only its warnings")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)
