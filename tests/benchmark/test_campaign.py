"""The campaign on a GPU: stages that pass, fail, take too long, cannot be run; and what is written of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cuda_host import cupy_of_numpy

from sparsenet.benchmark import SECTIONS, campaign
from sparsenet.benchmark.campaign import MOST_SECONDS, Stage, run_campaign, run_stage, stages

ROOT = Path(__file__).resolve().parents[2]
NO_CUPY = "import sys; sys.modules['cupy'] = None; "  # what `import cupy` then meets is an ImportError


def python(name: str, program: str, seconds: int = 60) -> Stage:
    return Stage(name, (sys.executable, "-c", program), seconds)


@pytest.fixture
def gpu(host_driver):
    with cupy_of_numpy.installed(host_driver):
        yield


def test_stages_go_on_after_a_failure_and_all_is_written(gpu, tmp_path):
    said = []
    listed = [python("first", "print('hello')"), python("second", "print('oh'); print('no'); exit(3)"),
              Stage("third", None, 5, "there is no such tool"), python("last", "print('done')")]
    assert run_campaign(listed, ROOT, tmp_path / "out", said.append) is False
    assert (tmp_path / "out" / "first.txt").read_text().splitlines()[1:] == ["hello"]
    assert (tmp_path / "out" / "third.txt").read_text() == "there is no such tool\n"
    written = json.loads((tmp_path / "out" / "campaign.json").read_text())
    assert [(one["name"], one["passed"]) for one in written["stages"]] == [
        ("first", True), ("second", False), ("third", None), ("last", True)]
    assert written["stages"][1]["words"].startswith("exit code 3:") and "oh | no" in written["stages"][1]["words"]
    assert written["machine"]["gpu"] == "NumPy" and written["began"].startswith("20") and written["commit"]
    assert [line.split()[1] for line in said[-4:]] == ["passed", "FAILED", "left", "passed"]
    assert said[0].startswith("NumPy, commit ")


def test_all_passed_or_left_out_is_success(gpu, tmp_path):
    listed = [python("first", ""), Stage("second", None, 5, "no tool")]
    assert run_campaign(listed, ROOT, tmp_path, lambda line: None) is True


def test_a_stage_over_its_limit_is_ended_with_its_children(tmp_path):
    child = tmp_path / "child"
    program = ("import subprocess, sys, time; "
               "c = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
               f"open({str(child)!r}, 'w').write(str(c.pid)); print('started', flush=True); time.sleep(60)")
    begun = time.monotonic()
    outcome = run_stage(python("slow", program, seconds=3), ROOT, tmp_path / "slow.txt")
    assert time.monotonic() - begun < 30
    assert outcome.passed is False and outcome.words.startswith("over its limit of 3 s: ")
    with pytest.raises(OSError):  # ended, and no zombie of ours
        for _ in range(100):
            os.kill(int(child.read_text()), 0)
            if Path(f"/proc/{child.read_text()}/stat").read_text().split()[2] == "Z":  # its new parent has not looked
                raise ProcessLookupError
            time.sleep(0.05)


def test_a_stage_over_its_limit_may_tell_what_it_found(tmp_path):
    program = ("import time; print('started', flush=True)\n"
               "try: time.sleep(60)\nexcept KeyboardInterrupt: print('1 failed so far')")
    outcome = run_stage(python("slow", program, seconds=3), ROOT, tmp_path / "slow.txt")
    assert outcome.passed is False and outcome.words.startswith("over its limit of 3 s: ")
    assert outcome.words.endswith("started | 1 failed so far") and outcome.seconds < 3 + campaign.GRACE + 2


def test_a_stage_that_does_not_end_when_interrupted_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(campaign, "GRACE", 1)
    program = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(60)"
    outcome = run_stage(python("deaf", program, seconds=2), ROOT, tmp_path / "deaf.txt")
    assert outcome.passed is False and 3 <= outcome.seconds < 20


def test_the_stages_there_are_and_their_time(tmp_path):
    listed = stages(ROOT, tmp_path)
    assert [stage.name for stage in listed] == ["versions", "compile", "tests", "memcheck", "racecheck", "benchmark"]
    assert sum(stage.seconds for stage in listed) <= MOST_SECONDS
    assert sum(stage.seconds + campaign.GRACE for stage in listed) < 8 * 60  # whatever happens
    sections = listed[-1].command[listed[-1].command.index("--only") + 1:]
    assert sections[:4] == ("ceilings", "large", "layers", "steps")
    assert sorted(sections) == sorted(name for name, (*_, devices) in SECTIONS.items() if "cuda" in devices)
    for stage in listed:
        for word in stage.command or ():
            if word.startswith(str(ROOT)):
                assert Path(word).exists(), stage.name
    tuned = stages(ROOT, tmp_path, tune=True)
    assert [stage.name for stage in tuned][-2:] == ["tiles", "benchmark"]
    assert sum(stage.seconds + campaign.GRACE for stage in tuned) < 12 * 60


def test_tests_that_need_what_is_missing_are_left_out(tmp_path, monkeypatch):
    (tmp_path / "test_a.py").write_text("import hypothesis.strategies\n")
    (tmp_path / "test_b.py").write_text("import numpy\n\ndef test():\n    import hypothesis\n")
    (tmp_path / "test_c.py").write_text("from hypothesis import given\n")
    monkeypatch.setattr(campaign, "missing", lambda: ["hypothesis"])
    assert [path.name for path in campaign.needing_what_is_missing(tmp_path)] == ["test_a.py", "test_c.py"]
    monkeypatch.setattr(campaign, "missing", lambda: [])
    assert campaign.needing_what_is_missing(tmp_path) == []


def test_what_is_missing_is_told(gpu, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(campaign, "missing", lambda: ["tqdm", "hypothesis"])
    run_campaign([python("first", "")], ROOT, tmp_path, said.append)
    assert said[1:3] == ["tqdm is not installed: needed",
                         "hypothesis is not installed: tests that import it are left out"]


def test_without_cupy_there_is_one_line(tmp_path):
    program = NO_CUPY + "import runpy; sys.argv = ['gpu_campaign.py', sys.argv[1]]; runpy.run_path(" \
        f"{str(ROOT / 'tools' / 'gpu_campaign.py')!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "out")], capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == 1 and not (tmp_path / "out").exists()
    assert done.stderr.startswith("gpu_campaign: error: device 'cuda' needs CuPy: pip install")
    assert len(done.stderr.splitlines()) == 1


def test_the_folder_is_named_after_the_gpu(gpu, monkeypatch):
    monkeypatch.setattr(campaign.machine, "gpu_name", lambda: "NVIDIA H100 80GB HBM3")
    assert campaign.folder_name() == "nvidia-h100-80gb-hbm3"


@pytest.mark.parametrize("command", [
    ["benchmark.py", "--quick", "--only", "voxelizer", "memory-bound", "--peers", "none"],
    ["benchmark.py", "--help"], ["gpu_campaign.py", "--help"],
])
def test_nothing_of_it_needs_what_a_bare_machine_lacks(command):
    """No module of OF_SOME_TESTS is imported on the way."""
    program = (f"import runpy, sys; sys.modules.update(dict.fromkeys({campaign.OF_SOME_TESTS!r})); "
               f"sys.argv = {command!r}; runpy.run_path({str(ROOT / 'tools' / command[0])!r}, run_name='__main__')")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "SPARSENET_DATA": ""}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
