"""The other pictures: render sizes, hash table, rulebook, confusion, map of descriptors."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("matplotlib")

import sparsenet as sn
from sparsenet.inspect import (
    confusion_counts,
    confusion_matrix,
    descriptor_map,
    hash_table,
    hash_table_report,
    principal_components,
    render_sizes,
    rulebook,
)
from sparsenet.random import keyed_rng
from sparsenet.shapes import parametric_mesh
from sparsenet.sparse import ActiveSites, Geometry


class TestRenderSizes:
    def test_the_mesh_and_its_voxels_at_each_size(self, readable):
        mesh = parametric_mesh("table", keyed_rng(0))
        figure = render_sizes(mesh, (5, 9))
        readable(figure)
        titles = [axes.get_title() for axes in figure.axes]
        assert titles[0] == f"mesh\n{len(mesh.faces):,} triangles"
        for title, size in zip(titles[1:], (5, 9), strict=True):
            count = len(sn.Off3DPicture(mesh, size).voxelize(size).coordinates)
            assert title.startswith(f"render size {size}\n{count:,} voxels, {100 * count / size**3:.1f}%")

    def test_a_triangle_without_area_is_no_trouble(self):
        mesh = sn.shapes.Mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2], [0, 0, 1]])
        assert len(render_sizes(mesh, (4,)).axes) == 2

    def test_no_sizes(self):
        with pytest.raises(ValueError, match="sizes is empty"):
            render_sizes(parametric_mesh("mug", keyed_rng(0)), ())


class TestHashTable:
    def sites(self, rng, count, side=30):
        cells = rng.choice(side**3, size=count, replace=False)
        cells = np.stack(np.unravel_index(cells, (side,) * 3), axis=1)
        return ActiveSites(np.insert(cells, 0, 0, axis=1), (side,) * 3, 1)

    def test_the_report_against_the_table(self, rng):
        sites = self.sites(rng, 500)
        found = hash_table_report(sites)
        table_keys, _ = sites.hash_table
        assert (found["keys"], found["slots"], found["load"]) == (500, 1024, 500 / 1024)
        assert sorted(table_keys[found["slots_of_keys"]].tolist()) == sites.keys.tolist()
        lengths = found["probe_lengths"]
        assert lengths.min() == 1 and found["longest_probe"] == lengths.max()
        assert found["at_home"] == (lengths == 1).mean() and found["mean_probe"] == lengths.mean()

    @pytest.mark.parametrize("count", [0, 1, 6, 3000])
    def test_the_picture(self, rng, count, readable):
        sites = self.sites(rng, count)
        figure = hash_table(sites)
        readable(figure)
        found = hash_table_report(sites)
        assert figure.axes[0].get_title() == f"{count:,} keys in {found['slots']:,} slots: load {found['load']:.2f}"
        slots = np.ma.filled(figure.axes[0].images[0].get_array().astype(float), np.nan)
        assert np.isfinite(slots).sum() == count and slots.size == found["slots"]

    def test_a_sparse_tensor_is_replaced_by_its_sites(self, rng):
        sites = self.sites(rng, 20)
        x = sn.SparseTensor.from_sites(np.ones((20, 1), "f4"), sites)
        assert hash_table_report(x)["keys"] == 20


class TestRulebook:
    def picture(self, rng, geometry, output=0):
        dense = (rng.random((1, 1, 6, 5)) < 0.25).astype("f4")
        x = sn.SparseTensor.from_dense(dense)
        return rulebook(x, geometry, output), x.sites.rulebook(geometry)

    @pytest.mark.parametrize("geometry", [Geometry.make(2, 2), Geometry.make(2, 3, 2, 1), Geometry.make(2, (1, 3)),
                                          Geometry.make_submanifold(2, 3)])
    def test_the_table_is_the_neighbours(self, rng, geometry, readable):
        figure, rules = self.picture(rng, geometry, output=1)
        readable(figure)
        inputs, filters, outputs, table = figure.axes
        assert [text.get_text() for text in inputs.texts] == [str(row) for row in range(len(rules.input_sites))]
        assert [text.get_text() for text in filters.texts] == [str(k) for k in range(geometry.volume)]
        assert [text.get_text() for text in outputs.texts] == [str(row) for row in range(len(rules.output_sites))]
        shown = [-1 if text.get_text() == "–" else int(text.get_text()) for text in table.texts]
        assert shown == rules.neighbours.ravel().tolist()
        assert f"neighbours: {rules.pair_count} pairs" in table.get_title()

    def test_the_outline_is_the_window_of_the_output(self, rng):
        geometry = Geometry.make(2, 2, 2)
        figure, rules = self.picture(rng, geometry, output=2)
        window = figure.axes[0].patches[-1]
        origin = rules.output_sites.coordinates[2, 1:] * 2
        assert np.allclose(window.get_xy(), origin, atol=0.1)
        assert round(window.get_width()) == round(window.get_height()) == 2

    def test_what_is_too_large_to_read(self, rng):
        large = sn.SparseTensor.from_dense(np.ones((1, 1, 30, 30), "f4"))
        with pytest.raises(ValueError, match=r"grid \(30, 30\), 4 offsets: expected .* draw a small example"):
            rulebook(large, Geometry.make(2, 2))
        full = sn.SparseTensor.from_dense(np.ones((1, 1, 10, 10), "f4"))
        with pytest.raises(ValueError, match="81 output sites .* expected 1 to 40"):
            rulebook(full, Geometry.make(2, 2))
        with pytest.raises(ValueError, match="output is 99, expected 0 to"):
            self.picture(rng, Geometry.make(2, 2), output=99)


class TestConfusion:
    def test_counts_by_hand(self):
        counts = confusion_counts([0, 0, 1, 2, 2, 2], [0, 1, 1, 2, 0, 2], 3)
        assert counts.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 2]]

    def test_probabilities_are_replaced_by_the_likeliest_class(self):
        assert confusion_counts([1, 0], [[0.2, 0.8], [0.9, 0.1]], 2).tolist() == [[1, 0], [0, 1]]

    @pytest.mark.parametrize("classes", [2, 10, 40])
    def test_the_picture(self, rng, classes, readable):
        names = [f"class_{number}" for number in range(classes)]
        labels = rng.integers(0, classes - 1, 300)  # the last class has no sample
        predictions = np.where(rng.random(300) < 0.7, labels, rng.integers(0, classes, 300))
        figure = confusion_matrix(labels, predictions, names)
        readable(figure)
        axes = figure.axes[0]
        right = (labels == predictions).sum()
        assert axes.get_title() == f"{right:,} of 300 right, {right / 3:.1f}%"
        counts = confusion_counts(labels, predictions, classes)
        shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        np.testing.assert_allclose(axes.images[0].get_array(), shares)

    def test_what_does_not_fit(self):
        with pytest.raises(ValueError, match="labels go from -1 to 1, expected 0 to 1: leave out"):
            confusion_counts([-1, 1], [0, 1], 2)
        with pytest.raises(ValueError, match=r"labels have shape \(2,\), predictions \(3,\)"):
            confusion_counts([0, 1], [0, 1, 1], 2)
        with pytest.raises(ValueError, match="labels is empty"):
            confusion_matrix([], [], ["a"])


class TestDescriptorMap:
    def test_components_against_the_covariance(self, rng):
        vectors = rng.standard_normal((60, 5)) * [5, 3, 1, 1, 1]
        places, shares = principal_components(vectors)
        powers = np.linalg.eigvalsh(np.cov(vectors.T))[::-1]
        np.testing.assert_allclose(places.var(axis=0, ddof=1), powers[:2])
        np.testing.assert_allclose(shares, powers[:2] / powers.sum())
        flipped, _ = principal_components(vectors[::-1])
        np.testing.assert_allclose(flipped[::-1], places, atol=1e-9)  # no sign by chance

    def test_collapsed_and_few_descriptors(self):
        places, shares = principal_components(np.ones((4, 3)))
        assert (places == 0).all() and (shares == 0).all()
        np.testing.assert_allclose(principal_components(np.eye(2))[1], [1, 0], atol=1e-12)
        with pytest.raises(ValueError, match=r"vectors have shape \(1, 3\)"):
            principal_components(np.ones((1, 3)))

    def test_points_by_class_and_thumbnails_that_do_not_touch(self, rng, readable):
        labels = np.repeat([0, 1, 2, -1], 10)
        vectors = rng.standard_normal((40, 6)) + 4 * np.eye(6)[labels]
        cells = [np.argwhere(np.ones((2, 3, 2))) for _ in labels]
        figure = descriptor_map(vectors, labels, ["chair", "mug", "bed"], cells, thumbnails=7)
        readable(figure)
        plane, *small = figure.axes
        assert [text.get_text() for text in plane.get_legend().get_texts()] == ["not known", "chair", "mug", "bed"]
        assert sum(len(points.get_offsets()) for points in plane.collections) == 40
        assert 2 <= len(small) <= 7
        boxes = [axes.get_position() for axes in small]
        assert not any(a.overlaps(b) for number, a in enumerate(boxes) for b in boxes[number + 1:])

    def test_forty_classes_are_distinguishable(self, rng, readable):
        labels = np.arange(40)
        figure = descriptor_map(rng.standard_normal((40, 3)), labels, [f"class {i}" for i in labels])
        readable(figure)
        looks = {(tuple(points.get_facecolor()[0]), points.get_paths()[0].vertices.tobytes())
                 for points in figure.axes[0].collections}
        assert len(looks) == 40

    def test_lengths_that_differ(self, rng):
        with pytest.raises(ValueError, match="4 vectors, 3 labels, no cells"):
            descriptor_map(rng.standard_normal((4, 3)), [0, 0, 0], ["a"])
