"""The ablation: changes to a config, compared on shapes held out of training."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from small_runs import TEXT, make

import sparsenet as sn
from sparsenet.cli import main
from sparsenet.reproduction.ablation import HELD_OUT, RECIPE, ablate, held_out_dataset, read_ablation, table_rows
from sparsenet.training.config import ConfigError, find_ablation, find_config

CHANGES = """
config = "{config}"
share = 0.2
seeds = [3]

[without.momentum]
optimizer.momentum = 0.0
optimizer.dampening = 0.0
optimizer.nesterov = false

[with."a mean of poses"]
evaluation.poses = "mean"
seeds = [3, 5]

[with."a cosine classifier"]
loss.terms = [{{kind = "cosine_softmax", scale = 8.0}}]
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A work folder whose dataset has 39 objects to train on and 21 to test on."""
    work = tmp_path_factory.mktemp("work")
    make(work / "modelnet40.h5", train=39, test=21)
    return work


@pytest.fixture
def changes(tmp_path):
    (tmp_path / "recipe.toml").write_text(TEXT.format(path="elsewhere.h5").replace("epochs = 2", "epochs = 1"))
    (tmp_path / "changes.toml").write_text(CHANGES.format(config=tmp_path / "recipe.toml"))
    return tmp_path / "changes.toml"


def test_the_list_that_ships_is_of_configs():
    ablation = read_ablation("modelnet40")
    assert ablation.config == "modelnet40_descriptors" and ablation.share == 0.1
    assert ablation.variants[0].name == RECIPE and len(ablation.variants) > 12
    assert [one.name for one in ablation.variants if not one.trains] == ["with poses 0, 4 and 8 in the test",
                                                                          "with the prior of the classes in the logits"]
    with pytest.raises(ConfigError, match="ablation modelnet: no such file; the package ships with modelnet40"):
        find_ablation("modelnet")
    with pytest.raises(ConfigError, match="config ablation/modelnet40: no such file; the package ships with .*meshes"):
        find_config("ablation/modelnet40")


def test_the_test_split_is_not_in_its_dataset(work, tmp_path):
    path = held_out_dataset(work / "modelnet40.h5", tmp_path, 0.2)
    stamp = path.stat().st_mtime_ns
    with sn.SparseDataset.open(path) as made, sn.SparseDataset.open(work / "modelnet40.h5") as whole:
        training = whole.subset("train")
        kept, held = training.split(0.2, 0)
        for split, part in (("train", kept), (HELD_OUT, held)):
            found = made.subset(split)
            assert found.names.tolist() == part.names.tolist() and len(found)
            for row in range(len(part)):
                one, other = found[row], part[row]
                np.testing.assert_array_equal(one.coordinates, other.coordinates)
                assert (one.label, one.pose) == (other.label, other.pose)
        assert len(made) == len(training) and set(made.split.tolist()) == {"train", HELD_OUT}
        assert (made.classes, made.render_size, made.has_features) == (whole.classes, whole.render_size, False)
    assert held_out_dataset(work / "modelnet40.h5", tmp_path, 0.2).stat().st_mtime_ns == stamp


def test_variants_are_trained_once_with_their_seeds_and_compared(work, changes, tmp_path):
    ablation, lines = read_ablation(changes), []
    assert {one.name: one.seeds for one in ablation.variants} == {
        RECIPE: (3, 5), "without momentum": (3,), "with a mean of poses": (3, 5), "with a cosine classifier": (3,)}
    dataset = work / "modelnet40.h5"
    assert ablate(ablation, dataset, tmp_path / "runs", None, 1e-9, lines.append) == []
    assert sum("to be continued" in line for line in lines) == 4 and sum("waits for" in line for line in lines) == 2
    found = ablate(ablation, dataset, tmp_path / "runs", None, None, lines.append)
    assert [sorted(one.figures) for one in found] == [[3, 5], [3], [3, 5], [3]]
    lines.clear()
    again = ablate(ablation, dataset, tmp_path / "runs", None, None, lines.append)
    assert again == found and not lines, "what is finished is read"

    recipe, _, poses, _ = found
    net, state = sn.training.load_network(tmp_path / "runs" / "the_recipe_seed5" / "last.h5")
    with sn.SparseDataset.open(tmp_path / "runs" / "held_out_0.2.h5") as shapes:
        held = shapes.subset(HELD_OUT)
        for one, which in ((recipe, "first"), (poses, "mean")):
            right = net.predict(held, poses=which).argmax(axis=1) == held.object_labels
            assert one.figures[5]["accuracy"] == pytest.approx(100 * right.mean(), abs=0.01)
    assert not (tmp_path / "runs" / "with_a_mean_of_poses_seed5" / "last.h5").exists() and state.epoch == 1

    rows = table_rows(found)
    assert [row[0] for row in rows] == [one.name for one in ablation.variants]
    assert rows[2][:3] == ["with a mean of poses", 'evaluation.poses="mean"', "3 5"]
    values = [[one.figures[seed]["accuracy"] for seed in (3, 5)] for one in (recipe, poses)]
    assert float(rows[2][3]) == pytest.approx(np.mean(values[1]), abs=0.006)
    assert float(rows[2][7]) == pytest.approx(np.mean(values[1]) - np.mean(values[0]), abs=0.006)
    assert float(rows[2][10]) == pytest.approx(max(values[1]) - min(values[1]), abs=0.006)
    assert rows[0][7:10] == ["", "", ""] and rows[1][10:13] == ["", "", ""]
    assert float(rows[1][7]) == pytest.approx(found[1].figures[3]["accuracy"] - values[0][0], abs=0.006)
    with pytest.raises(ValueError, match="the_recipe_seed3 is of training.epochs = 1, now it is 2: remove that"):
        ablate(ablation, dataset, tmp_path / "runs", None, None, lines.append, ("training.epochs=2",))


def test_the_command_writes_a_table(work, changes, tmp_path, capsys):
    words = ["reproduce", "ablation", "--modelnet40", "anywhere", "--changes", str(changes), "--work", str(work),
             "--out", str(tmp_path / "out"), "--run", "without momentum"]
    assert main(words) == 0
    rows = list(csv.DictReader((tmp_path / "out" / "ablation.csv").read_text().splitlines()))
    assert [row["variant"] for row in rows] == [RECIPE, "without momentum"] and rows[0]["seeds"] == "3 5"
    text = (tmp_path / "out" / "ablation.md").read_text()
    assert "20% of each class" in text and "Made by `sparsenet reproduce ablation" in text
    assert json.loads((work / "ablation" / "without_momentum_seed3" / "figures.json").read_text())["seconds"] > 0
    capsys.readouterr()
    for name, message in [("without luck", "'without luck' is not a run, expected some of"), ("S3DCNN", None)]:
        assert main([*words[:-1], name]) == (1 if message else 0)
        told = capsys.readouterr()
        assert message in told.err if message else "ablation: --run names none of its variants" in told.out
    assert main(["reproduce", "ablation", "--psb", "p", "--work", str(work), "--out", str(tmp_path)]) == 1
    assert "ablation needs the data of modelnet40" in capsys.readouterr().err


@pytest.mark.parametrize(("old", "new", "message"), [
    ('config = "', 'conf = "', "'conf' is not a key: did you mean config?"),
    ("share = 0.2", "share = 1.0", "share is 1.0, expected a number above 0 and below 1"),
    ("share = 0.2", "share = 1", "share is 1, expected a number with a point"),
    ("share = 0.2", "data = 'off'", "data is 'off', expected one of modelnet40, modelnet10, psb"),
    ("seeds = [3]", "seeds = [3, 3]", "seeds: [3, 3], expected distinct whole numbers, 0 or more"),
    ("[without.momentum]", "[without]\nwarmth = 3\n[without.momentum]", "without warmth is 3, expected a table of"),
    ("[without.momentum]", "[without.cold]\n[without.momentum]", "without cold changes nothing"),
    ("optimizer.momentum = 0.0", "momentum = 0.0", "momentum of without momentum is 0.0, expected section.key"),
    ("optimizer.momentum = 0.0", "optimizer.momentun = 0.0", "optimizer.momentun is not a key: did you mean optim"),
    ("optimizer.momentum = 0.0", "network.channels = [0]", "network.channels is 0, expected at least 1"),
    ("optimizer.nesterov = false", "optimizer.lr = 0.1", "SGD: nesterov=True needs a momentum above 0"),
    ('"a mean of poses"', '"A cosine (classifier)"', "have the same letters: rename one"),
    ("share = 0.2", "share =", "not TOML"),
])
def test_what_is_wrong_with_a_list_is_named(old, new, message, changes):
    text = changes.read_text()
    assert old in text
    changes.write_text(text.replace(old, new, 1))
    with pytest.raises(ValueError) as error:
        read_ablation(changes)
    assert message in str(error.value)
