"""The JSON facts and the arrays from which the scripts of the inspector page draw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sparsenet.backend import to_device
from sparsenet.inspect.page.arrays import Arrays, packed_bits, smallest_unsigned
from sparsenet.inspect.page.layers import LayerView, NetworkView, reads_background
from sparsenet.inspect.paths import COPY, FILTER
from sparsenet.kernels.hash_table import probe_lengths
from sparsenet.nn.transposed import TransposedConv

if TYPE_CHECKING:
    from sparsenet.inspect.top_shapes import TopShapes
    from sparsenet.shapes import Mesh
    from sparsenet.sparse import ActiveSites

FINE_VALUES = 1_400_000  # up to this many values are stored in 16 bits each, more in 8
MAX_VALUES = 4_500_000  # above this, the channels with the least variance are left out
MAX_FACES = 60_000
THUMBNAIL = 48  # cells along the longest side of a small picture; larger shapes are drawn in coarser cells


def facts(view: NetworkView, arrays: Arrays) -> dict[str, Any]:
    """The JSON facts that `model.js` reads; their arrays are added to `arrays`."""
    grids: list[ActiveSites] = []
    for layer in view.layers:
        if layer.sites is not None and not any(layer.sites is known for known in grids):
            grids.append(layer.sites)
    sizes = [layer.features.shape for layer in view.layers]
    cap = channel_cap(sizes)
    kept_values = sum(rows * min(channels, cap) for rows, channels in sizes)
    bits = 16 if kept_values <= FINE_VALUES else 8
    return {
        "bits": bits,
        "target": view.target,
        "grids": [_grid(number, sites, arrays) for number, sites in enumerate(grids)],
        "layers": [_layer(layer, grids, cap, bits, arrays) for layer in view.layers],
    }


def channel_cap(sizes: list[tuple[int, int]]) -> int:
    """The maximum number of channels per layer that keeps the total within MAX_VALUES.

    sizes : (rows, channels) of each layer
    """
    cap = max(channels for _, channels in sizes)
    while cap > 1 and sum(rows * min(channels, cap) for rows, channels in sizes) > MAX_VALUES:
        cap -= 1
    return cap


def mesh_facts(mesh: Mesh, arrays: Arrays) -> dict[str, int]:
    """Facts about the mesh; if it has more than MAX_FACES faces, the largest are kept."""
    faces = mesh.faces
    if len(faces) > MAX_FACES:
        a, b, c = (mesh.vertices[faces[:, i]] for i in range(3))
        area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
        faces = faces[np.sort(np.argsort(-area, kind="stable")[:MAX_FACES])]
    used, faces = np.unique(faces, return_inverse=True)
    arrays.add("mesh.vertices", mesh.vertices[used].T.astype(np.float32))
    arrays.add("mesh.faces", smallest_unsigned(faces.reshape(-1, 3).T))
    return {"faces": len(mesh.faces), "shown": faces.size // 3}


def top_facts(tops: TopShapes, layers: list[dict[str, Any]], arrays: Arrays) -> dict[str, Any]:
    """Facts about the shapes that excite the channels most; those that are not among any channel's are left out.

    layers : those of `facts`, whose kept channels are taken

    Raises
    ------
    ValueError : a layer is not among the tops'.
    """
    missing = [layer["name"] for layer in layers[1:] if layer["name"] not in tops.layers]
    if missing:
        raise ValueError(f"inspector page: the top shapes are of a network without {missing[0]}: call top_shapes with "
                         "this network")
    chosen = [(layer, tops.layers[layer["name"]]) for layer in layers[1:]]
    used = np.unique(np.concatenate([of.shapes[layer["kept"]].ravel() for layer, of in chosen]))
    pictures, corners, factors, begins = [], [], [], np.zeros(1, np.int64)
    for shape in used.tolist():
        cells = tops.coordinates[shape]
        factor = -(-int(np.ptp(cells, axis=0).max() + 1) // THUMBNAIL)
        corners.append(cells.min(axis=0))
        factors.append(factor)
        pictures.append(packed_bits((cells - corners[-1]) // factor)[1:])
        begins = np.append(begins, begins[-1] + len(pictures[-1][1]))
    arrays.add("tops.bits", np.concatenate([bits for _, bits in pictures]))
    for number, (layer, of) in enumerate(chosen, start=1):
        kept = layer["kept"]
        places = np.searchsorted(used, of.shapes[kept])
        arrays.add(f"layer{number}.tops.shapes", smallest_unsigned(places))
        arrays.add(f"layer{number}.tops.values", of.values[kept].astype(np.float32))
        if of.cells is not None:
            arrays.add(f"layer{number}.tops.cells", smallest_unsigned(of.cells[kept]))
        corner, factor = np.array(corners)[places][:, :, None], np.array(factors)[places][:, :, None, None]
        fields = np.maximum(of.fields[kept] - corner, 0)
        fields[:, :, 1] += factor[:, :, 0] - 1  # the cell after the last is rounded up
        arrays.add(f"layer{number}.tops.fields", smallest_unsigned(fields // factor))
    return {"count": len(tops.names), "shapes": [
        {"name": tops.names[shape], "label": tops.labels[shape], "size": list(size), "begin": int(begin)}
        for shape, (size, _), begin in zip(used.tolist(), pictures, begins, strict=False)]}


def _grid(number: int, sites: ActiveSites, arrays: Arrays) -> dict[str, Any]:
    """The sites and the hash table of a grid: for each slot the probe length of its key (0: empty), for each row
    its slot."""
    table_keys, table_rows = (to_device(array, "cpu") for array in sites.hash_table)
    held = np.flatnonzero(table_keys >= 0)
    lengths = probe_lengths(table_keys)
    probes = np.zeros(table_keys.size, np.uint8)
    probes[held] = np.minimum(lengths, 255)
    slots = np.empty(len(sites), np.int64)
    slots[table_rows[held]] = held
    coordinates = to_device(sites.coordinates, "cpu")
    arrays.add(f"grid{number}.coordinates", smallest_unsigned(coordinates[:, 1:].T))
    arrays.add(f"grid{number}.probes", probes)
    arrays.add(f"grid{number}.slots", smallest_unsigned(slots))
    return {"size": list(sites.spatial_size), "rows": len(sites), "slots": int(table_keys.size),
            "histogram": np.bincount(lengths, minlength=2)[1:].tolist()}


def _layer(layer: LayerView, grids: list[ActiveSites], cap: int, bits: int, arrays: Arrays) -> dict[str, Any]:
    name, record = f"layer{layer.index}", layer.record
    rows, channels = layer.features.shape
    kept = np.arange(channels)
    if channels > cap:
        spread = layer.features.std(axis=0) if rows else np.zeros(channels)
        kept = np.sort(np.argsort(-spread, kind="stable")[:cap])
    arrays.add_quantised(f"{name}.features", layer.features[:, kept], bits)
    lengths = np.stack([_length(layer.features), _length(layer.gradient), layer.importance], axis=1)
    arrays.add_quantised(f"{name}.lengths", lengths, 16)
    entry: dict[str, Any] = {
        "name": layer.name,
        "settings": "" if record is None else record.layer.extra_repr(),
        "kind": "input" if record is None else record.operation,
        "grid": next((i for i, sites in enumerate(grids) if sites is layer.sites), None),
        "rows": rows, "channels": channels, "kept": kept.tolist(), "relation": layer.relation,
    }
    if layer.relation in (FILTER, COPY):
        arrays.add(f"{name}.neighbours", layer.neighbours)
    if layer.relation == FILTER:
        arrays.add_quantised(f"{name}.shares", layer.shares.reshape(-1, 1), 16)
        weight = getattr(record.layer, "weight", None)
        entry["offsets"] = offsets_of(record.layer).tolist()
        entry["background"] = reads_background(record)
        entry["weight"] = None if weight is None else list(weight.shape[1:])
    return entry


def offsets_of(layer: Any) -> np.ndarray:
    """(K, D): the offsets of a layer's filter, in the order of its rulebook."""
    if isinstance(layer, TransposedConv):
        return layer.settings.kernel_offsets[::-1]
    return layer.geometry.kernel_offsets


def _length(rows: np.ndarray) -> np.ndarray:
    """(N,) float64: the Euclidean norm of each row."""
    return np.sqrt(np.square(rows, dtype=np.float64).sum(axis=1))
