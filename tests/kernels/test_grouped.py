"""Grouped and depthwise convolution kernels against the dense loops, group by group, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from convolution_cases import Table, forward, weight_gradient
from cuda_host.storage import each_storage, precise

import sparsenet as sn
from sparsenet import kernels
from sparsenet.kernels.grouped.cuda import CUDA_CHUNK

DEPTHWISE, NARROW, WIDE = (30, 20, 8, 3, 12, 3), (30, 40, 8, 6, 9, 3), (25, 30, 9, 18, 20, 2)
SHAPES = [DEPTHWISE, NARROW, WIDE,  # N, M, K, C_in, C_out, groups
          (40, 50, 9, 5, 5, 5), (30, 25, 27, 35, 70, 35), (20, 30, 4, 64, 64, 64), (20, 30, 8, 40, 40, 10),
          (0, 0, 8, 4, 4, 4), (0, 5, 8, 4, 8, 2), (0, 5, 8, 18, 20, 2), (1, 1, 1, 2, 2, 2)]
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


class Case:
    def __init__(self, n, m, k, c_in, c_out, groups, dtype=np.float64, submanifold=False, filled=0.5):
        rng = np.random.default_rng(n + c_in)
        table = np.full((m, k), -1, np.int32)
        for offset in range(k if n else 0):  # within one offset no row comes twice
            rows = rng.permutation(min(n, m))[:int(filled * min(n, m)) + 1]
            table[np.sort(rng.permutation(m)[:len(rows)]), offset] = np.sort(rows)
        if submanifold:  # n under k of m exactly if m under the opposite offset of n
            table[:, k // 2 + 1:] = -1
            table[:, k // 2] = np.arange(m)
            back = Table(table[:, :k // 2], n).transposed_neighbours
            table[:, k // 2 + 1:] = back[:, ::-1]
        self.rulebook, self.groups = Table(table, n, submanifold), groups
        arrays = (rng.standard_normal(shape).astype(dtype)
                  for shape in ((n, c_in), (k, c_in // groups, c_out), (m, c_out), (c_out,)))
        self.features, self.weights, self.gradient, self.constant = arrays

    def expected(self):
        """Output without the constant, gradients of input and weights."""
        x, w, g = (np.split(array, self.groups, axis=-1)
                   for array in precise(self.features, self.weights, self.gradient))
        back = [forward(part, weight.transpose(0, 2, 1), Table(self.rulebook.transposed_neighbours, len(part)), None)
                for part, weight in zip(g, w, strict=True)]
        return (np.concatenate([forward(*part, self.rulebook, None) for part in zip(x, w, strict=True)], axis=1),
                np.concatenate(back, axis=1),
                np.concatenate([weight_gradient(*part, self.rulebook) for part in zip(x, g, strict=True)], axis=2))

    def run(self, launch, constant=None, forward="grouped_convolution_forward"):
        return (launch(forward, self.features, self.weights, self.rulebook, constant, self.groups),
                launch("grouped_convolution_input_gradient", self.gradient, self.weights, self.rulebook, self.groups),
                launch("grouped_convolution_weight_gradient", self.features, self.gradient, self.rulebook, self.groups))


@each_storage
@each_shape
def test_all_passes(launch, dtype, shape):
    case = Case(*shape, dtype=dtype)
    for found, expected in zip(case.run(launch), case.expected(), strict=True):
        assert found.dtype == dtype
        reference.assert_close(found, expected)


@pytest.mark.parametrize("name", ["grouped_convolution_forward", "grouped_convolution_forward_by_row"])
@pytest.mark.parametrize("shape", [DEPTHWISE, NARROW, WIDE], ids=str)
def test_the_constant_is_added(launch, name, shape):
    case = Case(*shape)
    found, *_ = case.run(launch, case.constant, name)
    reference.assert_close(found, case.expected()[0] + case.constant)


@pytest.mark.parametrize(("channels", "groups"), [((6, 6), 6), ((4, 6), 2), ((18, 20), 2)])
def test_submanifold(launch, channels, groups):
    """Its transposed neighbours are its neighbours with the offsets reversed."""
    case = Case(30, 30, 9, *channels, groups, submanifold=True)
    for found, expected in zip(case.run(launch), case.expected(), strict=True):
        reference.assert_close(found, expected)


@pytest.mark.parametrize("rows", [CUDA_CHUNK, 2 * CUDA_CHUNK + 3])
def test_more_rows_than_a_chunk(launch, rows):
    case = Case(rows + 10, rows, 2, 4, 6, 2, filled=0.9)
    for found, expected in zip(case.run(launch), case.expected(), strict=True):
        reference.assert_close(found, expected)


def test_a_weight_gradient_of_many_rows_is_not_summed_in_float32():
    rows = 200_000
    table = Table(np.arange(rows, dtype=np.int32)[:, None], rows)
    x = np.full((rows, 3), 0.1, np.float32)
    found = kernels.launch("grouped_convolution_weight_gradient", x, x, table, 3)
    np.testing.assert_allclose(found, rows * np.float64(np.float32(0.1)) ** 2, rtol=1e-7)


@pytest.mark.parametrize("groups", [36, 12, 4])
def test_the_same_bits_for_any_number_of_threads(groups):
    case, before, results = Case(5000, 6000, 8, 36, 72, groups, np.float32), sn.get_num_threads(), set()
    try:
        for threads in (1, 2, 5):
            sn.set_num_threads(threads)
            results.add(b"".join(one.tobytes() for one in case.run(kernels.launch)))
    finally:
        sn.set_num_threads(before)
    assert len(results) == 1


@pytest.mark.parametrize("groups", [12, 3, 1])
def test_a_row_has_the_same_bits_alone(groups):
    case = Case(300, 300, 8, 12, 24, groups, np.float32)
    launched = [kernels.launch("grouped_convolution_forward_by_row", case.features, case.weights,
                               Table(case.rulebook.neighbours[rows], 300), case.constant, groups)
                for rows in (slice(None), slice(17, 18), slice(40, 300))]
    np.testing.assert_array_equal(launched[0][17:18], launched[1])
    np.testing.assert_array_equal(launched[0][40:], launched[2])


@pytest.mark.parametrize("backend", ["reference", "cpu", "cuda"], indirect=True)
@pytest.mark.parametrize("shape", [DEPTHWISE, NARROW, WIDE], ids=str)
def test_the_views_that_are_read_are_those_that_are_named(launch, backend, shape):
    seen: set[str] = set()

    class Watched(Table):
        def __getattribute__(self, name):
            seen.add(name)
            return super().__getattribute__(name)

    case = Case(*shape)
    channels = case.features.shape[1], case.weights.shape[2], case.groups
    table, views = case.rulebook.neighbours, {"neighbours", "transposed_neighbours", "pairs"}
    calls = {"grouped_convolution_forward": (case.features, case.weights, None),
             "grouped_convolution_input_gradient": (case.gradient, case.weights),
             "grouped_convolution_weight_gradient": (case.features, case.gradient)}
    for name, (first, second, *constant) in calls.items():
        case.rulebook = Watched(table, len(case.features))
        named = set(kernels.views_read(name, case.rulebook, *channels, backend=backend))
        seen.clear()
        launch(name, first, second, case.rulebook, *constant, case.groups)
        made_from = {"neighbours"} if named != {"neighbours"} else set()  # the others, by this rulebook
        assert named and (seen & views) - made_from == named - made_from


@pytest.mark.parametrize(("groups", "message"), [
    (2, "features have 6 channels, the weights expect 4 in 2 groups"),
    (0, "features have 6 channels, the weights expect 0 in 0 groups"),
])
def test_groups_that_do_not_fit_are_refused(groups, message):
    case = Case(10, 10, 4, 6, 9, 3)
    case.groups = groups
    with pytest.raises(ValueError, match=f"grouped_convolution_forward: {message}"):
        case.run(kernels.launch)


@pytest.mark.parametrize("name", ["input_gradient", "weight_gradient"])
def test_groups_that_do_not_divide_the_channels_are_refused(name):
    case = Case(10, 10, 4, 6, 9, 3)
    first = (case.gradient, case.weights) if name == "input_gradient" else (case.features, case.gradient)
    with pytest.raises(ValueError, match=f"grouped_convolution_{name}: .* a number of groups that divides both"):
        kernels.launch(f"grouped_convolution_{name}", *first, case.rulebook, 2)
