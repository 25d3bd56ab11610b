"""Sums along the tree have the same bits on any number of ranks, and messages reach every rank."""

from __future__ import annotations

import numpy as np
import pytest
from rank_threads import as_ranks
from small_runs import MINED, TRIPLETS, bits, run

from sparsenet.kernels.cuda.nccl import NcclLink
from sparsenet.training.checkpoint import load_checkpoint
from sparsenet.training.config import ConfigError
from sparsenet.training.mpi import choose_gpu, launched, threads_of, world
from sparsenet.training.ranks import Ranks

SHARDED = ["training.shards=4", "optimizer.ema=0.9", "optimizer.max_gradient_norm=0.5"]


def leaves(count):
    """Arrays whose sum depends on the order of the additions."""
    rng = np.random.default_rng(5)
    return (rng.standard_normal((count, 7)) * 10.0 ** rng.integers(-4, 5, (count, 1))).astype(np.float32)


@pytest.mark.parametrize("shards", [1, 2, 3, 5, 8, 13])
def test_the_sum_has_the_same_bits_on_any_number_of_ranks(shards):
    for count in range(1, shards + 1):  # a small batch leaves shards empty
        arrays = leaves(count)
        found = {size: as_ranks(size, shards, lambda ranks, arrays=arrays, count=count: ranks.tree_sum(
            lambda shard: arrays[shard].copy(), count))[0].tobytes() for size in range(1, min(shards, 6) + 1)}
        assert len(set(found.values())) == 1


def test_the_tree_is_over_the_numbers_of_the_shards():
    a, b, c, d, e = leaves(5)
    expected = ((a + b) + (c + d)) + e
    assert expected.tobytes() != ((((a + b) + c) + d) + e).tobytes()
    for size in (1, 2, 5):
        (found, *_) = as_ranks(size, 5, lambda ranks: ranks.tree_sum(lambda shard: leaves(5)[shard], 5))
        assert found.tobytes() == expected.tobytes()


def test_shards_are_computed_in_order_and_few_arrays_exist_at_once():
    """Gradient accumulation: on one rank the arrays of 64 shards are summed as they come."""
    seen, alive, most = [], set(), 0

    class Counted(np.ndarray):
        def __del__(self):
            alive.discard(id(self))

    def leaf(shard):
        nonlocal most
        seen.append(shard)
        array = np.zeros(3).view(Counted)
        alive.add(id(array))
        most = max(most, len(alive))
        return array

    import sparsenet.training.ranks as module

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "device_of", lambda array: "cpu")
        Ranks(shards=64).tree_sum(leaf, 64)
    assert seen == list(range(64)) and most <= 7


@pytest.mark.parametrize("size", range(1, 7))
def test_each_rank_computes_its_own_shards_and_sends_little(size):
    def work(ranks):
        seen = []
        ranks.tree_sum(lambda shard: seen.append(shard) or np.zeros(2), 12)
        return seen, ranks.own, ranks.link.sent

    found = as_ranks(size, 12, work)
    assert all(seen == own for seen, own, _ in found)
    assert sorted(sum((own for _, own, _ in found), [])) == list(range(12))
    assert all(sent <= 4 for _, _, sent in found)


@pytest.mark.parametrize("size", range(1, 10))
def test_what_the_first_has_reaches_all(size):
    def work(ranks):
        array = np.arange(4.0) if ranks.first else np.zeros(4)
        ranks.broadcast(array)
        said = ranks.from_first(lambda: {"of": ranks.rank})
        merged = ranks.merged({10 - ranks.rank: ranks.rank})
        totals = ranks.totals(1, ranks.rank)
        ranks.wait()
        ranks.check_alike("same", "the weights")
        return array.tolist(), said, list(merged.items()), totals

    (first, *others) = as_ranks(size, 9, work)
    assert all(other == first for other in others)
    assert first == ([0.0, 1.0, 2.0, 3.0], {"of": 0}, [(10 - rank, rank) for rank in reversed(range(size))],
                     [size, sum(range(size))])


