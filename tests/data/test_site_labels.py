"""Labels of cells: stored, checked, and kept with their cells through every augmentation."""

from __future__ import annotations

import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest

from sparsenet.data import Sample, SparseDataset, VoxelAugmentation, import_parametric
from sparsenet.data.convert import Conversion
from sparsenet.files import seal
from sparsenet.shapes import Augmentation, Mesh, Off3DPicture, parametric_mesh
from sparsenet.shapes.parametric import PARTS

SIDES = (8, 9, 7)
NAMES = ["low", "middle", "high"]


def labelled(cells: np.ndarray) -> np.ndarray:
    """A label for each cell that says where it is; every fifth is unknown."""
    return np.where(cells.sum(axis=1) % 5 == 0, -1, cells[:, 2] % 3)


def random_cells(rng: np.random.Generator, count: int) -> np.ndarray:
    return np.stack(np.unravel_index(rng.choice(8 * 9 * 7, count, replace=False), SIDES), axis=1)


@pytest.fixture
def voxels(tmp_path: Path, rng: np.random.Generator):
    """Seven samples in 3-dimensional grids, one without a cell, whose features are the row of each cell's label."""
    def samples():
        for number in range(7):
            cells = random_cells(rng, 0 if number == 3 else 20 + number)
            labels = labelled(cells)
            yield Sample(cells, number % 2, f"{number}", features=np.stack([labels, cells[:, 0]], axis=1),
                         site_labels=labels)

    with SparseDataset.create(tmp_path / "x.h5", samples(), SIDES, 7, ["a", "b"], part_classes=NAMES) as dataset:
        yield dataset


def boxes_apart() -> Mesh:
    """Two boxes one above the other that do not touch, of the parts 1 and 0."""
    cube = np.array([[x, y, z] for x in (0.0, 1) for y in (0.0, 1) for z in (0.0, 1)])
    faces = np.array([[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6],
                      [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]])
    return Mesh(np.concatenate([cube * (6, 4, 2), cube * (3, 2, 3) + (1, 1, 5)]), np.concatenate([faces, faces + 8]),
                np.repeat([1, 0], 12))


@pytest.fixture
def meshes(tmp_path: Path):
    mesh = boxes_apart()
    shape = Off3DPicture(mesh, 10).voxelize(10)
    samples = [Sample(shape.coordinates, 0, "boxes", mesh=mesh, site_labels=shape.labels)]
    with SparseDataset.create(tmp_path / "m.h5", samples, (10,) * 3, 10, ["boxes"], part_classes=NAMES) as dataset:
        yield dataset


def test_labels_come_back_with_their_cells(voxels: SparseDataset):
    assert voxels.part_classes == NAMES and voxels.has_site_labels and not voxels.has_face_labels
    for index, sample in enumerate(voxels):
        assert sample.site_labels.dtype == np.int64
        np.testing.assert_array_equal(sample.site_labels, labelled(sample.coordinates))
        np.testing.assert_array_equal(voxels.site_labels(index), sample.site_labels)
    view = pickle.loads(pickle.dumps(voxels.select([4, 1])))
    np.testing.assert_array_equal(view.site_labels(1), voxels.site_labels(1))
    assert view.part_classes == NAMES
    view.close()


def test_layout_is_the_documented_one(voxels: SparseDataset, meshes: SparseDataset, tmp_path: Path):
    with h5py.File(voxels.path) as file:
        assert (file["site_labels"].shape, file["site_labels"].dtype) == ((file["coordinates"].shape[1],), np.int8)
        assert file.attrs["part_classes"].tolist() == NAMES and file["site_labels"].compression == "gzip"
    with h5py.File(meshes.path) as file:
        assert file["meshes/face_labels"][:].tolist() == [1] * 12 + [0] * 12
    many = [f"part {number}" for number in range(200)]
    sample = Sample(np.zeros((1, 3), int), site_labels=np.array([199]))
    with SparseDataset.create(tmp_path / "y.h5", [sample], SIDES, 7, [], part_classes=many) as dataset:
        assert dataset.site_labels(0).tolist() == [199]
    assert dataset.digest != voxels.digest


