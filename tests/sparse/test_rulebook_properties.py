"""Rulebooks of arbitrary sites and geometries against brute force, on every backend: the invariant, and every pair
exactly once."""

from math import prod
from unittest import mock

import numpy as np
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from rulebook_ways import bits, host

from sparsenet.kernels.rulebook import bits as rulebook_bits
from sparsenet.kernels.rulebook import cuda as rulebook_cuda
from sparsenet.sparse import ActiveSites, Geometry

ONE_FIXTURE = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}


@st.composite
def cases(draw):
    """Sites in 1 to 4 dimensions (some samples empty) and a geometry that fits the grid."""
    dimension = draw(st.integers(1, 4))
    small = st.integers(1, 3 if dimension > 2 else 5)
    kernel, stride = (tuple(draw(small) for _ in range(dimension)) for _ in range(2))
    padding = tuple(draw(st.integers(0, 2)) for _ in range(dimension))
    dilation = tuple(draw(st.integers(1, 2)) for _ in range(dimension))
    size = tuple(max(1, d * (k - 1) + 1 - 2 * p) + draw(st.integers(0, 4))
                 for k, p, d in zip(kernel, padding, dilation, strict=True))
    batch = draw(st.integers(1, 3))
    cells = batch * int(np.prod(size))
    chosen = draw(st.lists(st.integers(0, cells - 1), unique=True, max_size=30))
    coordinates = np.stack(np.unravel_index(np.array(chosen, int), (batch, *size)), axis=1)
    return ActiveSites(coordinates, size, batch), Geometry.make(dimension, kernel, stride, padding, dilation)


