"""Rulebooks on every backend: mirrored offsets, any number of threads, waits, large grids, who shares and who frees."""

import gc
import itertools
import time
import tracemalloc
import weakref
from unittest import mock

import numpy as np
import pytest
from rulebook_ways import bits, host

from sparsenet import ops
from sparsenet.backend import to_device
from sparsenet.kernels import get_num_threads, set_num_threads
from sparsenet.kernels.fetch import fetches
from sparsenet.kernels.rulebook import bits as rulebook_bits
from sparsenet.kernels.rulebook import cuda as rulebook_cuda
from sparsenet.kernels.rulebook.windows import FilterWindows
from sparsenet.nn import s3dcnn
from sparsenet.sparse import ActiveSites, Geometry, SparseTensor, prepare
from sparsenet.sparse.plan import main_path


@pytest.mark.parametrize("dimension", [1, 2, 3, 4])
@pytest.mark.parametrize(("kernel", "dilation"), [(1, 1), (3, 1), (3, 2), (5, 1)])
def test_submanifold_keeps_the_sites_and_mirrors_the_offsets(placed, dimension, kernel, dilation):
    rng = np.random.default_rng(dimension)
    size = (7,) * dimension
    coordinates = np.stack(np.unravel_index(rng.choice(2 * 7**dimension, 9, replace=False), (2, *size)), axis=1)
    sites = placed(ActiveSites(coordinates, size, 2))
    geometry = Geometry.make_submanifold(dimension, kernel, dilation)
    rulebook = sites.rulebook(geometry)
    assert rulebook.output_sites is sites
    assert rulebook.pair_count == (host(rulebook.neighbours) >= 0).sum()
    where = {tuple(site): row for row, site in enumerate(sites.coordinates.tolist())}
    centre = kernel // 2
    neighbours, transposed = host(rulebook.neighbours), host(rulebook.transposed_neighbours)
    for (b, *cell), k in itertools.product(sites.coordinates.tolist(), range(geometry.volume)):
        target = tuple(c + dilation * (int(o) - centre) for c, o in zip(cell, geometry.kernel_offsets[k], strict=True))
        m = where[b, *cell]
        assert neighbours[m, k] == where.get((b, *target), -1)
        assert transposed[m, k] == neighbours[m, geometry.volume - 1 - k]
    splits = rulebook.pair_splits.tolist()
    for k, (start, stop) in enumerate(itertools.pairwise(splits)):
        outputs = np.flatnonzero(neighbours[:, k] >= 0)
        assert np.array_equal(host(rulebook.pairs)[start:stop], np.stack([neighbours[outputs, k], outputs], axis=1))


def random_sites(count=5000, side=40, batch=3):
    rng = np.random.default_rng(0)
    cells = rng.choice(batch * side**3, count, replace=False)
    return ActiveSites(np.stack(np.unravel_index(cells, (batch, side, side, side)), axis=1), (side,) * 3, batch)


@pytest.mark.parametrize("geometry", [Geometry.make(3, 3, 2, 1), Geometry.make(3, 2), Geometry.make_submanifold(3, 3)])
def test_more_than_one_block_and_any_number_of_threads(placed, geometry):
    before = get_num_threads()
    tables = []
    for threads in (1, 2, 3):
        set_num_threads(threads)
        rulebook = placed(random_sites()).rulebook(geometry)
        tables.append([host(a) for a in (rulebook.output_sites.keys, rulebook.neighbours,
                                         rulebook.transposed_neighbours, rulebook.pairs, rulebook.pair_splits)])
    set_num_threads(before)
    for other in tables[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(tables[0], other, strict=True))
    sites = random_sites()
    rulebook = sites.rulebook(geometry)
    n, k = tables[0][1], geometry.kernel_offsets
    out = rulebook.output_sites.coordinates
    cells = (out[:, None, 1:].astype(np.int64) * geometry.stride - geometry.padding + k * geometry.dilation)
    queries = np.concatenate([np.broadcast_to(out[:, None, :1], (*n.shape, 1)), cells], axis=2).reshape(-1, 4)
    assert np.array_equal(sites.lookup(queries).reshape(n.shape), n)


def test_outputs_are_sorted_out_of_many_candidates(placed):
    """The path that a GPU takes if the grid is too large for one bit per cell."""
    with mock.patch.object(rulebook_cuda, "MAX_CELLS_PER_CANDIDATE", 0):
        output = placed(random_sites(1200)).rulebook(Geometry.make(3, 2)).output_sites
    assert np.array_equal(host(output.keys), random_sites(1200).rulebook(Geometry.make(3, 2)).output_sites.keys)


