"""The record of a run: times, memory, log lines, the CSV and figures."""

from __future__ import annotations

import csv
import importlib.util
import io
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sparsenet.files import write_text
from sparsenet.kernels.cpu.compiling import compilation_announced

if TYPE_CHECKING:
    from sparsenet.retrieval import Evaluation

Item = TypeVar("Item")


class Stopwatch:
    """Adds the seconds of each part of the work to a dict: `with watch("forward"): ...`."""

    def __init__(self, seconds: dict[str, float]):
        self.seconds = seconds

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] += time.perf_counter() - start

    def waiting(self, part: str, items: Iterable[Item]) -> Iterator[Item]:
        """Yield the items, adding the time spent waiting for each to `part`."""
        iterator = iter(items)
        while True:
            with self(part):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item


@contextmanager
def compilation_told(say: Callable[[str], None]) -> Iterator[None]:
    """A context in which `say` is called before the first kernel is compiled, without breaking a progress bar."""
    from tqdm import tqdm

    def announce() -> None:
        with tqdm.external_write_mode():
            say("compiling kernels for this processor: the first steps take longer")

    with compilation_announced(announce):
        yield


def resident_megabytes() -> float:
    """Resident memory of this process in MB (10^6 bytes), or its peak where the system reports only that."""
    if os.path.exists("/proc/self/statm"):
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    return peak_megabytes()


def peak_megabytes() -> float:
    """Peak resident memory of this process in MB; NaN on Windows."""
    if sys.platform == "win32":
        return float("nan")
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def write_csv(path: Path, rows: list[dict[str, float]]) -> None:
    """Write all rows, atomically: after resuming, the file matches the checkpoint."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), restval="",
                            lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _number(value) for name, value in row.items()} for row in rows)
    write_text(path, text.getvalue())


def epoch_line(row: dict[str, float], epochs: int) -> str:
    """The log line of an epoch: figures, speed and times."""
    figures = [f"{name.replace('_', ' ')} {_figure(name, row[name])}"
               for name in ("loss", "accuracy", "validation_loss", "validation_accuracy", "validation_mAP",
                            "validation_mIoU")
               if name in row]
    times = ", ".join(f"{part} {row[part]:.1f}" for part in ("waiting", "forward", "backward", "update"))
    lost = f" | {row['dropped']:,.0f} cells lay outside the grid and were dropped" if row["dropped"] else ""
    return (f"epoch {row['epoch']:.0f}/{epochs}: {', '.join(figures)} | {row['samples_per_second']:.0f} samples/s: "
            f"{times} s (in loader threads: loading {row['loading']:.1f}, rulebooks {row['rulebooks']:.1f}) | "
            f"{row['resident_MB']:.0f} MB{lost}")


def draw_figures(out: Path, history: list[dict[str, float]], evaluation: Evaluation | None) -> None:
    """If matplotlib is installed, write out/curves.png and out/precision_recall.png."""
    if importlib.util.find_spec("matplotlib") is None:
        return
    from sparsenet.inspect.curves import precision_recall, training_curves
    from sparsenet.inspect.figures import save_figure

    if history:
        save_figure(training_curves(out / "metrics.csv"), out / "curves.png", dpi=120)
    if evaluation is not None:
        save_figure(precision_recall({"test": evaluation}), out / "precision_recall.png", dpi=120)


def figures_line(figures: dict[str, float]) -> str:
    """The log line of the final figures; of the class probabilities' retrieval, the mAP alone."""
    told = {name: value for name, value in figures.items()
            if not name.startswith("test_posterior_") or name == "test_posterior_mAP"}
    return "final: " + ", ".join(f"{name.replace('_', ' ')} {_figure(name, value)}" for name, value in told.items())


def _figure(name: str, value: float) -> str:
    return f"{value:.4f}" if name.endswith("loss") else f"{100 * value:.2f}%"


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else f"{value:.6g}"
