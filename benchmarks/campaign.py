"""All work that needs a GPU, in two independent calls of a few minutes, the most valuable stages first.

    call 1   480 s   imports, compile, smoke, large convolutions, peers, steps, pipeline, profile, wgmma, training
    call 2   300 s   imports, compile, tests, memcheck, racecheck
    tune     300 s   imports, compile, tiles

Each stage is a process with a time limit of at most the remaining time of its call; its output goes to a file of its
own, and each figure is written as soon as it is measured.  After each stage everything is packed into one archive.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import carried, machine, summary
from benchmarks.stage import GRACE, Outcome, Stage, run_stage
from sparsenet import backend
from sparsenet.files import write_text

SECONDS = {"1": 480, "2": 300, "tune": 300}  # hard limit of each call
RESERVE = 5  # seconds at the end of a call, for packing and the summary
NEEDED = ("numpy", "numba", "h5py", "threadpoolctl", "tqdm", "pytest")
OF_SOME_TESTS = ("hypothesis", "trimesh", "matplotlib", "plotly", "sklearn", "selenium")
ARCHIVE, FIGURES, SUMMARY = "results.tgz", "figures.jsonl", "summary.txt"
_PACKED = (".txt", ".json", ".jsonl", ".toml")  # output of a stage
_SANITIZED = "training_gives"  # small, with nearly every kernel
_PROCESSES = 8  # for the tests
SLOWER = {"gpu": 1, "host": 20}  # factor of the time limits
_REHEARSED = ("cuda/test_device.py", "kernels/test_leaky_relu.py")  # tests of a rehearsal
# Stage -> (seconds, sections of the benchmark).
_SECTIONS = {"large": (110, ("ceilings", "large")), "peers": (90, ("peers",)), "steps": (75, ("steps", "layers")),
             "pipeline": (60, ("pipeline", "voxelizer", "hash")), "profile": (40, ("profile",)),
             "wgmma": (25, ("ceilings", "wgmma")), "training": (110, ("modelnet40",))}
_IMPORTS = ("import numpy, numba, h5py, cupy; print(*(f'{one.__name__} {one.__version__}' for one in (numpy, numba, "
            "h5py, cupy)), sep=', ')")


@dataclass(frozen=True)
class Setting:
    """The settings from which stages are made.

    root : folder of the checkout;  out : folder of the results
    driver : "gpu", or "host" for a rehearsal with small sizes
    peers : the interpreter with torch and spconv, or "none"
    carried : folder made by `tools/gpu_pack.py`, or None
    """

    root: Path
    out: Path
    driver: str = "gpu"
    peers: str = sys.executable
    carried: Path | None = None


def stages(call: str, setting: Setting) -> list[Stage]:
    """The stages of a call, in order."""
    python = sys.executable
    listed = [Stage("imports", (python, "-c", _IMPORTS), 30, needed=True),
              Stage("compile", (python, "-m", "benchmarks.warm"), 100)]
    if call == "1":
        listed.append(Stage("smoke", (python, str(setting.root / "tools" / "gpu_smoke.py")), 75))
        if _is_carried(carried.PEERS, setting):
            listed.append(Stage("unpack", (python, str(setting.root / "tools" / "gpu_pack.py"), str(setting.carried),
                                           "--unpack", str(setting.out / "peers")), 40))
        listed += [_benchmark(name, setting) for name in _SECTIONS]
    elif call == "2":
        listed += [_tests(setting), *_sanitizers(setting)]
    else:
        listed.append(Stage("tiles", (python, str(setting.root / "tools" / "tune_tiles.py"),
                                      str(setting.out / "tiles.toml"), "--precision", "tf32", "fp16",
                                      "--channels", "64", "128", "--candidates", "40"), 240))
    return [replace(stage, seconds=stage.seconds * SLOWER[setting.driver]) for stage in listed]


def _benchmark(name: str, setting: Setting) -> Stage:
    seconds, sections = _SECTIONS[name]
    peers = setting.peers if name == "peers" else "none"
    command = [sys.executable, str(setting.root / "tools" / "benchmark.py"), "--device", "cuda", "--repeats", "7",
               "--seconds", "2", "--peers", peers, "--json", str(setting.out / f"{name}.json"),
               "--follow", str(setting.out / FIGURES)]
    if setting.driver == "host":
        command.append("--quick")
    if setting.carried is not None:
        command += ["--carried", str(setting.carried)]
    why = _why_not(name, setting)
    return Stage(name, None if why else (*command, "--only", *sections), seconds, why,
                 environment={"PYTHONPATH": str(setting.out / "peers")})


def _why_not(name: str, setting: Setting) -> str:
    """Why a benchmark stage cannot run; "" if it can."""
    if name == "wgmma" and setting.driver == "host":
        return "wgmma cannot run on the host"
    if name == "training" and setting.driver == "gpu" and not _is_carried(carried.MODELNET40, setting):
        return f"the carried folder has no {carried.MODELNET40}"
    return ""


def _is_carried(name: str, setting: Setting) -> bool:
    return setting.carried is not None and (setting.carried / name).is_file()


def _pytest(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "pytest", "--tb=short", "-p", "no:cacheprovider", "-W", "default", "-m", "gpu",
            *arguments)


def _tests(setting: Setting) -> Stage:
    tests = setting.root / "tests"
    processes = _PROCESSES if setting.driver == "gpu" else 1  # of a rehearsal, which runs few tests
    shared = ("-p", "xdist.plugin", "-n", str(processes)) if importlib.util.find_spec("xdist") else ()
    absent = (f"--ignore={path}" for path in needing_what_is_missing(tests))
    chosen = [tests / name for name in _REHEARSED] if setting.driver == "host" else [tests]
    command = _pytest("-q", "--maxfail", "20", *shared, "-k", "not compute_sanitizer", *absent, *map(str, chosen))
    return Stage("tests", command, 120, environment=_PLAIN)


def _sanitizers(setting: Setting) -> Iterator[Stage]:
    tool = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
    network = str(setting.root / "tests" / "cuda" / "test_network.py")
    for check in ("memcheck", "racecheck"):
        command = (str(tool), "--tool", check, "--error-exitcode", "9", *_pytest("-v", "-k", _SANITIZED, network))
        yield Stage(check, command if tool else None, 75, "compute-sanitizer is not installed", environment=_PLAIN)


_PLAIN = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # only the plugins named explicitly


def run_campaign(listed: Sequence[Stage], root: Path, out: Path, seconds: float = SECONDS["1"],
                 archive: Path | None = None, say: Callable[[str], None] = print, commit_name: str = "") -> bool:
    """Run the stages; write NAME.txt for each, campaign.json and summary.txt, and pack all into the archive.  Returns
    False if a stage failed.

    seconds : limit of all stages together; a stage that needs more is interrupted or left out
    archive : a .tgz file (default: results.tgz in `out`)
    commit_name : commit of the checkout (default: from git)

    Raises
    ------
    RuntimeError : CuPy or a GPU is missing.
    """
    begun = time.monotonic()
    backend.cupy()
    out.mkdir(parents=True, exist_ok=True)
    archive = archive or out / ARCHIVE
    (out / FIGURES).unlink(missing_ok=True)  # from an earlier campaign
    facts = {"began": datetime.now(UTC).isoformat(timespec="seconds"), "commit": commit_name or commit(root),
             "command": [sys.executable, *sys.argv], "machine": machine.describe("cuda"), "missing": missing()}
    say(f"{facts['machine']['gpu']}, commit {facts['commit']}, into {out}")
    for name in facts["missing"]:
        say(f"{name} is not installed: {'needed' if name in NEEDED else 'tests that import it are left out'}")
    outcomes: list[Outcome] = []
    lost = ""
    for stage in listed:
        left = seconds - RESERVE - GRACE - (time.monotonic() - begun)
        if lost:
            outcome = Outcome(stage.name, None, f"{lost} failed, which it needs")
        else:
            outcome = run_stage(stage, root, out / f"{stage.name}.txt", left)
        outcomes.append(outcome)
        lost = lost or (stage.name if stage.needed and outcome.passed is False else "")
        say(summary.line(outcome))
        write_text(out / "campaign.json", json.dumps({**facts, "stages": [asdict(one) for one in outcomes]}, indent=1))
        write_text(out / SUMMARY, "\n".join(summary.lines(facts, outcomes, out)) + "\n")
        pack(out, archive)
    return all(outcome.passed is not False for outcome in outcomes)


def pack(out: Path, archive: Path) -> None:
    """Pack the output of the stages, without weights and unpacked peers, atomically into one file."""
    beside = archive.with_name(f".{archive.name}.part")
    with tarfile.open(beside, "w:gz") as packed:
        for path in sorted(out.iterdir()):
            if path.suffix in _PACKED and path.is_file():
                packed.add(path, f"results/{path.name}")
    os.replace(beside, archive)


def missing() -> list[str]:
    """The missing modules, among those required and those that some tests need."""
    return [name for name in (*NEEDED, *OF_SOME_TESTS) if importlib.util.find_spec(name) is None]


def needing_what_is_missing(tests: Path) -> list[Path]:
    """Test files with a missing module among their top-level imports."""
    absent = set(missing())
    return [path for path in sorted(tests.rglob("test_*.py")) if absent & set(_imported(path))]


def commit(root: Path) -> str:
    """The commit of the checkout, with "+" if files were changed; "unknown" without git."""
    answers = []
    for arguments in (("rev-parse", "--short", "HEAD"), ("status", "--porcelain", "--untracked-files=no")):
        try:
            done = subprocess.run(("git", *arguments), cwd=root, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return "unknown"
        answers.append(done.stdout.strip())
    return answers[0] + ("+" if answers[1] else "")


def folder_name() -> str:
    """The name of a results folder: that of the GPU, in lower case."""
    name = machine.gpu_name().lower()
    return "-".join("".join(letter if letter.isalnum() else " " for letter in name).split())


def _imported(path: Path) -> Iterator[str]:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]
