"""The whole pipeline on built-in shapes: dataset, training, descriptors and a search."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from sparsenet.files import write_text

if TYPE_CHECKING:
    from sparsenet.shapes import Mesh

QUERY_CLASS = "chair"
RESULTS = 8


def quickstart(out: str | Path, seconds: float | None = None, progress: bool = True,
               say: Callable[[str], None] = print) -> dict[str, float]:
    """Make the parametric dataset, train with configs/quickstart.toml on it, and search with a new shape.

    Parameters
    ----------
    out : output folder; files of an earlier quickstart are replaced.  It will contain shapes.h5 (dataset),
        last.h5 and best.h5 (checkpoints), metrics.csv, descriptors.h5, query.off and, with matplotlib,
        curves.png, precision_recall.png and found.png
    seconds : stop training after this many seconds
    progress : show progress bars on stderr if it is a terminal
    say : called with each line of the report

    Returns
    -------
    The figures of the final evaluation, including test_accuracy and test_mAP (0 to 1).
    """
    from sparsenet.random import keyed_rng
    from sparsenet.retrieval import find_similar
    from sparsenet.shapes.parametric import parametric_mesh
    from sparsenet.training import embed_shapes, load_config, load_network, open_shapes, train
    from sparsenet.training.evaluation import ranking_metric
    from sparsenet.training.record import peak_megabytes

    begun = time.monotonic()
    out = Path(out)
    config = load_config("quickstart", [] if seconds is None else [f"training.max_seconds={seconds}"])
    say(f"1. {config.data.parametric_train} shapes of each of ten classes for training and validation, "
        f"{config.data.parametric_test} for testing; training a small S3DCNN in {out}")
    result = train(config, out, overwrite=True, progress=progress, say=say)

    say("2. retrieval on the test shapes: each is a query that ranks the others")
    say(str(result.evaluation))
    net, state = load_network(out / "best.h5")
    with open_shapes(config, out / "best.h5") as shapes:
        descriptors = embed_shapes(net, state, config, shapes)
    descriptors.save(out / "descriptors.h5")

    say(f"3. a {QUERY_CLASS} that the network has not seen, and the test shapes most similar to it")
    mesh = parametric_mesh(QUERY_CLASS, keyed_rng(config.training.seed, "query"))
    write_off(out / "query.off", mesh)
    found = find_similar(net, mesh, descriptors, RESULTS, ranking_metric(config), "query.off")
    say(str(found))
    if importlib.util.find_spec("matplotlib") is None:
        say("no pictures: they need matplotlib (pip install 'sparsenet[plot]')")
    else:
        from sparsenet.inspect.figures import save_figure

        save_figure(found.picture(label=QUERY_CLASS), out / "found.png")
        curves = out / "curves.png"  # missing if the time ran out in the first epoch
        say(f"picture of query and results: {out / 'found.png'}{f'; of the training: {curves}' * curves.exists()}")
    figures = result.figures
    say(f"accuracy {100 * figures['test_accuracy']:.1f}%, mAP {100 * figures['test_mAP']:.1f}%, in "
        f"{time.monotonic() - begun:.0f} s and at most {peak_megabytes():.0f} MB")
    return figures


def write_off(path: Path, mesh: Mesh) -> None:
    """Write a mesh as an OFF file."""
    lines = ["OFF", f"{len(mesh.vertices)} {len(mesh.faces)} 0"]
    lines += [" ".join(map(repr, vertex)) for vertex in mesh.vertices.tolist()]
    lines += [" ".join(map(str, [len(face), *face])) for face in mesh.faces.tolist()]
    write_text(path, "\n".join(lines) + "\n")