def test_a_layer_waits_for_the_device_once(backend, placed):
    """It waits for the number of output sites; a submanifold filter waits for the hash table's flag, once per sites."""
    sites, before = placed(random_sites(60)), fetches()
    prepare(sites, [Geometry.make(3, 2), Geometry.make(3, 3, 2), Geometry.make(3, 2)])
    assert fetches() - before == (0 if backend in ("cpu", "reference") else 3)
    prepare(sites, [Geometry.make_submanifold(3, 3), Geometry.make_submanifold(3, 5)])
    assert fetches() - before == (0 if backend in ("cpu", "reference") else 3)
    fresh = placed(random_sites(60))
    prepare(fresh, [Geometry.make_submanifold(3, 3), Geometry.make_submanifold(3, 5)])
    assert fetches() - before == (0 if backend in ("cpu", "reference") else 4)


@pytest.mark.parametrize("size", [(2, 150, 150), (1, 200, 200), (150, 2, 150), (150, 150, 2), (40, 40, 30)])
def test_tasks_share_out_the_inputs(size):
    """For any shape of grid the tasks together read each input a few times at most; bit maps and walk agree."""
    rng = np.random.default_rng(5)
    cells = np.flatnonzero(rng.random(2 * int(np.prod(size))) < 0.5)
    sites = ActiveSites(np.stack(np.unravel_index(cells, (2, *size)), axis=1), size, 2)
    looked = []
    plain = FilterWindows.input_runs

    def inputs(self, *arguments):
        found = plain(self, *arguments)
        looked.append((found[..., 1] - found[..., 0]).sum())
        return found

    for geometry in (Geometry.make_submanifold(3, 3), Geometry.make(3, (1, 2, 2), 1), Geometry.make(3, (1, 2, 2), 2)):
        with mock.patch.object(FilterWindows, "input_runs", inputs):
            rulebook = sites.copy().rulebook(geometry)
            views = rulebook.output_sites.keys, rulebook.neighbours, rulebook.pairs
        with bits(False):
            walked = sites.copy().rulebook(geometry)
            assert all(np.array_equal(a, b) for a, b in zip(views, (walked.output_sites.keys, walked.neighbours,
                                                                    walked.pairs), strict=True))
    assert looked and max(looked) <= rulebook_bits.MAX_READS_PER_SITE * len(sites)


@pytest.mark.parametrize("geometry", [Geometry.make(3, 2, 2), Geometry.make(3, 2, 3, 1), Geometry.make(3, 1, 2),
                                      Geometry.make(3, (1, 2, 3), (1, 3, 3)), Geometry.make_submanifold(3, 1)])
@pytest.mark.parametrize("least", [64, 1 << 20])
def test_windows_apart_in_one_task_or_several(geometry, least):
    """Each input is joined to at most one output, some to none; bit maps and walk agree."""
    sites = random_sites(3000, 21)
    with mock.patch.multiple(rulebook_bits, _MIN_PAIRS=least, _MIN_SITES=16):
        rulebook = sites.copy().rulebook(geometry)
        views = rulebook.output_sites.keys, rulebook.neighbours, rulebook.pairs, rulebook.pair_splits
        assert rulebook.pair_count == len(rulebook.pairs) <= len(sites)
    with bits(False):
        walked = sites.copy().rulebook(geometry)
        expected = walked.output_sites.keys, walked.neighbours, walked.pairs, walked.pair_splits
    for found, other in zip(views, expected, strict=True):
        assert found.dtype == other.dtype and np.array_equal(found, other)


def test_long_axes_of_few_sites_make_no_long_tables():
    rng = np.random.default_rng(6)
    sites = ActiveSites(np.stack([np.zeros(1100, int), rng.choice(2**22, 1100, replace=False)], axis=1), (2**22,), 1)
    with mock.patch("sparsenet.kernels.rulebook.cpu.windows_of", side_effect=AssertionError):
        assert sites.rulebook(Geometry.make_submanifold(1, 15)).pair_count >= 1100


