"""The lists of layers and classes on the inspector page, as HTML that needs no script."""

from __future__ import annotations

from html import escape

import numpy as np

from sparsenet.inspect.page.layers import LayerView, NetworkView

SHOWN_CLASSES = 8
_COLUMNS = ("number", "layer", "settings", "spatial size", "channels", "sites", "active %", "pairs", "multiply-adds",
            "of dense %", "mean norm", "mean gradient")


def layer_list(view: NetworkView) -> str:
    """One HTML row for the input and each layer; the name is a button that selects the layer."""
    head = "".join(f'<th scope="col">{column}</th>' for column in _COLUMNS)
    rows = "\n".join(_row(layer) for layer in view.layers)
    return f'<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>'


def prediction(view: NetworkView) -> str:
    """The most probable class, for the header; "" if there is none."""
    if not view.classes:
        return ""
    name, _, chance = view.classes[0]
    return f'<p class="prediction">Predicted: <strong>{escape(name)}</strong>, {100 * chance:.1f}%</p>'


def class_list(view: NetworkView) -> str:
    """The most probable classes, each with a bar for its probability."""
    if not view.classes:
        return "<p>The network predicts no class of the shape as a whole.</p>"
    rows = []
    for name, logit, chance in view.classes[:SHOWN_CLASSES]:
        rows.append(f'<tr><th scope="row">{escape(name)}</th><td class="bar"><span style="width:{100 * chance:.2f}%">'
                    f'</span></td><td class="number">{100 * chance:.1f}%</td><td class="number">{logit:.2f}</td></tr>')
    left = len(view.classes) - len(rows)
    rest = sum(chance for _, _, chance in view.classes[SHOWN_CLASSES:])
    note = f"<p class=\"note\">{left} other classes share {100 * rest:.1f}%.</p>" if left else ""
    head = '<th scope="col">class</th><th scope="col" class="bar">probability</th><th scope="col" class="number">' \
           '<span class="hidden">percent</span></th><th scope="col" class="number">logit</th>'
    return f'<table class="classes"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>{note}'


def _row(layer: LayerView) -> str:
    record, sites, features = layer.record, layer.sites, layer.features
    size = "" if sites is None else "×".join(map(str, sites.spatial_size))
    active = "" if sites is None else f"{100 * len(sites) / sites.cells:.2f}"
    pairs = products = share = settings = ""
    if record is not None:
        settings = escape(record.layer.extra_repr())
        pairs = _number(record.pairs)
        products = _number(record.multiply_adds)
        if record.multiply_adds and record.dense_multiply_adds and sites is not None:
            share = f"{100 * record.multiply_adds / record.dense_multiply_adds:.2f}"
    cells = (size, f"{features.shape[1]:,}", "" if sites is None else f"{len(sites):,}", active, pairs, products, share,
             _mean_length(features), _mean_length(layer.gradient))
    numbers = "".join(f'<td class="number">{cell}</td>' for cell in cells)
    button = f'<button type="button" data-layer="{layer.index}">{escape(layer.name)}</button>'
    return (f'<tr data-layer="{layer.index}"><td class="number">{layer.index}</td><th scope="row">{button}</th>'
            f'<td>{settings}</td>{numbers}</tr>')


def _number(value: int | None) -> str:
    return f"{value:,}" if value else ""


def _mean_length(rows: np.ndarray) -> str:
    return f"{np.linalg.norm(rows, axis=1).mean():.3g}" if len(rows) else ""
