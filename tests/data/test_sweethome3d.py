"""The importer of Sweet Home 3D's furniture libraries: licences, classes, splits, credits."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from command_line import ENVIRONMENT, invoke

from sparsenet.data import Conversion, Part, SparseDataset, import_sweethome3d
from sparsenet.data.convert import MeshEntry
from sparsenet.data.furniture_library import Furniture, licence_of, read_furniture, read_library
from sparsenet.data.sweethome3d import RULES, ShapeSplits, shape_class
from sparsenet.shapes import MeshError

QUIET = Conversion(render_size=8, progress=False)
ZERO = "This file is under the Creative Commons Zero (Public Domain) license"
BY = "<p>under the\nCreative Commons&#32;Attribution 3.0</p><style>x { a: NonCommercial }</style>"
LYING = "1 0 0 0 0 1 0 -1 0"  # z of the file up


def obj(x: float, y: float, z: float) -> str:
    """A box of these sides."""
    corners = [(a * x, b * y, c * z) for a in (0, 1) for b in (0, 1) for c in (0, 1)]
    faces = [(1, 2, 4, 3), (5, 7, 8, 6), (1, 5, 6, 2), (3, 4, 8, 7), (1, 3, 7, 5), (2, 6, 8, 4)]
    return "".join(f"v {a} {b} {c}\n" for a, b, c in corners) + "".join(f"f {' '.join(map(str, f))}\n" for f in faces)


def library(root: Path, *models: dict, licence: str = ZERO) -> Path:
    """An unpacked library of boxes; of each model its keys, `sides` of its box, and `text` of its own licence."""
    root.mkdir(parents=True)
    (root / "LICENSE.TXT").write_text(licence)
    lines = ["name=A library", ""]
    for number, keys in enumerate(models, 1):
        stem = keys.get("stem", f"model{number}")
        home = root / "things" / stem
        home.mkdir(parents=True)
        (home / f"{stem}.obj").write_text(obj(*keys.get("sides", (1, 1, 1))))
        if "text" in keys:
            (home / f"{number} - License.html").write_text(keys["text"])
        stated = {"model": f"/things/{stem}/{stem}.obj", "name": "Chair"} | keys
        lines += [f"{key}#{number}={value}" for key, value in stated.items() if key not in ("stem", "sides", "text")]
    (root / "PluginFurnitureCatalog.properties").write_text("\n".join(lines), encoding="latin-1")
    return root


def packed(folder: Path) -> Path:
    path = folder.with_suffix(".sh3f")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder).as_posix())
    shutil.rmtree(folder)
    return path


def contents(path: Path) -> list[tuple]:
    with SparseDataset.open(path) as dataset:
        return [(dataset.classes[s.label], s.name, s.coordinates.tolist()) for s in dataset]


MODELS = ({"name": "Oak chair", "creator": "Ann", "sides": (1, 2, 1)}, {"name": "Mug", "creator": "Bob", "text": BY},
          {"name": "Anvil"}, {"name": "Desk", "creator": "J\\u00f6rg", "sides": (1, 1, 2), "modelRotation": LYING})


def test_a_library_is_read_packed_or_not(tmp_path: Path):
    one = import_sweethome3d(library(tmp_path / "a", *MODELS), tmp_path / "x.h5", QUIET, credits=tmp_path / "x.md")
    other = import_sweethome3d(packed(tmp_path / "a"), tmp_path / "y.h5", QUIET)
    assert contents(tmp_path / "x.h5") == contents(tmp_path / "y.h5")
    assert [part[:2] for part in contents(tmp_path / "x.h5")] == [("chair", "a/model1"), ("vessel", "a/model2"),
                                                                  ("table", "a/model4")]
    assert one.classes == other.classes == ["chair", "table", "vessel"] and one.counts == other.counts
    assert one.remarks[:2] == ["licences: CC-BY 3.0 1, CC0 3; 3 models have that of the library",
                               "1 model has no class of shapes: Anvil"]
    assert (tmp_path / "x.md").read_text("utf-8") == "- a, CC-BY 3.0 (1): Bob\n- a, CC0 (2): Ann, Jörg\n"


def test_a_model_is_brought_upright(tmp_path: Path):
    library(tmp_path / "a", *MODELS)
    for number, sides, rotation in ((1, (1, 1, 2), ()), (4, (1, 1, 2), tuple(map(float, LYING.split())))):
        mesh = read_furniture(str(tmp_path / "a"), f"things/model{number}/model{number}.obj", rotation)
        assert tuple(np.ptp(mesh.vertices, axis=0)) == sides
    assert [model.rotation for model in read_library(tmp_path / "a")][3] == (1, 0, 0, 0, 0, 1, 0, -1, 0)


@pytest.mark.parametrize(("text", "expected"), [
    (ZERO, ("CC0", "")), ("released under CC0", ("CC0", "")),
    ("Creative Commons Attribution 4.0 International", ("CC-BY 4.0", "")),
    ("Creative Commons Attribution 3.0 United States license. Public Domain: ...", ("CC-BY 3.0 United States", "")),
    (ZERO + " and Creative Commons Attribution 3.0", ("CC-BY 3.0", "")),
    ("Creative Commons Attribution-NonCommercial 3.0", ("", "its licence says 'NonCommercial'")),
    ("Creative Commons Attribution 3.0, Share Alike", ("", "its licence says 'Share Alike'")),
    ("Creative Commons Attribution-NoDerivs 3.0", ("", "its licence says 'NoDerivs'")),
    ("GNU General Public License", ("", "its licence says 'General Public License'")),
    ("Free to use.", ("", "its licence is neither CC0 nor CC-BY")), ("  ", ("", "no licence is stated")),
])
def test_licences(text, expected):
    assert licence_of(text) == expected


def test_what_is_not_free_is_refused(tmp_path: Path):
    """The text beside a model decides, not that of its library."""
    library(tmp_path / "a", {}, {"text": "Creative Commons Attribution-ShareAlike 3.0"})
    library(tmp_path / "b", {"text": ZERO}, {}, licence="Under the GPL.")
    report = import_sweethome3d(tmp_path, tmp_path / "x.h5", QUIET)
    assert [name for _, name, _ in contents(tmp_path / "x.h5")] == ["a/model1", "b/model1"]
    assert report.failures == [(f"{tmp_path / 'a'}, things/model2/model2.obj", "its licence says 'ShareAlike'"),
                               (f"{tmp_path / 'b'}, things/model2/model2.obj", "its licence says 'GPL'")]
    with pytest.raises(ValueError, match="model2.obj: its licence says 'ShareAlike'"):
        import_sweethome3d(tmp_path, tmp_path / "y.h5", Conversion(8, strict=True, progress=False))


@pytest.mark.parametrize(("model", "label"), [
    (Furniture("", "", "Armchair"), "chair"), (Furniture("", "", "Wheelchair"), ""),
    (Furniture("", "", "Bedside table"), "cabinet"), (Furniture("", "", "Baby bed"), "bed"),
    (Furniture("", "", "Glass table"), "table"), (Furniture("", "", "Glass door cabinet"), "cabinet"),
    (Furniture("", "", "Futon couch", "Sofa, Seat"), "sofa"), (Furniture("", "", "Acacia", "Tree, Garden"), "plant"),
    (Furniture("", "", "Renault Scenic", "Car"), "car"), (Furniture("", "", "Carpet"), ""),
    (Furniture("", "", "Track lights", category="Lights"), "lamp"),
    (Furniture("", "", "Candle", category="Lights"), ""), (Furniture("", "", "Vase", "Decoration"), "vessel"),
    (Furniture("", "", "Saw", "SCPTS, Tool"), "tool"), (Furniture("", "", "Boy", "Human, Child"), "person"),
])
def test_classes_follow_from_names(model, label):
    assert shape_class(model) == label


def test_every_rule_reads_a_field_that_a_model_has():
    assert {field for _, field, _ in RULES} <= {"name", "tags", "category"}
    assert all(words == words.lower() for _, _, words in RULES)


def test_models_of_one_shape_are_in_one_split():
    rng = np.random.default_rng(0)
    cells = [np.unique(rng.integers(0, 24, (900, 3)), axis=0) for _ in range(16)]
    like = [cells[0][9:], cells[0][18:], cells[1]]  # each less than 5% from the one before, or equal
    entries = [MeshEntry(lambda: None, f"{label}{k}", label, None, "") for label in (0, 1) for k in range(19)]
    drawn = {}
    for validation_share in (0.0, 0.2):
        splits = ShapeSplits(0.3, validation_share, seed=3)
        for entry, own in zip(entries, (cells + like) * 2, strict=True):
            splits.watch(entry, own)
        drawn[validation_share] = np.array(splits.draw(entries)).reshape(2, 19)
        assert splits.alike == 6 and splits.names == {entry.name for entry in entries}
    for names in drawn.values():
        assert (names[:, 0] == names[:, 16]).all() and (names[:, 0] == names[:, 17]).all()
        assert (names[:, 1] == names[:, 18]).all()
        assert ((names == "test").sum(axis=1) == 6).all()
    assert ((drawn[0.2] == "val").sum(axis=1) == 4).all() and not (drawn[0.0] == "val").any()
    assert ((drawn[0.2] == "test") == (drawn[0.0] == "test")).all()
    assert (drawn[0.0][0] != drawn[0.0][1]).any()  # each class has draws of its own


@pytest.mark.parametrize(("plant", "message"), [
    (lambda path: None, "does not exist"), (lambda path: path.mkdir(), "has no furniture library: expected .sh3f"),
    (lambda path: path.write_text("no ZIP"), "is not a furniture library: File is not a zip file"),
    (lambda path: library(path, {"name": ""}), "has no name#1"),
    (lambda path: library(path, {"name": "Anvil"}), "none of 1 model in .* has a free licence and a class"),
])
def test_what_is_no_library(tmp_path: Path, plant, message):
    plant(tmp_path / "a")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        import_sweethome3d(tmp_path / "a", tmp_path / "x.h5", QUIET)
    with pytest.raises(ValueError, match="test_share is 0.6 and validation_share is 0.4"):
        import_sweethome3d(tmp_path / "a", tmp_path / "x.h5", QUIET, 0.6, 0.4)


def test_a_damaged_model_loses_only_itself(tmp_path: Path):
    library(tmp_path / "a", {"name": "Chair"}, {"name": "Stool", "modelRotation": "1 1 1 1 1 1 1 1 1"},
            {"name": "Stool", "model": "/../b.obj"}, {"name": "Stool"})
    (tmp_path / "b.obj").write_text(obj(1, 1, 1))
    (tmp_path / "a/things/model4/model4.obj").write_text("nothing")
    report = import_sweethome3d(tmp_path / "a", tmp_path / "x.h5", QUIET)
    reasons = [reason for _, reason in report.failures]
    assert report.samples == 1 and len(reasons) == 3
    assert reasons[0].endswith("modelRotation is no rotation") and "has no ../b.obj" in reasons[1]


def test_a_bomb_is_refused(tmp_path: Path):
    library(tmp_path / "a", {})
    (tmp_path / "a/things/model1/model1.obj").write_bytes(b"#" * 70_000_000)
    with pytest.raises(MeshError, match="unpacks to 70000000 bytes, more than 32 times its size"):
        read_furniture(str(packed(tmp_path / "a")), "things/model1/model1.obj")


def test_the_command(tmp_path: Path):
    library(tmp_path / "a", *MODELS)
    done = invoke("make-dataset", "sweethome3d", tmp_path / "a", tmp_path / "x.h5", "--render-size", 8, "--fill",
                  "--processes", 1, "--credits", tmp_path / "credits.md", env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{tmp_path / 'x.h5'}: 3 samples") and "licences: CC-BY 3.0 1, CC0 3" in done.stdout
    assert "(1): Bob" in (tmp_path / "credits.md").read_text("utf-8")


def test_parts_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="cannot be imported in parts.*leave out --part"):
        import_sweethome3d(tmp_path, tmp_path / "out.h5", Conversion(8, progress=False, part=Part(1, 2)))
