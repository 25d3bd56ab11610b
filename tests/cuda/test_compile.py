"""Every kernel compiles in every variant, without a warning and without spills: for two architectures, for all of
them with SPARSENET_ARCHITECTURES=all.

`precompile.listed_variants` lists them.
"""

from __future__ import annotations

import inspect
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from cuda_host import nvrtc

from sparsenet.kernels.cuda.interface import CompileError
from sparsenet.kernels.cuda.precompile import kernels_of, listed_variants
from sparsenet.kernels.cuda.source import CudaSource, sources

VARIANTS = {(source.name, *sorted(macros.items())): source for source, macros in listed_variants()}
pytestmark = pytest.mark.extra("kernel-test")


def label(key: tuple) -> str:
    return " ".join([key[0], *(f"{name}={value}" for name, value in key[1:])])


@pytest.mark.parametrize("version", nvrtc.libraries() or ["none"])
@pytest.mark.parametrize("key", VARIANTS, ids=label)
def test_compiles_without_warnings_or_spills(key, version, resources):
    source, macros = VARIANTS[key], dict(key[1:])
    listed = kernels_of(source)
    kernel = source.kernel(listed[0], **macros)
    architectures = [number for number in nvrtc.COMPILED if source.runs_on(number, macros)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(lambda number: nvrtc.compile_kernels(kernel, number, version), architectures))
    spilled = []
    for architecture, taken in zip(architectures, found, strict=True):
        for name in listed:
            variant = f"{label(key)[len(key[0]):].strip()} NVRTC {version}"
            resources[name, variant, architecture] = taken[name]
            if taken[name].spill_stores or taken[name].spill_loads:
                spilled.append(f"{name} sm_{architecture}: {taken[name]}")
    assert not spilled, "registers are spilled to memory: smaller tiles or other launch bounds"


def test_the_options_are_those_of_cupy():
    compiler = pytest.importorskip("cupy.cuda.compiler", reason="CuPy is not installed: its options are not compared")
    source = inspect.getsource(compiler)
    for option in nvrtc.CUPYS:
        assert f"options += ('{option}',)" in source


def test_every_source_has_a_variant():
    assert {source.name for source in sources()} == {source.name for source in VARIANTS.values()}


@pytest.mark.parametrize(("body", "message"), [
    ("out[0] = missing;", 'line_of_fault.cu.3.: error: identifier "missing" is undefined'),
    ("int unused = 1; out[0] = 0;", r"line_of_fault.cu.3.: warning"),
])
def test_an_error_and_a_warning_show_the_line(tmp_path, body, message):
    path = tmp_path / "line_of_fault.cu"
    path.write_text(f'#include "common.cuh"\nextern "C" __global__ void fault(int* out) {{\n    {body}\n}}\n')
    with pytest.raises(CompileError, match=message) as caught:
        nvrtc.compile_kernels(CudaSource("line_of_fault", tmp_path).kernel("fault"), 80)
    assert f"3 | {body}" in str(caught.value)


def test_a_spill_is_seen(tmp_path):
    path = tmp_path / "spills.cu"
    lines = "\n".join(f"    float v{i} = x[{i}];" for i in range(64))
    uses = " + ".join(f"v{i} * x[v{63 - i} > 0 ? {i} : 0]" for i in range(64))
    path.write_text('#include "common.cuh"\nextern "C" __global__ void __launch_bounds__(1024, 2) '
                    f"spills(float* given) {{\n    volatile float* x = given;\n{lines}\n    __syncthreads();\n"
                    f"    x[0] = {uses};\n}}\n")
    found = nvrtc.compile_kernels(CudaSource("spills", tmp_path).kernel("spills"), 80)["spills"]
    assert found.spill_stores > 0 and found.spill_loads > 0
