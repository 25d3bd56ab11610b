"""Watched kernels: planted faults are named by kind, thread and line, and right kernels pass."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from sparsenet.kernels.cuda.source import CudaSource, use_driver
from sparsenet.teach.cuda_host.watched import Fault, WatchedDriver

FOLDER = Path(__file__).parent
SOURCE = CudaSource("planted", FOLDER)


@pytest.fixture(scope="module")
def driver():
    try:
        driver = WatchedDriver()
    except RuntimeError as error:
        pytest.skip(str(error))
    yield driver
    driver.close()


@pytest.fixture
def run(driver):
    """run(name, threads, *arguments, blocks=1, shared_bytes=0, outputs=("out",))"""
    def run(name: str, threads: int, *arguments, blocks: int = 1, shared_bytes: int = 0, outputs=("out",)) -> None:
        driver.outputs = outputs
        with use_driver(driver):
            SOURCE.kernel(name)(blocks, threads, *arguments, shared_bytes=shared_bytes)

    return run


def numbers(size: int) -> np.ndarray:
    return np.arange(size, dtype=np.int32)


def line_of(words: str) -> int:
    """The number of the line of planted.cu that has these words first."""
    text = SOURCE.path.read_text("utf-8")
    return text.count("\n", 0, text.index(words)) + 1


class TestFaultsAreNamed:
    def test_a_write_beyond_an_array(self, run):
        with pytest.raises(Fault) as told:
            run("write_beyond", 96, numbers(64), 64)
        fault = told.value
        assert (fault.kind, fault.here.thread, fault.here.writes) == ("out of bounds", (64, 0, 0), True)
        assert fault.here.line == line_of("if (i <= size)")
        assert (fault.memory.name, fault.memory.index, fault.memory.size) == ("out", 64, 64)

    def test_a_read_before_an_array(self, run):
        with pytest.raises(Fault) as told:
            run("read_before", 32, numbers(64), numbers(64))
        assert (told.value.memory.name, told.value.memory.index, told.value.here.writes) == ("x", -1, False)

    @pytest.mark.parametrize(("name", "shared_bytes", "index"), [("write_beyond_dynamic_shared", 128, 32)])
    def test_a_write_beyond_shared_memory(self, run, name, shared_bytes, index):
        with pytest.raises(Fault) as told:
            run(name, 64, numbers(64), shared_bytes=shared_bytes)
        assert (told.value.kind, told.value.memory.shared, told.value.memory.index) == ("out of bounds", True, index)

    def test_a_read_of_what_nobody_has_written(self, run):
        with pytest.raises(Fault) as told:
            run("read_shared_unwritten", 64, numbers(64))
        assert (told.value.kind, told.value.here.thread[0], told.value.memory.name) == ("uninitialised", 63, "line")

    @pytest.mark.parametrize(("name", "blocks", "threads"), [("race_in_block", 1, 64), ("race_between_blocks", 3, 1)])
    def test_two_writers_of_one_number(self, run, name, blocks, threads):
        with pytest.raises(Fault) as told:
            run(name, threads, numbers(1), blocks=blocks)
        fault = told.value
        assert fault.kind == "race" and fault.here.writes and fault.there.writes
        assert (fault.here.block != fault.there.block) == (blocks > 1)
        assert fault.here.line == fault.there.line == line_of(f"void {name}")

    @pytest.mark.parametrize("name", ["rotate", "rotate_in_warp"])
    def test_a_missing_barrier(self, run, name):
        run(name, 64, numbers(64), numbers(64), True)
        with pytest.raises(Fault) as told:
            run(name, 64, numbers(64), numbers(64), False)
        fault = told.value
        assert (fault.kind, fault.memory.name, fault.memory.shared) == ("race", "line", True)
        assert {fault.here.writes, fault.there.writes} == {True, False}

    def test_a_sum_without_atomics(self, run):
        with pytest.raises(Fault, match="race"):
            run("sum_without_atomics", 64, numbers(1), outputs=())

    @pytest.mark.parametrize("name", ["barrier_for_half", "barriers_apart", "vote_without_all"])
    def test_divergence(self, run, name):
        with pytest.raises(Fault) as told:
            run(name, 64, numbers(64))
        assert told.value.kind == "divergence" and re.search(r"(32|62) threads \(0, 1, 2", told.value.report)

    def test_an_output_that_is_written_by_halves(self, run):
        run("write_half_of_it", 64, numbers(64), 64, outputs=())
        with pytest.raises(Fault) as told:
            run("write_half_of_it", 64, numbers(64), 64)
        assert (told.value.kind, told.value.memory.index, told.value.missing) == ("unwritten output", 32, 32)


class TestRightKernelsPass:
    def test_a_sum_by_halves(self, run, driver):
        x, out = numbers(512), numbers(2)
        run("sum_of_block", 256, x, out, blocks=2)
        assert out.tolist() == x.reshape(2, 256).sum(axis=1).tolist()
        assert driver.counts == {"x": (2048, 0), "out": (0, 8)}

    def test_atomics_do_not_race(self, run):
        total, largest = np.zeros(1, np.uint64), np.zeros(1, np.uint32)
        run("count_up", 64, total, largest, blocks=3, outputs=())
        assert (total[0], largest[0]) == (sum(range(192)), 191)

    def test_copies_in_the_background_are_writes(self, run):
        x, out = np.arange(64, dtype=np.float32), np.zeros(64, np.float32)
        run("copy_in_background", 64, x, 64, out, True)
        assert out.tolist() == x[::-1].tolist()

    def test_what_lanes_exchange_needs_no_shared_memory(self, run):
        run("warp_operations", 32, numbers(32), np.zeros((7, 32), np.int32))
