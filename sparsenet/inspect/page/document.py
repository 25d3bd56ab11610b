"""Builds the inspector page: one HTML file to explore a network and its activations for one shape."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from sparsenet.files import replacing
from sparsenet.inspect.page.arrays import Arrays, base64_gzip
from sparsenet.inspect.page.layers import look_into
from sparsenet.inspect.page.lists import class_list, layer_list, prediction
from sparsenet.inspect.page.parts import facts, mesh_facts, top_facts

if TYPE_CHECKING:
    from sparsenet.inspect.top_shapes import TopShapes
    from sparsenet.nn import SparseNetwork
    from sparsenet.shapes import Mesh
    from sparsenet.sparse import SparseTensor

MAX_BYTES = 10_000_000  # size of the file
_FOLDER = Path(__file__).parent
_SCRIPTS = ("model.js", "scene.js", "picking.js", "film.js", "solid.js", "raster.js", "panels.js", "tops.js",
            "upkeep.js", "address.js", "view.js", "input.js")


def inspector_page(net: SparseNetwork, x: SparseTensor, mesh: Mesh | None = None, classes: Sequence[str] = (),
                   title: str = "one shape", target: int | None = None, tops: TopShapes | None = None) -> str:
    """The text of a self-contained HTML file that any browser with WebGL opens from disk, offline.

    It shows the mesh and its voxels; the active sites of each layer in 3D, coloured by the norm of their
    features or of their gradient, by their importance (`grad_cam`), or by one channel; for a clicked site, its
    receptive field in every earlier layer and the rulebook entries that produced it; the shapes that excite a channel
    most; the layers, the classes, and the hash table of each grid.

    Parameters
    ----------
    net : runs in evaluation mode; its modes and gradients are restored
    x : SparseTensor of three dimensions and one sample
    mesh : Mesh whose vertices are in cells of x's grid (cell c fills c to c+1), or None
    classes : class names of the last layer's logits, such as a checkpoint's `classes`
    title : title of the page
    target : the class whose logit is differentiated; default: the predicted one.  Without classes, half
        the squared norm of the last layer's output is differentiated
    tops : of `top_shapes` of this network, for the shapes that excite each channel most; None: they are not shown

    Raises
    ------
    RuntimeError : plotly is not installed.
    ValueError : x has other dimensions or samples; the target does not exist; the values of a layer are not
        finite, or its sites cannot be traced back to those of the layer before; the top shapes are of another network;
        the page would exceed 10 MB.
    """
    plotly = _plotly()
    view = look_into(net, x, classes, target)
    arrays = Arrays()
    content = facts(view, arrays)
    content["mesh"] = None if mesh is None else mesh_facts(mesh, arrays)
    content["tops"] = None if tops is None else top_facts(tops, content["layers"], arrays)
    content["arrays"] = arrays.places
    values = {
        "TITLE": escape(title),
        "SUMMARY": escape(view.summary),
        "PREDICTION": prediction(view),
        "TARGET": escape(view.target),
        "EXPLAINED": escape(view.explained),
        "CLASSES": class_list(view),
        "LAYERS": layer_list(view),
        "STYLE": read_part("page.css"),
        "FACTS": json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"),
        "ARRAYS": base64_gzip(arrays.content()),
        "PLOTLY": base64_gzip(plotly.encode()),
        "SCRIPT": "\n".join(map(read_part, _SCRIPTS)),
    }
    page = re.sub(r"\{\{([A-Z]+)\}\}", lambda mark: values[mark[1]], read_part("page.html"))
    size = len(page.encode())
    if size > MAX_BYTES:
        raise ValueError(f"inspector page: it would take {size:,} bytes for {len(x):,} sites, expected at most "
                         f"{MAX_BYTES:,}: voxelize the shape at a smaller render size")
    return page


def write_page(path: str | Path, net: SparseNetwork, x: SparseTensor, mesh: Mesh | None = None,
               classes: Sequence[str] = (), title: str = "one shape", target: int | None = None,
               tops: TopShapes | None = None) -> int:
    """Write `inspector_page` to `path` atomically.  Returns the size of the file in bytes.

    Raises the errors of `inspector_page` and `check_page`.
    """
    path = check_page(path)
    page = inspector_page(net, x, mesh, classes, title, target, tops).encode()
    with replacing(path) as beside:
        beside.write_bytes(page)
    return len(page)


def check_page(path: str | Path) -> Path:
    """The path for a page, checked before the work that leads to it.

    Raises
    ------
    RuntimeError : plotly is not installed.
    ValueError, FileNotFoundError : the name does not end in .html; its folder does not exist.
    """
    path = Path(path)
    _require_plotly()
    if path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"inspector page {path}: its suffix is {path.suffix!r}, expected .html")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"inspector page {path}: the folder {path.parent} does not exist: make it")
    return path


def _require_plotly() -> None:
    if importlib.util.find_spec("plotly") is None:
        raise RuntimeError("inspector page: it needs plotly, which is not installed: "
                           "pip install 'sparsenet[inspect]'")


def _plotly() -> str:
    """The minified plotly.js from the plotly package."""
    _require_plotly()
    from plotly.offline import get_plotlyjs

    return get_plotlyjs()


def read_part(name: str) -> str:
    """The text of a file of the page."""
    return (_FOLDER / name).read_text(encoding="utf-8")
