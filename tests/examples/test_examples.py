"""Each lesson runs, in seconds, prints what it teaches and draws its pictures."""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("matplotlib", reason="the examples draw: they need matplotlib")

FOLDER = Path(__file__).parents[2] / "examples"
# Lesson -> words that it prints, pictures that it draws.
LESSONS = {
    "convolution_by_hand": (["The rulebook has 13 pairs", "agree in all 16 cells"], ["rulebook.png", "output.png"]),
    "background": (["With the background: largest difference", "are the background"], ["layers.png", "difference.png"]),
    "new_operation": (["the gradient is correct", "wrong by 0.1% is caught", "swish_layer1"], ["swish.png"]),
    "kernel_against_reference": (["3^3, stride 2", "threads give the same bits", "is refused"], ["kernel.png"]),
    "log_scalars": (["epoch 3/3: loss", "scalars of 3 epochs in"], []),
    "segment_parts": (["A table of (class, height): mean IoU", "The network: mean IoU", "voxels: "],
                      ["parts.png", "confusion.png"]),
    "folder_to_search": (["epoch 8: loss", "test shapes are classified correctly", "rank  class"],
                         ["found.png", "map.png", "confusion.png", "precision_recall.png"]),
}


def lesson(name: str):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_is_tested():
    assert {path.stem for path in FOLDER.glob("*.py")} == set(LESSONS)


SMALL = {"segment_parts": {"SHAPES": {"train": 5, "test": 1},
                           "SETTINGS": ["training.epochs=1", "network.channels=[4, 6]",
                                        "loss.batches_per_epoch=2"]}}


@pytest.mark.parametrize("name", LESSONS)
def test_lesson(name, tmp_path, capsys):
    module = lesson(name)
    for constant, value in SMALL.get(name, {}).items():  # of a lesson that takes minutes
        setattr(module, constant, value)
    module.main(tmp_path)
    printed = capsys.readouterr().out
    words, pictures = LESSONS[name]
    for word in words:
        assert word in printed
    for picture in pictures:
        assert (tmp_path / picture).stat().st_size > 5000


class Writer:
    """Stands in for TensorBoard's writer."""

    def __init__(self, folder):
        self.scalars = []

    def add_scalar(self, name, value, step):
        self.scalars.append((name, float(value), step))

    def close(self):
        self.scalars.append("closed")


def test_scalars_go_to_tensorboard_or_to_a_table(tmp_path, monkeypatch, capsys):
    module, writers = lesson("log_scalars"), []

    def no_module(name):
        raise ImportError(name)

    monkeypatch.setattr(module, "import_module", no_module)
    module.main(tmp_path)
    printed = capsys.readouterr().out
    assert "by CsvWriter" in printed and "to see them there: pip install tensorboard" in printed
    with open(tmp_path / "scalars" / "scalars.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    losses = [row for row in rows if row["name"] == "step/loss"]
    assert [int(row["step"]) for row in losses] == list(range(1, len(losses) + 1)) and len(losses) % 3 == 0
    assert {"epoch/validation_accuracy", "epoch/weight_norm", "end/test_mAP"} <= {row["name"] for row in rows}

    def summary_writer(folder):
        writers.append(Writer(folder))
        return writers[-1]

    def lone_module(name):
        """As if TensorBoard were installed without torch."""
        if name != "tensorboard.summary":
            raise ImportError(name)
        return SimpleNamespace(Writer=summary_writer)

    monkeypatch.setattr(module, "import_module", lone_module)
    module.main(tmp_path)
    assert "pip install" not in capsys.readouterr().out
    *scalars, last = writers[0].scalars
    assert last == "closed"
    figures = [row for row in rows if not row["name"].startswith("epoch/")]  # those of an epoch have times, too
    assert [(row["name"], float(row["value"]), int(row["step"])) for row in figures] == [
        scalar for scalar in scalars if not scalar[0].startswith("epoch/")]


def test_the_search_knows_its_shapes(tmp_path, capsys):
    """The last lesson on a folder of one's own, with a query of one's own."""
    from sparsenet.quickstart import write_off
    from sparsenet.random import keyed_rng
    from sparsenet.shapes import parametric_mesh

    module = lesson("folder_to_search")
    module.EPOCHS = 1
    for name in ("mug", "table"):
        for number in range(6):
            path = tmp_path / "shapes" / name / ("test" if number == 5 else "train") / f"{number}.off"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_off(path, parametric_mesh(name, keyed_rng(3, name, number)))
    module.main(tmp_path, tmp_path / "shapes", tmp_path / "shapes" / "mug" / "test" / "5.off")
    printed = capsys.readouterr().out
    assert "10 shapes for training, 2 for testing, of 2 classes" in printed
    assert "1  mug    mug/test/5   0.000000" in printed