def test_ranks_that_differ_are_named():
    def work(ranks):
        with pytest.raises(RuntimeError, match="the weights of rank 2 differ from those of rank 0"):
            ranks.check_alike("odd" if ranks.rank == 2 else "same", "the weights")

    as_ranks(4, 4, work)


def test_more_ranks_than_shards_are_refused():
    with pytest.raises(ConfigError, match="training.shards is 2, and 3 processes would share them: start at most 2"):
        Ranks(0, 3, 2)
    with pytest.raises(ValueError, match="rank is 3, expected 0 to 2"):
        Ranks(3, 3, 4)
    with pytest.raises(RuntimeError, match="no link for arrays on cpu"):
        Ranks(0, 2, 2).broadcast(np.zeros(1))


@pytest.mark.parametrize("overrides", [
    ["network.norm=batch", "training.batch_size=15", *SHARDED], [*TRIPLETS, *MINED, *SHARDED],
    ["network.kind=resnet", "network.field=8", "training.recompute=2", "training.shards=3", "training.batch_size=10"],
], ids=["batch norm", "mined", "recomputed"])
def test_a_training_has_the_same_bits_on_any_number_of_ranks(config, tmp_path, overrides):
    """Two epochs with augmentation and dropout, in shards of different sizes."""
    settings = config(*overrides)
    lines = []
    for size in (1, 2, 3):
        results = as_ranks(size, settings.training.shards, lambda ranks, size=size: run(
            settings, tmp_path / str(size), ranks=ranks, say=lines.append))
        assert len({tuple(sorted(result.figures.items())) for result in results}) == 1
    digests = {load_checkpoint(tmp_path / str(size) / "last.h5").digest for size in (1, 2, 3)}
    assert len(digests) == 1 and bits(tmp_path / "1") == bits(tmp_path / "2") == bits(tmp_path / "3")
    assert sum(line.startswith("final: ") for line in lines) == 3  # rank 0 alone speaks


def test_one_number_of_ranks_continues_what_another_began(config, tmp_path):
    settings = ["network.norm=batch", "training.batch_size=15", *SHARDED]
    run(config(*settings), tmp_path / "whole")
    as_ranks(3, 4, lambda ranks: run(config(*settings, "training.epochs=1"), tmp_path / "half", ranks=ranks))
    assert load_checkpoint(tmp_path / "half" / "last.h5").epoch == 1
    as_ranks(2, 4, lambda ranks: run(config(*settings), tmp_path / "half", ranks=ranks, resume=True))
    assert bits(tmp_path / "half") == bits(tmp_path / "whole")


def test_gradients_are_clipped_after_the_sum(config, tmp_path):
    """By the norm of the whole batch's gradient: the weights of three shards are those of one batch."""
    found = {}
    for shards, limit in ((1, 0.01), (3, 0.01), (3, 0)):
        out = tmp_path / f"{shards} {limit}"
        run(config("network.dropout=0", "training.epochs=1", f"training.shards={shards}",
                   f"optimizer.max_gradient_norm={limit}"), out)
        found[shards, limit] = load_checkpoint(out / "last.h5").weights
    for name, weights in found[1, 0.01].items():
        np.testing.assert_allclose(found[3, 0.01][name], weights, rtol=1e-4, atol=1e-6)
    assert any(abs(found[3, 0][name] - weights).max() > 1e-3 for name, weights in found[3, 0.01].items())


