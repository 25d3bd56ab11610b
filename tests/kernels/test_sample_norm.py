"""Kernels of instance and group norm: values and gradients against loops over all cells of each sample."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from cuda_host.storage import each_storage, in_half, precise

from sparsenet import kernels
from sparsenet.kernels import get_num_threads, set_num_threads
from sparsenet.kernels.norm.cuda import CUDA_CHUNK

EPS = 1e-3
each_background = pytest.mark.parametrize("backgrounds", [0, 1, 4], ids=["none", "one", "one for each sample"])


class Case:
    """Four samples, the second without a site, the third with one; what the kernels take, and all cells of a sample."""

    def __init__(self, rng, rows, channels, groups, backgrounds, cells, dtype):
        self.splits = np.array([0, rows // 3, rows // 3, rows // 3 + 1, rows + 1], np.int64)
        self.features = (rng.standard_normal((rows + 1, channels)) + 3).astype(dtype)
        self.background = (rng.standard_normal((backgrounds, channels)) + 2).astype(dtype) if backgrounds else None
        self.weight, self.bias = rng.standard_normal((2, channels)).astype(dtype)
        self.gradient = rng.standard_normal(self.features.shape).astype(dtype)
        self.to_background = rng.standard_normal((4, channels)).astype(dtype) if backgrounds else None
        self.groups, self.cells = groups, cells and max(cells, rows + 2)

    def cells_of(self, sample, rows, background):
        """(1, C, cells) float64, the sites first, then a background cell, which need not count, and the others."""
        own = rows[self.splits[sample]:self.splits[sample + 1]]
        parts = [own]
        if background is not None:
            parts.append(background[[sample % len(background)]].repeat(max(self.cells - len(own), 1), axis=0))
        return np.concatenate(parts).astype(np.float64).T[None], len(own)

    def forward(self, launch):
        return launch("sample_norm_forward", self.features, self.background, self.splits, self.cells, self.weight,
                      self.bias, self.groups, EPS)

    def backward(self, launch, moments):
        return launch("sample_norm_backward", self.features, self.background, self.gradient, self.to_background,
                      self.splits, self.cells, moments, self.weight, EPS)

    def expected(self):
        """By loops: outputs, moments, and all gradients."""
        weight, bias = precise(self.weight, self.bias)
        out, back = np.zeros(self.features.shape), np.zeros(self.features.shape)
        under = None if self.background is None else np.zeros((4, len(weight)))
        to_under = None if self.background is None else np.zeros(self.background.shape)
        moments, sums = np.zeros((2, 4, self.groups)), np.zeros((2, len(weight)))
        moments[1] = 1
        for sample in range(4):
            grid, sites = self.cells_of(sample, self.features, self.background)
            if not grid.size:
                continue
            counts = np.ones((1, 1, grid.shape[2]), bool)
            counts[:, :, sites:] = self.cells > 0
            counts[...] |= not sites
            y = reference.group_norm(grid, self.groups, weight, bias, EPS, counts)
            counted = grid[:, :, counts[0, 0]].reshape(self.groups, -1)
            moments[:, sample] = counted.mean(axis=1), counted.var(axis=1)
            gradient = np.zeros(grid.shape)
            own = slice(self.splits[sample], self.splits[sample + 1])
            gradient[0, :, :sites] = self.gradient[own].T
            if under is not None:  # the gradient of the background stands for that of all its cells
                gradient[0, :, sites] = self.to_background[sample]
            of_x, of_weight, of_bias = reference.group_norm_backward(gradient, grid, self.groups, weight, EPS, counts)
            out[own], back[own] = y[0, :, :sites].T, of_x[0, :, :sites].T
            sums += of_bias, of_weight
            if under is not None:
                under[sample] = y[0, :, sites]
                to_under[sample % len(to_under)] += of_x[0, :, sites:].sum(axis=1)
        return (out, under, moments), (back, to_under, sums)


@each_storage
@each_background
@pytest.mark.parametrize("cells", [0, 30], ids=["sites", "grid"])
@pytest.mark.parametrize(("rows", "channels", "groups"), [(0, 3, 3), (20, 6, 2), (37, 48, 1), (23, 70, 70),
                                                          (5, 320, 4)])
def test_values_and_gradients_are_those_of_all_cells(launch, dtype, backgrounds, cells, rows, channels, groups, rng):
    case = Case(rng, rows, channels, groups, backgrounds, cells, dtype)
    outputs, gradients = case.expected()
    found = case.forward(launch)
    np.testing.assert_allclose(found[2], outputs[2], rtol=1e-10, atol=1e-10)
    found_back = case.backward(launch, outputs[2])
    np.testing.assert_allclose(found_back[2], gradients[2], rtol=1e-10, atol=1e-8)
    for what, actual, wanted in (("y", found[0], outputs[0]), ("background", found[1], outputs[1]),
                                 ("gradient", found_back[0], gradients[0]),
                                 ("gradient of the background", found_back[1], gradients[1])):
        if wanted is None:
            assert actual is None
            continue
        assert actual.dtype == dtype
        reference.assert_close(actual, wanted, what)


@pytest.mark.parametrize("rows", [CUDA_CHUNK - 1, CUDA_CHUNK + 1, 5 * CUDA_CHUNK])
def test_samples_of_several_chunks(launch, rows, rng):
    case = Case(rng, 3 * rows, 5, 5, 1, 0, np.float64)
    outputs, gradients = case.expected()
    found = case.forward(launch)
    found += case.backward(launch, found[2])
    for actual, wanted in zip(found, outputs + gradients, strict=True):
        reference.assert_close(actual, wanted)


@pytest.mark.parametrize("outlier", [0.0, 1e6], ids=["no outlier", "the first row far away"])
def test_a_variance_far_from_zero_keeps_its_digits(launch, outlier, rng):
    x = 1e8 + rng.standard_normal((3000, 2))
    x[0] += outlier
    splits, one = np.array([0, 3000]), np.ones(2)
    *_, moments = launch("sample_norm_forward", x, None, splits, 0, one, one, 2, EPS)
    np.testing.assert_allclose(moments[1, 0], (x - 1e8).var(axis=0), rtol=1e-9)
    *_, moments = launch("sample_norm_forward", x, np.full((1, 2), 1e8), splits, 5000, one, one, 1, EPS)
    cells = np.concatenate([(x - 1e8).ravel(), np.zeros(4000)])
    np.testing.assert_allclose(moments[1, 0], cells.var(), rtol=1e-9)


@in_half
def test_sums_of_float16_are_not_of_float16(launch, dtype):
    x, one = np.ones((5000, 1), dtype), np.ones(1, dtype)
    x[::2] = 3
    *_, moments = launch("sample_norm_forward", x, None, np.array([0, 5000]), 0, one, one, 1, EPS)
    assert moments.ravel().tolist() == [2.0, 1.0]


def test_not_a_number_stays_in_its_sample_and_group(launch, rng):
    x, one = rng.standard_normal((200, 20)), np.ones(20)
    x[150, 3] = np.nan
    y, _, moments = launch("sample_norm_forward", x, None, np.array([0, 100, 200]), 0, one, one, 4, EPS)
    assert np.isnan(moments[:, 1, 0]).all() and np.isnan(y[100:, :5]).all()
    assert np.isfinite(y[:100]).all() and np.isfinite(y[:, 5:]).all()


def test_a_sample_has_the_same_bits_in_any_batch(launch, rng):
    """In values and gradients: nothing outside the sample takes part."""
    lengths = (7, 0, 2300, 1, 40, 1030)
    x, g = rng.standard_normal((2, sum(lengths), 12)).astype(np.float32)
    h, below, (weight, bias) = (rng.standard_normal((n, 12)).astype(np.float32) for n in (6, 6, 2))
    splits = np.concatenate([[0], np.cumsum(lengths)])

    def run(chosen):
        rows = np.concatenate([np.arange(splits[b], splits[b + 1]) for b in chosen])
        own = np.concatenate([[0], np.cumsum([lengths[b] for b in chosen])])
        chosen = list(chosen)
        y, under, moments = launch("sample_norm_forward", x[rows], below[chosen], own, 4000, weight, bias, 3, EPS)
        back, to_under, _ = launch("sample_norm_backward", x[rows], below[chosen], g[rows], h[chosen], own, 4000,
                                   moments, weight, EPS)
        return [[*(part[own[i]:own[i + 1]].tobytes() for part in (y, back)), under[i].tobytes(),
                 to_under[i].tobytes(), moments[:, i].tobytes()] for i in range(len(chosen))]

    whole = run(range(6))
    assert [run([b])[0] for b in range(6)] == whole
    assert run([5, 3, 1])[::-1] == [whole[1], whole[3], whole[5]]


def test_the_same_bits_for_any_number_of_threads(rng):
    case, before, results = Case(rng, 30_000, 40, 8, 1, 50_000, np.float32), get_num_threads(), set()
    try:
        for threads in (1, 2, 5):
            set_num_threads(threads)
            found = case.forward(kernels.launch)
            found += case.backward(kernels.launch, found[2])
            results.add(b"".join(one.tobytes() for one in found))
    finally:
        set_num_threads(before)
    assert len(results) == 1


def test_many_small_samples_share_blocks(rng):
    splits, x = np.arange(0, 20_001, 2), rng.standard_normal((20_000, 3))
    y, _, moments = kernels.launch("sample_norm_forward", x, None, splits, 0, np.ones(3), np.zeros(3), 3, 0.0)
    np.testing.assert_allclose(moments[0], x.reshape(-1, 2, 3).mean(axis=1), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(np.abs(y), 1, rtol=1e-6)


@pytest.mark.parametrize(("changes", "message"), [
    ({"groups": 4}, "6 channels in 4 groups, expected a number of groups that divides the channels"),
    ({"groups": 0}, "6 channels in 0 groups"),
    ({"background": np.zeros((2, 6))}, "background has 2 rows, expected 1, or one for each of the 4 samples"),
    ({"splits": np.array([0, 5, 4, 6, 21])}, "expected numbers that rise from 0 to 21"),
    ({"splits": np.zeros(0, np.int64)}, "batch_splits is empty"),
])
def test_what_does_not_fit_is_refused(changes, message, rng):
    case = Case(rng, 20, 6, 2, 0, 0, np.float64)
    vars(case).update(changes)
    with pytest.raises(ValueError, match=f"sample_norm_forward: .*{message}"):
        case.forward(kernels.launch)


def test_moments_of_other_samples_or_groups_are_refused(rng):
    case = Case(rng, 20, 6, 2, 0, 0, np.float64)
    for shape in ((2, 3, 2), (2, 4, 4)):
        with pytest.raises(ValueError, match=r"sample_norm_backward: moments have shape .*, expected \(2, 4, groups\)"):
            case.backward(kernels.launch, np.ones(shape))
    case.to_background = np.ones((4, 6))
    with pytest.raises(ValueError, match="background and background_gradient, expected both or neither"):
        case.backward(kernels.launch, np.ones((2, 4, 2)))
