"""Searches a folder of mesh files for shapes similar to a mesh; descriptors are computed once and kept.

They are kept in the user's own cache folder (`cache_folder`), in a file for each folder of meshes and each network, and
not among the meshes: these may lie on a read-only medium, and a file that came with them would have to be trusted.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sparsenet.autograd import no_grad
from sparsenet.files import read_hdf5, write_hdf5
from sparsenet.interrupts import deferred_interrupt
from sparsenet.lock import LockedError, locked
from sparsenet.models.classification import check_network, classifies
from sparsenet.nn.prediction import output_rows
from sparsenet.retrieval.distances import unit_rows
from sparsenet.retrieval.embedding import checked_layer, descriptor_rows
from sparsenet.sparse import SparseTensor
from sparsenet.wording import aligned, counted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sparsenet.nn import SparseNetwork
    from sparsenet.shapes import Mesh

FORMAT, VERSION = "sparsenet-folder", 2  # version 1 has no classes
TURNS = 3  # poses: these match twelve at a quarter of the time
_CHUNK, _SAVE_SECONDS = 16, 30.0  # meshes embedded at a time; between two savings of an unfinished folder


@dataclass(frozen=True)
class FolderDescriptors:
    """The descriptors of the mesh files in a folder.

    folder : its absolute path
    names : of the files, relative to it, sorted;  vectors : (S, C) float32, unit vectors
    unreadable : name -> reason, of the files that are not meshes or cannot be read
    computed : number of files that were embedded in this call; the others were known
    classes : of the network, if it is a classifier
    labels : (S,) int64, the most probable class of each file, an index into classes; -1 without classes
    probabilities : (S,) float64, those of these classes, as means over the poses that were embedded
    """

    folder: Path
    names: list[str]
    vectors: np.ndarray
    unreadable: dict[str, str]
    computed: int = 0
    classes: list[str] = field(default_factory=list)
    labels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    probabilities: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class FoundFiles:
    """The files nearest to a mesh, nearest first.  Prints as a table.

    names : relative to the folder;  distances : (k,) float64, by cosine;  folder : its path
    """

    folder: Path
    names: list[str]
    distances: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    def __str__(self) -> str:
        rows = [(str(rank), name, f"{distance:.4f}")
                for rank, (name, distance) in enumerate(zip(self.names, self.distances, strict=True), 1)]
        return aligned([("rank", "file", "distance"), *rows], left=(1,), rules=())

    def picture(self, net: SparseNetwork, query: Mesh, name: str, up_axis: str | None = None) -> Figure:
        """A figure (matplotlib) of the query's voxels, as the network sees them, beside those of the files."""
        from sparsenet.inspect.gallery import Picture, gallery

        treatment = _treatment(net)
        pictures = [Picture(treatment.voxelize(treatment.read(self.folder / found, up_axis)).coordinates, found,
                            distance=distance) for found, distance in zip(self.names, self.distances, strict=True)]
        return gallery(Picture(treatment.voxelize(query).coordinates, name), pictures)


