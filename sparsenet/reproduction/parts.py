"""Runs the parts of the reproduction, each with its own output, and remembers what is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sparsenet.reproduction import published
from sparsenet.reproduction.writing import provenance, write_table

if TYPE_CHECKING:
    from sparsenet.data import SparseDataset
    from sparsenet.reproduction.ablation import Ablation

PARTS = {
    "table1": "each layer of S3DCNN at render size 40 on the meshes of the Princeton Shape Benchmark",
    "figure1": "meshes beside their voxels at render sizes 30, 50, 70 and 100",
    "table2": "classification and retrieval on ModelNet40: trainings, hours each",
    "table2_modelnet10": "the same networks on ModelNet10: trainings",
    "table2_psb": "the same networks on the Princeton Shape Benchmark: trainings",
    "ablation": "a config with one thing changed at a time, on shapes held out of training: trainings",
    "figure2": "retrieval against render size on the Princeton Shape Benchmark: trainings",
    "figure3": "precision against recall of the networks of table2 that are trained",
}
FIGURE1 = ("m1118", "m389", "m990", "m1516", "m341")  # that stand upright: many of the benchmark lie on their sides
FIGURE1_SIZES = (30, 50, 70, 100)


@dataclass(frozen=True)
class Sources:
    """Where the data are, as `sparsenet make-dataset` takes them (psb, modelnet40-voxels, modelnet10-voxels), None if
    absent."""

    psb: Path | None = None
    modelnet40: Path | None = None
    modelnet10: Path | None = None


def reproduce(parts: Sequence[str], sources: Sources, out: Path, work: Path, command: str,
              seconds: float | None = None, runs: Sequence[str] | None = None, shapes: int | None = None,
              say: Callable[[str], None] = print, overrides: tuple[str, ...] = (),
              changes: str | Path = "modelnet40") -> None:
    """Measure the parts anew and write each as Markdown and CSV, or as a picture.

    Parameters
    ----------
    parts : names of PARTS, done in their order;  sources : the data
    out : folder of the tables and pictures;  work : folder of datasets and trainings, which are kept and resumed
    command : the command line, for the reports
    seconds : limit for each training, which goes on at the next call; None: to the end
    runs : rows of table2 and variants of the ablation to train; default: all
    shapes : number of shapes that table1 looks at; default: all
    overrides : `section.key=value` for every training
    changes : the ablation's file, or the name of one that ships with the package; see `ablation.read_ablation`

    Raises
    ------
    ValueError : an unknown part or run, a part whose data are not given, or an ablation that is none.
    """
    from sparsenet.reproduction.ablation import read_ablation
    from sparsenet.reproduction.comparison import RUNS

    ablation = read_ablation(changes) if "ablation" in parts else None
    known_runs = [*RUNS, *([one.name for one in ablation.variants] if ablation else [])]
    for kind, given, known in (("part", parts, list(PARTS)), ("run", runs or (), known_runs)):
        unknown = [name for name in given if name not in known]
        if unknown:
            raise ValueError(f"reproduce: {unknown[0]!r} is not a {kind}, expected some of {', '.join(known)}")
    for part in parts:
        needed = ablation.data if ablation and part == "ablation" else source_of(part)
        if getattr(sources, needed) is None:
            raise ValueError(f"reproduce: {part} needs the data of {needed}: name them with --{needed}")
    out.mkdir(parents=True, exist_ok=True)
    work.mkdir(parents=True, exist_ok=True)
    for part in [name for name in PARTS if name in parts]:
        begun = time.monotonic()
        say(f"{part}: {PARTS[part]}")
        if part == "table1":
            _table1(sources, out, work, command, shapes, say)
        elif part == "figure1":
            _figure1(sources, out, work, command)
        elif part in ("table2", "table2_modelnet10", "table2_psb"):
            _table2(part, sources, out, work, command, seconds, runs, say, overrides)
        elif ablation is not None and part == "ablation":
            _ablation(ablation, sources, out, work, command, seconds, runs, say, overrides)
        elif part == "figure2":
            _figure2(sources, out, work, command, seconds, say, overrides)
        else:
            _figure3(sources, out, work, command, say)
        say(f"{part}: done in {time.monotonic() - begun:.0f} s")


def source_of(part: str) -> str:
    """The name in Sources of the data that a part needs, the ablation if its file does not say otherwise."""
    if part == "table2_modelnet10":
        return "modelnet10"
    return "modelnet40" if part in ("table2", "figure3", "ablation") else "psb"


def _dataset(name: str, sources: Sources, work: Path) -> Path:
    """The dataset file of a source, by its name in Sources."""
    if name == "psb":
        _psb(sources, work).close()
        return work / "psb.h5"
    return _modelnet10(sources, work) if name == "modelnet10" else _modelnet40(sources, work)


def _psb(sources: Sources, work: Path) -> SparseDataset:
    """The benchmark's dataset with its meshes, made at the first call."""
    from sparsenet.data import SparseDataset
    from sparsenet.data.convert import Conversion
    from sparsenet.data.psb import import_psb

    path = work / "psb.h5"
    if not path.exists():
        assert sources.psb is not None
        import_psb(sources.psb, path, Conversion(keep_meshes=True))
    return SparseDataset.open(path)


