"""Serve a page on this machine to search a folder of meshes, or descriptors, with a mesh."""

from __future__ import annotations

import sys
from pathlib import Path

from sparsenet.cli.parser import command_parser

EXAMPLES = """examples:
  sparsenet serve meshes/                            # then open the address that it prints
  sparsenet serve meshes/ --up-axis y --port 0
  sparsenet serve psb.h5 --model runs/psb/best.h5    # descriptors of `sparsenet embed`
  sparsenet serve meshes/ --export page.html         # the page as one file, for at most 1,000 shapes

Drop a mesh on the page to see it with its voxels and its class, and the shapes most similar to it.  Only this machine
can reach the page unless --host names another address; there is no password.  Nothing is loaded from elsewhere.
Exit code: 0 after --export, or 1 after an error, 2 after a wrong command line, 130 after Ctrl-C, 143 after SIGTERM."""


def main(arguments: list[str]) -> None:
    from sparsenet.files import check_folder, size_text
    from sparsenet.serve import Limits, export_page, open_gallery, serve
    from sparsenet.serve.guard import host_names
    from sparsenet.serve.running import MAX_EXPORTED
    from sparsenet.serve.server import require_waitress
    from sparsenet.wording import counted

    standard = Limits()
    parser = command_parser("serve", __doc__, EXAMPLES)
    parser.add_argument("source", metavar="FOLDER|DESCRIPTORS",
                        help="a folder of meshes, with the folders within it; or a file written by `sparsenet embed`")
    parser.add_argument("--model", default="modelnet40", metavar="MODEL",
                        help="a model of the package, or best.h5 or last.h5 of a run (default: modelnet40)")
    parser.add_argument("--up-axis", choices=("auto", "y", "z"),
                        help="the axis along which the meshes of the folder stand; auto: by a file's format, y for OBJ "
                             "and glTF, z for the others (default: as the model's own meshes)")
    parser.add_argument("--turns", type=int, metavar="N",
                        help="poses about the vertical whose descriptors are averaged (default: 3, or 1 if the model "
                             "was trained without)")
    parser.add_argument("--dataset", metavar="FILE",
                        help="with descriptors: the dataset file from which the shapes are drawn (default: the one "
                             "that was embedded, if it is still there)")
    parser.add_argument("--export", type=Path, metavar="FILE", help="write the page to this file (.html) instead")
    parser.add_argument("--port", type=int, default=8000, metavar="N", help="default: 8000; 0: any that is free")
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS",
                        help="IP address to listen at (default: 127.0.0.1, which only this machine reaches)")
    parser.add_argument("--allow-host", action="append", default=[], metavar="NAME",
                        help="a name by which browsers may ask for the page, besides its address")
    parser.add_argument("--workers", type=int, default=2, metavar="N",
                        help="processes that read meshes and run the network (default: 2)")
    parser.add_argument("--max-upload", type=int, default=standard.upload >> 20, metavar="MIB",
                        help=f"largest file (default: {standard.upload >> 20} MiB)")
    parser.add_argument("--max-faces", type=int, default=standard.faces, metavar="N",
                        help=f"most triangles of a mesh (default: {standard.faces:,})")
    parser.add_argument("--max-seconds", type=float, default=standard.seconds, metavar="S",
                        help=f"time for a mesh; what takes longer is ended (default: {standard.seconds:g})")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    args = parser.parse_args(arguments)
    for name in ("turns", "workers", "max_upload", "max_faces", "max_seconds"):
        value = getattr(args, name)
        if value is not None and not value > 0:
            parser.error(f"argument --{name.replace('_', '-')}: {value} is not a positive number")
    if not 0 <= args.port < 2**16:
        parser.error(f"argument --port: {args.port} is not a number from 0 to {2**16 - 1}")

    def say(line: str) -> None:
        print(f"sparsenet serve: {line}", file=sys.stderr)

    if not Path(args.source).exists():
        raise FileNotFoundError(f"{args.source} does not exist: expected a folder of meshes, or a file of descriptors")
    if args.export:
        check_folder(args.export)
    else:
        require_waitress()
        host_names(args.host, args.port, args.allow_host)
    gallery = open_gallery(args.source, args.model, args.up_axis, args.turns, args.dataset, not args.quiet, say,
                           MAX_EXPORTED if args.export else None)
    if args.export:
        size = export_page(args.export, gallery, not args.quiet)
        print(f"page: {args.export}, {size_text(size)}, {counted(len(gallery), 'shape')}")
        return
    if gallery.without_pictures:
        say(f"{gallery.without_pictures} The page shows no pictures of them; --dataset names the file")
    limits = Limits(upload=args.max_upload << 20, faces=args.max_faces, seconds=args.max_seconds)
    print(f"{counted(len(gallery), 'shape')}; starting {counted(args.workers, 'process', 'processes')} ...", flush=True)
    serve(gallery, args.host, args.port, limits, args.workers, args.allow_host,
          lambda address: print(f"Open {address} in a browser.  Ctrl-C stops the server.", flush=True))