def embed_folder(net: SparseNetwork, folder: str | os.PathLike, up_axis: str | None = None, turns: int | None = None,
                 progress: bool = True, say: Callable[[str], None] = lambda line: None) -> FolderDescriptors:
    """The descriptors of all mesh files in a folder and the folders within it.

    A file is embedded once; later only if its size or its time of modification changed, and its content too.  What is
    known is saved every half minute and after Ctrl-C, so that a call that was interrupted goes on.

    Parameters
    ----------
    net : knows its `voxelization`, see `load_pretrained`
    up_axis : "auto", "y" or "z", of the meshes; default: as for those of the network's training
    turns : number of poses about the vertical whose unit vectors are averaged; default: 3 if the network was trained on
        such poses, else 1
    progress : show a bar on stderr if it is a terminal
    say : called with a line for what should be known, such as a cache that cannot be written

    Raises
    ------
    NotADirectoryError, ValueError : no such folder, it has no mesh file, or the network does not know its voxelization.
    LockedError : another process is embedding the same folder.  While nothing changes in it, any number may search it.
    """
    root = Path(folder).absolute()
    if not root.is_dir():
        raise NotADirectoryError(f"{folder}: not a folder")
    treatment = _treatment(net)
    turns = min(TURNS, treatment.turns) if turns is None else turns
    files = dict(mesh_files(root))
    if not files:
        raise ValueError(f"{folder}: the folder has no mesh file")
    axis = treatment.up_axis if up_axis is None else up_axis
    settings = f"{_digest(net)} {turns} {axis}"
    cache, classes = _cache_file(root, settings, say), len(net.classes or ())
    with ExitStack() as stack:
        known = {} if cache is None else _load(cache, settings, classes)
        if cache is not None and {name: entry.stamp for name, entry in known.items()} != files:
            stack.enter_context(_to_ourselves(cache, folder))
            known = _load(cache, settings, classes, say)  # another process may have changed it meanwhile
        table = {name: known[name] for name, stamp in files.items() if name in known and known[name].stamp == stamp}
        by_content = {entry.content: entry for entry in known.values()}
        fresh = [name for name in files if name not in table]
        computed = 0

        def save() -> None:
            if cache is not None and (fresh or known.keys() != table.keys()):
                to_come = {name: known[name] for name in files if name in known}  # of which the content may be known
                _save(cache, settings, {**to_come, **table}, say)

        with deferred_interrupt() as interrupted:
            saved = time.monotonic()
            for names in _chunks(fresh, progress):
                entries = [_hashed(root / name, files[name]) for name in names]
                new = []
                for name, entry in zip(names, entries, strict=True):
                    twin = by_content.get(entry.content)
                    if twin is not None and not entry.error:
                        table[name] = replace(twin, stamp=entry.stamp)
                    else:
                        new.append((name, entry))
                computed += _embed(net, root, new, axis, turns, table)
                if interrupted():
                    save()
                    raise KeyboardInterrupt
                if time.monotonic() - saved > _SAVE_SECONDS:
                    save()
                    saved = time.monotonic()
        save()
    good = sorted(name for name, entry in table.items() if not entry.error)
    channels = next((table[name].vector.shape for name in good), (0,))
    vectors = np.array([table[name].vector for name in good], np.float32).reshape(len(good), *channels)
    unreadable = {name: entry.error for name, entry in sorted(table.items()) if entry.error}
    names_of_classes = list(net.classes or ()) if classifies(net) else []
    return FolderDescriptors(root, good, vectors, unreadable, computed, names_of_classes,
                             np.array([table[name].label for name in good], np.int64),
                             np.array([table[name].probability for name in good], np.float64))


def search_folder(net: SparseNetwork, descriptors: FolderDescriptors, mesh: str | os.PathLike | Any, k: int = 10,
                  up_axis: str | None = None, turns: int | None = None) -> FoundFiles:
    """The k files whose shapes are most similar to a mesh, by cosine.

    mesh : a file, or anything that has `vertices` and `faces`;  up_axis, turns : as in `embed_folder`

    Raises
    ------
    ValueError : k is out of range.  MeshError, OSError : the mesh cannot be used.
    """
    from sparsenet.retrieval import Index

    query = describe(net, [_treatment(net).read(mesh, up_axis)], turns)[0]
    if not 1 <= k <= len(descriptors):
        raise ValueError(f"search: k is {k}, expected 1 to {len(descriptors)}, the number of files")
    index = Index("cosine")
    index.add(descriptors.vectors)
    (distances,), (rows,) = index.search(query, k)
    return FoundFiles(descriptors.folder, [descriptors.names[row] for row in rows], distances)


def describe(net: SparseNetwork, meshes: Sequence[Mesh], turns: int | None = None
             ) -> tuple[np.ndarray, np.ndarray | None]:
    """The descriptors of upright meshes and their classes' probabilities, from one pass of the network.

    net, turns : as in `embed_folder`

    Returns
    -------
    vectors : (S, C) float32 unit vectors: the directions of the descriptors of each mesh's poses, averaged
    probabilities : (S, classes) float64, the mean over the poses; None if the network is not a classifier

    Raises ValueError if the network gives NaN or infinity, or does not know its voxelization.
    """
    treatment = _treatment(net)
    poses = treatment.rotations(min(TURNS, treatment.turns) if turns is None else turns)
    field = net.field or (treatment.render_size,) * 3
    cells = [treatment.voxelize(mesh, field, pose).coordinates for mesh in meshes for pose in poses]
    coordinates = np.concatenate([np.insert(one, 0, b, axis=1) for b, one in enumerate(cells)])
    weights, layer = next(net.parameters()), checked_layer(net, None)
    x = SparseTensor(np.ones((len(coordinates), 1), np.float32), coordinates, field, len(cells))
    with no_grad(), net.evaluating():
        middle = net.run(x.to(weights.device, weights.dtype), 0, layer)
        rows = descriptor_rows(middle, layer, unit=True)
        vectors = unit_rows(rows.reshape(len(meshes), len(poses), -1).mean(axis=1)).astype(np.float32)
        probabilities = None
        if classifies(net):
            each = output_rows(lambda _: net.run(middle, layer), x, True, operation="embed")
            probabilities = each.reshape(len(meshes), len(poses), -1).mean(axis=1)
    if not np.isfinite(vectors).all() or (probabilities is not None and not np.isfinite(probabilities).all()):
        raise ValueError("embed: the network gives NaN or infinite numbers: has the training diverged?")
    return vectors, probabilities


