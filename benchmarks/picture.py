"""The figures as one picture: bars for the passes, a curve of cost, the split of a step, and the goals."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks import convolution, training
from benchmarks.figures import Results
from benchmarks.report import number
from sparsenet.inspect.figures import check_picture, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OURS, SPCONV, TORCH, FLOOR = "#1f5fa8", "#c8782a", "#8a8f98", "#222222"


def check(path: str | Path) -> None:
    """Raise, before the run, if a picture cannot be written to `path`."""
    check_picture(path)


def draw(results: Results, path: str | Path) -> None:
    """Write the picture, without the panels of sections that did not run."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = {convolution.SECTION: _passes, training.COST: _cost, training.SPLIT: _split}
    panels = [panel for section, panel in drawn.items() if section in results.sections()]
    goals = list(results.goals())
    heights = [4.2] * len(panels) + [0.5 + 0.26 * len(goals)] * bool(goals)
    if not heights:
        raise ValueError("benchmark: the picture shows convolution, S3DCNN steps and goals, none was measured: "
                         "leave --picture out")
    figure = Figure(figsize=(11, sum(heights) + 0.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    machine = results.machine
    figure.suptitle(f"sparsenet on {results.device}: {machine.get('processor', '')}, "
                    f"{machine.get('threads', '')} threads, float32", fontsize=11)
    for panel, place in zip(panels, axes, strict=False):
        panel(results, place)
    if goals:
        _goals(results, axes[-1])
    save_figure(figure, path)


def _passes(results: Results, axes: Axes) -> None:
    """Draw milliseconds of forward and backward, ours and the peers', with sgemm alone as a line."""
    cases = list(dict.fromkeys(figure.case for figure in results.of(convolution.SECTION)))
    bars = [("{}", "sparsenet", OURS), ("{}, spconv", "spconv, 1 thread", SPCONV),
            ("{}, torch", "torch, dense", TORCH)]
    labels, places = [], []
    for row, case in enumerate(cases):
        for column, name in enumerate(("forward", "backward")):
            centre = row * 2.4 + column
            places.append(centre)
            labels.append(f"{name}\n{case}" if column == 0 else name)
            for slot, (pattern, label, colour) in enumerate(bars):
                value = results.value(convolution.SECTION, case, pattern.format(name))
                if value is not None:
                    axes.bar(centre + 0.27 * (slot - 1), value, 0.25, color=colour,
                             label=label if not row and not column else None)
                    axes.annotate(number(value), (centre + 0.27 * (slot - 1), value), ha="center", va="bottom",
                                  fontsize=6)
            floor = results.value(convolution.SECTION, case, "sgemm")
            if floor is not None:
                floor *= column + 1
                axes.plot([centre - 0.42, centre + 0.42], [floor, floor], color=FLOOR, lw=1,
                          label="sgemm alone" if not row and not column else None)
    axes.set_yscale("log")
    axes.set_ylabel("ms")
    axes.set_xticks(places, labels, fontsize=7)
    axes.set_title("Convolution, 20,000 sites of 64³, 32 → 64 channels, rulebook ready", fontsize=9, loc="left")
    axes.legend(fontsize=7, ncols=4, loc="upper left")
    axes.margins(y=0.25)
    _plain(axes)


def _cost(results: Results, axes: Axes) -> None:
    """Draw milliseconds against active sites, both per sample, with the dense grid's cost as a line."""
    cases = list(dict.fromkeys(figure.case for figure in results.of(training.COST)))
    rows = [(results.value(training.COST, case, "sites a sample"), results.value(training.COST, case, "step a sample"),
             case) for case in cases]
    sites, milliseconds = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    axes.plot(sites, milliseconds, "o-", color=OURS, label="sparsenet, training step")
    for x, y, case in rows:
        axes.annotate(case, (x, y), textcoords="offset points", xytext=(6, -10), fontsize=7)
    if len(rows) > 1:
        axes.plot(sites, milliseconds[1] * sites / sites[1], "--", color=OURS, lw=0.8, label="in proportion to sites")
    for peer, colour, label in (("torch", TORCH, "torch on the dense grid"), ("spconv", SPCONV, "spconv, 1 thread")):
        values = [results.value(training.COST, case, f"{peer}'s step a sample") for case in cases]
        chosen = [(x, y) for x, y in zip(sites, values, strict=True) if y is not None]
        if chosen:
            axes.plot(*zip(*chosen, strict=True), "s-", color=colour, label=label, ms=4)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("active sites of the input a sample")
    axes.set_ylabel("ms a sample")
    axes.set_title("S3DCNN: what a sample costs by render size", fontsize=9, loc="left")
    axes.legend(fontsize=7)
    _plain(axes)


def _split(results: Results, axes: Axes) -> None:
    """Draw the share of a step by kernel, one bar per render size."""
    figures = [figure for figure in results.of(training.SPLIT) if not figure.better]
    cases = list(dict.fromkeys(figure.case for figure in figures))
    names = list(dict.fromkeys(figure.name for figure in figures))
    left = np.zeros(len(cases))
    shades = np.linspace(0.15, 0.95, len(names))
    for name, shade in zip(names, shades, strict=True):
        values = np.array([results.value(training.SPLIT, case, name) or 0.0 for case in cases])
        bars = axes.barh(cases, values, left=left, label=name, color=_shade(shade))
        for bar, value in zip(bars, values, strict=True):
            if value >= 4:
                axes.annotate(f"{value:.0f}", (bar.get_x() + value / 2, bar.get_y() + bar.get_height() / 2),
                              ha="center", va="center", fontsize=7, color="white" if shade < 0.55 else "black")
        left += values
    axes.set_xlim(0, 100)
    axes.set_xlabel("% of a training step")
    axes.invert_yaxis()
    axes.set_title("S3DCNN: where a step's time goes", fontsize=9, loc="left")
    axes.legend(fontsize=7, ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.14))
    _plain(axes)


def _goals(results: Results, axes: Axes) -> None:
    """Draw the list of goals."""
    axes.axis("off")
    rows = [[figure.section, figure.case, figure.name, f"{number(figure.value)} {figure.unit}",
             f"{'≥' if figure.better == 'higher' else '≤'} {number(figure.goal)}", "✓" if figure.met else "–"]
            for figure in results.goals()]
    table = axes.table(rows, colLabels=["section", "case", "figure", "now", "goal", ""], loc="upper left",
                       cellLoc="left", colWidths=[0.16, 0.33, 0.27, 0.11, 0.08, 0.05])
    table.auto_set_font_size(False)
    table.set_fontsize(7)
    for (row, column), cell in table.get_celld().items():
        cell.set_linewidth(0.3)
        if row and column == 5:
            cell.set_facecolor("#cfe8cf" if rows[row - 1][5] == "✓" else "#f4d6c6")


def _shade(position: float) -> tuple[float, float, float]:
    """Colours from dark blue over grey to light sand."""
    stops = np.array([[31, 60, 120], [90, 130, 180], [150, 160, 165], [214, 190, 150], [240, 226, 200]]) / 255
    place = position * (len(stops) - 1)
    low = min(int(place), len(stops) - 2)
    return tuple(stops[low] + (place - low) * (stops[low + 1] - stops[low]))


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(which="both", labelsize=7)
    axes.xaxis.label.set_size(8)
    axes.yaxis.label.set_size(8)
