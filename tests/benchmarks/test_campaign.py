"""The campaign on a GPU: stages that pass, fail, hang, do not start; and what is written of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from cuda_host import cupy_of_numpy

from benchmarks import SECTIONS, campaign, stage
from benchmarks.campaign import SECONDS, Setting, run_campaign, stages
from benchmarks.figures import Figure, line
from benchmarks.stage import Stage, run_stage

ROOT = Path(__file__).resolve().parents[2]
PATHS = os.pathsep.join((str(ROOT), str(ROOT / "tools")))  # as a script of tools/ has them
NO_CUPY = "import sys; sys.modules['cupy'] = None; "  # what `import cupy` then meets is an ImportError
SLEEP = "import time; time.sleep(60)"
DEAF = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(60)"


def python(name: str, program: str, seconds: int = 60, needed: bool = False) -> Stage:
    return Stage(name, (sys.executable, "-c", program), seconds, needed=needed)


@pytest.fixture
def gpu(host_driver):
    with cupy_of_numpy.installed(host_driver):
        yield


def test_stages_go_on_after_a_failure_and_all_is_written(gpu, tmp_path):
    said, out = [], tmp_path / "out"
    listed = [python("first", "print('hello')"), python("second", "print('oh'); print('no'); exit(3)"),
              Stage("third", None, 5, "there is no such tool"), Stage("fourth", (str(tmp_path / "nothing"),), 60),
              python("last", "print('done')")]
    assert run_campaign(listed, ROOT, out, say=said.append) is False
    assert (out / "first.txt").read_text().splitlines()[1:] == ["hello"]
    assert (out / "third.txt").read_text() == "there is no such tool\n"
    written = json.loads((out / "campaign.json").read_text())
    assert [(one["name"], one["passed"]) for one in written["stages"]] == [
        ("first", True), ("second", False), ("third", None), ("fourth", False), ("last", True)]
    assert written["stages"][1]["words"].startswith("exit code 3:") and "oh | no" in written["stages"][1]["words"]
    assert written["stages"][3]["words"].startswith("did not start: ")
    assert written["machine"]["gpu"] == "NumPy" and written["began"].startswith("20") and written["commit"]
    assert [line.split()[1] for line in said[-5:]] == ["passed", "FAILED", "left", "FAILED", "passed"]
    assert said[0].startswith("NumPy, commit ")


def test_all_passed_or_left_out_is_success(gpu, tmp_path):
    listed = [python("first", ""), Stage("second", None, 5, "no tool")]
    assert run_campaign(listed, ROOT, tmp_path, say=lambda line: None) is True


def test_a_call_ends_in_its_time_whatever_its_stages_do(gpu, tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "GRACE", 1)
    monkeypatch.setattr(campaign, "GRACE", 1)
    monkeypatch.setattr(campaign, "RESERVE", 1)
    monkeypatch.setattr(stage, "MIN_SECONDS", 1)
    listed = [python("hangs", SLEEP, seconds=2), python("deaf", DEAF), python("last", "")]
    begun = time.monotonic()
    run_campaign(listed, ROOT, tmp_path, seconds=8, say=lambda line: None)
    assert time.monotonic() - begun < 8 + 3  # of a busy machine
    hangs, deaf, last = json.loads((tmp_path / "campaign.json").read_text())["stages"]
    assert hangs["words"].startswith("over its limit of 2 s") and hangs["limit"] == 2
    assert deaf["words"].startswith("over its limit of ") and deaf["limit"] < 5  # what was left, not 60
    assert last["passed"] is None and last["words"] == "no time left"


def test_nothing_runs_after_what_all_need_has_failed(gpu, tmp_path):
    listed = [python("imports", "import nothing_of_that_name", needed=True), python("second", "print(1)")]
    assert run_campaign(listed, ROOT, tmp_path, say=lambda line: None) is False
    second = json.loads((tmp_path / "campaign.json").read_text())["stages"][1]
    assert second["passed"] is None and second["words"] == "imports failed, which it needs"


def test_the_archive_is_whole_after_each_stage_and_holds_no_weights(gpu, tmp_path):
    out, archive = tmp_path / "out", tmp_path / "there" / "results.tgz"
    archive.parent.mkdir()
    look = (f"import tarfile; names = tarfile.open({str(archive)!r}).getnames(); "
            "assert 'results/first.txt' in names and 'results/summary.txt' in names, names")
    (out / "peers").mkdir(parents=True)
    (out / "peers" / "license.txt").touch()
    write = f"open({str(out / 'last.h5')!r}, 'w').write('weights')"
    assert run_campaign([python("first", write), python("second", look)], ROOT, out, archive=archive,
                        say=lambda line: None)
    with tarfile.open(archive) as packed:
        names = packed.getnames()
    assert {"results/campaign.json", "results/second.txt"} <= set(names)
    assert not any(name.endswith(".h5") or "peers" in name for name in names)
    assert [path.name for path in archive.parent.iterdir()] == ["results.tgz"]


def test_figures_outlive_the_stage_that_is_killed(gpu, tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "GRACE", 1)
    figure = line(Figure("large convolution", "64 -> 64, tf32", "forward", 1.5, "ms"))
    program = f"open({str(tmp_path / 'figures.jsonl')!r}, 'a').write({figure + chr(10)!r}); {DEAF}"
    run_campaign([python("large", program, seconds=6)], ROOT, tmp_path, say=lambda line: None)
    assert "  64 -> 64, tf32: forward 1.5 ms" in (tmp_path / "summary.txt").read_text().splitlines()


def test_a_stage_over_its_limit_is_ended_with_its_children(tmp_path):
    child = tmp_path / "child"
    program = ("import subprocess, sys, time; "
               "c = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
               f"open({str(child)!r}, 'w').write(str(c.pid)); print('started', flush=True); time.sleep(60)")
    begun = time.monotonic()
    outcome = run_stage(python("slow", program, seconds=6), ROOT, tmp_path / "slow.txt")
    assert time.monotonic() - begun < 30
    assert outcome.passed is False and outcome.words.startswith("over its limit of 6 s: ")
    with pytest.raises(OSError):  # ended, and no zombie of ours
        for _ in range(100):
            os.kill(int(child.read_text()), 0)
            if Path(f"/proc/{child.read_text()}/stat").read_text().split()[2] == "Z":  # its new parent has not looked
                raise ProcessLookupError
            time.sleep(0.05)


def test_a_stage_over_its_limit_may_tell_what_it_found(tmp_path):
    program = ("import time; print('started', flush=True)\n"
               "try: time.sleep(60)\nexcept KeyboardInterrupt: print('1 failed so far')")
    outcome = run_stage(python("slow", program, seconds=6), ROOT, tmp_path / "slow.txt")
    assert outcome.passed is False and outcome.words.startswith("over its limit of 6 s: ")
    assert outcome.words.endswith("started | 1 failed so far") and outcome.seconds < 6 + stage.GRACE + 2


def test_a_stage_that_does_not_end_when_interrupted_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "GRACE", 1)
    outcome = run_stage(python("deaf", DEAF, seconds=5), ROOT, tmp_path / "deaf.txt")
    assert outcome.passed is False and 6 <= outcome.seconds < 20


def setting(tmp_path: Path, **other: object) -> Setting:
    return Setting(ROOT, tmp_path, **other)


def test_the_stages_of_each_call(tmp_path):
    assert [one.name for one in stages("1", setting(tmp_path))] == [
        "imports", "compile", "smoke", "large", "peers", "steps", "pipeline", "profile", "wgmma", "training"]
    assert [one.name for one in stages("2", setting(tmp_path))] == [
        "imports", "compile", "tests", "memcheck", "racecheck"]
    assert [one.name for one in stages("tune", setting(tmp_path))] == ["imports", "compile", "tiles"]
    assert sum(SECONDS[call] for call in ("1", "2")) <= 13 * 60  # of a quarter of an hour, with a machine's start
    for call in SECONDS:
        listed = stages(call, setting(tmp_path))
        assert listed[0].needed and max(one.seconds for one in listed) < SECONDS[call]
        for one in listed:
            for word in one.command or ():
                if word.startswith(f"{ROOT}{os.sep}"):
                    assert Path(word).exists(), one.name


def test_the_sections_that_are_measured_exist_on_a_gpu(tmp_path):
    measured = set()
    for one in stages("1", setting(tmp_path, carried=tmp_path)):
        if one.command and "--only" in one.command:
            measured |= set(one.command[one.command.index("--only") + 1:])
    assert measured <= {name for name, (*_, devices) in SECTIONS.items() if "cuda" in devices}
    assert {"ceilings", "large", "peers", "layers", "steps", "pipeline", "profile", "wgmma"} <= measured


def test_what_is_carried_is_used(tmp_path):
    for name in ("psb.h5", "modelnet40.h5", "peers.tar.xz"):
        (tmp_path / name).touch()
    listed = {one.name: one for one in stages("1", setting(tmp_path / "out", carried=tmp_path))}
    assert list(listed).index("unpack") < list(listed).index("peers")
    assert listed["unpack"].command[-3:] == (str(tmp_path), "--unpack", str(tmp_path / "out" / "peers"))
    assert listed["peers"].environment["PYTHONPATH"] == str(tmp_path / "out" / "peers")
    assert listed["training"].command is not None
    without = {one.name: one for one in stages("1", setting(tmp_path / "out"))}
    assert "unpack" not in without and without["training"].why == "the carried folder has no modelnet40.h5"


def test_peers_are_started_in_their_stage_alone(tmp_path):
    listed = stages("1", setting(tmp_path, peers="python9", carried=tmp_path))
    assert [one.name for one in listed if "python9" in (one.command or ())] == ["peers"]


def test_tests_run_plainly(tmp_path):
    tests = next(one for one in stages("2", setting(tmp_path)) if one.name == "tests")
    words = " ".join(tests.command)
    assert "-W default" in words and "--maxfail 20" in words and "-p xdist.plugin -n 8" in words
    assert tests.environment == {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


def test_a_rehearsal_is_small_and_patient(tmp_path):
    real, rehearsed = (stages("1", setting(tmp_path, driver=driver)) for driver in ("gpu", "host"))
    assert [one.name for one in real] == [one.name for one in rehearsed]
    assert all(other.seconds > one.seconds for one, other in zip(real, rehearsed, strict=True))
    assert all("--quick" in one.command for one in rehearsed if one.command and "--follow" in one.command)
    assert not any("--quick" in (one.command or ()) for one in real)


def test_paths_that_a_stage_names_are_added_to_those_there_are(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "given")
    show = Stage("paths", (sys.executable, "-c", "import os; print(os.environ['PYTHONPATH'])"), 60,
                 environment={"PYTHONPATH": "own"})
    assert run_stage(show, ROOT, tmp_path / "log").passed
    assert (tmp_path / "log").read_text().splitlines()[1] == os.pathsep.join([str(ROOT), "given", "own"])


def test_tests_that_need_what_is_missing_are_left_out(tmp_path, monkeypatch):
    (tmp_path / "test_a.py").write_text("import hypothesis.strategies\n")
    (tmp_path / "test_b.py").write_text("import numpy\n\ndef test():\n    import hypothesis\n")
    (tmp_path / "test_c.py").write_text("from hypothesis import given\n")
    monkeypatch.setattr(campaign, "missing", lambda: ["hypothesis"])
    assert [path.name for path in campaign.needing_what_is_missing(tmp_path)] == ["test_a.py", "test_c.py"]
    monkeypatch.setattr(campaign, "missing", lambda: [])
    assert campaign.needing_what_is_missing(tmp_path) == []


def test_missing_modules_are_reported(gpu, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(campaign, "missing", lambda: ["tqdm", "hypothesis"])
    run_campaign([python("first", "")], ROOT, tmp_path, say=said.append)
    assert said[1:3] == ["tqdm is not installed: needed",
                         "hypothesis is not installed: tests that import it are left out"]


def test_without_cupy_there_is_one_line(tmp_path):
    program = NO_CUPY + "import runpy; sys.argv = ['gpu_campaign.py', sys.argv[1]]; runpy.run_path(" \
        f"{str(ROOT / 'tools' / 'gpu_campaign.py')!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "out")], capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": PATHS}, check=False)
    assert done.returncode == 1 and not (tmp_path / "out").exists()
    assert done.stderr.startswith("gpu_campaign: error: device 'cuda' needs CuPy: pip install")
    assert len(done.stderr.splitlines()) == 1


def test_the_folder_is_named_after_the_gpu(gpu, monkeypatch):
    monkeypatch.setattr(campaign.machine, "gpu_name", lambda: "NVIDIA H100 80GB HBM3")
    assert campaign.folder_name() == "nvidia-h100-80gb-hbm3"


@pytest.mark.parametrize("command", [
    ["benchmark.py", "--quick", "--only", "voxelizer", "memory-bound", "--peers", "none"],
    ["benchmark.py", "--help"], ["gpu_campaign.py", "--help"], ["gpu_smoke.py", "--help"], ["gpu_pack.py", "--help"],
])
def test_nothing_of_it_needs_what_a_bare_machine_lacks(command):
    """No module of OF_SOME_TESTS is imported on the way."""
    program = (f"import runpy, sys; sys.modules.update(dict.fromkeys({campaign.OF_SOME_TESTS!r})); "
               f"sys.argv = {command!r}; runpy.run_path({str(ROOT / 'tools' / command[0])!r}, run_name='__main__')")
    environment = os.environ | {"PYTHONPATH": PATHS, "SPARSENET_DATA": ""}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr


def test_a_call_is_rehearsed_from_the_first_line_to_the_last(tmp_path):
    """The tool itself, on the host: imports through the stand-in for CuPy, a section, what cannot run, tests."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    for call, only in (("1", ["imports", "profile", "wgmma"]), ("2", ["imports", "tests"])):
        out, archive = tmp_path / call, tmp_path / f"{call}.tgz"
        done = subprocess.run(
            [sys.executable, str(ROOT / "tools" / "gpu_campaign.py"), str(out), "--call", call, "--archive",
             str(archive), "--peers", "none", "--only", *only], cwd=tmp_path, capture_output=True, text=True,
            check=False, env=environment | {"SPARSENET_DRIVER": "host", "SPARSENET_DATA": ""})
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.splitlines()[-1] == f"all of it: {archive}"
        assert "cupy 0 (of NumPy)" in (out / "imports.txt").read_text()
        summed = (out / "summary.txt").read_text()
        assert summed in done.stdout and len(summed.splitlines()) <= 60
        with tarfile.open(archive) as packed:
            assert {f"results/{name}.txt" for name in only} <= set(packed.getnames())
    assert "S3DCNN profile" in (tmp_path / "1" / "summary.txt").read_text()
    assert "wgmma cannot run on the host" in (tmp_path / "1" / "summary.txt").read_text()
    assert " passed" in (tmp_path / "2" / "tests.txt").read_text().splitlines()[-1]
