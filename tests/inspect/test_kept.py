"""The memory that a training step keeps, as a trace lists it."""

from __future__ import annotations

import csv
import gc
import io
import tracemalloc

import pytest
import reference

import sparsenet as sn
from sparsenet import nn
from sparsenet.autograd import Function
from sparsenet.inspect import Kept, trace
from sparsenet.sparse.kept import kept_arrays

FIELD = (9, 9)


def sparse_input(rng, channels=2, background="zeros"):
    coordinates = reference.random_coordinates(rng, 20, FIELD, 2)
    return sn.SparseTensor(rng.standard_normal((20, channels)).astype("f4"), coordinates, FIELD, 2, background)


def rows(rng, channels=3):
    return sn.Tensor(rng.standard_normal((5, channels)).astype("f4"))


def shares(seen):
    return [record.saved_bytes for record in seen]


class TestActivations:
    def test_each_array_counts_at_the_layer_that_saved_it_first(self, rng):
        net = nn.Sequential(nn.Linear(3, 4, rng=0), nn.LeakyReLU(0.1), nn.Linear(4, 2, rng=1))
        seen = trace(net, rows(rng))
        assert shares(seen) == [5 * 3 * 4, 5 * 4 * 4, 0]  # the second Linear's input is what LeakyReLU saved
        assert seen.kept.activations == 140

    def test_views_count_as_the_array_that_they_show(self, rng):
        class Half(Function):
            def forward(self, x):
                self.save([x[:2], (x[1:, :1], None)], sn.Tensor(x))
                return 0.5 * x

        class Halves(nn.Module):
            def forward(self, x):
                return Half().apply(Half().apply(x))

        x = rows(rng)
        x.requires_grad = True
        assert shares(trace(nn.Sequential(Halves(), Halves()), x)) == [2 * x.array.nbytes] * 2

    def test_layers_within_others_have_their_own(self, rng):
        class Scaled(nn.Module):
            """Its own functions are applied before, between and after those of its layers."""

            def __init__(self):
                self.first, self.second = nn.Linear(3, 3, rng=0), nn.Linear(3, 3, rng=1)

            def forward(self, x):
                return (self.second(self.first(x.exp()).exp())).exp()

        x = rows(rng)
        x.requires_grad = True
        seen = trace(Scaled(), x)
        size = x.array.nbytes  # exp saves its result, which the layer behind it saves too
        assert dict(zip([record.name for record in seen], shares(seen), strict=True)) == {
            "first": 0, "second": 0, "scaled": 3 * size}

    def test_a_composite_without_a_record_counts_in_the_total(self, rng):
        class Through(nn.Module):
            def __init__(self):
                self.inner = nn.Linear(3, 3, rng=0)

            def forward(self, x):
                return self.inner(x.tanh())

        x = rows(rng)
        x.requires_grad = True
        seen = trace(Through(), x)
        assert shares(seen) == [0] and seen.kept.activations == x.array.nbytes

    def test_a_branch_that_the_output_does_not_need_is_freed(self, rng):
        class Unused(nn.Module):
            def __init__(self):
                self.used, self.other = nn.Linear(3, 2, rng=0), nn.Tanh()

            def forward(self, x):
                y = self.used(x)
                self.other(y)
                return y

        x = rows(rng)
        assert shares(trace(Unused(), x)) == [x.array.nbytes, 0]

    def test_it_is_what_a_forward_pass_leaves_behind(self, rng):
        net = sn.unet(3, channels=(8, 16), in_channels=2)
        x = sn.SparseTensor.from_dense(rng.standard_normal((1, 2, 14, 14, 14)).astype("f4"))
        seen = trace(net, x)
        net(x).features.sum().backward()  # makes what is made once
        gc.collect()
        tracemalloc.start()
        try:
            y = net(x)
            held = tracemalloc.get_traced_memory()[0] - y.features.array.nbytes - x.features.array.nbytes
        finally:
            tracemalloc.stop()
        assert seen.kept.activations - 2 * x.features.array.nbytes == pytest.approx(held, rel=0.05)


