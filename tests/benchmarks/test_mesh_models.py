"""The classes of foreign meshes that are right for the models of the package."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import foreign_meshes, furniture_meshes
from sparsenet.data.sweethome3d import RULES
from sparsenet.models import load_pretrained, model_card


@pytest.mark.parametrize(("model", "table"), [("modelnet40", foreign_meshes.MODELNET40),
                                              ("furniture", foreign_meshes.FURNITURE)])
def test_a_table_names_classes_of_its_model(model, table):
    assert foreign_meshes.matches(model) is table
    assert {label for labels in table.values() for label in labels} <= set(load_pretrained(model).classes)


def test_the_classes_of_the_furniture_have_their_like():
    table = furniture_meshes.MODELNET40
    assert table.keys() < {label for label, _, _ in RULES}
    assert {label for labels in table.values() for label in labels} <= set(load_pretrained("modelnet40").classes)


@pytest.mark.parametrize("model", ["modelnet40", "furniture"])
def test_a_card_names_commands_that_there_are(model):
    root = Path(foreign_meshes.__file__).parent
    lines = [line for line in model_card(model).splitlines() if line.startswith("python -m benchmarks.")]
    assert lines and all((root / f"{line.split()[2].split('.')[1]}.py").is_file() for line in lines)
