"""The HTML of a Module in notebooks: its layers, their settings and weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sparsenet.notebook import card, table, times
from sparsenet.sparse.plan import Course

INDENT = "    "  # of a layer within a layer


def module_html(net: Any) -> str:
    """HTML of a Module: a row for each layer within it, and the totals."""
    tensors = [*net.parameters(), *net.buffers()]
    frozen = sum(tensor.size for tensor in net.parameters() if not tensor.requires_grad)
    field = getattr(net, "field", None) if hasattr(net, "in_channels") else None  # of a SparseNetwork
    facts = {"weights": f"{net.parameter_count():,}" + (f", {frozen:,} of them frozen" if frozen else "")}
    if tensors:
        kinds = [" on ".join((str(tensor.dtype), tensor.device)) for tensor in tensors]
        facts["stored as"] = ", ".join(dict.fromkeys(kinds))
    facts["mode"] = "training" if net.training else "evaluation"
    if field is not None:
        facts["input"] = f"{net.in_channels:,} × {times(field)}"
    sizes = {} if field is None else _sizes(net, field)
    if not any(net.named_children()):
        facts["settings"] = net.extra_repr() or "none"
        return card(type(net).__name__, facts)
    columns = ("", "layer", "kind", "settings", *(("size",) if sizes else ()), "weights")
    rows = [tuple(row) for row in _rows(net, sizes, "")]
    return card(type(net).__name__, facts, table([columns, *rows], left=(1, 2, 3)))


def _rows(net: Any, sizes: dict[str, str], indent: str) -> Iterator[list[str]]:
    for number, (name, layer) in enumerate(net.named_children(), start=1):
        size = [sizes.get(name, "") if not indent else ""] if sizes else []
        weights = layer.parameter_count()
        yield ["" if indent else str(number), indent + name, type(layer).__name__, layer.extra_repr(), *size,
               f"{weights:,}" if weights else ""]
        yield from _rows(layer, sizes, indent + INDENT)


def _sizes(net: Any, field: tuple[int, ...]) -> dict[str, str]:
    """The grid behind each layer that has a filter, by the layer's name; none from where a filter does not fit."""
    sizes, course = {}, Course(tuple(field))
    for name, layer in net.named_children():
        steps = layer.geometries()
        if steps:
            try:
                sizes[name] = times(course.follow(steps))
            except ValueError:
                break
    return sizes