def test_an_output_grid_beyond_64_bits_raises():
    side = 2**21 - 1
    sites = ActiveSites([[0, 5, 5, 5]], (side,) * 3, 1)
    with pytest.raises(OverflowError, match=r"Rulebook: 1/1 padding 40 leads to 1 grids.*pad less"):
        sites.rulebook(Geometry.make(3, 1, padding=40))


@pytest.mark.parametrize(("size", "geometry"), [
    ((2**31 - 1,), Geometry.make(1, 1, padding=1)),
    ((4, 2**31 - 1), Geometry.make(2, (4, 1), padding=(0, 1))),  # fewer cells than the input has
])
def test_an_output_side_beyond_32_bits_raises_however_few_the_cells(size, geometry):
    sites = ActiveSites([[0] * (1 + len(size))], size, 1)
    with pytest.raises(OverflowError, match=r"sides must be below 2\^31 and .*: pad less"):
        sites.rulebook(geometry)
    assert len(ActiveSites([[0] * (1 + len(size))], (*size[:-1], 2**31 - 3), 1).rulebook(geometry).output_sites) == 1


def test_keys_fit_64_bits_between_the_axes(placed):
    """One axis shrinks and another grows by its padding: the grids before and after both have 2^62 cells."""
    size = (2**31 - 1, 2**30, 2)
    sites = placed(ActiveSites([[0, 2**31 - 2, 2**30 - 1, 1], [0, 2**20, 5, 0]], size, 1))
    rulebook = sites.rulebook(Geometry.make(3, 1, (2**20, 1, 1), (0, 0, 2**20 - 1)))
    assert rulebook.output_size == (2**11, 2**30, 2**21)
    assert rulebook.output_sites.coordinates.tolist() == [[0, 1, 5, 2**20 - 1]]
    assert rulebook.pairs.tolist() == [[0, 0]] and rulebook.neighbours.tolist() == [[0]]


def test_memory_follows_the_sites_not_the_grid_nor_the_dilation():
    """All views of two sites, with the coordinates of the far ends of grids that no table could be made of."""
    far = 2**31 - 2
    cases = [((10**8,), [[0, 0], [0, 10**8 - 1]], Geometry.make(1, 3, 2)),
             ((far + 1,), [[0, 0], [0, far]], Geometry.make_submanifold(1, 3, 10**9)),
             ((far + 1, 2**31 - 1), [[0, 0, far], [0, far, 0]], Geometry.make(2, 3, 5, 10**9, 10**9)),
             ((4,), [[0, 0], [0, 3]], Geometry.make(1, 3, 1, 10**6, 10**6)),
             ((4, 4, 4), [[0, 0, 0, 0], [0, 3, 3, 3]], Geometry.make(3, 3, 1, 10**6, 10**6))]
    for size, cells, geometry in cases:
        sites = ActiveSites(cells, size, 1)
        _ = sites.copy().rulebook(geometry).pairs  # what is compiled and imported stays
        tracemalloc.start()
        rulebook = sites.rulebook(geometry)
        assert rulebook.pair_count == len(rulebook.pairs) and rulebook.neighbours.shape[1] == geometry.volume
        assert rulebook.transposed_neighbours.shape == (2, geometry.volume)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert most < 4 << 20, f"{size} {geometry}: {most / 2**20:.1f} MB"


def test_a_walk_leaps_over_the_sites_between_dilated_offsets():
    """A filled line of 2^19 sites in a grid too large for bit maps, whose windows reach over nearly all of it: a walk
    that looks at each site in between does so 10^11 times."""
    count, side = 2**19, 2**31 - 1
    line = np.stack([np.zeros(count, int), np.zeros(count, int), np.arange(count)], axis=1)
    sites = ActiveSites(line, (3, side), 1)
    dilation = count // 2 - 1
    begun = time.process_time()
    neighbours = sites.rulebook(Geometry.make_submanifold(2, (1, 3), dilation)).neighbours
    assert time.process_time() - begun < 20  # a second, with compiling
    rows = np.arange(count)
    expected = np.stack([rows - dilation, rows, rows + dilation], axis=1)
    assert np.array_equal(neighbours, np.where((expected >= 0) & (expected < count), expected, -1))


def test_grids_with_more_cells_than_memory(placed):
    far = 2**20 - 1
    sites = placed(ActiveSites([[1, far, far, far], [0, 0, 0, 0], [1, far, far, far - 1]], (2**20,) * 3, 2))
    rulebook = sites.rulebook(Geometry.make(3, 2))
    assert rulebook.output_sites.coordinates.tolist() == [[0, 0, 0, 0], [1, far - 1, far - 1, far - 2],
                                                          [1, far - 1, far - 1, far - 1]]
    assert host(rulebook.neighbours)[:, [0, 6, 7]].tolist() == [[0, -1, -1], [-1, -1, 1], [-1, 1, 2]]