def test_a_dataset_without_labels_has_none(tmp_path: Path):
    with SparseDataset.create(tmp_path / "z.h5", [Sample(np.zeros((1, 3), int))], SIDES, 7, []) as dataset:
        assert not dataset.has_site_labels and dataset.part_classes == []
        assert dataset.site_labels(0) is None and dataset[0].site_labels is None
        assert next(dataset.batches(1)).site_labels is None


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("augment", [None, VoxelAugmentation(2, True, True), Augmentation("none", 0, 0.3),
                                     Augmentation("none", 0, 0, quarter_turns=True)], ids=str)
@pytest.mark.parametrize("field", [None, 12, 5])
def test_labels_move_with_their_cells(voxels: SparseDataset, augment, field, workers):
    """A cell's features say its label, and both are moved, dropped and sorted alike."""
    options = {"shuffle": True, "seed": 3, "workers": workers, "augment": augment, "field": field}
    seen = 0
    for batch in voxels.batches(3, **options):
        assert batch.site_labels.dtype == np.int64 and len(batch.site_labels) == len(batch.input)
        np.testing.assert_array_equal(batch.site_labels, batch.input.features.array[:, 0])
        seen += len(batch.input) + int(batch.dropped.sum())
    assert seen == sum(len(sample) for sample in voxels)


def test_a_cell_keeps_the_label_of_its_part_when_the_mesh_is_turned(meshes: SparseDataset):
    augment = Augmentation("so3", 0.2, 0.1)
    for epoch in range(3):
        (batch,) = meshes.batches(1, augment=augment, seed=1, epoch=epoch, field=16)
        placement = _placement(meshes, augment, epoch)
        whole = Off3DPicture(boxes_apart(), 10).voxelize(16, *placement)
        np.testing.assert_array_equal(batch.input.coordinates[:, 1:], whole.coordinates)
        np.testing.assert_array_equal(batch.site_labels, whole.labels)
        assert set(batch.site_labels.tolist()) == {0, 1}


def _placement(dataset: SparseDataset, augment: Augmentation, epoch: int):
    from sparsenet.data.preparation import Preparation

    return Preparation(dataset, augment, 16, None, None, 1, epoch).placement(0, ())


def test_quarter_turns_of_meshes_voxelized_at_another_size(meshes: SparseDataset):
    (batch,) = meshes.batches(1, render_size=20, augment=VoxelAugmentation(0, True, True), seed=2)
    low = batch.input.coordinates[:, 3] < np.median(np.unique(batch.input.coordinates[:, 3])) - 3
    assert set(batch.site_labels[low].tolist()) == {1} and set(batch.site_labels.tolist()) == {0, 1}


@pytest.mark.parametrize(("sample", "parts", "message"), [
    (Sample(np.zeros((1, 3), int)), NAMES, "it has no site_labels, and the dataset has part_classes"),
    (Sample(np.zeros((1, 3), int), site_labels=[0]), [], "it has site_labels, and the dataset no part_classes"),
    (Sample(np.zeros((1, 3), int), site_labels=[3]), NAMES, "the site label of cell 0 is 3, expected 0 to 2, the"),
    (Sample(np.eye(3, dtype=int), site_labels=[0, 1, -2]), NAMES, "the site label of cell 2 is -2, expected 0 to 2"),
    (Sample(np.zeros((1, 3), int), site_labels=[0, 1]), NAMES, r"site_labels have shape \(2,\), expected \(1,\)"),
    (Sample(np.zeros((1, 3), int), site_labels=[0.5]), NAMES, "site_labels are float64, expected integers"),
    (Sample(np.zeros((1, 3), int), site_labels=[0], mesh=Mesh(np.eye(3), [[0, 1, 2]], [3])), NAMES,
     "a face of its mesh has the label 3, expected at most 2"),
])
def test_labels_that_do_not_fit_are_refused(tmp_path: Path, sample: Sample, parts, message):
    with pytest.raises((ValueError, TypeError), match=message):
        SparseDataset.create(tmp_path / "x.h5", [sample], SIDES, 7, ["a"], part_classes=parts)


