"""Opens a gallery, serves it, or writes it to one file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from sparsenet.files import replacing
from sparsenet.serve.app import SearchPage
from sparsenet.serve.desk import Desk, Recipe
from sparsenet.serve.drawing import base64_of
from sparsenet.serve.gallery import Gallery
from sparsenet.serve.guard import host_names
from sparsenet.serve.limits import Limits
from sparsenet.serve.page import static_page
from sparsenet.serve.pool import Pool
from sparsenet.serve.server import Server, require_waitress

MAX_EXPORTED = 1000  # shapes: the distances of all pairs are in the file


def open_gallery(source: str | os.PathLike, model: str | os.PathLike = "modelnet40", up_axis: str | None = None,
                 turns: int | None = None, dataset: str | os.PathLike | None = None, progress: bool = True,
                 say: Callable[[str], None] = lambda line: None, at_most: int | None = None) -> Gallery:
    """The shapes of a folder of meshes, or of a file of descriptors.

    Parameters
    ----------
    source : a folder, whose meshes are embedded unless they are known (see `sparsenet.models.embed_folder`, also for
        up_axis, turns, progress and say); or a file that `sparsenet embed` wrote
    model : a model of the package, or best.h5 or last.h5 of a run; of a file the one that made it
    dataset : of a file: where its shapes are drawn from; default: the dataset that it names, if that is still there
    at_most : number of shapes above which it raises, before any is embedded

    Raises
    ------
    FileNotFoundError, ValueError : no such source or model; nothing to search, or more than `at_most`; the file is
        not of this model.
    LockedError : another process is embedding the folder.
    """
    from sparsenet.models import embed_folder, load_pretrained, model_path
    from sparsenet.models.folder import mesh_files
    from sparsenet.retrieval import Descriptors
    from sparsenet.training import load_network, parse_config
    from sparsenet.training.evaluation import ranking_metric

    source, model = Path(source), str(model)
    if not source.exists():
        raise FileNotFoundError(f"{source} does not exist: expected a folder of meshes, or a file of descriptors")
    if source.is_dir():
        if dataset is not None:
            raise ValueError("a dataset is for a file of descriptors: the shapes of a folder are its files")
        if at_most is not None:
            _check_number(source, sum(1 for _ in mesh_files(source.absolute())), at_most)
        found = embed_folder(load_pretrained(model), source, up_axis, turns, progress, say)
        for name, reason in found.unreadable.items():
            say(f"{name}: {reason}")
        return Gallery.of_folder(found, Recipe(model, up_axis, turns))
    if up_axis is not None or turns is not None:
        raise ValueError("the up axis and the poses of descriptors in a file are those that it was made with")
    descriptors = Descriptors.load(source)
    if at_most is not None:
        _check_number(source, len(descriptors), at_most)
    path = model_path(model)
    _, state = load_network(path)
    if descriptors.checkpoint != state.digest:
        raise ValueError(f"{source} was not made with the weights of {model}: name the model that made it, "
                         "--model MODEL")
    metric = ranking_metric(parse_config(state.config, str(path)), descriptors.output)
    return Gallery.of_descriptors(descriptors, source, model, metric, None if dataset is None else Path(dataset))


@contextmanager
def started(gallery: Gallery, address: str = "127.0.0.1", port: int = 0, limits: Limits | None = None,
            workers: int = 2, allowed_hosts: Iterable[str] = ()) -> Iterator[Server]:
    """A context with a server that listens, and whose workers are ready; `run` makes it answer.  See `serve`."""
    limits = limits or Limits()
    require_waitress()
    host_names(address, port, allowed_hosts)
    threads = max(1, (os.cpu_count() or 1) // workers)
    with Pool(partial(Desk, gallery.recipe, limits, threads), workers, limits.seconds, limits.waiting,
              limits.patience) as pool:
        app = SearchPage(gallery, pool, limits, frozenset(), find_spec("plotly") is not None)
        server = Server(app, limits, address, port)
        app.hosts = host_names(address, server.port, allowed_hosts)
        try:
            yield server
        finally:
            server.close()


def serve(gallery: Gallery, address: str = "127.0.0.1", port: int = 8000, limits: Limits | None = None,
          workers: int = 2, allowed_hosts: Iterable[str] = (), ready: Callable[[str], None] = print) -> None:
    """Serve the search page until Ctrl-C, which raises KeyboardInterrupt.

    Parameters
    ----------
    gallery : see `open_gallery`
    address : an IP address of this machine; by default nobody else can reach it.  There is no password
    port : 0 for any that is free
    limits : of meshes and queries
    workers : processes that read meshes and run the network; each takes the memory of one
    allowed_hosts : names, besides the address, by which browsers may ask for the page
    ready : called with the page's address, once it can be opened

    Raises
    ------
    RuntimeError : waitress is not installed.
    OSError : the port is in use.  ValueError : the address is not one of IP.
    """
    with started(gallery, address, port, limits, workers, allowed_hosts) as server:
        shown = f"[{address}]" if ":" in address else address
        ready(f"http://{shown}:{server.port}/")
        server.run()


def export_page(path: str | os.PathLike, gallery: Gallery, progress: bool = True) -> int:
    """Write the search page as one file that opens from disk: the shapes with their voxels, and their distances.

    It has no meshes, searches with none of the user's, and makes no inspector page.

    Returns the size of the file in bytes.

    Raises
    ------
    ValueError : more than 1,000 shapes, or the name does not end in .html.
    OSError : the file cannot be written.
    """
    from tqdm import tqdm

    from sparsenet.shapes import MeshError

    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"{path}: its suffix is {path.suffix!r}, expected .html")
    _check_number(path, len(gallery), MAX_EXPORTED)
    voxels: list[Any] = []
    if gallery.places:
        desk = Desk(gallery.recipe, Limits())
        for place in tqdm(gallery.places, unit="shape", desc="draw", disable=None if progress else True):
            try:
                voxels.append(desk.voxels(place))
            except (MeshError, OSError):  # it has gone since it was embedded
                voxels.append({"size": [0, 0, 0], "bits": "", "count": 0})
    page = static_page(gallery.facts() | {
        "inspector": False, "voxels": voxels,
        "distances": base64_of(_distances(gallery).astype(np.float32))}).encode()
    with replacing(path) as beside:
        beside.write_bytes(page)
    return len(page)


def _check_number(path: Path, count: int, most: int) -> None:
    if count > most:
        raise ValueError(f"{path}: {count:,} shapes do not fit into one file, expected at most {most:,}: export a "
                         "smaller folder, or serve it")


def _distances(gallery: Gallery) -> np.ndarray:
    """(S, S), row by row the distances from each shape."""
    distances, rows = gallery.index.search(gallery.vectors, len(gallery))
    square = np.empty_like(distances)
    np.put_along_axis(square, rows, distances, axis=1)
    return square