def test_a_dilated_window_reaches_none_of_the_cells_between(placed):
    sites = placed(ActiveSites([[0, 10], [0, 40], [0, 200]], (300,), 1))
    output = sites.rulebook(Geometry.make(1, 2, dilation=2)).output_sites
    assert host(output.coordinates)[:, 1].tolist() == [8, 10, 38, 40, 198, 200]


def test_outputs_of_a_word_come_after_those_of_a_later_word(placed):
    """Bits are gathered by word, and a window's lines go down: after cell 1027, of word 32, comes cell 1, of word 0."""
    sites = placed(ActiveSites(np.array([[0, 1, 2]]), (3, 1024), 1))
    assert sites.rulebook(Geometry.make(2, 3, 1, 1)).output_sites.coordinates.tolist() == [
        [0, row, column] for row in range(3) for column in (1, 2, 3)]


@pytest.mark.parametrize("dimension", [1, 4])
def test_an_empty_batch_of_huge_output_grids(placed, dimension):
    sites = placed(ActiveSites(np.zeros((0, 1 + dimension), int), (2,) * dimension, 0))
    rulebook = sites.rulebook(Geometry.make(dimension, 2, 1, 2**20))
    assert len(rulebook.output_sites) == len(rulebook.pairs) == 0 and rulebook.neighbours.shape == (0, 2**dimension)


def test_layers_of_one_geometry_share_a_rulebook():
    sites = random_sites(50)
    assert sites.rulebook(Geometry.make(3, 3)) is sites.rulebook(Geometry.make(3, (3, 3, 3)))
    prepare(sites, [Geometry.make(3, 2), Geometry.make(3, 3, 2)])
    assert "neighbours" in vars(sites.rulebook(Geometry.make(3, 2)))
    assert sites.copy().rulebook(Geometry.make(3, 3)) is not sites.rulebook(Geometry.make(3, 3))


def views_of(rulebook):
    return {name for name in ("neighbours", "transposed_neighbours", "_pairs") if name in vars(rulebook)}


@pytest.mark.parametrize("count", [30, 4000])
def test_training_finds_what_it_reads_and_a_step_makes_no_more(placed, count):
    net = s3dcnn(3, channels=(32, 64, 96))
    geometries, (side, *_) = net.geometries(), net.field_for()
    sites = placed(random_sites(count, side))
    for_forward = sites.copy()
    net.to(sites.device)
    prepare(sites, geometries, backward=True)
    prepare(for_forward, geometries)
    features = to_device(np.ones((len(sites), 1), np.float32), sites.device)
    before, here, there = [], sites, for_forward
    filters = main_path(geometries)
    for geometry in filters:
        one, other = here.rulebook(geometry), there.rulebook(geometry)
        assert views_of(other) <= views_of(one)
        before.append(views_of(one))
        here, there = one.output_sites, other.output_sites
    ops.softmax_cross_entropy(net(SparseTensor.from_sites(features, sites)), np.zeros(3, np.int64)).backward()
    for geometry, views in zip(filters, before, strict=True):
        assert views_of(sites.rulebook(geometry)) == views
        sites = sites.rulebook(geometry).output_sites


def test_sites_and_rulebooks_are_freed_without_the_garbage_collector():
    sites = random_sites(50)
    rulebook = sites.rulebook(Geometry.make_submanifold(3, 3))
    _ = rulebook.neighbours
    watch = weakref.ref(sites)
    gc.disable()
    try:
        del sites
        assert watch() is None
    finally:
        gc.enable()
    assert len(rulebook.input_sites) == len(rulebook.output_sites) == 50


def test_empty_input_gives_empty_views(placed):
    rulebook = placed(ActiveSites([], (6, 6, 6), 2)).rulebook(Geometry.make(3, 3, 2))
    assert len(rulebook.output_sites) == 0 and rulebook.output_sites.batch_size == 2
    assert rulebook.neighbours.shape == rulebook.transposed_neighbours.shape == (0, 27)
    assert rulebook.pairs.shape == (0, 2) and rulebook.pair_splits.tolist() == [0] * 28