def cache_folder() -> Path:
    """The folder of the user in which descriptors are kept: $SPARSENET_CACHE, or `sparsenet` in the system's place for
    such files."""
    if named := os.environ.get("SPARSENET_CACHE"):
        return Path(named)
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "sparsenet"


# ---- the files ----


@dataclass(frozen=True)
class _Entry:
    """A file: its (size, time of modification in ns), the sha256 of its content, and its descriptor, class and
    probability, or an error."""

    stamp: tuple[int, int]
    content: bytes
    vector: np.ndarray
    error: str = ""
    label: int = -1
    probability: float = 0.0


def mesh_files(root: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    """The mesh files, by name relative to the root, in order; with size and time of modification."""
    from sparsenet.data.folders import printable
    from sparsenet.data.importers import EXTENSIONS
    from sparsenet.shapes.reading import mesh_suffix

    for folder, folders, names in os.walk(root):
        folders.sort()
        within = "" if folder == str(root) else f"{os.path.relpath(folder, root).replace(os.sep, '/')}/"
        for name in sorted(names):
            if mesh_suffix(name) not in EXTENSIONS:
                continue
            try:
                found = os.stat(os.path.join(folder, name))  # no Path: ten thousand of them take a tenth of a second
            except OSError:  # gone, or a link to nowhere
                continue
            if printable(within + name) == within + name:  # names that are not text cannot be kept or printed
                yield within + name, (found.st_size, found.st_mtime_ns)


def _hashed(path: Path, stamp: tuple[int, int]) -> _Entry:
    try:
        with open(path, "rb") as file:
            return _Entry(stamp, hashlib.file_digest(file, "sha256").digest(), np.zeros(0, np.float32))
    except OSError as error:
        return _Entry(stamp, bytes(32), np.zeros(0, np.float32), error.strerror or "cannot be read")


def _chunks(names: Sequence[str], progress: bool) -> Iterator[list[str]]:
    from tqdm import tqdm

    with tqdm(total=len(names), unit="mesh", desc="embed", disable=None if progress else True) as bar:
        for start in range(0, len(names), _CHUNK):
            yield list(names[start:start + _CHUNK])
            bar.update(len(names[start:start + _CHUNK]))


# ---- embedding ----


def _treatment(net: SparseNetwork) -> Any:
    check_network("search", net)
    if net.voxelization is None:
        raise ValueError("search: the network does not know how meshes are voxelized: load it from a checkpoint, "
                         "sn.load_pretrained(path)")
    return net.voxelization


def _digest(net: SparseNetwork) -> str:
    from sparsenet.files import arrays_digest

    return arrays_digest(net.get_weights())


def _embed(net: SparseNetwork, root: Path, new: list[tuple[str, _Entry]], axis: str, turns: int,
           table: dict[str, _Entry]) -> int:
    """Put the entries with their descriptors, or the errors of their files, into the table; the number of the first."""
    from sparsenet.shapes import MeshError

    meshes, whole = [], []
    for name, entry in new:
        reason = entry.error
        try:
            if not reason:
                meshes.append(_treatment(net).read(root / name, axis))
                whole.append((name, entry))
                continue
        except MeshError as error:
            reason = " ".join(str(error).removeprefix(f"{root / name}: ").split())
        except OSError as error:
            reason = error.strerror or "cannot be read"
        table[name] = _Entry(entry.stamp, entry.content, entry.vector, reason)
    if meshes:
        vectors, probabilities = describe(net, meshes, turns)
        best = [-1] * len(meshes) if probabilities is None else probabilities.argmax(axis=1).tolist()
        for row, (name, entry) in enumerate(whole):
            probability = 0.0 if probabilities is None else float(probabilities[row, best[row]])
            table[name] = replace(entry, vector=vectors[row], label=best[row], probability=probability)
    return len(meshes)


# ---- the cache ----


def _cache_file(root: Path, settings: str, say: Callable[[str], None]) -> Path | None:
    """The cache's file for a folder of meshes and a network; None, with a line, if there is no place to write."""
    name = f"{hashlib.sha256(os.fsencode(root) + b' ' + settings.encode()).hexdigest()[:32]}.h5"
    for place in (cache_folder(), Path(tempfile.gettempdir()) / f"sparsenet-{getattr(os, 'getuid', lambda: 0)()}"):
        try:
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            if _is_ours(place):
                return place / name
        except OSError:
            continue
    say(f"descriptors are not kept: {cache_folder()} cannot be written to; SPARSENET_CACHE names another folder")
    return None


@contextmanager
def _to_ourselves(cache: Path, folder: str | os.PathLike) -> Iterator[None]:
    """A context in which no other process writes to the cache.  Raises LockedError, which names the folder."""
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(cache))
        except LockedError as error:
            raise LockedError(f"{folder}: another process is embedding its meshes ({error})") from None
        yield


