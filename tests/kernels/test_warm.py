"""Compiling everything ahead: each source in each variant once, of what the GPU can run."""

from __future__ import annotations

import subprocess
import sys

from sparsenet.kernels.cuda import FOLDER, CudaSource
from sparsenet.kernels.warm import variants


def test_every_source_is_compiled_in_its_variants():
    found = variants(90)
    assert {source for source, _, _ in found} == {path.stem for path in FOLDER.glob("*.cu")}
    assert len({(source, macros) for source, _, macros in found}) == len(found)
    for source, name, macros in found:
        assert name in CudaSource(source).kernel(name, **dict(macros)).module


def test_what_a_gpu_cannot_run_is_left_out():
    old, new = ({(source, macros) for source, _, macros in variants(number)} for number in (75, 80))
    assert old < new
    assert any(("PRECISION", "BF16") in macros for _, macros in new - old)


def test_without_cupy_there_is_one_line():
    program = ("import runpy, sys; sys.modules['cupy'] = None; sys.argv = ['warm.py']; "
               "runpy.run_module('sparsenet.kernels.warm', run_name='__main__')")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("warm: error: device 'cuda' needs CuPy") and len(done.stderr.splitlines()) == 1
