"""The importer of point clouds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command_line import ENVIRONMENT, invoke

from sparsenet.data import Conversion, SparseDataset, import_points
from sparsenet.shapes import Off3DPicture, read_points

QUIET = Conversion(render_size=8, progress=False)


def plant(root: Path, rng: np.random.Generator, *names: str) -> Path:
    """Point clouds at these paths, each of 30 points."""
    for name in names:
        path, points = root / name, rng.standard_normal((30, 3))
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = "\n".join(" ".join(map(str, point)) for point in points)
        if path.suffix == ".npy":
            np.save(path, points)
        elif path.suffix == ".ply":
            header = "".join(f"property double {axis}\n" for axis in "xyz")
            path.write_text(f"ply\nformat ascii 1.0\nelement vertex 30\n{header}end_header\n{lines}\n")
        else:
            path.write_text(lines)
    return root


def contents(path: Path) -> list[tuple]:
    with SparseDataset.open(path) as dataset:
        return [(dataset.classes[s.label] if s.label >= 0 else None, s.split, s.name, s.coordinates.tolist())
                for s in dataset]


def test_a_tree_of_point_clouds(tmp_path: Path, rng):
    tree = plant(tmp_path / "tree", rng, "car/train/a.npy", "car/test/b.ply", "tree/train/c.xyz", "tree/test/c.xyz")
    (tree / "car/train/bad.npy").write_bytes(b"nothing")
    (tree / "car/mesh.off").write_text("OFF")
    report = import_points(tree, tmp_path / "x.h5", Conversion(8, keep_meshes=True, progress=False))
    found = contents(report.path)
    assert [one[:3] for one in found] == [("car", "test", "car/test/b"), ("car", "train", "car/train/a"),
                                          ("tree", "test", "tree/test/c"), ("tree", "train", "tree/train/c")]
    cloud = read_points(tree / "car/train/a.npy")
    assert found[1][3] == Off3DPicture(cloud, 8).voxelize(8).coordinates.tolist()
    assert len(report.failures) == 1 and "bad.npy: it is not an array of NumPy" in str(report)
    assert "ignored 1 file (.off 1)" in str(report)
    with SparseDataset.open(report.path) as dataset:
        assert dataset.has_meshes and not dataset.has_features
        np.testing.assert_array_equal(dataset[1].mesh.vertices, cloud.vertices)


def test_splits_are_drawn_and_formats_are_chosen(tmp_path: Path, rng):
    tree = plant(tmp_path / "tree", rng, *(f"car/{i}.txt" for i in range(10)), "car/a.ply")
    report = import_points(tree, tmp_path / "x.h5", QUIET, extensions=["txt"], test_share=0.3)
    assert report.counts == {("car", "train"): 7, ("car", "test"): 3}
    assert "10 point clouds are in no split: 3 of them drawn for test" in str(report)
    assert import_points(tree, tmp_path / "y.h5", QUIET, unlabelled=True).counts == {(None, "train"): 1}


def test_the_up_axis_can_be_given(tmp_path: Path, rng):
    tree = plant(tmp_path / "tree", rng, "car/a.npy")
    import_points(tree, tmp_path / "x.h5", Conversion(8, up_axis="y", progress=False))
    expected = Off3DPicture(read_points(tree / "car/a.npy").upright("y"), 8).voxelize(8).coordinates
    assert contents(tmp_path / "x.h5")[0][3] == expected.tolist()


def test_what_is_refused(tmp_path: Path, rng):
    tree = plant(tmp_path / "tree", rng, "car/a.off")
    with pytest.raises(ValueError, match=r"contains no point cloud: .* ending in .npy, .ply, .xyz; ignored 1 file"):
        import_points(tree, tmp_path / "x.h5", QUIET)
    with pytest.raises(ValueError, match="fill is set, but points enclose nothing"):
        import_points(tree, tmp_path / "x.h5", Conversion(8, fill=True))
    (tree / "car/b.npy").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="none of 1 point clouds could be used: the first failed with"):
        import_points(tree, tmp_path / "x.h5", QUIET)
    with pytest.raises(ValueError, match="b.npy: it is not an array of NumPy"):
        import_points(tree, tmp_path / "x.h5", Conversion(8, strict=True, progress=False))


def test_the_command(tmp_path: Path, rng):
    tree = plant(tmp_path / "tree", rng, "car/a.npy", "car/b.ply", "tree/c.xyz", "tree/d.npy")
    done = invoke("make-dataset", "points", tree, tmp_path / "x.h5", "--render-size", 12, "--processes", 1,
                  "--keep-meshes", "--test-share", 0.5, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{tmp_path / 'x.h5'}: 4 samples")
    with SparseDataset.open(tmp_path / "x.h5") as dataset:
        assert (dataset.render_size, dataset.has_meshes, len(dataset.subset("test"))) == (12, True, 2)
