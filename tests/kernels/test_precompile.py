"""Compiling everything ahead: each source once in each variant that the GPU can run."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from dataclasses import replace

import pytest
import worker_tasks

from sparsenet.kernels.cuda import driver as cupy_driver
from sparsenet.kernels.cuda import precompile, tiles
from sparsenet.kernels.cuda.interface import CompileError
from sparsenet.kernels.cuda.precompile import compile_variant, kernels_of, listed_variants, variant_of, variants
from sparsenet.kernels.cuda.source import CudaSource, sources


def test_every_source_is_compiled_in_its_variants():
    found = variants(90)
    assert {source for source, _, _ in found} == {source.name for source in sources()}
    assert len({(source, macros) for source, _, macros in found}) == len(found)  # none is listed twice
    for source, name, macros in found:
        assert name in CudaSource(source).kernel(name, **dict(macros)).module


def test_a_launcher_cannot_choose_a_variant_that_is_not_compiled_ahead():
    from sparsenet.kernels.activations.cuda import SOURCE

    assert SOURCE.kernel("leaky_relu_forward", SCALAR="Half", WIDE="float").name == "leaky_relu_forward"
    with pytest.raises(KeyError, match="leaky_relu.cu has no variant .*'WIDE': 'double'.*: add it to the variants"):
        SOURCE.kernel("leaky_relu_forward", SCALAR="Half", WIDE="double")


SOURCES = {source.name: source for source, _ in listed_variants()}


@pytest.mark.parametrize("name", SOURCES)
def test_so_it_is_for_every_source(name):
    source = SOURCES[name]
    kernel, listed = kernels_of(source)[0], source.variants
    assert source.kernel(kernel, **listed[0]).name == kernel
    with pytest.raises(KeyError, match=f"{source.path.name} has no variant .*'UNLISTED': 1"):
        source.kernel(kernel, **listed[0], UNLISTED=1)


def test_variants_follow_from_the_table_of_tiles_in_use():
    """Another tile is refused until a table holds it."""
    from sparsenet.kernels.convolution.cuda import FORWARD, WEIGHTS, forward_kernel

    table = tiles.tile_table()
    tile = replace(table.choose("forward", "any", "float32", 64), rows=32, columns=32, own_rows=4, own_columns=4)
    with pytest.raises(KeyError, match=r"forward.cu has no variant .*'TILE_ROWS': 32"):
        forward_kernel(tile, "float32")
    with tiles.using(replace(table, forward=(tile,))):
        assert len(FORWARD.variants) == 4  # each operand by vectors or by elements
        assert {macros["TILE_ROWS"] for macros in FORWARD.variants} == {32}
        assert forward_kernel(tile, "float32").defines["TILE_ROWS"] == "32"
        assert len(WEIGHTS.variants) == 4 * sum(line.precision in tiles.ITEM_SIZES for line in table.weight_gradient)


def test_what_a_gpu_cannot_run_is_left_out():
    old, new = ({(source, macros) for source, _, macros in variants(number)} for number in (75, 80))
    assert old < new
    assert any(("PRECISION", "BF16") in macros for _, macros in new - old)


def test_what_is_kept_on_disk_is_found_whatever_the_order_of_the_macros():
    one, other = (CudaSource("activations/leaky_relu").kernel("leaky_relu_forward", **dict(macros))
                  for macros in ([("SCALAR", "float"), ("WIDE", "float")], [("WIDE", "float"), ("SCALAR", "float")]))
    assert list(one.defines) != list(other.defines)
    assert cupy_driver.options_of(one) == cupy_driver.options_of(other)
    assert variant_of(one) == variant_of(other)


def test_a_kernel_that_does_not_compile_is_told_across_processes(monkeypatch):
    class Refuses:
        def load(self, kernel):
            raise CompileError(kernel, "leaky_relu.cu(3): error: no")

    monkeypatch.setattr(cupy_driver, "CupyDriver", Refuses)
    with pytest.raises(RuntimeError, match="leaky_relu_forward .* does not compile") as caught:
        compile_variant(("activations/leaky_relu", "leaky_relu_forward", (("SCALAR", "float"), ("WIDE", "float"))))
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_an_error_in_a_process_is_raised_here(monkeypatch):
    monkeypatch.setattr(precompile, "compile_variant", worker_tasks.refused)
    with pytest.raises(ZeroDivisionError, match="task 3"):
        precompile.compile_all(range(5), processes=2)


@pytest.mark.skipif(os.name != "posix", reason="kills a process")
@pytest.mark.parametrize("function", [worker_tasks.dead, worker_tasks.cut_short])
def test_a_process_that_is_killed_is_told_of(function, monkeypatch):
    """A pool of concurrent.futures would wait for ever for a process that dies in the middle of a message."""
    monkeypatch.setattr(precompile, "compile_variant", function)
    with pytest.raises(RuntimeError, match="one of the processes that compiled 20 variants died"):
        precompile.compile_all(range(20), processes=2)


def test_all_are_compiled(monkeypatch):
    monkeypatch.setattr(precompile, "compile_variant", worker_tasks.doubled)
    assert precompile.compile_all(range(5), processes=2) == 5


def test_without_cupy_there_is_one_line():
    program = ("import runpy, sys; sys.modules['cupy'] = None; sys.argv = ['precompile.py']; "
               "runpy.run_module('sparsenet.kernels.cuda.precompile', run_name='__main__')")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("precompile: error: device 'cuda' needs CuPy") and len(done.stderr.splitlines()) == 1