def _is_ours(place: Path) -> bool:
    """Whether the folder can be written to and, where users have numbers, belongs to this one and is no link."""
    if not os.access(place, os.W_OK | os.X_OK) or place.is_symlink():
        return False
    return not hasattr(os, "getuid") or place.stat().st_uid == os.getuid()


def _load(cache: Path, settings: str, classes: int, say: Callable[[str], None] = lambda line: None
          ) -> dict[str, _Entry]:
    """The entries in the cache; none, with a line, if it is damaged, and none if it is of another network."""
    if not cache.exists():
        return {}
    try:
        found = read_hdf5(cache, {FORMAT: VERSION})
        if found.version < VERSION or found.attribute("settings", str) != settings:
            return {}
        names, errors = found.texts("names"), found.texts("errors")
        stamps, contents = found.array("stamps", "i", 2), found.array("contents", "u", 2)
        vectors, labels = found.array("vectors", "f", 2), found.array("labels", "i", 1)
        probabilities = found.array("probabilities", "f", 1)
        rows = {len(array) for array in (names, errors, stamps, contents, vectors, labels, probabilities)}
        numbers = np.isfinite(vectors).all() and ((probabilities >= 0) & (probabilities <= 1)).all()
        if len(rows) > 1 or stamps.shape[1:] != (2,) or contents.shape[1:] != (32,) or not numbers or (
                len(labels) and not (-1 <= labels.min() and labels.max() < classes)):
            raise found.wrong("its arrays do not fit together")
    except (OSError, ValueError) as error:
        say(f"the descriptors kept in {cache} are damaged and made again ({error})")
        return {}
    return {name: _Entry((int(size), int(changed)), bytes(content), vector, reason, int(label), float(probability))
            for name, reason, (size, changed), content, vector, label, probability
            in zip(names, errors, stamps, contents, vectors, labels, probabilities, strict=True)}


def _save(cache: Path, settings: str, table: dict[str, _Entry], say: Callable[[str], None]) -> None:
    """Write the entries; a full disk is told, and does not stop the search."""
    names = sorted(table)
    channels = max((len(table[name].vector) for name in names), default=0)
    vectors = np.zeros((len(names), channels), np.float32)
    for row, name in enumerate(names):
        if len(table[name].vector):
            vectors[row] = table[name].vector
    contents = np.frombuffer(b"".join(table[name].content for name in names), np.uint8).reshape(-1, 32)
    try:
        write_hdf5(cache, FORMAT, VERSION, {"settings": settings}, {
            "names": np.array(names, object), "errors": np.array([table[name].error for name in names], object),
            "stamps": np.array([table[name].stamp for name in names], np.int64).reshape(-1, 2),
            "contents": contents, "vectors": vectors,
            "labels": np.array([table[name].label for name in names], np.int64),
            "probabilities": np.array([table[name].probability for name in names], np.float64)})
    except OSError as error:
        say(f"the descriptors of {counted(len(names), 'file')} are not kept: {error}")