def _modelnet40(sources: Sources, work: Path) -> Path:
    from sparsenet.data.modelnet40 import import_modelnet40_voxels

    path = work / "modelnet40.h5"
    if not path.exists():
        assert sources.modelnet40 is not None
        import_modelnet40_voxels(sources.modelnet40, path)
    return path


def _modelnet10(sources: Sources, work: Path) -> Path:
    from sparsenet.data.modelnet10 import import_modelnet10_voxels

    path = work / "modelnet10.h5"
    if not path.exists():
        assert sources.modelnet10 is not None
        import_modelnet10_voxels(sources.modelnet10, path)
    return path


def _table1(sources: Sources, out: Path, work: Path, command: str, count: int | None,
            say: Callable[[str], None]) -> None:
    from sparsenet.reproduction.anatomy import TABLE_HEADER, anatomy, box_shares, table_rows

    begun = time.monotonic()
    with _psb(sources, work) as whole:
        step = 1 if count is None else max(1, len(whole) // count)
        some = whole.select(range(0, len(whole), step))
        found, boxes = anatomy(some), box_shares(whole)
    shapes = len(found[0].fractions)
    write_table(out, "table1", "Table 1: the layers of S3DCNN",
                f"Means over {shapes:,} meshes of the Princeton Shape Benchmark at render size 40, in batches of 16; "
                "the published shares of active cells are means over ModelNet40. Memory: features and neighbours, in "
                "float32 and int32; time: the forward pass on prepared rulebooks.",
                TABLE_HEADER, table_rows(found, published.ACTIVE_PERCENT), time.monotonic() - begun, command)
    mean = sum(number * share for number, share in boxes.values()) / sum(number for number, _ in boxes.values())
    rows = [[name, str(number), f"{100 * share:.2f}"] for name, (number, share) in boxes.items()]
    write_table(out, "box_shares", "Active share of the box, by class",
                f"The share of the cells of a 40^3 box that a surface occupies: {100 * mean:.2f}% over all meshes; "
                f"published for ModelNet40: {published.BOX_PERCENT:g}%.", ("class", "meshes", "active, %"),
                [*rows, ["all", str(sum(n for n, _ in boxes.values())), f"{100 * mean:.2f}"]], time.monotonic() - begun,
                command)
    say(f"table1: {shapes} meshes, {100 * mean:.2f}% of the box")


def _figure1(sources: Sources, out: Path, work: Path, command: str) -> None:
    from sparsenet.inspect import render_sizes, save_figure

    begun = time.monotonic()
    lines = []
    with _psb(sources, work) as shapes:
        for name in FIGURE1:
            row = shapes.names.tolist().index(name)
            picture = f"figure1_{Path(name).name}.png"
            save_figure(render_sizes(shapes.mesh(row), FIGURE1_SIZES), out / picture)
            what = shapes.classes[int(shapes.labels[row])]
            lines.append(f"![{what} {name}: the mesh beside its voxels at render sizes 30, 50, 70, 100]({picture})")
    _write_page(out / "figure1.md", "Figure 1: meshes and their voxels", lines, begun, command)


def _table2(part: str, sources: Sources, out: Path, work: Path, command: str, seconds: float | None,
            runs: Sequence[str] | None, say: Callable[[str], None], overrides: tuple[str, ...]) -> None:
    from sparsenet.reproduction.comparison import HEADER, MODELNET10, MODELNET40, PSB, RUNS, compare, table_rows

    begun, names = time.monotonic(), [name for name in RUNS if runs is None or name in runs]
    if not names:
        say(f"{part}: --run names none of its rows")
        return
    collection, beside = {"table2": (MODELNET40, published.METHODS), "table2_psb": (PSB, {}),
                          "table2_modelnet10": (MODELNET10, published.METHODS_MODELNET10)}[part]
    found = compare(_dataset(source_of(part), sources, work), work / collection.folder, names, seconds, say, overrides,
                    collection)
    write_table(out, part, collection.title, collection.words, HEADER, table_rows(found, beside),
                time.monotonic() - begun, command)


def _ablation(ablation: Ablation, sources: Sources, out: Path, work: Path, command: str, seconds: float | None,
              runs: Sequence[str] | None, say: Callable[[str], None], overrides: tuple[str, ...]) -> None:
    from sparsenet.reproduction.ablation import HEADER, ablate, table_rows

    begun = time.monotonic()
    if runs is not None and not any(one.name in runs for one in ablation.variants):
        say("ablation: --run names none of its variants")
        return
    found = ablate(ablation, _dataset(ablation.data, sources, work), work / "ablation", runs, seconds, say, overrides)
    if not found:
        return
    write_table(out, "ablation", f"Ablation of {ablation.config}",
                f"One change at a time, all else being equal. {100 * ablation.share:g}% of each class of the training "
                "split are held out, by object; networks are trained on the rest and tested on these, after the last "
                "epoch. The test split is in neither. Means over the seeds; differences to the recipe are over the "
                "seeds that both have, and a range is the greatest less the least.",
                HEADER, table_rows(found), time.monotonic() - begun, command)


def _figure2(sources: Sources, out: Path, work: Path, command: str, seconds: float | None,
             say: Callable[[str], None], overrides: tuple[str, ...]) -> None:
    from sparsenet.inspect import save_figure
    from sparsenet.reproduction.resolution import SEEDS, SIZES, matrix, picture, table_rows

    begun = time.monotonic()
    _psb(sources, work).close()
    found = matrix(work / "psb.h5", work / "figure2", SIZES, SEEDS, seconds, say, overrides)
    if not found:
        return
    write_table(out, "figure2", "Figure 2: mAP against render size",
                "Princeton Shape Benchmark, the 21 classes of both splits; percent over the 370 test shapes, "
                "descriptors ranked by cosine; columns: render size of the test shapes.",
                ("trained at", "seed", *map(str, SIZES)), table_rows(found, SIZES), time.monotonic() - begun, command)
    save_figure(picture(found), out / "figure2.png")


def _figure3(sources: Sources, out: Path, work: Path, command: str, say: Callable[[str], None]) -> None:
    from sparsenet.inspect import save_figure
    from sparsenet.reproduction.comparison import RUNS, compare, curves

    begun = time.monotonic()
    folder = work / "table2"
    done = [name for name, config in RUNS.items() if (folder / config.replace("/", "_") / "figures.json").exists()]
    if not done:
        say("figure3: no network of table2 is trained yet")
        return
    save_figure(curves(compare(work / "modelnet40.h5", folder, done, None, say)), out / "figure3.png")
    _write_page(out / "figure3.md", "Figure 3: precision against recall",
                ["![precision against recall of each network](figure3.png)"], begun, command)


def _write_page(path: Path, title: str, lines: Sequence[str], begun: float, command: str) -> None:
    from sparsenet.files import write_text

    write_text(path, "\n".join([f"# {title}", "", *lines, "", provenance(time.monotonic() - begun, command), ""]))
