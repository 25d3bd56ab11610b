"""The importer of meshes that classification files label."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import ENVIRONMENT, invoke

from sparsenet.data import Conversion, SparseDataset, import_shrec
from sparsenet.data.psb import read_cla

QUIET = Conversion(render_size=8, progress=False)
TETRAHEDRON = "OFF\n4 4 6\n0 0 0\n{0} 0 0\n0 1 0\n0 0 1\n3 0 1 2\n3 0 1 3\n3 0 2 3\n3 1 2 3\n"


def plant(root: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(TETRAHEDRON.format(1 + number))
    return root


def cla(path: Path, **classes: list[str]) -> Path:
    """A classification, each class at the top."""
    parts = [f"{name} 0 {len(models)}\n" + "".join(f"{model}\n" for model in models)
             for name, models in classes.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"PSB 1\n{len(classes)} {sum(map(len, classes.values()))}\n\n" + "\n".join(parts))
    return path


def contents(path: Path) -> list[tuple]:
    with SparseDataset.open(path) as dataset:
        return [(dataset.classes[s.label], s.split, s.name) for s in dataset]


def test_models_are_found_by_name_and_by_number(tmp_path: Path):
    plant(tmp_path / "models", "m12.off", "sub/M000013.off", "Chair_one.off", "14.off", "T15.off", "other.off")
    plain = cla(tmp_path / "SHREC12.cla", bird=["12", "13", "0014"], chair=["chair_ONE.off", "T15"], empty=[])
    report = import_shrec(plain, tmp_path / "x.h5", tmp_path / "models", "test", QUIET)
    assert contents(report.path) == [("bird", "test", "m12"), ("bird", "test", "sub/M000013"), ("bird", "test", "14"),
                                     ("chair", "test", "Chair_one"), ("chair", "test", "T15")]
    assert report.classes == ["bird", "chair"] and report.ignored == {"in no classification": 1}


def test_names_of_splits_are_splits(tmp_path: Path):
    plant(tmp_path, "a.off", "b.off", "c.off")
    cla(tmp_path / "train.cla", bird=["a"], cat=["b"])
    cla(tmp_path / "test.cla", bird=["c"])
    report = import_shrec(tmp_path, tmp_path / "x.h5", conversion=QUIET)
    assert contents(report.path) == [("bird", "test", "c"), ("bird", "train", "a"), ("cat", "train", "b")]
    cla(tmp_path / "fine.cla", bird=["a"])
    with pytest.raises(ValueError, match="has fine.cla, test.cla, train.cla: give one of them, or name them by splits"):
        import_shrec(tmp_path, tmp_path / "x.h5", conversion=QUIET)


def test_splits_are_drawn_without_a_name(tmp_path: Path):
    plant(tmp_path, *(f"m{i}.off" for i in range(10)))
    cla(tmp_path / "all.cla", bird=[str(i) for i in range(5)], cat=[str(i) for i in range(5, 10)])
    report = import_shrec(tmp_path, tmp_path / "x.h5", conversion=QUIET, test_share=0.4)
    assert report.counts == {("bird", "train"): 3, ("bird", "test"): 2, ("cat", "train"): 3, ("cat", "test"): 2}


def test_a_model_without_a_mesh_or_with_several_loses_only_itself(tmp_path: Path):
    plant(tmp_path, "m1.off", "m2.off", "x2.off", "sub/m3.off", "m3.off", "m4.off")
    (tmp_path / "m4.off").write_text("nothing")
    path = cla(tmp_path / "test.cla", bird=["1", "2", "m3", "4", "5", "nine"])
    report = import_shrec(path, tmp_path / "x.h5", conversion=QUIET)
    assert contents(report.path) == [("bird", "test", "m1")]
    assert [reason for _, reason in report.failures] == [
        "2 meshes have its name, such as m2 and x2", "2 meshes have its name, such as m3 and sub/m3",
        "no mesh has its name", "no mesh has its name", report.failures[-1][1]]
    assert report.failures[0][0] == f"{path}, model 2" and report.failures[-1][0].endswith("m4.off")
    with pytest.raises(ValueError, match="test.cla: model 2: 2 meshes have its name"):
        import_shrec(path, tmp_path / "y.h5", conversion=Conversion(8, strict=True, progress=False))
    assert not (tmp_path / "y.h5").exists()


@pytest.mark.parametrize(("make", "error", "message"), [
    (lambda folder: folder / "absent.cla", FileNotFoundError, "absent.cla does not exist"),
    (lambda folder: folder, FileNotFoundError, "no .cla file in"),
    (lambda folder: cla(folder / "test.cla", bird=["7"]), ValueError, "none of the models in .* has a mesh in .* 7:"),
    (lambda folder: plant(folder, "x.cla") / "x.cla", ValueError, "read_cla: .* expected 'PSB 1'"),
])
def test_what_is_refused(tmp_path: Path, make, error, message: str):
    with pytest.raises(error, match=message):
        import_shrec(make(tmp_path), tmp_path / "x.h5", conversion=QUIET)
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        import_shrec(cla(tmp_path / "test.cla", bird=["7"]), tmp_path / "x.h5", tmp_path / "nowhere", conversion=QUIET)


def test_the_benchmark_of_princeton_is_one_too(data_root: Path, tmp_path: Path):
    """A few of its classes: all of them take ten seconds."""
    held = [one for one in read_cla(data_root / "psb" / "test.cla", str) if one.models][:4]
    path = cla(tmp_path / "test.cla", **{one.name: one.models for one in held})
    report = import_shrec(path, tmp_path / "x.h5", data_root / "psb" / "meshes", conversion=QUIET)
    assert (report.samples, len(report.classes), report.failures) == (sum(len(one.models) for one in held), 4, [])


def test_the_command(tmp_path: Path):
    plant(tmp_path / "models", "m1.off", "m2.off")
    cla(tmp_path / "all.cla", bird=["1"], cat=["2"])
    done = invoke("make-dataset", "shrec", tmp_path / "all.cla", tmp_path / "x.h5", "--meshes", tmp_path / "models",
                  "--split", "test", "--render-size", 8, "--processes", 1, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "x.h5") == [("bird", "test", "m1"), ("cat", "test", "m2")]