def brute_force(sites, geometry):
    """{(input cell, offset index, output cell)}: all joined cells, by a loop over everything."""
    joined = set()
    output_size = geometry.output_size(sites.spatial_size)
    for b, *cell in sites.coordinates.tolist():
        for k, offset in enumerate(geometry.kernel_offsets.tolist()):
            reach = [c + p - o * d
                     for c, p, o, d in zip(cell, geometry.padding, offset, geometry.dilation, strict=True)]
            if all(r % s == 0 and 0 <= r // s < m
                   for r, s, m in zip(reach, geometry.stride, output_size, strict=True)):
                joined.add(((b, *cell), k, (b, *(r // s for r, s in zip(reach, geometry.stride, strict=True)))))
    return joined


@settings(max_examples=150, **ONE_FIXTURE)
@given(case=cases(), as_bits=st.booleans())
def test_every_pair_exactly_once(placed, case, as_bits):
    sites, geometry = case
    with mock.patch.object(rulebook_cuda, "MAX_CELLS_PER_CANDIDATE", 10**9 if as_bits else 0), bits(as_bits):
        check_against_brute_force(sites, geometry, placed)


def check_against_brute_force(sites, geometry, placed):
    rulebook = placed(sites).rulebook(geometry)
    count = rulebook.pair_count
    views = rulebook.output_sites, rulebook.neighbours, rulebook.pairs
    assert views[0] is rulebook.output_sites and count == len(views[2]) <= rulebook.max_pairs
    expected = brute_force(sites, geometry)
    inputs, outputs = sites.coordinates.tolist(), rulebook.output_sites.coordinates.tolist()
    assert outputs == [list(out) for out in sorted({out for _, _, out in expected})]
    found = [(tuple(inputs[n]), k, tuple(outputs[m]))
             for m, row in enumerate(rulebook.neighbours.tolist()) for k, n in enumerate(row) if n >= 0]
    assert len(found) == len(set(found)) and set(found) == expected
    assert rulebook.pair_count == len(expected)


@st.composite
def far_apart(draw):
    """Few sites in grids of sides up to 2^31 - 1, in steps of the dilation from each other, so that windows meet
    several; strides, dilations and paddings from 1 up to the side."""
    dimension = draw(st.integers(1, 4))
    sides, kernel, stride, padding, dilation = [], [], [], [], []
    for _ in range(dimension):
        side = draw(st.sampled_from([3, 60, 10**4, 10**8, 2**31 - 1]))
        k = draw(st.integers(1, 3))
        d = draw(st.sampled_from([1, 2, side // 7, side // 2, side]))
        sides.append(side)
        kernel.append(k)
        dilation.append(max(1, d))
        stride.append(max(1, draw(st.sampled_from([1, 2, 3, dilation[-1], dilation[-1] // 2, side // 3]))))
        padding.append(draw(st.sampled_from([0, 1, dilation[-1] * (k - 1) // 2, side // 2])))
    geometry = Geometry.make(dimension, tuple(kernel), tuple(stride), tuple(padding), tuple(dilation))
    assume(all(side + 2 * p > d * (k - 1) for side, k, p, d in zip(sides, kernel, padding, dilation, strict=True)))
    outputs = geometry.output_size(tuple(sides))
    assume(2 * prod(sides) < 2**63 and 2 * prod(outputs) < 2**63 and max(outputs) < 2**31)
    cells = set()
    for _ in range(draw(st.integers(1, 12))):
        steps = [draw(st.integers(0, 4)) * d + draw(st.integers(0, 2)) for d in dilation]
        cells.add((draw(st.integers(0, 1)), *(min(step, side - 1) for step, side in zip(steps, sides, strict=True))))
    return ActiveSites(np.array(sorted(cells)), sides, 2), geometry


@settings(max_examples=150, **ONE_FIXTURE)
@given(case=far_apart())
def test_grids_and_windows_of_any_size(placed, case):
    check_against_brute_force(*case, placed)


@st.composite
def long_lines(draw):
    """Some thousand cells to a line, windows with gaps, and windows about as long as a word of bits or longer."""
    dimension = draw(st.integers(1, 3))
    longest = st.sampled_from([1, 2, 3, 5, 31, 32, 63, 64, 65, 200] if dimension == 1 else [1, 2, 3, 4, 21, 22])
    kernel = (*(draw(st.integers(1, 3)) for _ in range(dimension - 1)), draw(longest))
    stride, dilation = (tuple(draw(st.integers(1, 4)) for _ in range(dimension)) for _ in range(2))
    padding = tuple(draw(st.integers(0, 3)) for _ in range(dimension))
    size = tuple(d * (k - 1) + 1 + draw(more) for k, d, more in zip(
        kernel, dilation, [st.integers(0, 5)] * (dimension - 1) + [st.integers(50, 1500)], strict=True))
    cells, rng = 2 * int(np.prod(size)), np.random.default_rng(draw(st.integers(0, 99)))
    chosen = rng.choice(cells, min(cells, draw(st.integers(1, 400))), replace=False)
    return (ActiveSites(np.stack(np.unravel_index(chosen, (2, *size)), axis=1), size, 2),
            Geometry.make(dimension, kernel, stride, padding, dilation))


@settings(max_examples=200, **ONE_FIXTURE)
@given(case=long_lines())
def test_bit_maps_and_walk_agree_on_long_lines(case):
    sites, geometry = case
    views = []
    for used in (mock.patch.object(rulebook_bits, "MAX_WORDS_PER_SITE", 10**9), bits(False)):
        with used:
            rulebook = sites.copy().rulebook(geometry)
            views.append((rulebook.output_sites.keys, rulebook.neighbours, rulebook.pairs, rulebook.pair_splits))
    assert all(np.array_equal(one, other) for one, other in zip(*views, strict=True))


@settings(max_examples=100, **ONE_FIXTURE)
@given(case=cases(), as_bits=st.booleans(), by_pairs_first=st.booleans())
def test_the_three_views_say_the_same(placed, case, as_bits, by_pairs_first):
    sites, geometry = case
    with bits(as_bits):
        rulebook = placed(sites).rulebook(geometry)
        _ = rulebook.pairs if by_pairs_first else rulebook.neighbours
    neighbours, transposed = rulebook.neighbours, rulebook.transposed_neighbours
    assert neighbours.dtype == transposed.dtype == rulebook.pairs.dtype == np.int32
    assert rulebook.pair_splits.dtype == np.int64
    by_output = {(n, k, m) for m, row in enumerate(neighbours.tolist()) for k, n in enumerate(row) if n >= 0}
    by_input = {(n, k, m) for n, row in enumerate(transposed.tolist()) for k, m in enumerate(row) if m >= 0}
    splits = rulebook.pair_splits.tolist()
    by_pair = [(*pair, k) for k in range(geometry.volume)
               for pair in rulebook.pairs[splits[k] : splits[k + 1]].tolist()]
    for k in range(geometry.volume):  # both columns rise
        assert (np.diff(host(rulebook.pairs)[splits[k] : splits[k + 1]], axis=0) > 0).all()
    assert by_output == by_input == {(n, k, m) for n, m, k in by_pair}
    assert len(by_pair) == len(by_output) == splits[-1]


@settings(max_examples=50, **ONE_FIXTURE)
@given(case=cases())
def test_the_invariant(placed, case):
    """input = output * stride - padding + offset * dilation, for every pair."""
    sites, geometry = case
    rulebook = placed(sites).rulebook(geometry)
    pairs = host(rulebook.pairs)
    offsets = np.repeat(geometry.kernel_offsets, np.diff(host(rulebook.pair_splits)), axis=0)
    inputs = sites.coordinates[pairs[:, 0]]
    outputs = host(rulebook.output_sites.coordinates)[pairs[:, 1]]
    assert np.array_equal(inputs[:, 0], outputs[:, 0])
    assert np.array_equal(inputs[:, 1:], outputs[:, 1:] * geometry.stride - geometry.padding
                          + offsets * geometry.dilation)
