"""The host's CUDA itself: planted faults are caught, and right kernels give the right numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sparsenet.kernels.cuda.interface import CompileError
from sparsenet.kernels.cuda.source import CudaSource, use_driver
from sparsenet.teach.cuda_host import host_driver as host
from sparsenet.teach.cuda_host.host_driver import HostError, LastRows, poisoned_empty

FOLDER = Path(__file__).parent
SOURCE = CudaSource("planted", FOLDER)


@pytest.fixture
def run(host_driver, monkeypatch):
    """run(name, threads, *arguments, blocks=1, shared_bytes=0), on all its blocks alone."""
    monkeypatch.setattr(host_driver, "few", None)

    def run(name: str, threads: int, *arguments, blocks: int = 1, shared_bytes: int = 0) -> None:
        with use_driver(host_driver):
            SOURCE.kernel(name)(blocks, threads, *arguments, shared_bytes=shared_bytes)

    return run


def numbers(size: int) -> np.ndarray:
    return np.arange(size, dtype=np.int32)


class TestFaultsAreCaught:
    def test_a_write_beyond_an_array(self, run):
        run("write_beyond", 96, numbers(65), 64)
        with pytest.raises(HostError, match=r"(?s)heap-buffer-overflow.*WRITE of size 4.*planted.cu:8"):
            run("write_beyond", 96, numbers(64), 64)

    def test_a_read_before_an_array(self, run):
        with pytest.raises(HostError, match=r"(?s)heap-buffer-overflow.*READ of size 4.*planted.cu:11"):
            run("read_before", 64, numbers(64), numbers(64))

    def test_a_write_beyond_static_shared_memory(self, run):
        with pytest.raises(HostError, match=r"out of bounds|global-buffer-overflow"):
            run("write_beyond_shared", 64, numbers(64))

    def test_a_write_beyond_dynamic_shared_memory(self, run):
        run("write_beyond_dynamic_shared", 64, numbers(64), shared_bytes=256)
        with pytest.raises(HostError, match=r"(?s)heap-buffer-overflow.*WRITE of size 4.*planted.cu:22"):
            run("write_beyond_dynamic_shared", 64, numbers(64), shared_bytes=252)

    def test_shared_memory_read_before_it_is_written(self, run):
        with pytest.raises(HostError, match=r"order: argument out differs at byte 252 .* shared memory read before"):
            run("read_shared_unwritten", 64, numbers(64))

    def test_a_race_within_a_block(self, run):
        with pytest.raises(HostError, match="order: argument out differs at byte 0 .* reverse order"):
            run("race_in_block", 2, numbers(1))

    def test_a_race_between_blocks(self, run):
        with pytest.raises(HostError, match="order: argument out differs"):
            run("race_between_blocks", 1, numbers(1), blocks=3)

    def test_a_sum_without_atomics(self, run):
        with pytest.raises(HostError, match="order: argument out differs"):
            run("sum_without_atomics", 32, numbers(1))

    def test_an_array_that_may_depend_on_the_order_is_not_compared(self, run):
        run("race_permitted", 2, numbers(1))

    @pytest.mark.parametrize(("name", "expected"), [("rotate", np.roll(numbers(64), -1)),
                                                    ("rotate_in_warp", numbers(64) ^ 1)])
    def test_a_missing_barrier(self, run, name, expected):
        out = numbers(64)
        run(name, 64, numbers(64), out, True)
        np.testing.assert_array_equal(out, expected)
        with pytest.raises(HostError, match="order: argument out differs .* a missing barrier"):
            run(name, 64, numbers(64), out, False)

    def test_a_barrier_that_some_threads_pass_by(self, run):
        with pytest.raises(HostError, match=r"divergence: threads wait for each other in vain:\n *32 threads \(32, 33, "
                                            r".*\) have returned\n *32 threads \(0, .*\) wait at __syncthreads, line"):
            run("barrier_for_half", 64, numbers(64))

    def test_different_barriers(self, run):
        with pytest.raises(HostError, match="divergence: threads wait for each other in vain"):
            run("barriers_apart", 64, numbers(64))

    def test_a_vote_that_a_lane_of_the_mask_misses(self, run):
        with pytest.raises(HostError, match=r"(?s)1 threads \(7\) have returned.*wait at __any_sync, .*0xffffffff"):
            run("vote_without_all", 32, numbers(32))

    def test_a_shuffle_that_reads_a_lane_outside_the_mask(self, run):
        with pytest.raises(HostError, match="__shfl_sync, line .*: lane 0 reads lane 20, which is not in the mask"):
            run("shuffle_from_outside", 32, numbers(32))

    def test_a_mask_that_names_lanes_beyond_the_block(self, run):
        with pytest.raises(HostError, match="mask 0xffffffff names lanes beyond the 8 of the block"):
            run("vote_without_all", 8, numbers(32))

    def test_a_vector_load_that_is_not_aligned(self, run):
        with pytest.raises(HostError, match="misaligned address"):
            run("load_misaligned", 1, np.zeros(8, np.float32), np.zeros(1, np.float32))

    def test_a_signed_overflow(self, run):
        with pytest.raises(HostError, match="signed integer overflow"):
            run("overflow", 2, numbers(2), 2**31 - 1)

    def test_a_copy_that_is_not_waited_for(self, run):
        x, out = np.arange(64, dtype=np.float32), np.zeros(64, np.float32)
        run("copy_in_background", 64, x[:50], 50, out, True)
        np.testing.assert_array_equal(out[::-1], np.where(x < 50, x, 0))
        with pytest.raises(HostError, match="order: argument out differs"):
            run("copy_in_background", 64, x, 64, out, False)

    def test_a_group_of_copies_that_is_not_waited_for(self, run):
        with pytest.raises(HostError, match="order: argument out differs at byte 256 "):
            run("copy_in_two_groups", 64, np.arange(64, dtype=np.float32), np.zeros(128, np.float32))

    def test_an_output_that_is_not_written(self, run):
        with poisoned_empty():
            out, floats = np.empty(64, np.int32), np.empty_like(numbers(3), np.float32)
        run("write_half_of_it", 64, out, 64)
        assert (out[:32] == 1).all() and (out[32:] > 2**30).all() and np.isnan(floats).all()

    def test_a_sum_of_floats_by_atomics_does_not_compile(self, host_driver):
        kernel = CudaSource("float_atomics", FOLDER).kernel("add_floats")
        with use_driver(host_driver), pytest.raises(CompileError, match="a sum of floats depends on the order"):
            kernel(1, 1, np.zeros(1, np.float32))

    def test_a_loop_that_steps_too_far_when_it_goes_round(self, run, host_driver, monkeypatch):
        run("count_on", 32, numbers(100), 100, 1, blocks=4)  # each thread goes round once
        monkeypatch.setattr(host_driver, "few", 2)
        run("count_on", 32, numbers(100) * 0, 100, 0, blocks=4)
        with pytest.raises(HostError, match="order: argument out differs at byte 256 .* on a few blocks"):
            run("count_on", 32, numbers(100) * 0, 100, 1, blocks=4)

    def test_row_numbers_times_channels_beyond_32_bits(self, run, host_driver):
        before, channels = 2**27, 32
        rows = np.zeros((4, channels), np.int32)
        grid = (before * channels + 4 * channels) // 64
        with host_driver.last_blocks(grid - 2):
            run("number_rows", 64, LastRows.of(rows, before), before + 4, channels, False, blocks=grid)
            assert (rows == before + np.arange(4)[:, None]).all()
            with pytest.raises(HostError, match="signed integer overflow"):
                run("number_rows", 64, LastRows.of(rows, before), before + 4, channels, True, blocks=grid)

    def test_a_fault_does_not_disturb_the_next_launch(self, run):
        with pytest.raises(HostError):
            run("race_in_block", 2, numbers(1))
        out = numbers(65)
        run("write_beyond", 64, out, 64)
        assert out.tolist() == list(range(65))


class TestRightKernels:
    def test_what_has_an_entry_for_each_block_runs_on_all_of_them_alone(self, run, host_driver, monkeypatch):
        monkeypatch.setattr(host_driver, "few", 2)
        out = numbers(4)
        run("sum_by_block", 32, out, 8, blocks=4)
        assert out.tolist() == [4, 6, 8, 10]

    def test_atomics(self, run):
        total, largest = np.zeros(1, np.uint64), np.zeros(1, np.uint32)
        run("count_up", 96, total, largest, blocks=5)
        assert (total[0], largest[0]) == (480 * 479 // 2, 479)

    def test_barriers(self, run, rng):
        x, out = rng.integers(-100, 100, 1024).astype(np.int32), np.zeros(4, np.int32)
        run("sum_of_block", 256, x, out, blocks=4)
        assert out.tolist() == x.reshape(4, 256).sum(1).tolist()

    def test_warp_operations(self, run, rng):
        x, out = rng.integers(-3, 3, 32).astype(np.int32), np.zeros((7, 32), np.int32)
        run("warp_operations", 32, x, out)
        lanes = np.arange(32)
        bits = [sum(1 << int(lane) for lane in np.flatnonzero(chosen)) for chosen in [x > 0, *(x[:, None] == x)]]
        assert (out[0] == x.sum()).all()
        assert (out[1] == np.cumsum(x)).all()
        assert (out[2] == x[np.where(lanes % 8 == 7, lanes, np.minimum(lanes + 1, 31))]).all()
        assert (out[3] == x[5]).all()
        assert (out[4].view(np.uint32) == bits[0]).all()
        assert out[5].view(np.uint32).tolist() == bits[1:]
        assert (out[6] == (x > 0).sum()).all()

    def test_rounding(self, run, rng):
        x = np.concatenate([
            rng.standard_normal(4000) * 10.0 ** rng.integers(-9, 6, 4000), np.arange(-2048, 2049) / 2.0**24,
            2049 + np.arange(64) / 2, [0.0, -0.0, 65519.996, 65520.0, 1e9, 3.4e38, 1e-40, np.inf, -np.inf],
            1 + np.arange(64) * 2.0**-12]).astype(np.float32)
        tf32, half, bfloat = np.zeros((3, x.size), np.uint32)
        back = np.zeros_like(x)
        run("round_numbers", 64, x, x.size, tf32, half, bfloat, back)
        with np.errstate(over="ignore"):
            halves, low = x.astype(np.float16), x.view(np.uint32) & 0xFFFF
        np.testing.assert_array_equal(half & 0xFFFF, halves.view(np.uint16))
        np.testing.assert_array_equal(half >> 16, (-halves).view(np.uint16))
        np.testing.assert_array_equal(back, halves.astype(np.float32))
        above = x.view(np.uint32) >> 16
        np.testing.assert_array_equal(bfloat & 0xFFFF, above + ((low > 0x8000) | ((low == 0x8000) & (above % 2 == 1))))
        np.testing.assert_array_equal(tf32, (x.view(np.uint32).astype(np.uint64) + 0x1000) & 0xFFFFE000)

    def test_not_a_number_stays_one(self, run):
        x = np.array([np.nan], np.float32)
        tf32, half, bfloat = np.zeros((3, 1), np.uint32)
        run("round_numbers", 32, x, 1, tf32, half, bfloat, back := np.zeros_like(x))
        assert np.isnan([tf32.view(np.float32)[0], back[0], (bfloat << 16).view(np.float32)[0]]).all()

    def test_products_of_the_tensor_cores(self, run, rng):
        a, b = rng.standard_normal((16, 16)).astype(np.float32), rng.standard_normal((16, 8)).astype(np.float32)
        start = rng.standard_normal((3, 16, 8)).astype(np.float32)
        out = start.copy()
        run("products", 32, a, b, out)
        to_even = np.rint

        def away_from_zero(x: np.ndarray) -> np.ndarray:
            return np.trunc(x + np.copysign(0.5, x))

        def rounded(x: np.ndarray, bits: int, whole) -> np.ndarray:
            fraction, exponent = np.frexp(x.astype(np.float64))
            return np.ldexp(whole(np.ldexp(fraction, bits)), exponent - bits)

        for which, (bits, whole) in enumerate([(11, away_from_zero), (11, to_even), (8, to_even)]):
            expected = start[which] + rounded(a, bits, whole) @ rounded(b, bits, whole)
            np.testing.assert_allclose(out[which], expected, rtol=0, atol=1e-6)

    def test_transposed_matrix_loads(self, run):
        x, out = np.arange(256, dtype=np.int16).reshape(4, 8, 8), np.zeros((8, 4, 8), np.int16)
        run("transpose", 32, x, out)
        np.testing.assert_array_equal(out, x.transpose(2, 0, 1))


def test_executables_are_kept_where_nobody_else_can_write(monkeypatch, tmp_path):
    monkeypatch.delenv("SPARSENET_CUDA_HOST", raising=False)
    monkeypatch.setattr(host.tempfile, "gettempdir", lambda: str(tmp_path))
    folder = host.cache_folder()
    assert folder.parent == tmp_path and folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o770)
    with pytest.raises(RuntimeError, match="others can write to it"):
        host.cache_folder()
    folder.rmdir()
    (tmp_path / "theirs").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "theirs")
    with pytest.raises(RuntimeError, match="others can write to it"):
        host.cache_folder()
