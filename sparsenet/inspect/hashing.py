"""The hash table of a set of sites: which slots are occupied, and the probe lengths of the keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sparsenet.backend import to_device
from sparsenet.inspect.style import new_figure
from sparsenet.sparse import ActiveSites, SparseTensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def hash_table_report(sites: ActiveSites | SparseTensor) -> dict[str, Any]:
    """The figures of the hash table: keys, slots, load (keys per slot), mean_probe and longest_probe (slots
    probed to find a key, 1 = at home), at_home (share of the keys), probe_lengths (N,) int64 and
    slots_of_keys (N,) int64."""
    from sparsenet.kernels.hash_table import EMPTY, probe_lengths

    sites = getattr(sites, "sites", sites)
    table_keys = to_device(sites.hash_table[0], "cpu")
    lengths = probe_lengths(table_keys)
    found = {"keys": len(lengths), "slots": len(table_keys), "load": len(lengths) / len(table_keys)}
    if len(lengths):
        found |= {"mean_probe": float(lengths.mean()), "longest_probe": int(lengths.max()),
                  "at_home": float((lengths == 1).mean())}
    else:
        found |= {"mean_probe": 0.0, "longest_probe": 0, "at_home": 1.0}
    return {**found, "probe_lengths": lengths, "slots_of_keys": np.flatnonzero(table_keys != EMPTY)}


def hash_table(sites: ActiveSites | SparseTensor) -> Figure:
    """Every slot of the hash table, coloured by its key's probe length, and a histogram of the probe lengths.

    Slots run from left to right, row by row; empty ones are white.
    """
    from matplotlib import colormaps
    from matplotlib.colors import BoundaryNorm, ListedColormap
    from matplotlib.ticker import MaxNLocator

    found = hash_table_report(sites)
    lengths, longest = found["probe_lengths"], max(found["longest_probe"], 1)
    width = 1 << (max(found["slots"].bit_length(), 1) // 2)  # slots per row: about as many as rows
    slots = np.full(found["slots"], np.nan)
    slots[found["slots_of_keys"]] = lengths
    figure = new_figure(11.0, 3.9)
    left, right = figure.subplots(1, 2, width_ratios=(1.7, 1))
    shown = min(longest, 12)
    colours = ListedColormap(colormaps["viridis_r"](np.linspace(0.12, 1, shown)))
    image = left.imshow(np.minimum(slots, shown).reshape(-1, width), cmap=colours, interpolation="nearest",
                        norm=BoundaryNorm(np.arange(shown + 1) + 0.5, shown) if shown > 1 else None, aspect="equal")
    bar = figure.colorbar(image, ax=left, shrink=0.9, ticks=np.arange(1, shown + 1))
    bar.ax.set_yticklabels([f"{n}{'+' if n == shown < longest else ''}" for n in range(1, shown + 1)], fontsize=8)
    bar.set_label("slots probed", fontsize=9)
    left.set_title(f"{found['keys']:,} keys in {found['slots']:,} slots: load {found['load']:.2f}", fontsize=10)
    left.set_xlabel(f"slot within its row of {width}", fontsize=9)
    left.set_ylabel("row of slots", fontsize=9)
    for axis in (left.xaxis, left.yaxis):
        axis.set_major_locator(MaxNLocator(5, integer=True))
    counts = np.bincount(lengths, minlength=longest + 1)[1:]
    bars = right.bar(np.arange(1, longest + 1), counts, color="#3b6ea5")
    if longest <= 8:
        right.bar_label(bars, [f"{count:,}" for count in counts], fontsize=8, padding=2)
    if found["keys"]:
        right.set_yscale("log")
    right.set(xlim=(0.3, max(longest, 6) + 0.7), ylim=(0.7, 2.5 * max(counts.max(), 10)))
    right.yaxis.set_major_formatter("{x:,.0f}")
    right.xaxis.set_major_locator(MaxNLocator(integer=True))
    right.set_title(f"{100 * found['at_home']:.0f}% at home, mean {found['mean_probe']:.2f}, "
                    f"longest {found['longest_probe']}", fontsize=10)
    right.set_xlabel("slots probed to find a key", fontsize=9)
    right.set_ylabel("keys (logarithmic)", fontsize=9)
    for axes in (left, right):
        axes.tick_params(labelsize=8)
    for side in ("top", "right"):
        right.spines[side].set_visible(False)
    return figure
