"""Sections run, small, on built-in shapes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import SECTIONS, Results, Settings, hash_table, ranks, report, run
from sparsenet.kernels import get_num_threads

QUICK = Settings(repeats=1, quick=True)
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def no_data(monkeypatch):
    monkeypatch.delenv("SPARSENET_DATA", raising=False)


def test_sections_give_their_figures():
    said = []
    threads = get_num_threads()
    names = ["ceilings", "hash", "memory-bound", "points", "memory", "scaling", "voxelizer"]
    results = run(QUICK, names, say=said.append)
    assert get_num_threads() == threads
    assert [line.split(":")[0] for line in said if line != "shapes: reading"] == names
    assert list(results.settings["section_seconds"]) == names
    assert all(figure.value >= 0 for figure in results.figures)
    assert results.value("memory-bound passes", "leaky ReLU, forward", "of copy") > 0
    goals = {figure.case: figure.goal for figure in results.figures if figure.name == "of copy"}
    assert goals["PReLU, backward"] == 60 and goals["GELU, forward"] == goals["softmax, backward"] == 40
    assert results.value("memory-bound passes", "at_points, nearest", "of copy") > 0
    assert goals["concatenation, backward"] == goals["addition, other sites"] == 60
    assert results.find("points", "20,000 points, 3 channels", "from_points, mean / argsort").goal == 1.5
    assert results.value("S3DCNN memory", "render 20", "peak / live") > 1
    assert 0.5 < results.value("U-Net memory", "1,500 sites", "peak / kept") < 2
    assert results.value("hash table", "10,000 keys", "insert") > 0
    assert results.value("voxelizer", "meshes", "count") == 8
    assert any("parametric shapes instead" in note for note in results.notes)


def test_training_sections_give_their_figures():
    results = run(QUICK, ["steps", "pipeline"], say=lambda line: None)
    split = [figure.value for figure in results.of("S3DCNN split") if figure.case == "render 30" and not figure.better]
    assert sum(split) == pytest.approx(100, abs=1)
    assert results.value("S3DCNN cost", "render 30", "dense multiply-adds a sample") == pytest.approx(5654, rel=1e-3)
    assert results.value("S3DCNN cost", "render 30", "multiply-adds a sample") < 200
    assert results.value("S3DCNN pipeline", "parametric shapes, render 20, augmented, 1 worker", "rate") > 0


def test_grouped_convolution_is_timed_beside_the_same_without_groups():
    results = run(QUICK, ["grouped"], say=lambda line: None)
    assert not results.failed
    assert {figure.case for figure in results.of("grouped convolution")} == {"64 channels, 8 groups",
                                                                            "64 channels, depthwise"}
    assert results.value("grouped convolution", "64 channels, depthwise", "forward, without groups / ours") > 1


def test_evaluation_is_timed_beside_training():
    results = run(QUICK, ["invariance"], say=lambda line: None)
    assert not results.failed
    ratios = [figure.value for figure in results.of("batch invariance") if figure.unit == "x"]
    assert len(ratios) == 2 * 2 + 5 and all(ratio > 0 for ratio in ratios)


def test_start_up_is_measured_in_new_processes():
    results = run(QUICK, ["start-up"], say=lambda line: None)
    cold, warm = (results.value("start-up", f"{state} cache", "all") for state in ("cold", "warm"))
    assert cold > warm > 0
    assert results.value("start-up", "cold cache", "functions compiled") > 5


def test_an_unknown_section_is_refused():
    with pytest.raises(ValueError, match="section 'speed' does not exist, expected some of ceilings, convolution"):
        run(QUICK, ["speed"])


def test_a_section_of_another_device_is_refused():
    with pytest.raises(ValueError, match="section 'memory' is not measured on cuda"):
        run(Settings(device="cuda"), ["memory"])
    with pytest.raises(ValueError, match="section 'large' is not measured on cpu"):
        run(QUICK, ["large"])


def disagrees(results: Results, settings: Settings) -> None:
    results.add("first", "case", "before", 1)
    raise RuntimeError("benchmark: forward differs\nfrom the reference")


def does_not_fit(results: Results, settings: Settings) -> None:
    raise MemoryError("out of memory")


def last(results: Results, settings: Settings) -> None:
    results.add("last", "case", "figure", 2)


def test_a_section_that_fails_is_named_and_the_next_ones_run(monkeypatch):
    for name, measure in (("hash", disagrees), ("ceilings", does_not_fit), ("memory", last)):
        monkeypatch.setitem(SECTIONS, name, ("a title", measure, False, ("cpu",)))
    said, kept = [], []
    results = run(QUICK, ["hash", "ceilings", "memory"], said.append, lambda so_far: kept.append(so_far.sections()[:]))
    assert results.failed == {"hash": "RuntimeError: benchmark: forward differs from the reference",
                              "ceilings": "MemoryError: out of memory"}
    assert [line for line in said if "FAILED" in line] == [f"{name}: FAILED: {error}"
                                                           for name, error in results.failed.items()]
    assert kept == [["first"], ["first"], ["first", "last"]]
    assert report.text(results).endswith("ceilings: MemoryError: out of memory")


def test_a_defect_ends_the_run_and_leaves_what_there_is(monkeypatch):
    def defect(results: Results, settings: Settings) -> None:
        raise KeyError("misspelt")

    for name, measure in (("hash", last), ("ceilings", defect)):
        monkeypatch.setitem(SECTIONS, name, ("a title", measure, False, ("cpu",)))
    kept = []
    with pytest.raises(KeyError):
        run(QUICK, ["hash", "ceilings"], lambda line: None, lambda so_far: kept.append(so_far.sections()[:]))
    assert kept == [["last"], ["last"]]


def test_the_tool_ends_with_1_where_a_pass_disagrees_and_writes_the_rest(tmp_path):
    program = ("import runpy, sys; from benchmarks import reference\n"
               "def check(what, *arguments): raise RuntimeError(f'{what} differs')\n"
               "reference.check = check; "
               f"sys.argv = ['benchmark.py', '--quick', '--only', 'hash', 'voxelizer', 'ceilings', '--peers', 'none', "
               f"'--json', {str(tmp_path / 'cpu.json')!r}]; "
               f"runpy.run_path({str(ROOT / 'tools' / 'benchmark.py')!r}, run_name='__main__')")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False,
                          env=os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tools")))})
    assert done.returncode == 1, done.stderr
    assert "hash: FAILED: RuntimeError: hash table: present keys differs" in done.stderr
    written = Results.load(tmp_path / "cpu.json")
    assert "hash" in written.failed and "ceilings" in written.sections()


def test_keys_are_drawn_without_a_search():
    drawn = hash_table.draw_keys(1000)
    assert all(len(keys) == 1000 for keys in drawn.values())
    assert (np.diff(drawn["inserted"]) > 0).all()
    assert np.array_equal(np.searchsorted(drawn["inserted"], drawn["present"]), drawn["rows"])
    assert not np.isin(drawn["absent"], drawn["inserted"]).any() and len(set(drawn["absent"].tolist())) == 1000


def test_the_tool_writes_and_compares(tmp_path):
    def tool(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, str(ROOT / "tools" / "benchmark.py"), *arguments], capture_output=True,
                              text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False)

    path = tmp_path / "cpu.json"
    done = tool("--quick", "--only", "hash", "--peers", "none", "--json", str(path))
    assert done.returncode == 0, done.stderr
    assert "M keys/s" in done.stdout
    assert Results.load(path).sections() == ["hash table"]
    done = tool("--quick", "--only", "hash", "--peers", "none", "--compare", str(path))
    assert done.returncode == 0, done.stderr
    assert "against the committed figures: nothing to compare" in done.stdout
    done = tool("--only", "hash", "--compare", str(tmp_path / "absent.json"))
    assert done.returncode == 1
    assert "absent.json" in done.stderr
    assert set(SECTIONS) <= set(tool("--help").stdout.split())


def test_a_unet_is_verified_and_timed():
    results = run(QUICK, ["unet"], say=lambda line: None)
    assert not results.failed
    prepared, whole = (results.value("U-Net", "1,500 sites", name) for name in ("prepared", "with rulebooks"))
    assert prepared > 0 and whole > 0


def test_a_resnet_is_verified_and_timed():
    results = run(QUICK, ["resnet"], say=lambda line: None)
    assert not results.failed
    case = "parametric shapes, render 6, batch 4"
    prepared, whole = (results.value("ResNet steps", case, name) for name in ("prepared", "with rulebooks"))
    assert prepared > whole > 0


def test_shards_are_timed_beside_one_batch_and_ranks_are_left_out_without_mpi(monkeypatch):
    monkeypatch.setattr(ranks, "find_launcher", lambda: None)
    results = run(QUICK, ["ranks"], say=lambda line: None)
    assert not results.failed and "ranks left out: pip install 'sparsenet[mpi]' mpich" in results.notes
    for loss in ranks.LOSSES:
        assert results.value(ranks.SECTION, f"{loss}, 4 shards, 1 rank", "step / one batch's") > 0


@pytest.mark.extra("mpi")
def test_ranks_are_compared_with_one_process_and_timed_beside_threads():
    threads = get_num_threads()
    results = run(QUICK, ["ranks"], say=lambda line: None)
    assert not results.failed and get_num_threads() == threads
    for loss in ranks.LOSSES:
        assert results.value(ranks.SECTION, f"{loss}, 2 shards, 2 ranks", "step / 2 threads'") > 0


@pytest.mark.extra("mpi")
def test_ranks_of_other_bits_fail(monkeypatch):
    monkeypatch.setattr(ranks.Training, "digest", lambda self: "other")
    assert "softmax: the weights after a step on two ranks differ" in run(QUICK, ["ranks"], say=lambda line: None
                                                                          ).failed["ranks"]
