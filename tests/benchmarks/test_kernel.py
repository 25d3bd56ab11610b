"""`sparsenet benchmark kernel NAME`: every kernel has inputs, on which each backend gives what its formula gives."""

from __future__ import annotations

import json

import numpy as np
import pytest
from cuda_host import cupy_of_numpy

from benchmarks import kernel
from benchmarks.commands import benchmark
from benchmarks.inputs import inputs_of
from benchmarks.timing import Settings
from sparsenet.kernels import find
from sparsenet.kernels.table import names

WITHOUT_CUDA = {"transposed_of_pairs"}
BRIEF = Settings(repeats=1, seconds=0.0, quick=True)


@pytest.mark.parametrize("size", [4, 203])
@pytest.mark.parametrize("name", names())
def test_a_cpu_gives_what_the_formula_gives(name, size):
    it = kernel.checked(name, size, ["reference", "cpu"])
    assert it.bytes_moved > 0 and len(it.inputs.arguments) <= len(find(name).arguments)


@pytest.mark.parametrize("name", names())
def test_so_does_the_cuda_source_on_the_host(name, host_driver):
    with cupy_of_numpy.installed(host_driver):
        where = kernel.implemented(name, ["cuda"])
        assert where or name in WITHOUT_CUDA
        assert kernel.checked(name, 40, where or ["reference"]).bytes_moved > 0


def test_the_inputs_are_the_same_each_time():
    first, second = (inputs_of("convolution_forward", 50).arguments[0] for _ in range(2))
    assert np.array_equal(first, second)


def test_a_kernel_without_inputs_says_where_they_belong(monkeypatch):
    import benchmarks.inputs.matmul as module

    monkeypatch.delattr(module, "matmul")
    with pytest.raises(NotImplementedError, match=r"matmul has no inputs: .* benchmarks/inputs/matmul.py"):
        kernel.checked("matmul", 8, ["cpu"])


@pytest.mark.parametrize(("name", "wrong", "message"), [
    ("leaky_relu_forward", lambda right: lambda x, *rest: [y * 1.001 for y in right(x, *rest)], "by 0.001 of its"),
    ("hash_lookup", lambda right: lambda *given: right(*given) + 1, "by .* of its largest value, expected at most 0"),
    ("leaky_relu_forward", lambda right: lambda x, *rest: (right(x, *rest), x.fill(0))[0],
     "an array that it was given"),
    ("pair_count", lambda right: lambda *given: (right(*given), 0), "2 arrays, the reference has 1"),
], ids=["wrong by a thousandth", "another row", "an input overwritten", "one result more"])
def test_a_wrong_result_is_not_timed(name, wrong, message, monkeypatch):
    right = find(name).on("cpu")
    monkeypatch.setitem(find(name).implementations, "cpu", wrong(right))
    with pytest.raises(RuntimeError, match=message):
        kernel.measure(name, 40, ["cpu"], BRIEF)


def test_what_a_kernel_writes_to_its_arguments_counts_and_is_compared(monkeypatch):
    parameters = kernel.checked("sgd_step", 40, ["cpu"])
    assert parameters.bytes_moved == 5 * 4 * 40 * 32  # parameter, gradient, velocity read; the first and last written
    monkeypatch.setitem(find("sgd_step").implementations, "cpu", lambda *given: None)
    with pytest.raises(RuntimeError, match="sgd_step on cpu, size 40: an array that it was given differs"):
        kernel.checked("sgd_step", 40, ["cpu"])


def test_the_command_prints_a_line_for_each_size_and_backend(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("SPARSENET_DRIVER", raising=False)
    monkeypatch.setattr(kernel, "available", lambda: ["reference", "cpu"])
    monkeypatch.setattr(kernel, "_SGEMM", (64, 64, 64))
    file = tmp_path / "figures.json"
    assert benchmark.main(["kernel", "convolution_forward", "--sizes", "40", "80", "--repeats", "2", "--json",
                           str(file)]) == 0
    heading, rule, *rows = capsys.readouterr().out.split("\n\n")[1].splitlines()
    assert heading.split()[:2] == ["size", "backend"] and "of sgemm, %" in heading and set(rule) == {"-"}
    assert [row.split()[:2] for row in rows] == [["40", "reference"], ["40", "cpu"], ["80", "reference"], ["80", "cpu"]]
    figures = json.loads(file.read_text())
    assert len(figures) == 4 and all(one["seconds"] > 0 and one["copy_seconds"] > 0 for one in figures)
    assert figures[0]["multiply_adds"] == inputs_of("convolution_forward", 40).multiply_adds > 0


def test_a_backend_that_a_kernel_lacks_is_named(capsys, monkeypatch):
    monkeypatch.delenv("SPARSENET_DRIVER", raising=False)
    monkeypatch.setattr(kernel, "available", lambda: ["reference", "cuda"])
    assert benchmark.main(["kernel", "transposed_of_pairs", "--sizes", "8", "--repeats", "1"]) == 0
    printed = capsys.readouterr()
    assert "transposed_of_pairs has no implementation on cuda" in printed.err and " cuda " not in printed.out


def test_a_kernel_that_multiplies_nothing_is_compared_with_a_copy_alone():
    found = kernel.measure("leaky_relu_forward", 40, ["cpu"], BRIEF)
    assert found[0].bytes_moved == 2 * 4 * (40 + 1) * 32 and "sgemm" not in kernel.table(found)


@pytest.mark.parametrize(("words", "message"), [
    (["leaky_relu"], "leaky_relu is not a kernel: did you mean leaky_relu_forward or leaky_relu_backward?"),
    (["convolution_foward"], "convolution_foward is not a kernel: did you mean convolution_forward"),
    (["optim"], "optim is a family, whose kernels are sgd_step, adam_step"),
    (["xyzzy"], "xyzzy is not a kernel: sparsenet benchmark kernel --help lists them"),
    (["matmul", "--sizes", "3"], "argument --sizes: 3, expected 4 or more"),
    (["matmul", "--repeats", "0"], "argument --repeats: 0 is not a positive whole number"),
    (["transposed_of_pairs", "--backends", "cuda"], "transposed_of_pairs has no implementation on cuda"),
    (["matmul", "--backends", "cuda"], "argument --backends: cuda: there is no GPU"),
], ids=["part of a name", "a slip", "a family", "nothing like it", "size", "repeats", "not on it", "no GPU"])
def test_what_cannot_be_timed(words, message, capsys, monkeypatch):
    monkeypatch.delenv("SPARSENET_DRIVER", raising=False)
    there = ["reference", "cpu"] if message.endswith("GPU") else list(kernel.BACKENDS)
    monkeypatch.setattr(kernel, "available", lambda: there)
    with pytest.raises(SystemExit) as ended:
        benchmark.main(["kernel", *words])
    assert ended.value.code == 2 and message in capsys.readouterr().err


def test_the_help_lists_every_kernel(capsys):
    with pytest.raises(SystemExit):
        benchmark.main(["kernel", "--help"])
    assert set(names()) <= set(capsys.readouterr().out.replace(",", " ").split())
