"""Tell the classes of meshes."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsenet.cli.parser import command_parser

if TYPE_CHECKING:
    from sparsenet.models import Classification

EXAMPLES = """examples:
  sparsenet classify chair.stl
  sparsenet classify scans/ more/*.glb --csv classes.csv
  sparsenet classify chair.obj --up-axis unknown
  sparsenet classify chair.off --model runs/quickstart/best.h5 --json -

A mesh is scaled, filled and turned as the shapes were that the model was trained on.  A file that cannot be read is
named on stderr, and the others go on.
Exit code: 0, or 1 if a mesh could not be read or after another error, 2 after a wrong command line, 130 after Ctrl-C,
143 after SIGTERM."""


def main(arguments: list[str]) -> int:
    from sparsenet.models import classify, load_pretrained
    from sparsenet.shapes import MeshError
    from sparsenet.training.trained import check_output

    parser = command_parser("classify", __doc__, EXAMPLES)
    parser.add_argument("meshes", nargs="+", metavar="MESH",
                        help="mesh files (OFF, OBJ, PLY, STL, GLB, glTF), or folders, searched for such files")
    parser.add_argument("--model", default="modelnet40", metavar="MODEL",
                        help="a model of the package, or best.h5 or last.h5 of a run (default: modelnet40)")
    parser.add_argument("--top", type=int, default=3, metavar="N", help="classes to name of each (default: 3)")
    parser.add_argument("--up-axis", choices=("auto", "y", "z", "unknown"),
                        help="the axis along which the meshes stand; auto: by a file's format, y for OBJ and glTF, z "
                             "for the others; unknown: the direction that the model finds most probable (default: as "
                             "the model's own meshes)")
    parser.add_argument("--turns", type=int, metavar="N",
                        help="poses about the vertical whose probabilities are averaged (default: the model's)")
    parser.add_argument("--json", metavar="FILE", help="write the result to this file ('-': to the console)")
    parser.add_argument("--csv", metavar="FILE", help="write the table to this file ('-': to the console)")
    args = parser.parse_args(arguments)
    for name in ("top", "turns"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            parser.error(f"argument --{name}: {getattr(args, name)} is not a positive whole number")
    outputs = [output for output in (args.json, args.csv) if output]
    if outputs == ["-", "-"]:
        parser.error("argument --csv: not allowed on the console together with --json")
    paths = list(mesh_files(args.meshes))
    for output in outputs:
        if output != "-":
            check_output(output, *(path for path in paths if path.exists()))
    net = load_pretrained(args.model)
    console = "-" not in outputs
    width = max(len(str(path)) for path in paths)
    if console:
        print(f"{'file':<{width}}  {'class':<16} {'probability':<11}{'  next' if args.top > 1 else ''}")
    found: list[tuple[Path, Classification | None, str]] = []
    for path in paths:
        try:
            one = classify(net, path, args.up_axis, args.turns)
        except (MeshError, OSError) as error:
            found.append((path, None, " ".join(_message(error).split())))
            print(f"sparsenet classify: {found[-1][2]}", file=sys.stderr, flush=True)
            continue
        found.append((path, one, ""))
        if console:
            more = ", ".join(f"{name} {p:.1%}" for name, p in _top(one, args.top)[1:])
            row = f"{str(path):<{width}}  {one.label:<16} {one.probability:<11.1%}  {more}"
            print(row.rstrip(), flush=True)
    for output, text in ((args.json, _as_json), (args.csv, _as_csv)):
        if output == "-":
            print(text(found, args.top), end="")
        elif output:
            from sparsenet.files import write_text

            write_text(output, text(found, args.top))
    return int(any(one is None for _, one, _ in found))


def mesh_files(sources: list[str]) -> Iterator[Path]:
    """The files among the sources as they stand, and the meshes of the folders, in order.

    Raises ValueError for a folder without a mesh.
    """
    from sparsenet.data.importers import EXTENSIONS
    from sparsenet.models.folder import mesh_files as in_folder

    for source in map(Path, sources):
        if not source.is_dir():
            yield source
            continue
        inside = [source / name for name, _ in in_folder(source)]
        if not inside:
            raise ValueError(f"{source}: the folder has no mesh: a mesh file ends in {', '.join(EXTENSIONS)}")
        yield from inside


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _top(one: Classification, count: int) -> list[tuple[str, float]]:
    return list(zip(one.classes[:count], one.probabilities[:count].tolist(), strict=True))


def _as_json(found: list[tuple[Path, Classification | None, str]], top: int) -> str:
    rows: list[dict[str, Any]] = []
    for path, one, error in found:
        row: dict[str, Any] = {"file": str(path)}
        if one is None:
            rows.append(row | {"error": error})
            continue
        best = [{"class": name, "probability": p} for name, p in _top(one, top)]
        rows.append(row | {"class": one.label, "probability": one.probability, "top": best, "up_axis": one.up_axis,
                           "dropped": one.dropped})
    return json.dumps(rows, indent=2, ensure_ascii=False) + "\n"


def _as_csv(found: list[tuple[Path, Classification | None, str]], top: int) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    count = max([min(top, len(one.classes)) for _, one, _ in found if one is not None], default=1)
    writer.writerow(["file", "class", "probability",
                     *(f"{name}_{k}" for k in range(2, count + 1) for name in ("class", "probability")), "error"])
    for path, one, error in found:
        pairs = [("", "")] * count if one is None else [(name, f"{p:.6f}") for name, p in _top(one, top)]
        writer.writerow([path, *(value for pair in pairs for value in pair), error])
    return text.getvalue()
