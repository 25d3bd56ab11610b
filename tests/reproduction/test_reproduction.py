"""The paper's tables and figures, on small data."""

from __future__ import annotations

import csv
import json
from math import prod

import numpy as np
import pytest

import sparsenet as sn
from sparsenet.cli import main
from sparsenet.data.convert import Conversion
from sparsenet.data.importers import import_parametric
from sparsenet.data.sample import Sample
from sparsenet.reproduction import Sources, published, reproduce
from sparsenet.reproduction.anatomy import anatomy, box_shares
from sparsenet.reproduction.comparison import HEADER, MODELNET10, MODELNET40, PSB, RUNS, compare, config_of
from sparsenet.reproduction.resolution import matrix
from sparsenet.training.build import build_network
from sparsenet.training.config import parse_config

TINY = ("training.epochs=1", "training.batch_size=4", "data.workers=0", "optimizer.lr=0.001")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A work folder in which the datasets are there: two parametric classes for each, instead of real ones."""
    work = tmp_path_factory.mktemp("work")
    import_parametric(work / "psb.h5", {"train": 1, "test": 2},
                      conversion=Conversion(render_size=40, keep_meshes=True, progress=False))
    rng = np.random.default_rng(3)

    def samples():
        first = np.argwhere(rng.random((6, 6, 6)) < 0.2).astype(np.int32)
        for number in range(48):
            split, label = ("train" if number < 8 else "test"), number % 2
            cells = first if number in (0, 10) else np.argwhere(rng.random((6, 6, 6)) < 0.2 + 0.2 * label)
            for pose in range(2):
                yield Sample(cells.astype(np.int32) + 12, label, f"{number:02d}", split, number, pose)

    sn.SparseDataset.create(work / "modelnet40.h5", samples(), (30, 30, 30), 24, ["a", "b"], fill=True).close()
    return work


def test_table1_counts_what_the_network_computes(work):
    with sn.SparseDataset.open(work / "psb.h5") as shapes:
        found = anatomy(shapes, batch_size=7)
        one = anatomy(shapes.select([0]))
        net = sn.s3dcnn().eval()
        batch = next(iter(shapes.select([0]).batches(1, field=126, render_size=40)))
        records = net.activations(batch)
        boxes = box_shares(shapes)
        cells = [len(shapes.voxels(row)[0]) for row in range(len(shapes))]
    assert [figures.side for figures in found] == [126, 125, 125, 62, 61, 61, 30, 29, 29, 14, 13, 13, 6, 5, 5, 2, 1, 1]
    assert len(found[0].fractions) == len(cells) and found[0].sites == sum(cells)
    assert set(published.ACTIVE_PERCENT) == {figures.side for figures in found}
    for figures, record in zip(one[1:], records, strict=False):
        assert (figures.name, figures.sites, figures.pairs) == (record.name, len(record.sites), record.pairs or 0)
        assert figures.multiply_adds == (record.multiply_adds or 0)
        assert figures.fractions == [len(record.sites) / prod(record.spatial_size)]
    dense = sum(figures.dense_multiply_adds for figures in one)
    assert dense == 125**3 * 8 * 32 + 61**3 * 8 * 32 * 64 + 29**3 * 8 * 64 * 96 + 13**3 * 8 * 96 * 128 + (
        5**3 * 8 * 128 * 160 + 8 * 160 * 192)  # 5.65 G, as the paper's dense grid
    assert np.average([share for _, share in boxes.values()], weights=[n for n, _ in boxes.values()]) == pytest.approx(
        np.mean(cells) / 40**3)


def test_table1_and_figure1_are_written(work, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sparsenet.reproduction.parts.FIGURE1", ("chair/train_0000",))
    monkeypatch.setattr("sparsenet.reproduction.parts.FIGURE1_SIZES", (5, 8))
    assert main(["reproduce", "table1", "figure1", "--psb", "anywhere", "--work", str(work), "--out", str(tmp_path),
                 "--shapes", "5"]) == 0
    rows = list(csv.DictReader((tmp_path / "table1.csv").read_text().splitlines()))
    assert [row["name"] for row in rows][::17] == ["input", "leaky_relu6"] and rows[-1]["name"] == "total"
    assert float(rows[-1]["dense, M"].replace(",", "")) == pytest.approx(5654.3)
    text = (tmp_path / "table1.md").read_text()
    assert "Made by `sparsenet reproduce table1 figure1 --psb anywhere" in text and sn.__version__ in text
    assert (tmp_path / "figure1_train_0000.png").read_bytes()[:4] == b"\x89PNG"
    assert "figure1_train_0000.png" in (tmp_path / "figure1.md").read_text()
    assert len((tmp_path / "box_shares.csv").read_text().splitlines()) == 12  # 10 classes, header, all
    assert "table1: done" in capsys.readouterr().out


def test_table2_trains_once_and_states_the_figures(work, tmp_path):
    name, lines = "VoxNet's layers", []
    runs = compare(work / "modelnet40.h5", tmp_path, [name], None, lines.append, TINY)
    folder = tmp_path / "paper_voxnet"
    stamp = (folder / "last.h5").stat().st_mtime_ns
    again = compare(work / "modelnet40.h5", tmp_path, [name], None, lines.append, TINY)
    assert again == runs and (folder / "last.h5").stat().st_mtime_ns == stamp
    figures = dict(zip(HEADER[1:], runs[0].figures, strict=True))
    net, state = sn.training.load_network(folder / "last.h5")
    with sn.SparseDataset.open(work / "modelnet40.h5") as whole:
        test = whole.subset("test")
        right = net.predict(test, poses="mean").argmax(axis=1) == test.object_labels
        rest = [row for row in range(40) if test.names[test.first_poses][row] != "10"]  # equal to a training shape
        vectors = sn.retrieval.embed(net, test, poses="mean", unit=True)
        expected = sn.retrieval.evaluate(vectors, test.object_labels, "cosine")
    assert figures["accuracy, %"] == pytest.approx(100 * right.mean(), abs=0.01)
    assert figures["accuracy without duplicates, %"] == pytest.approx(100 * right[rest].mean(), abs=0.01)
    assert figures["mAP over all objects, %"] == pytest.approx(100 * expected.mAP, abs=0.01)
    assert figures["mAP, %"] == figures["mAP over all objects, %"]  # 20 objects of each class are all that there are
    assert runs[0].precision[0] == 1.0 or runs[0].recall[0] == 0.0
    reproduce(["figure3"], Sources(modelnet40=work), tmp_path / "out", work, "command", say=lines.append)
    assert lines[-2] == "figure3: no network of table2 is trained yet"


@pytest.mark.parametrize("name", ["VoxNet's layers", "MVCNN's idea, from scratch"])
def test_a_training_that_is_stopped_is_left_out_and_goes_on(name, work, tmp_path):
    lines, folder = [], tmp_path / RUNS[name].replace("/", "_")
    overrides = (*TINY, "training.epochs=2")
    assert compare(work / "modelnet40.h5", tmp_path, [name], 1e-9, lines.append, overrides) == []
    assert any("to be continued" in line for line in lines)
    (run,) = compare(work / "modelnet40.h5", tmp_path, [name], None, lines.append, overrides)
    assert len(sn.training.load_network(folder / "last.h5")[1].history) == 2
    assert json.loads((folder / "figures.json").read_text())["name"] == run.name
    assert None not in run.figures


@pytest.mark.parametrize("collection", [MODELNET40, MODELNET10, PSB], ids=lambda one: one.folder)
@pytest.mark.parametrize("name", RUNS)
def test_each_network_of_table2_fits_the_voxels(name, collection):
    config = config_of(name, collection, ["data.path=x"])
    net = build_network(config, 40)
    assert min(net.field) >= (32 if collection is MODELNET10 else 30)
    assert net.out_channels == (192 if config.loss.kind == "triplet" else 40)
    assert parse_config(config.text(), "its own text") == config


def test_the_rows_on_modelnet10(work, tmp_path, rng, capsys):
    arrays = {}
    for split, objects in (("train", 1), ("test", 20)):
        labels = np.repeat(np.arange(10, dtype=np.uint8), objects)
        grids = rng.random((len(labels), 32, 32, 32)) < 0.001 * (1 + labels[:, None, None, None])
        arrays |= {split: np.packbits(grids.reshape(len(labels), -1), axis=1), f"{split}_label": labels}
    np.savez(tmp_path / "m.npz", **arrays)
    sets = [word for pair in TINY for word in ("--set", pair)]
    words = ["reproduce", "--modelnet10", str(tmp_path / "m.npz"), "--work", str(tmp_path), "--out", str(tmp_path)]
    assert main([*words, "--run", "VoxNet's layers", *sets]) == 0
    text = (tmp_path / "table2_modelnet10.csv").read_text()
    rows = {row["network"]: row for row in csv.DictReader(text.splitlines())}
    assert list(rows) == ["VoxNet's layers", "published: 3DShapeNets", "published: VoxNet"]
    assert rows["VoxNet's layers"]["mAP, %"] == rows["VoxNet's layers"]["mAP over all objects, %"]
    assert rows["published: 3DShapeNets"]["mAP, %"] == "68.26"
    assert "table2_modelnet10: done" in capsys.readouterr().out
    assert main(["reproduce", "table2_modelnet10", "--psb", "p", "--work", str(work), "--out", str(tmp_path)]) == 1
    assert "needs the data of modelnet10: name them with --modelnet10" in capsys.readouterr().err


def test_the_rows_on_the_benchmark_are_over_all_its_shapes(work, tmp_path):
    reproduce(["table2_psb"], Sources(psb=work), tmp_path, work, "command", runs=["VoxNet's layers"],
              say=lambda line: None, overrides=TINY)
    (row,) = csv.DictReader((tmp_path / "table2_psb.csv").read_text().splitlines())
    net, state = sn.training.load_network(work / "table2_psb" / "paper_voxnet" / "last.h5")
    with sn.SparseDataset.open(work / "psb.h5") as whole:
        test = whole.subset("test")
        vectors = sn.retrieval.embed(net, test, render_size=24, unit=True)
        found = sn.retrieval.evaluate(vectors, test.object_labels, "cosine")
    assert float(row["mAP, %"]) == float(row["mAP over all objects, %"]) == pytest.approx(100 * found.mAP, abs=0.01)
    assert row["mAP of the 3DShapeNets protocol, %"] == "-" and len(state.classes) == 10


def test_figure2_is_a_matrix_of_render_sizes(work, tmp_path):
    tiny = (*TINY, "network.channels=[4, 4, 4]", 'data.classes="all"')
    found = matrix(work / "psb.h5", tmp_path, (8, 12), (0, 1), None, lambda line: None, tiny)
    assert {key: sorted(row) for key, row in found.items()} == {(8, 0): [8, 12], (12, 0): [8, 12], (8, 1): [8],
                                                                (12, 1): [12]}
    assert all(0 < value <= 100 for row in found.values() for value in row.values())


def test_what_cannot_be_reproduced(tmp_path, capsys):
    for words, message in [(["table3"], "'table3' is not a part"), (["table2"], "table2 needs the data of modelnet40"),
                           (["table1", "--run", "x"], "'x' is not a run")]:
        assert main(["reproduce", *words, "--psb", "p", "--work", str(tmp_path), "--out", str(tmp_path)]) == 1
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        main(["reproduce"])
    assert stop.value.code == 2 and "name the data" in capsys.readouterr().err