class TestNccl:
    """Against a stand-in: it has not been run on GPUs."""

    class Module:
        """CuPy's `cuda.nccl` for arrays on the host."""

        NCCL_FLOAT32, NCCL_FLOAT64, NCCL_INT64, NCCL_UINT8 = 7, 8, 4, 1
        SIZES = {7: 4, 8: 8, 4: 8, 1: 1}

        def __init__(self, queues):
            self.queues = queues

        def NcclCommunicator(self, size, name, rank):
            assert name == "group" and 0 <= rank < size
            return TestNccl.Communicator(self, rank)

    class Communicator:
        def __init__(self, module, rank):
            self.module, self.rank = module, rank

        def send(self, pointer, count, kind, peer, stream):
            import ctypes

            assert stream == 11
            self.module.queues[self.rank, peer].put(ctypes.string_at(pointer, count * self.module.SIZES[kind]))

        def recv(self, pointer, count, kind, peer, stream):
            import ctypes

            data = self.module.queues[peer, self.rank].get(timeout=10)
            assert stream == 11 and len(data) == count * self.module.SIZES[kind]
            ctypes.memmove(pointer, data, len(data))

    class OnDevice(np.ndarray):
        """An array that knows its address as CuPy's do."""

        @property
        def data(self):
            class Memory:
                ptr = self.ctypes.data

            return Memory

    def test_arrays_arrive(self):
        def work(ranks):
            link = NcclLink(3, ranks.rank, "group", self.Module(ranks.link.queues), stream=11)
            for dtype in ("float32", "float64", "int64", "uint8"):
                array = np.full(5, ranks.rank, dtype).view(self.OnDevice)
                if ranks.rank:
                    link.send(array, 0)
                else:
                    for source in (2, 1):
                        link.receive(array, source)
                        assert (array == source).all()

        as_ranks(3, 3, work)

    @pytest.mark.parametrize("array", [np.zeros(3, np.float16), np.zeros((2, 4), np.float32)[:, ::2]])
    def test_others_are_refused(self, array):
        from queue import Queue

        link = NcclLink(1, 0, "group", self.Module({(0, 0): Queue()}), stream=11)
        with pytest.raises(TypeError, match="expected a contiguous one of float32"):
            link.send(array.view(self.OnDevice), 0)


class TestLaunchers:
    @pytest.mark.parametrize(("environment", "expected"), [
        ({}, (0, 1)), ({"PMI_SIZE": "4", "PMI_RANK": "3"}, (3, 4)),
        ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1", "PMIX_RANK": "1"}, (1, 2)),
        ({"SLURM_NTASKS": "8", "PMIX_RANK": "5"}, (5, 8)), ({"SLURM_NTASKS": "8"}, (0, 1)),
    ])
    def test_the_environment_says_who_is_who(self, monkeypatch, environment, expected):
        for name in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_NTASKS", "PMIX_RANK", "PMI_RANK"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        assert launched() == expected

    @pytest.mark.parametrize(("rank", "error"), [("0", RuntimeError), ("1", SystemExit)])
    def test_without_mpi4py_rank_0_says_what_to_install(self, monkeypatch, rank, error):
        import sys

        monkeypatch.setenv("PMI_SIZE", "2")
        monkeypatch.setenv("PMI_RANK", rank)
        monkeypatch.delenv("OMPI_COMM_WORLD_SIZE", raising=False)
        monkeypatch.setitem(sys.modules, "mpi4py", None)
        with pytest.raises(error) as raised, world():
            pass
        if rank == "0":
            assert "2 processes were started, and mpi4py cannot be imported" in str(raised.value)
            assert "pip install 'sparsenet[mpi]'" in str(raised.value)

    def test_alone_there_is_no_mpi(self, monkeypatch, config):
        monkeypatch.setenv("PMI_SIZE", "1")
        monkeypatch.setenv("PMI_RANK", "0")
        with world() as here:
            assert here.ranks(config("training.shards=3")) == Ranks(shards=3)

    @pytest.mark.parametrize(("cores", "place", "expected"), [
        ([[0, 1, 2, 3]] * 2, 1, 2), ([[0, 1]] * 3, 0, 1), ([[0, 1], [2, 3, 4]], 1, 3), ([[0], [1]], 0, 1)])
    def test_threads_share_the_cores_of_the_machine(self, cores, place, expected):
        assert threads_of(cores, place) == expected

    @pytest.mark.parametrize(("listed", "expected"), [("", "2"), ("4,5,6", "6"), ("3", "3")])
    def test_each_process_has_a_gpu(self, monkeypatch, listed, expected):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
        choose_gpu(2)
        import os

        assert os.environ["CUDA_VISIBLE_DEVICES"] == expected
