"""Figure 2: retrieval against the render size of training and of testing, on the Princeton Shape Benchmark."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sparsenet.files import write_text
from sparsenet.retrieval import evaluate

SIZES, SEEDS = (30, 40, 50, 70, 100), (0, 1, 2)


def matrix(dataset: Path, work: Path, sizes: Sequence[int], seeds: Sequence[int], seconds: float | None,
           say: Callable[[str], None], overrides: tuple[str, ...] = ()) -> dict[tuple[int, int], dict[int, float]]:
    """(render size of training, seed) -> render size of testing -> mAP in percent over the test split.

    The first seed is tested at every size, the others at that of their training.  Finished runs are read, stopped
    ones go on; one that is not finished after `seconds` is left out.
    """
    from sparsenet.training import train
    from sparsenet.training.config import load_config

    found = {}
    for number, seed in enumerate(seeds):
        for size in sizes:
            folder = work / f"size{size}_seed{seed}"
            result = folder / "figures.json"
            if not result.exists():
                limit = [] if seconds is None else [f"training.max_seconds={seconds}"]
                config = load_config("psb", [f'data.path="{dataset}"', "data.validation_share=0.0",
                                             f"data.render_size={size}", f"training.seed={seed}", *limit, *overrides])
                say(f"render size {size}, seed {seed}: {folder}")
                if not train(config, folder, resume=(folder / "last.h5").exists(), say=say).finished:
                    say(f"render size {size}, seed {seed}: stopped after {seconds:.0f} s, to be continued")
                    continue
                tested = sizes if number == 0 else [size]
                write_text(result, json.dumps(_tested(folder, tested)))
            found[size, seed] = {int(name): value for name, value in json.loads(result.read_text()).items()}
    return found


def _tested(folder: Path, sizes: Sequence[int]) -> dict[int, float]:
    from sparsenet.retrieval.embedding import embed
    from sparsenet.training import load_network, open_shapes, parse_config

    net, state = load_network(folder / "last.h5")
    config = parse_config(state.config, str(folder))
    with open_shapes(config, folder / "last.h5") as shapes:
        shapes = shapes.only_classes(state.classes)
        return {size: round(100 * evaluate(embed(net, shapes, render_size=size), shapes.object_labels, "cosine").mAP, 2)
                for size in sizes}


def table_rows(found: dict[tuple[int, int], dict[int, float]], sizes: Sequence[int]) -> list[list[str]]:
    """A row for each render size and seed of training."""
    return [[str(size), str(seed), *(f"{row[tested]:.2f}" if tested in row else "" for tested in sizes)]
            for (size, seed), row in sorted(found.items())]


def picture(found: dict[tuple[int, int], dict[int, float]]) -> Any:
    """mAP against render size: the mean and the range over the seeds, trained and tested at the same size; and the
    first seed's networks at other sizes.  A matplotlib figure."""
    from sparsenet.inspect.style import COLOURS, FAINT, label_axes, new_figure

    sizes = sorted({size for size, _ in found})
    same = {size: [row[size] for (trained, _), row in found.items() if trained == size] for size in sizes}
    figure = new_figure(5.6, 4.2)
    axes = figure.subplots()
    axes.fill_between(sizes, [min(same[s]) for s in sizes], [max(same[s]) for s in sizes], color=FAINT)
    axes.plot(sizes, [np.mean(same[s]) for s in sizes], color="black", marker="o", linewidth=1.8,
              label="trained and tested at this size")
    first = min(seed for _, seed in found)
    for size, colour in zip(sizes, COLOURS, strict=False):
        row = found.get((size, first), {})
        if len(row) > 1:
            axes.plot(sorted(row), [row[s] for s in sorted(row)], color=colour, linewidth=1, linestyle="--",
                      label=f"trained at {size}")
    label_axes(axes, "Princeton Shape Benchmark, 21 classes", "render size of the test shapes", "mAP, %")
    axes.legend(fontsize=7, frameon=False)
    return figure
