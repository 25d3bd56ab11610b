"""A small draw of the campaign of damaged meshes, and that the campaign finds the faults it looks for."""

from __future__ import annotations

import pytest
from campaign import faulty_readers
from campaign.meshes import all_files, campaign, damaged
from campaign.seeds import made_files

from sparsenet.shapes import read_mesh


def test_500_damaged_meshes_give_geometry_or_one_clear_error(tmp_path):
    result = campaign(500, seed=0, workers=2, keep=tmp_path)
    assert result.failures == {} and sum(result.tally.values()) == 500
    assert min(result.tally["read"], result.tally["refused"]) > 50


@pytest.mark.parametrize(("read", "outcome"), [
    (faulty_readers.crashes, "died: exit code -6"),
    (faulty_readers.raises, "raised: IndexError"),
    (faulty_readers.warns, "raised: RuntimeWarning"),
    (faulty_readers.takes_three_gigabytes, "raised: MemoryError"),
    (faulty_readers.hangs, "died: exit code -24"),  # SIGXCPU
    (faulty_readers.talks_in_two_lines, "unclear"),
    (faulty_readers.names_no_file, "unclear"),
    (faulty_readers.gives_what_is_not_finite, "unsound"),
])
def test_each_kind_of_fault_is_found_and_its_file_kept(tmp_path, read, outcome):
    result = campaign(1, seed=0, workers=1, keep=tmp_path, read=read, limit=0.5)
    (name, found), = result.failures.items()
    assert found.startswith(outcome)
    assert (tmp_path / name).read_bytes() == damaged(all_files(), 0, 0)[1]


def test_a_worker_that_dies_leaves_the_rest_to_another(tmp_path):
    result = campaign(3, seed=0, workers=1, keep=tmp_path, read=faulty_readers.crashes)
    assert len(result.failures) == 3


def test_the_same_seed_damages_the_same_way():
    files = made_files()
    draws = [damaged(files, 3, number) for number in range(50)]
    assert draws == [damaged(files, 3, number) for number in range(50)]
    assert draws != [damaged(files, 4, number) for number in range(50)]
    assert len({data for _, data in draws}) > 45


@pytest.mark.parametrize("name", sorted(made_files()))
def test_the_files_are_whole_before_they_are_damaged(tmp_path, name):
    (tmp_path / name).write_bytes(made_files()[name])
    assert len(read_mesh(tmp_path / name).faces) >= 2
