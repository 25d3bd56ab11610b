"""Packing data for a machine without a network, and unpacking it there."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from benchmarks import carried, shapes
from benchmarks.commands import gpu_pack
from sparsenet.data import SparseDataset
from sparsenet.data.convert import Conversion
from sparsenet.data.importers import import_parametric


def wheel(folder: Path, name: str, files: dict[str, str]) -> None:
    with zipfile.ZipFile(folder / f"{name}-1-py3-none-any.whl", "w") as packed:
        for path, text in files.items():
            packed.writestr(path, text)


def test_peers_are_packed_and_found_where_they_are_unpacked(tmp_path):
    asked = []

    def pip(command) -> None:
        asked.extend(command)
        folder = Path(command[command.index("--dest") + 1])
        wheel(folder, "first", {"first/__init__.py": "value = 7", "first/lib/first.a": "x"})
        wheel(folder, "second", {"second.py": "import first; value = first.value"})

    carried.pack_peers(tmp_path / "carried", ["first==1", "second==1"], pip)
    assert asked[-2:] == ["first==1", "second==1"] and "--no-deps" in asked
    tool = Path(__file__).parents[2] / "tools" / "gpu_pack.py"
    command = [sys.executable, str(tool), str(tmp_path / "carried"), "--unpack", str(tmp_path / "there")]
    subprocess.run(command, check=True)
    names = {path.relative_to(tmp_path / "there").as_posix() for path in (tmp_path / "there").rglob("*.*")}
    assert names == {"first/__init__.py", "second.py"}
    done = subprocess.run([sys.executable, "-c", "import second; print(second.value)"], check=True, text=True,
                          capture_output=True, env={"PYTHONPATH": str(tmp_path / "there")})
    assert done.stdout == "7\n"


def test_what_is_packed_and_how_large_it_is(tmp_path, monkeypatch, capsys):
    def meshes(folder, count):
        folder.mkdir()
        (folder / carried.MESHES).write_bytes(bytes(100 * count))
        return folder / carried.MESHES

    monkeypatch.setattr(carried, "pack_meshes", meshes)
    monkeypatch.setattr(carried, "pack_peers", pytest.fail)
    monkeypatch.setattr(carried, "checkout_bytes", lambda root: 1000)
    assert gpu_pack.main([str(tmp_path / "there"), "--meshes", "--count", "7"]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{tmp_path / 'there' / carried.MESHES}: 700 bytes",
                                                    "with the checkout: 1.7 kB"]


def test_the_bytes_of_a_checkout(tmp_path):
    (tmp_path / "untracked").write_text("x")
    for name, size in (("first", 3), ("second", 4), ("gone", 5)):
        (tmp_path / name).write_text("x" * size)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run(["git", "add", "first", "second", "gone"], cwd=tmp_path, check=True)
    (tmp_path / "gone").unlink()
    assert carried.checkout_bytes(tmp_path) == 7


def test_a_wheel_that_pip_does_not_find(tmp_path):
    def pip(command) -> None:
        raise subprocess.CalledProcessError(1, command)

    with pytest.raises(carried.PackError, match="pip does not find all of nothing==1"):
        carried.pack_peers(tmp_path, ["nothing==1"], pip)


def test_shapes_are_taken_from_what_is_carried(tmp_path, monkeypatch):
    monkeypatch.delenv("SPARSENET_DATA", raising=False)
    import_parametric(tmp_path / carried.MESHES, {"train": 1},
                      conversion=Conversion(40, keep_meshes=True, progress=False))
    with shapes.Shapes(5, pytest.fail, tmp_path) as found:
        assert found.source == "PSB" and len(found.meshes) == 10
    assert (tmp_path / carried.MESHES).is_file()


def test_without_data_nothing_is_packed(tmp_path, monkeypatch):
    monkeypatch.delenv("SPARSENET_DATA", raising=False)
    for pack in (carried.pack_meshes, carried.pack_modelnet40):
        with pytest.raises(carried.PackError, match="SPARSENET_DATA is not a folder"):
            pack(tmp_path)


def test_meshes_of_psb_are_packed(tmp_path, data_root):
    path = carried.pack_meshes(tmp_path, 6)
    with SparseDataset.open(path) as dataset:
        assert len(dataset) == 6 and len(dataset.mesh(0).faces) > 0
