"""A mesh in, the nearest shapes out."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest

import sparsenet as sn
from sparsenet.data import SparseDataset
from sparsenet.retrieval import Descriptors, Found, embed, find_similar
from sparsenet.retrieval import index as index_module
from sparsenet.retrieval.space import Space
from sparsenet.training import ConfigError, embed_shapes, load_network, open_shapes, parse_config


@pytest.fixture(scope="module")
def trained(experiment):
    net, state = load_network(experiment.checkpoint)
    config = parse_config(state.config, "test")
    with open_shapes(config, experiment.checkpoint) as shapes:
        return net, state, config, embed_shapes(net, state, config, shapes)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_a_mesh_of_the_dataset_finds_itself(experiment, trained, metric, tmp_path):
    net, _, _, descriptors = trained
    for number in (0, 7, 14):
        from_file = find_similar(net, experiment.write_mesh(number, tmp_path / "q.off"), descriptors, 3, metric)
        from_memory = find_similar(net, experiment.meshes[number], descriptors, 3, metric)
        assert from_file.rows[0] == number
        assert from_file.distances[0] < 1e-4  # float32: a batch of one rounds otherwise than one of many
        assert np.array_equal(from_file.rows, from_memory.rows)


def test_a_network_for_any_field_sees_the_query_in_a_grid_of_its_render_size(experiment, trained, monkeypatch):
    net, _, _, known = trained
    monkeypatch.setattr(net, "field", None)
    found = find_similar(net, experiment.meshes[0], replace(known, render_size=14), 2)
    assert found.dropped == 0 and np.ptp(found.cells, axis=0).max() == 13


def test_the_index_is_built_once(experiment, trained, monkeypatch):
    net, _, _, known = trained
    built = []
    monkeypatch.setattr(index_module, "Space", lambda *arguments: built.append(1) or Space(*arguments))
    descriptors = replace(known)
    first = [find_similar(net, mesh, descriptors, 2, "l2").rows.tolist() for mesh in experiment.meshes[:3]]
    assert len(built) == 1
    descriptors.vectors = descriptors.vectors[::-1].copy()
    again = [find_similar(net, mesh, descriptors, 2, "l2").rows.tolist() for mesh in experiment.meshes[:3]]
    assert len(built) == 2 and again == [[14 - row for row in rows] for rows in first]


def test_a_network_in_float64_finds_the_same(experiment, trained):
    net, _, _, descriptors = trained
    expected = find_similar(net, experiment.meshes[7], descriptors, 3)
    net.to(dtype="float64")
    try:
        assert np.array_equal(find_similar(net, experiment.meshes[7], descriptors, 3).rows, expected.rows)
    finally:
        net.to(dtype="float32")


def test_the_descriptors_know_what_they_were_made_from(experiment, trained):
    _, state, _, descriptors = trained
    assert (len(descriptors), descriptors.checkpoint, descriptors.layer) == (15, state.digest, 8)
    assert (descriptors.render_size, descriptors.fill) == (12, False)
    assert descriptors.samples.tolist() == list(range(15, 30))  # the test split comes second in the file
    assert descriptors.dataset == str(experiment.dataset.resolve())


def test_the_split_and_the_dataset_can_be_named(experiment, trained):
    _, _, config, _ = trained
    for split, count in ((None, 15), ("train", 15), ("all", 30)):
        with open_shapes(config, experiment.checkpoint, experiment.dataset, split) as shapes:
            assert len(shapes) == count
    with pytest.raises(FileNotFoundError, match="absent.h5: no such dataset file"):
        open_shapes(config, experiment.checkpoint, experiment.folder / "absent.h5")


def test_it_prints_as_an_aligned_table(experiment, trained):
    net, _, _, descriptors = trained
    found = find_similar(net, experiment.meshes[0], descriptors, 12)
    header, *lines = str(found).splitlines()
    assert header.split() == ["rank", "class", "name", "distance"]
    assert [line.split()[0] for line in lines] == [str(rank) for rank in range(1, 13)]
    assert lines[0].split()[1:3] == ["mug", "mug/test0"]
    assert len(set(map(len, lines))) == 1
    places = [(line.index(name), len(line)) for line, name in zip(lines, found.names, strict=True)]
    assert len(set(places)) == 1 and header.startswith("rank  class  name")
    for line, label, name, distance in zip(lines, found.labels, found.names, found.distances, strict=True):
        assert line.split()[1:] == [label, name, f"{distance:.6f}"]


def test_long_and_short_names_are_in_one_column(trained):
    _, _, _, known = trained
    descriptors = replace(known, names=[f"mug/{'x' * number}" for number in range(15)])
    found = Found("q", np.zeros((1, 3), int), 0, np.arange(12.0), np.arange(12), descriptors)
    header, *lines = str(found).splitlines()
    assert {line.index("mug/") for line in lines} == {header.index("name")}
    assert {len(line) for line in lines} == {len(header)}


def test_the_picture_shows_the_query_and_what_was_found(experiment, trained):
    pytest.importorskip("matplotlib")
    net, _, _, descriptors = trained
    found = find_similar(net, experiment.meshes[0], descriptors, 4, name="my_mug.off")
    figure = found.picture(label="mug")
    texts = [text.get_text() for text in figure.texts]
    assert len(figure.axes) == 5 and "my_mug.off" in texts
    for rank, label in enumerate(found.labels, 1):
        assert f"{rank}. {label} {'✓' if label == 'mug' else '✗'}" in texts


def test_a_picture_from_another_dataset_is_refused(experiment, trained, tmp_path):
    net, _, _, descriptors = trained
    found = find_similar(net, experiment.meshes[0], descriptors, 2)
    with SparseDataset.open(experiment.dataset) as shapes:
        other = [shapes[number] for number in range(4)]
    SparseDataset.create(tmp_path / "other.h5", other, (12, 12, 12), 12, ["mug", "stool", "table"]).close()
    with pytest.raises(ValueError, match="is not 'mug/test0': name the dataset"):
        found.picture(tmp_path / "other.h5")


def test_the_picture_shows_results_at_the_render_size_that_they_were_embedded_at(experiment, trained, tmp_path):
    pytest.importorskip("matplotlib")
    net, _, _, known = trained
    with SparseDataset.open(experiment.dataset) as shapes:
        samples = [replace(shapes[number], features=None, mesh=mesh)
                   for number, mesh in enumerate(experiment.meshes, 15)]
    with SparseDataset.create(tmp_path / "m.h5", samples, (12, 12, 12), 12, ["mug", "stool", "table"]) as shapes:
        descriptors = Descriptors.of(net, shapes, render_size=8)
        found = find_similar(net, experiment.meshes[0], descriptors, 2)
        cells = found._cells(shapes, 0)
        assert np.ptp(cells, axis=0).max() + 1 == 8 == np.ptp(found.cells, axis=0).max() + 1
        assert np.array_equal(Found._cells(replace(found, descriptors=known), shapes, 0), shapes.voxels(0)[0])
        assert len(found.picture().axes) == 3
        solid = Descriptors.of(net, shapes, render_size=8, fill=True)
        assert solid.fill and np.array_equal(solid.vectors, embed(net, shapes, render_size=8, fill=True))
        assert not np.array_equal(solid.vectors, descriptors.vectors)
        for number, mesh in enumerate(experiment.meshes):
            found = find_similar(net, mesh, solid, 2)
            volume = sn.Off3DPicture(mesh, 8).voxelize(14, fill=True).coordinates
            assert np.array_equal(found.cells, volume) and len(found._cells(shapes, number)) == len(volume)


def test_a_query_that_loses_cells_says_so(experiment, trained):
    net, _, _, known = trained
    found = find_similar(net, experiment.meshes[0], replace(known, render_size=20), 2, name="big.off")
    first, *table = str(found).splitlines()
    assert found.dropped > 0 and len(table) == 3
    assert first == (f"big.off: {found.dropped} of {found.dropped + len(found.cells)} voxels are outside the network's "
                     "grid and were dropped")


def test_a_label_that_is_no_class_names_the_nearest(experiment, trained):
    net, _, _, descriptors = trained
    with pytest.raises(ValueError, match="'stol' is not one of the 3 .*: did you mean stool?"):
        find_similar(net, experiment.meshes[0], descriptors, 2).picture(label="stol")


def test_shapes_larger_than_the_network_s_grid_are_refused(experiment, trained):
    net, state, config, _ = trained
    large = parse_config(config.text(), "test", ["data.render_size=20"])
    with open_shapes(config, experiment.checkpoint) as shapes, pytest.raises(ConfigError, match="would be cropped"):
        embed_shapes(net, state, large, shapes)


def test_unknown_labels_are_question_marks(experiment, trained):
    net, _, _, known = trained
    unlabelled = Descriptors(known.vectors, np.full(15, -1), known.names, dataset=known.dataset, samples=known.samples,
                             render_size=12)
    assert find_similar(net, experiment.meshes[0], unlabelled, 2).labels == ["?", "?"]


def test_an_empty_index_or_a_wrong_k_is_refused(experiment, trained):
    net, _, _, descriptors = trained
    with pytest.raises(ValueError, match="k is 16, expected 1 to 15"):
        find_similar(net, experiment.meshes[0], descriptors, 16)
    empty = Descriptors(np.empty((0, descriptors.vectors.shape[1])), [], [], render_size=12)
    with pytest.raises(ValueError, match="the index is empty"):
        find_similar(net, experiment.meshes[0], empty, 1)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda found: pickle.loads(pickle.dumps(found))])
def test_a_copy_prints_the_same(experiment, trained, copied):
    net, _, _, descriptors = trained
    found = find_similar(net, experiment.meshes[0], descriptors, 2)
    assert str(copied(found)) == str(found) and copied(found).names == found.names
