"""Training with the config `modelnet40` on a GPU: time, accuracy, and the extrapolated time of the paper's 200
epochs."""

from __future__ import annotations

import csv
import tempfile
import time
from pathlib import Path

from benchmarks.carried import MODELNET40
from benchmarks.figures import Results
from benchmarks.timing import Settings

SECTION, CASE = "ModelNet40 training", "config modelnet40, 30 epochs"
EPOCHS, PAPER_EPOCHS, PAPER_GOAL = 30, 200, 300.0  # seconds for the paper's epochs
CPU_ACCURACY = 86.83  # % on the test split after the same training (docs/results/experiments.md)
ACCURACY_GOAL = CPU_ACCURACY - 0.5
_MAX_SECONDS = 80  # of training, followed by the evaluation


def measure_modelnet40(results: Results, settings: Settings) -> None:
    """Add the section: seconds of the finished epochs, samples per second, test accuracy.

    Raises RuntimeError if there is no packed ModelNet40.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if settings.quick:
            dataset, case = _few_shapes(folder), "a few voxels of parametric shapes, 2 epochs"
        elif settings.carried is None or not (settings.carried / MODELNET40).is_file():
            raise RuntimeError(f"benchmark: {MODELNET40} is not in a folder of packed shapes: make it with "
                               "tools/gpu_pack.py --modelnet40, and name it with --carried")
        else:
            dataset, case = settings.carried / MODELNET40, CASE
        begun = time.perf_counter()
        try:
            accuracy, finished = _train(dataset, folder / "run", settings.quick)
        finally:  # also report partial results after an interruption
            epochs = _epochs(folder / "run" / "metrics.csv")
            _add_epochs(results, case, epochs, time.perf_counter() - begun, settings.quick)
        results.add(SECTION, case, "test accuracy", accuracy, "%", better="higher",
                    goal=ACCURACY_GOAL if finished and not settings.quick else None)


def _train(dataset: Path, out: Path, quick: bool) -> tuple[float, bool]:
    """Accuracy on the test split in %, and whether all epochs were trained."""
    from sparsenet.training import load_config, train

    small = ["training.epochs=2", "training.batch_size=4", "network.channels=[4, 4, 6]",
             'evaluation.protocol="none"'] if quick else [
        f"training.max_seconds={_MAX_SECONDS}"]
    config = load_config("modelnet40", [f'data.path="{dataset}"', 'training.device="cuda"', "data.workers=4", *small])
    done = train(config, out, progress=False, say=lambda line: print(line, flush=True))
    return 100 * done.figures["test_accuracy"], done.finished


def _add_epochs(results: Results, case: str, epochs: list[dict[str, str]], seconds: float, quick: bool) -> None:
    results.add(SECTION, case, "epochs", len(epochs))
    results.add(SECTION, case, "wall time", seconds, "s", better="lower")
    if not epochs:
        return
    trained = float(epochs[-1]["seconds"])
    rates = sorted(float(row["samples_per_second"]) for row in epochs)
    results.add(SECTION, case, "rate", rates[len(rates) // 2], "samples/s", better="higher")
    results.add(SECTION, case, f"{PAPER_EPOCHS} epochs, extrapolated", trained / len(epochs) * PAPER_EPOCHS, "s",
                better="lower", goal=None if quick else PAPER_GOAL)


def _epochs(path: Path) -> list[dict[str, str]]:
    """The rows of a run's metrics.csv; empty if it does not exist yet."""
    if not path.exists():
        return []
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _few_shapes(folder: Path) -> Path:
    """A tiny data set with a training and a test split."""
    from sparsenet.data.convert import Conversion
    from sparsenet.data.importers import import_parametric

    path = folder / "few.h5"
    import_parametric(path, {"train": 2, "test": 1}, conversion=Conversion(12, progress=False))
    return path