class TestWeightsAndRulebooks:
    def test_weights_shared_and_frozen(self, rng):
        layer = nn.Linear(3, 3, rng=0)
        net = nn.Sequential(layer, nn.ReLU(), layer, nn.Linear(3, 2, rng=1))
        net[3].weight.requires_grad = False
        kept = trace(net, rows(rng)).kept
        assert (kept.weights, kept.gradients) == (4 * (9 + 3 + 6 + 2), 4 * (9 + 3 + 2))

    def test_all_views_that_exist_once(self, rng):
        net = sn.SparseNetwork(2, 2).add_submanifold(4, 3).add_submanifold(4, 3).add_convolution(4, 2, 2)
        x = sparse_input(rng)
        before = trace(net, x).kept.rulebooks
        same, halves = (x.sites.rulebook(layer.geometry) for layer in (net.layers[0], net.layers[2]))
        assert before == sum({one.ctypes.data: one.nbytes for one in kept_arrays(x.sites)}.values())
        assert before >= x.sites.keys.nbytes + x.coordinates.nbytes + halves.output_sites.keys.nbytes
        for rulebook in (same, halves):
            rulebook.prepare({"pairs", "neighbours", "transposed_neighbours"})
        held = [one for book in (same, halves) for one in (book.pairs, book.pair_splits, book.neighbours)]
        held.append(halves.transposed_neighbours)  # those of the submanifold filter are a view of its neighbours
        for sites in (x.sites, halves.output_sites):
            held += [sites.keys, sites.coordinates, sites.permutation, sites.batch_splits]
        more = trace(net, x).kept.rulebooks
        assert more == trace(net, x).kept.rulebooks >= sum(one.nbytes for one in held) > before
        assert {id(one) for one in held} <= {id(one) for one in kept_arrays(x.sites)}

    def test_unions_and_finer_grids(self, rng):
        x, y = sparse_input(rng), sparse_input(rng)
        z = sn.ops.upsample(x + y, 2)
        found = {id(one) for one in kept_arrays(x.sites)}
        sites, places = sn.sparse.union(x.sites, y.sites)
        assert {id(one) for one in (sites.keys, *places, z.sites.keys)} <= found

    def test_an_array_of_the_rulebooks_is_no_activation(self, rng):
        class Keys(Function):
            def __init__(self, keys):
                super().__init__()
                self.keys = keys

            def forward(self, x):
                self.save(self.keys, self.keys[1:])
                return 1 * x

        class Layer(nn.Module):
            def forward(self, x):
                return x.with_features(Keys(x.sites.keys).apply(x.features), None)

        x = sparse_input(rng, background=None)
        x.features.requires_grad = True
        seen = trace(Layer(), x)
        assert shares(seen) == [0] and seen.kept == Kept(0, 0, 0, seen.kept.rulebooks)


class TestWhereItStands:
    def network(self):
        return sn.SparseNetwork(2, 2).add_convolution(4, 2).add_batch_norm().add_relu().add_linear(3)

    def test_in_the_dict(self, rng):
        seen = trace(self.network(), sparse_input(rng))
        found = seen.to_dict()
        kept, total = seen.kept, found["total"]
        assert [layer["saved_bytes"] for layer in found["layers"]] == shares(seen)
        names = ("saved_bytes", "weight_bytes", "gradient_bytes", "all_rulebook_bytes", "kept_bytes")
        assert [total[name] for name in names] == [kept.activations, kept.weights, kept.gradients, kept.rulebooks,
                                                   kept.total]
        assert total["saved_bytes"] == sum(shares(seen)) and min(total[name] for name in names) > 0
        assert kept.total == kept.activations + kept.weights + kept.gradients + kept.rulebooks

    def test_in_the_csv(self, rng):
        seen = trace(self.network(), sparse_input(rng))
        assert [int(row["saved_bytes"]) for row in csv.DictReader(io.StringIO(seen.to_csv()))] == shares(seen)

    def test_in_the_printed_table(self, rng):
        seen = trace(self.network(), sparse_input(rng))
        heading, _, _, *layers, _, total, kept = str(seen).split("\n\n")[0].splitlines()
        end = heading.index("saved KB") + len("saved KB")
        assert [float(line[:end].split()[-1]) for line in layers[:3]] == [
            pytest.approx(size / 1000, rel=5e-3) for size in shares(seen)[:3]]
        assert float(total[:end].split()[-1]) == pytest.approx(sum(shares(seen)) / 1000, rel=5e-3)
        assert kept == f"kept for a step: {seen.kept}" and kept.startswith("kept for a step: activations 0.0")

    @pytest.mark.parametrize("total, text", [(0, "0.000000"), (999_999, "0.999999"), (1_234_567, "1.235"),
                                             (130_000_000, "130.0"), (43_210_600_000, "43211")])
    def test_megabytes_to_four_digits(self, total, text):
        assert str(Kept(total, 0, 0, 0)).endswith(f" = {text} MB")

    def test_nothing_without_a_graph(self, rng):
        with sn.no_grad():
            seen = trace(self.network(), sparse_input(rng))
        total = seen.to_dict()["total"]
        assert seen.kept is None and shares(seen) == [None] * 5 and total["kept_bytes"] == total["saved_bytes"] == 0
        assert "kept" not in str(seen) and csv.DictReader(io.StringIO(seen.to_csv())).__next__()["saved_bytes"] == ""

    def test_it_stays_as_it_was_after_the_backward_pass_and_with_repeats(self, rng):
        net, x = self.network(), sparse_input(rng)
        seen = trace(net, x, repeats=1)
        before = seen.to_dict()["total"]["kept_bytes"], shares(seen)
        seen.output.sum().backward()
        assert (seen.to_dict()["total"]["kept_bytes"], shares(seen)) == before
