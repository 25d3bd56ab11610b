"""The HTML of a SparseTensor and a Rulebook in notebooks."""

from __future__ import annotations

from typing import Any

import numpy as np

from sparsenet.backend import to_device
from sparsenet.notebook import bars, card, numbers, picture, table, times
from sparsenet.wording import counted, listed

SHOWN_ROWS, SHOWN_CHANNELS, SHOWN_SAMPLES = 5, 4, 12
SHOWN_OFFSETS = 343  # bars of a rulebook's picture, at most: a filter of 7^3


def sparse_tensor_html(x: Any) -> str:
    """HTML of a SparseTensor: its sizes, the sites of one sample as a picture, and its first rows."""
    splits = to_device(x.sites.batch_splits, "cpu")
    counts = np.diff(splits).tolist()
    facts = {
        "sites": f"{len(x):,} of {x.batch_size * x.sites.cells:,} cells ({100 * x.active_fraction:.2f}%)",
        "spatial size": times(x.spatial_size), "channels": f"{x.channels:,}",
        "batch": f"{counted(x.batch_size, 'sample')}" + (
            f" of {listed([f'{count:,}' for count in counts], SHOWN_SAMPLES)} sites" if x.batch_size > 1 else ""),
        "background": _background(x), "stored as": f"{x.dtype} on {x.device}",
    }
    if not len(x):
        return card("SparseTensor", facts)
    sample = int(np.flatnonzero(counts)[0])
    coordinates = to_device(x.coordinates[int(splits[sample]):int(splits[sample + 1])], "cpu")[:, 1:]
    return card("SparseTensor", facts, _picture(coordinates, x.spatial_size, sample), _first_rows(x))


def _background(x: Any) -> str:
    if x.background is None:
        return "None: inactive cells are skipped"
    if x.background.ndim > 1:
        return "differs by sample"
    row = to_device(x.background.array, "cpu")
    return numbers(row) if row.any() else "zeros"


def _picture(coordinates: np.ndarray, spatial_size: tuple[int, ...], sample: int) -> str:
    """The sites of a sample, in three dimensions or more from the front: the first axis to the right, the last up."""
    caption = f"sites of sample {sample}"
    if len(spatial_size) == 1:
        return picture(0 * coordinates[:, 0], coordinates[:, 0], (1, *spatial_size), caption)
    if len(spatial_size) == 2:
        return picture(coordinates[:, 0], coordinates[:, 1], spatial_size, caption)
    sides = spatial_size[-1], spatial_size[0]
    return picture(sides[0] - 1 - coordinates[:, -1], coordinates[:, 0], sides, f"{caption}, from the front")


def _first_rows(x: Any) -> str:
    names = "xyzw"[:x.dimension]
    channels = min(x.channels, SHOWN_CHANNELS)
    features = to_device(x.features.array[:SHOWN_ROWS, :channels], "cpu")
    rows = [("row", "batch", *names, *(f"channel {c}" for c in range(channels)))]
    sites = to_device(x.coordinates[:SHOWN_ROWS], "cpu")
    for number, (site, values) in enumerate(zip(sites.tolist(), features.tolist(), strict=True)):
        rows.append((str(number), *map(str, site), *(f"{value:.4g}" for value in values)))
    return table(rows)


def rulebook_html(rulebook: Any) -> str:
    """HTML of a Rulebook: its sizes, and the pairs of each kernel offset, if a view exists that tells them."""
    inputs, outputs, offsets = rulebook.shape
    there = [name for name, key in (("neighbours", "neighbours"), ("transposed neighbours", "transposed_neighbours"),
                                    ("pairs", "_pairs")) if key in vars(rulebook)]
    pairs = rulebook.pair_count
    facts = {
        "filter": str(rulebook.geometry), "input": f"{inputs:,} sites of {times(rulebook.input_sites.spatial_size)}",
        "output": f"{outputs:,} sites of {times(rulebook.output_size)}", "kernel offsets": f"{offsets:,}",
        "pairs": f"{pairs:,}" + (f", {pairs / outputs:.2f} for each output site" if outputs else ""),
        "views made": ", ".join(there) or "none yet", "on": rulebook.device,
    }
    counts = _pairs_of_offsets(rulebook)
    if counts is None or not pairs or offsets > SHOWN_OFFSETS:
        return card("Rulebook", facts)
    caption = f"pairs of each kernel offset, {int(counts.min()):,} to {int(counts.max()):,}"
    return card("Rulebook", facts, bars(counts, caption))


def _pairs_of_offsets(rulebook: Any) -> np.ndarray | None:
    """(K,) the pairs of each offset; None if no view tells them."""
    if "_pairs" in vars(rulebook):
        return np.diff(to_device(rulebook.pair_splits, "cpu"))
    if "neighbours" in vars(rulebook):
        return to_device((rulebook.neighbours >= 0).sum(axis=0), "cpu")
    return None
