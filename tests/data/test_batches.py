"""Batches: their contents, the same for any number of workers, and no thread left running."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import time

import numpy as np
import pytest

from sparsenet.data import BatchSampler, Sample, SparseDataset, TripletSampler, VoxelAugmentation
from sparsenet.shapes import Augmentation
from sparsenet.sparse import Geometry

GEOMETRIES = [Geometry.make(3, 2), Geometry.make(3, 3, 2)]


def contents(batches) -> list[tuple]:
    """All parts of the batches that could differ, as bytes."""
    return [(batch.input.coordinates.tobytes(), batch.input.features.array.tobytes(), batch.labels.tolist(),
             batch.sample_ids.tolist(), batch.dropped.tolist()) for batch in batches]


def loader_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("sparsenet-loader")]


def test_a_batch_holds_its_samples(voxels: SparseDataset):
    batches = list(voxels.batches(5))
    assert [len(batch) for batch in batches] == [5, 5, 2]
    assert batches[0].sample_ids.tolist() == [0, 3, 6, 9, 12]  # pose 0 of each object
    for batch in batches:
        assert batch.labels.tolist() == voxels.labels[batch.sample_ids].tolist()
        assert batch.input.spatial_size == (8, 9, 7) and batch.input.batch_size == len(batch)
        assert batch.input.features.dtype == np.float32 and not batch.dropped.any()
        for number, sample in enumerate(batch.sample_ids):
            rows = batch.input.coordinates[:, 0] == number
            np.testing.assert_array_equal(batch.input.coordinates[rows, 1:], voxels[sample].coordinates)
            np.testing.assert_array_equal(batch.input.features.array[rows], voxels[sample].features)


def test_an_empty_sample_keeps_its_place(voxels: SparseDataset):
    (batch,) = voxels.select(voxels.pose == 1).batches(12)
    assert len(batch) == batch.input.batch_size == 12
    assert np.bincount(batch.input.coordinates[:, 0], minlength=12)[5] == 0
    (batch,) = voxels.select([16]).batches(1)
    assert len(batch.input) == 0 and batch.input.batch_size == 1


def test_an_epoch_goes_over_objects_and_draws_a_pose(voxels: SparseDataset):
    drawn = np.array([np.concatenate([batch.sample_ids for batch in voxels.batches(5, shuffle=True, epoch=epoch)])
                      for epoch in range(40)])
    for epoch in drawn:
        assert sorted(voxels.object[epoch].tolist()) == list(range(12))
    assert set(drawn.ravel().tolist()) == set(range(36))
    assert len({tuple(epoch) for epoch in drawn.tolist()}) == 40


def test_all_poses_when_asked(voxels: SparseDataset):
    ids = np.concatenate([batch.sample_ids for batch in voxels.batches(7, poses="all")])
    assert ids.tolist() == list(range(36))
    shuffled = np.concatenate([batch.sample_ids for batch in voxels.batches(7, shuffle=True, poses="all")])
    assert sorted(shuffled.tolist()) == list(range(36)) and shuffled.tolist() != ids.tolist()


def test_the_pose_of_an_object_depends_on_nothing_else(voxels: SparseDataset):
    def poses(dataset: SparseDataset, batch_size: int) -> dict[int, int]:
        return {int(dataset.object[i]): int(dataset.pose[i])
                for batch in dataset.batches(batch_size, shuffle=True, seed=3, epoch=2) for i in batch.sample_ids}

    everything, train = poses(voxels, 5), poses(voxels.subset("train"), 2)
    assert all(everything[number] == pose for number, pose in train.items())


@pytest.mark.parametrize("key", [{"seed": 1}, {"epoch": 1}])
def test_poses_and_augmentation_depend_on_seed_and_epoch(voxels: SparseDataset, key: dict):
    def poses(**key) -> list[int]:
        return [number for batch in voxels.batches(5, poses="random", **key) for number in batch.sample_ids.tolist()]

    def cells(**key) -> list[tuple]:
        return contents(voxels.batches(5, augment=VoxelAugmentation(shift=3), field=16, **key))

    assert poses() == poses() != poses(**key)
    assert cells() == cells()
    assert all(one != other for one, other in zip(cells(), cells(**key), strict=True))


def test_each_object_draws_its_own_pose_and_each_sample_its_own_shift(tmp_path):
    same = (Sample(np.array([[4, 4, 4]]), object=number // 3, pose=number % 3) for number in range(60))
    with SparseDataset.create(tmp_path / "x.h5", same, (9, 9, 9), 9, ["a"]) as dataset:
        (batch,) = dataset.batches(20, poses="random")
        assert set(dataset.pose[batch.sample_ids].tolist()) == {0, 1, 2}
        (batch,) = dataset.batches(60, poses="all", augment=VoxelAugmentation(shift=3))
        assert len({tuple(cell) for cell in batch.input.coordinates[:, 1:].tolist()}) > 30


def test_each_showing_of_an_object_has_its_own_draw(voxels: SparseDataset):
    class OneObject:
        repeats = True

        def __len__(self) -> int:
            return 2

        def batch(self, index: int, seed: int, epoch: int) -> np.ndarray:
            return np.zeros(8, np.int64)

    batches = list(voxels.batches(sampler=OneObject(), augment=VoxelAugmentation(shift=3), field=16))
    for batch in batches:
        assert len(set(batch.sample_ids.tolist())) > 1
        shown = [batch.input.coordinates[batch.input.coordinates[:, 0] == number, 1:].tobytes() for number in range(8)]
        assert len(set(shown)) == 8
    assert contents(batches[:1]) != contents(batches[1:])


def test_a_running_iteration_cannot_be_copied(voxels: SparseDataset):
    with voxels.batches(5) as batches:
        next(batches)
        for twin in (pickle.dumps, copy.deepcopy):
            with pytest.raises(TypeError, match="BatchLoader: a running iteration can be neither pickled"):
                twin(batches)


def test_a_closed_dataset_gives_no_batches(voxels: SparseDataset):
    batches = voxels.batches(5)
    voxels.close()
    with pytest.raises(ValueError, match="voxels.h5 is closed: open it again with SparseDataset.open"):
        voxels.batches(5)
    with pytest.raises(RuntimeError, match="voxels.h5 is closed"):
        next(batches)


@pytest.mark.parametrize("options", [
    {"batch_size": 5}, {"batch_size": 4, "shuffle": True, "augment": VoxelAugmentation(1, True, True), "field": 9},
    {"batch_size": 7, "poses": "all", "field": (6, 20, 7)},
])
def test_workers_change_nothing(voxels: SparseDataset, options: dict):
    expected = contents(voxels.batches(seed=1, epoch=2, **options))
    for workers in (1, 2, 5):
        assert contents(voxels.batches(seed=1, epoch=2, workers=workers, geometries=GEOMETRIES, **options)) == expected
    assert loader_threads() == []


def test_workers_change_nothing_when_meshes_are_voxelized(meshes: SparseDataset):
    options = {"batch_size": 2, "shuffle": True, "augment": Augmentation("so3"), "field": 20, "render_size": 12}
    expected = contents(meshes.batches(epoch=1, **options))
    for workers in (1, 2):
        assert contents(meshes.batches(epoch=1, workers=workers, **options)) == expected
    assert contents(meshes.batches(epoch=2, **options)) != expected
    assert contents(meshes.batches(epoch=1, seed=1, **options)) != expected


def test_triplets_augment_a_sample_each_time(meshes: SparseDataset):
    sampler = TripletSampler(meshes.object_labels, 6, 2)
    options = {"sampler": sampler, "augment": Augmentation("so3", 0, 0)}
    batches = list(meshes.batches(**options))
    assert [len(batch) for batch in batches] == [18, 18]
    assert contents(batches) == contents(meshes.batches(workers=2, **options))
    cells: dict[int, set[bytes]] = {}
    for batch in batches:
        for number, sample in enumerate(batch.sample_ids.tolist()):
            rows = batch.input.coordinates[:, 0] == number
            cells.setdefault(sample, set()).add(batch.input.coordinates[rows, 1:].tobytes())
    assert sum(map(len, cells.values())) == 36


@pytest.mark.parametrize("workers", [0, 2])
def test_shards_divide_the_samples_of_a_batch(voxels: SparseDataset, workers: int):
    """Each `shards`-th sample, as it is in the whole batch; empty shards are left out."""
    options = {"batch_size": 5, "shuffle": True, "augment": VoxelAugmentation(shift=3), "field": 16}
    found = list(voxels.batches(**options, shards=(3, [2, 0]), workers=workers, geometries=GEOMETRIES))
    assert [list(batch.shards) for batch in found] == [[2, 0], [2, 0], [0]]  # the last batch has two samples
    for batch, whole in zip(found, voxels.batches(**options), strict=True):
        assert len(batch) == len(whole) and batch.labels.tolist() == whole.labels.tolist()
        for number, part in batch.shards.items():
            assert part.sample_ids.tolist() == whole.sample_ids[number::3].tolist()
            for place, row in enumerate(range(number, len(whole), 3)):
                own = part.input.coordinates[part.input.coordinates[:, 0] == place, 1:]
                expected = whole.input.coordinates[whole.input.coordinates[:, 0] == row, 1:]
                np.testing.assert_array_equal(own, expected)
        assert batch.dropped.sum() == sum(part.dropped.sum() for part in batch.shards.values())
        assert batch.seconds["loading"] > 0 and batch.seconds["rulebooks"] > 0


def test_shards_that_do_not_exist_are_refused(voxels: SparseDataset):
    with pytest.raises(ValueError, match=r"shards is \(2, \[2\]\), expected their number and some of 0 to 1"):
        voxels.batches(4, shards=(2, [2]))


def test_resuming_within_an_epoch(voxels: SparseDataset):
    whole = contents(voxels.batches(5, shuffle=True, seed=1))
    for start in range(4):
        batches = voxels.batches(5, shuffle=True, seed=1, start=start, workers=1)
        assert len(batches) == 3 - start
        assert contents(batches) == whole[start:]
    with pytest.raises(ValueError, match="start is 4, expected 0 to 3"):
        voxels.batches(5, start=4)


def test_rulebooks_are_built_ahead(voxels: SparseDataset):
    for workers in (0, 1):
        for batch in voxels.batches(6, geometries=iter(GEOMETRIES), workers=workers, field=10):
            rulebook = batch.input.sites.rulebook(GEOMETRIES[0])
            assert "neighbours" in vars(rulebook)
            assert "neighbours" in vars(rulebook.output_sites.rulebook(GEOMETRIES[1]))
            assert set(batch.seconds) == {"loading", "rulebooks"}


def test_the_field_centres_and_drops(voxels: SparseDataset):
    (plain,) = voxels.batches(12)
    (wide,) = voxels.batches(12, field=13)
    np.testing.assert_array_equal(wide.input.coordinates, plain.input.coordinates + [0, 2, 2, 3])
    assert not wide.dropped.any()
    (narrow,) = voxels.batches(12, field=(8, 4, 7))
    kept = (plain.input.coordinates[:, 2] >= 3) & (plain.input.coordinates[:, 2] < 7)
    np.testing.assert_array_equal(narrow.input.coordinates, plain.input.coordinates[kept] - [0, 0, 3, 0])
    lost = np.bincount(plain.input.coordinates[~kept, 0], minlength=12)
    assert narrow.dropped.tolist() == lost.tolist()
    for field in (0, (3, 3), -1):
        with pytest.raises(ValueError, match="field is"):
            voxels.batches(1, field=field)


def test_a_shift_moves_whole_cells(voxels: SparseDataset):
    moved = list(voxels.batches(1, augment=Augmentation("none", affine=0, shift=0.3), field=15))
    shifts = set()
    for before, after in zip(voxels.batches(1, field=15), moved, strict=True):
        steps = np.unique(after.input.coordinates - before.input.coordinates, axis=0)
        assert len(steps) == 1 and np.abs(steps).max() <= 2 and not after.dropped.any()
        shifts.add(tuple(steps[0]))
    assert len(shifts) > 6


@pytest.mark.parametrize("augment", [VoxelAugmentation(quarter_turns=True, mirror=True),
                                     Augmentation("none", 0, 0, quarter_turns=True, mirror=True)])
def test_quarter_turns_and_mirrors_are_exact(voxels: SparseDataset, augment):
    cells = voxels[0].coordinates
    x, y, z = cells.astype(np.int64).T
    turned = {  # the grid has 8 x 9 cells across the upright axis
        (False, 0): (x, y), (False, 1): (8 - y, x), (False, 2): (7 - x, 8 - y), (False, 3): (y, 7 - x),
        (True, 0): (7 - x, y), (True, 1): (y, x), (True, 2): (x, 8 - y), (True, 3): (8 - y, 7 - x),
    }
    expected = {}
    for key, (a, b) in turned.items():
        sides = (8, 9) if key[1] % 2 == 0 else (9, 8)
        place = np.stack([a + (12 - sides[0]) // 2, b + (12 - sides[1]) // 2, z + 2], axis=1)
        expected[place[np.lexsort(place.T[::-1])].tobytes()] = key
    seen = set()
    for epoch in range(60):
        (batch,) = voxels.select([0]).batches(1, augment=augment, field=12, epoch=epoch)
        seen.add(expected[np.ascontiguousarray(batch.input.coordinates[:, 1:], np.int64).tobytes()])
    assert seen == set(turned)


def moves_of(cells: np.ndarray, side: int) -> dict[bytes, tuple[int, bool]]:
    """The 8 places of cells in a cubic grid, as sorted int32 bytes -> quarter turns about z, mirrored along x."""
    found = {}
    for turns in range(4):
        for mirrored in (False, True):
            x, y, z = cells.T
            for _ in range(turns):
                x, y = side - 1 - y, x
            x = side - 1 - x if mirrored else x
            place = np.stack([x, y, z], axis=1).astype(np.int32)
            found[np.ascontiguousarray(place[np.lexsort(place.T[::-1])]).tobytes()] = turns, mirrored
    return found


@pytest.mark.parametrize(("options", "expected"), [
    ({"quarter_turns": True, "mirror": True}, {(t, m) for t in range(4) for m in (False, True)}),
    ({"quarter_turns": True}, {(t, False) for t in range(4)}), ({"mirror": True}, {(0, False), (0, True)}),
])
@pytest.mark.parametrize("render_size", [10, 13])
def test_quarter_turns_and_mirrors_of_meshes_move_their_cells_exactly(corners, options, expected, render_size):
    """A corner with vertices in its middle planes, where voxels belong to one side; 13 voxelizes its mesh again."""
    (plain,) = corners.batches(1, field=render_size, render_size=render_size)
    moves, seen = moves_of(plain.input.coordinates[:, 1:], render_size), set()
    for epoch in range(60):
        (batch,) = corners.batches(1, field=render_size, render_size=render_size, epoch=epoch,
                                   augment=Augmentation("none", 0, 0, **options))
        seen.add(moves[np.ascontiguousarray(batch.input.coordinates[:, 1:], np.int32).tobytes()])
    assert seen == expected


def test_quarter_turns_and_mirrors_follow_rotation_and_shift(corners):
    """Without them the other draws are the same, and the placed mesh is what they turn and mirror."""
    seen = set()
    for epoch in range(40):
        options = {"field": 20, "epoch": epoch}
        (plain,) = corners.batches(1, augment=Augmentation("upright", 0.2, 0.1), **options)
        (batch,) = corners.batches(1, augment=Augmentation("upright", 0.2, 0.1, 2, True, True), **options)
        moves = moves_of(plain.input.coordinates[:, 1:], 20)
        seen.add(moves[np.ascontiguousarray(batch.input.coordinates[:, 1:], np.int32).tobytes()])
    assert len(seen) == 8


def test_quarter_turns_go_with_shifts_of_voxels_and_with_features(voxels: SparseDataset):
    augment = Augmentation("none", 0, 0.3, quarter_turns=True, mirror=True)
    for before, after in zip(voxels.batches(1, field=15), voxels.batches(1, augment=augment, field=15), strict=True):
        assert len(before.input) == len(after.input) and not after.dropped.any()
    assert contents(voxels.batches(5, augment=augment, field=15, workers=2)) == contents(
        voxels.batches(5, augment=augment, field=15))


def test_turning_and_mirroring_needs_three_dimensions(tmp_path):
    flat = SparseDataset.create(tmp_path / "flat.h5", [Sample(np.array([[1, 2]]))], (4, 4), 4, [])
    with pytest.raises(ValueError, match="Augmentation turns and mirrors 3 dimensions, the dataset has 2"):
        flat.batches(1, augment=Augmentation("none", 0, 0, mirror=True))
    flat.close()


@pytest.mark.parametrize("options", [
    {"augment": Augmentation("upright", 0, 0)}, {"augment": Augmentation("none", 0.1, 0)}, {"render_size": 9},
    {"fill": True},
])
def test_what_voxels_cannot_give_is_refused(voxels: SparseDataset, options: dict):
    with pytest.raises(ValueError, match="needs meshes, and .*voxels.h5 has none"):
        voxels.batches(5, **options)


def test_wrong_arguments_are_refused(voxels: SparseDataset):
    for options, message in [({}, "batch_size is missing"), ({"batch_size": 0}, "batch_size is 0"),
                             ({"batch_size": "a"}, "batch_size is 'a', expected a positive whole number"),
                             ({"batch_size": 1, "workers": "b"}, "workers is 'b'"),
                             ({"batch_size": 1, "render_size": 40.5}, "render_size is 40.5"),
                             ({"batch_size": 1, "poses": "some"}, "poses is 'some'"),
                             ({"batch_size": 1, "workers": -1}, "workers is -1"),
                             ({"batch_size": 1, "sampler": BatchSampler(1, 1)}, "omit batch_size"),
                             ({"batch_size": 1, "render_size": 0}, "render_size is 0")]:
        with pytest.raises(ValueError, match=message):
            voxels.batches(**options)
    with pytest.raises(TypeError, match="augment is str"):
        voxels.batches(1, augment="upright")
    with pytest.raises(ValueError, match="items 0 to 19, there are 12"):
        list(voxels.batches(sampler=BatchSampler(20, 20)))


def test_kept_meshes_give_the_stored_cells_again(meshes: SparseDataset):
    stored = contents(meshes.batches(3, field=24))
    assert contents(meshes.batches(3, field=24, augment=Augmentation("none", 0, 0))) == stored
    (anew,) = meshes.batches(6, field=24, render_size=20)
    for number in range(6):
        cells = anew.input.coordinates[anew.input.coordinates[:, 0] == number, 1:]
        assert (cells.max(axis=0) - cells.min(axis=0) + 1).max() == 20
    (smallest,) = meshes.batches(6, render_size=1)
    assert np.bincount(smallest.input.coordinates[:, 0]).tolist() == [1] * 6
    (surface,), (solid,) = meshes.batches(6), meshes.batches(6, fill=True)
    assert len(solid.input) > len(surface.input)


def test_cells_outside_the_field_are_counted(meshes: SparseDataset):
    (batch,) = meshes.batches(6, render_size=20, field=10)
    assert batch.dropped.min() > 0


def test_stored_features_cannot_be_voxelized_again(tmp_path, meshes: SparseDataset):
    samples = list(meshes)
    with SparseDataset.create(tmp_path / "f.h5", samples, (10,) * 3, 10, meshes.classes) as dataset:
        (batch,) = dataset.batches(6)
        assert len(batch.input) == sum(map(len, samples))
        with pytest.raises(ValueError, match="stores features"):
            dataset.batches(6, render_size=12)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_failing_sample_is_named(voxels: SparseDataset, monkeypatch: pytest.MonkeyPatch, workers: int):
    read = SparseDataset.voxels

    def failing(self, index):
        if self.rows[index] == 21:
            raise OSError("disk on fire")
        return read(self, index)

    monkeypatch.setattr(SparseDataset, "voxels", failing)
    batches = voxels.batches(3, workers=workers)
    next(batches), next(batches)
    with pytest.raises(RuntimeError, match="sample 21 .'class1/object07', row 21 of .*: disk on fire"):
        next(batches)
    assert loader_threads() == []
    assert list(batches) == []


def test_no_thread_outlives_its_batches(voxels: SparseDataset):
    batches = voxels.batches(1, workers=2)
    next(batches)
    assert loader_threads()
    batches.close()
    assert loader_threads() == [] and list(batches) == []

    for _ in voxels.batches(1, workers=2):  # a loop that is left drops its iterator
        break
    gc.collect()
    assert loader_threads() == []

    with pytest.raises(KeyboardInterrupt), voxels.batches(1, workers=2) as batches:
        next(batches)
        raise KeyboardInterrupt
    assert loader_threads() == []


def test_workers_run_at_most_their_limit_ahead_and_stop_within_a_batch(voxels: SparseDataset, monkeypatch):
    read, started = SparseDataset.voxels, []

    def slow(self, index):
        started.append(index)
        time.sleep(0.02)
        return read(self, index)

    monkeypatch.setattr(SparseDataset, "voxels", slow)
    batches = voxels.batches(4, poses="all", workers=2)
    next(batches)
    time.sleep(0.5)
    assert len(started) == 4 * (1 + 3)  # the batch in use, and workers + 1 ahead
    batches.close()

    started.clear()
    with voxels.batches(12, poses="all", workers=1) as batches:
        next(batches)
        time.sleep(0.05)
    assert 12 < len(started) < 24
    assert loader_threads() == []


def test_an_empty_view_has_no_batches(voxels: SparseDataset):
    assert len(voxels.select([]).batches(4)) == 0
    assert list(voxels.select([]).batches(4, shuffle=True, workers=1)) == []
