#!/usr/bin/env python3
"""Lesson 6: a callback that writes the scalars of a training, for TensorBoard if it is installed, else as CSV.

    python examples/log_scalars.py --out runs/scalars
    tensorboard --logdir runs/scalars/scalars
"""

from __future__ import annotations

import argparse
import csv
import math
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

from sparsenet.training import Event, load_config, train

# The quickstart's shapes and network, but fewer of them: a training of a few seconds.
SMALL = ["data.parametric_train=12", "data.parametric_test=4", "network.channels=[4, 6, 8, 10]", "training.epochs=3",
         "optimizer.lr=0.3", "training.patience=5"]


# 1. Writers with the one method that we need: TensorBoard's, which comes with each of three packages, or our own.
WRITERS = {"torch.utils.tensorboard": "SummaryWriter", "tensorboardX": "SummaryWriter", "tensorboard.summary": "Writer"}


class CsvWriter:
    """Lines of step, name and value."""

    def __init__(self, folder: str):
        Path(folder).mkdir(parents=True, exist_ok=True)
        self.file = open(Path(folder) / "scalars.csv", "w", encoding="utf-8", newline="")
        self.lines = csv.writer(self.file, lineterminator="\n")
        self.lines.writerow(["step", "name", "value"])

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.lines.writerow([step, name, value])

    def close(self) -> None:
        self.file.close()


def writer_for(folder: Path) -> Any:
    for module, name in WRITERS.items():
        try:
            return getattr(import_module(module), name)(str(folder))
        except ImportError:
            continue
    print("TensorBoard is not installed, so the scalars go to scalars.csv; to see them there: pip install tensorboard")
    return CsvWriter(str(folder))


# 2. The callback.  An event has a kind ("step", "epoch" or "end"), figures by name, and the network, so that norms of
#    weights, or anything else that it holds, can be written as well.
class ScalarLog:
    def __init__(self, writer: Any):
        self.writer = writer
        self.written = 0

    def __call__(self, event: Event) -> None:
        figures = dict(event.figures)
        if event.kind == "epoch":
            squares = sum(float((p.array.astype("float64") ** 2).sum()) for p in event.net.parameters())
            figures["weight_norm"] = math.sqrt(squares)
        for name, value in figures.items():
            self.writer.add_scalar(f"{event.kind}/{name}", value, event.total_steps)
        self.written += len(figures)


def main(out: Path) -> None:
    writer = writer_for(out / "scalars")
    log = ScalarLog(writer)
    # 3. The training itself.  A resumed run goes on where it stopped: total_steps counts from the beginning.
    result = train(load_config("quickstart", SMALL), out / "run", callback=log, overwrite=True, progress=False)
    writer.close()
    print(f"{log.written} scalars of {len(result.history)} epochs in {out / 'scalars'}, by {type(writer).__name__}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder of the scalars and the run (default: a new temporary one)")
    main(parser.parse_args().out or Path(tempfile.mkdtemp(prefix="sparsenet-")))