def test_meshes_have_face_labels_all_or_none(tmp_path: Path):
    cell, triangle = np.zeros((1, 3), int), np.eye(3)
    samples = [Sample(cell, site_labels=[0], mesh=Mesh(triangle, [[0, 1, 2]], labels)) for labels in ([0], None)]
    with pytest.raises(ValueError, match="some meshes have face labels and others do not"):
        SparseDataset.create(tmp_path / "x.h5", samples, SIDES, 7, [], part_classes=NAMES)
    with pytest.raises(ValueError, match="part_class 'a' occurs twice, expected distinct names"):
        SparseDataset.create(tmp_path / "x.h5", [], SIDES, 7, [], part_classes=["a", "a"])


def test_without_face_labels_new_cells_are_refused(tmp_path: Path):
    mesh = Mesh(np.eye(3), [[0, 1, 2]])
    samples = [Sample(np.zeros((1, 3), int), site_labels=[0], mesh=mesh)]
    with SparseDataset.create(tmp_path / "x.h5", samples, SIDES, 7, [], part_classes=NAMES) as dataset:
        with pytest.raises(ValueError, match="affine map makes new cells, and .* stores labels for the old"):
            dataset.batches(1, augment=Augmentation("so3"))
        with pytest.raises(ValueError, match="render_size 9 .* makes new cells"):
            dataset.batches(1, render_size=9)


@pytest.mark.parametrize(("change", "message"), [
    (lambda file: file["site_labels"].__setitem__(1, 3), r"its site_labels contain 3, expected -1 to 2"),
    (lambda file: file["site_labels"].__setitem__(0, -2), r"its site_labels contain -2, expected -1 to 2"),
    (lambda file: (file.__delitem__("site_labels"), file.create_dataset("site_labels", data=[0, 1])),
     r"site_labels .*\(2,\)"),
    (lambda file: (file.__delitem__("site_labels"),
                   file.create_dataset("site_labels", data=np.zeros(file["coordinates"].shape[1]))), "site_labels"),
    (lambda file: file.attrs.__delitem__("part_classes"), "part_classes"),
    (lambda file: file.attrs.__setitem__("part_classes", ["a", "a"]), "attribute part_class 'a' occurs twice"),
    (lambda file: file.attrs.__setitem__("part_classes", 3), "attribute part_classes is 3, expected a list of texts"),
])
def test_a_damaged_file_is_told(voxels: SparseDataset, tmp_path: Path, change, message):
    path = tmp_path / "damaged.h5"
    path.write_bytes(Path(voxels.path).read_bytes())
    with h5py.File(path, "r+") as file:
        change(file)
    seal(path)
    with pytest.raises(ValueError, match=message):
        SparseDataset.open(path).site_labels(0)


def test_a_file_of_another_program_may_use_any_integers(voxels: SparseDataset, tmp_path: Path):
    path = tmp_path / "other.h5"
    path.write_bytes(Path(voxels.path).read_bytes())
    with h5py.File(path, "r+") as file:
        labels = file["site_labels"][:]
        del file["site_labels"]
        file["site_labels"] = labels.astype(np.int64)
    seal(path)
    with SparseDataset.open(path) as dataset:
        np.testing.assert_array_equal(dataset.site_labels(2), voxels.site_labels(2))


@pytest.mark.parametrize("fill", [False, True])
def test_the_parametric_shapes_know_their_parts(tmp_path: Path, fill):
    import_parametric(tmp_path / "p.h5", {"train": 1}, 3, Conversion(12, fill, keep_meshes=True, progress=False), True)
    with SparseDataset.open(tmp_path / "p.h5") as dataset:
        assert dataset.part_classes == list(PARTS) and dataset.has_face_labels
        for index, sample in enumerate(dataset):
            surface = Off3DPicture(sample.mesh, 12).voxelize(12)
            within = (sample.coordinates[:, None] == surface.coordinates).all(axis=2).any(axis=1)
            assert (sample.site_labels[within] >= 0).all() and (sample.site_labels[~within] == -1).all()
            assert fill or within.all()
            (batch,) = dataset.select([index]).batches(1)
            np.testing.assert_array_equal(batch.site_labels, sample.site_labels)
    import_parametric(tmp_path / "q.h5", {"train": 1}, 3, Conversion(12, progress=False))
    with SparseDataset.open(tmp_path / "q.h5") as dataset:
        assert not dataset.has_site_labels
    assert parametric_mesh("mug", np.random.default_rng(0)).face_labels is None
