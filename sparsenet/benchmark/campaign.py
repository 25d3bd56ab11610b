"""All that a GPU is needed for, in one go and in a few minutes: tests, NVIDIA's checkers, benchmarks.

Each stage is a process with a time limit, and what it says is kept in a file of its own.  A stage that fails does
not keep the next ones from running; one that meets its limit is interrupted, so that it tells what it has found.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sparsenet import backend
from sparsenet.benchmark import machine
from sparsenet.benchmark.sections import SECTIONS
from sparsenet.files import write_text

MOST_SECONDS = 450  # of all stages together, but for the tuning of tiles
GRACE = 5  # seconds from a stage's interrupt to its end
FIRST = ("ceilings", "large", "layers", "steps")  # sections of the benchmark that come first
NEEDED = ("numpy", "numba", "h5py", "threadpoolctl", "tqdm", "pytest")
OF_SOME_TESTS = ("hypothesis", "trimesh", "matplotlib", "plotly", "sklearn", "selenium")
_SANITIZED = "training_gives"  # nearly every kernel, in small
_LAST_LINES = 3  # of a failed stage, told at once


@dataclass(frozen=True)
class Stage:
    """A command with a limit, run in the folder of the checkout.

    command : None where it cannot be run; then `why` says why not
    """

    name: str
    command: tuple[str, ...] | None
    seconds: int
    why: str = ""


@dataclass(frozen=True)
class Outcome:
    """How a stage ended: passed is None where it was left out."""

    name: str
    passed: bool | None
    words: str
    seconds: float = 0.0
    command: str = ""


def stages(root: Path, out: Path, *, tune: bool = False, peers: str = sys.executable) -> list[Stage]:
    """What is run on a GPU, in order.

    root : of the checkout: its tests and tools are run
    out : folder that results are written to
    tune : time tile sizes for this GPU first, and write `tiles.toml`
    peers : the interpreter that has torch and spconv, or "none"
    """
    python, tests = sys.executable, root / "tests"
    absent = tuple(f"--ignore={path}" for path in needing_what_is_missing(tests))
    pytest = (python, "-m", "pytest", "-v", "--tb=short", "-p", "no:cacheprovider", "-m", "gpu")
    network = str(tests / "cuda" / "test_network.py")
    listed = [Stage("versions", (python, "-m", "sparsenet", "info"), 15),
              Stage("compile", (python, "-m", "sparsenet.kernels.warm"), 70),
              Stage("tests", (*pytest, "-k", "not compute_sanitizer", *absent, str(tests)), 115)]
    tool = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
    for check in ("memcheck", "racecheck"):
        command = (str(tool), "--tool", check, "--error-exitcode", "9", *pytest, "-k", _SANITIZED, network)
        listed.append(Stage(check, command if tool else None, 30, "compute-sanitizer is not installed"))
    if tune:
        listed.append(Stage("tiles", (python, str(root / "tools" / "tune_tiles.py"), str(out / "tiles.toml"),
                                      "--precision", "tf32", "fp16", "--channels", "64", "128",
                                      "--candidates", "40"), 230))
    sections = [name for name, (*_, devices) in SECTIONS.items() if "cuda" in devices and name not in FIRST]
    benchmark = (python, str(root / "tools" / "benchmark.py"), "--device", "cuda", "--repeats", "7", "--seconds", "2",
                 "--peers", peers, "--json", str(out / "benchmark.json"), "--only", *FIRST, *sections)
    listed.append(Stage("benchmark", benchmark, 185))
    return listed


def run_campaign(listed: Sequence[Stage], root: Path, out: Path, say: Callable[[str], None] = print) -> bool:
    """Run the stages; write NAME.txt of each and campaign.json; False where one failed.

    Raises
    ------
    RuntimeError : there is no CuPy, or no GPU.
    """
    backend.cupy()
    out.mkdir(parents=True, exist_ok=True)
    facts = {"began": datetime.now(UTC).isoformat(timespec="seconds"), "commit": commit(root),
             "command": [sys.executable, *sys.argv], "machine": machine.describe("cuda"), "missing": missing()}
    say(f"{facts['machine']['gpu']}, commit {facts['commit']}, into {out}")
    for name in facts["missing"]:
        use = "needed" if name in NEEDED else "tests that import it are left out"
        say(f"{name} is not installed: {use}")
    outcomes: list[Outcome] = []
    for stage in listed:
        outcome = run_stage(stage, root, out / f"{stage.name}.txt")
        outcomes.append(outcome)
        verdict = {True: "passed", False: "FAILED", None: "left out"}[outcome.passed]
        say(f"{stage.name:<10} {verdict:<8} {outcome.seconds:6.1f} s  {outcome.words}")
        write_text(out / "campaign.json", json.dumps({**facts, "stages": [asdict(one) for one in outcomes]}, indent=1))
    return all(outcome.passed is not False for outcome in outcomes)


def run_stage(stage: Stage, root: Path, log: Path) -> Outcome:
    """Run one, its output into `log`.  At the limit the process and its children are interrupted, as by Ctrl-C, and
    after GRACE seconds ended."""
    if stage.command is None:
        write_text(log, f"{stage.why}\n")
        return Outcome(stage.name, None, stage.why)
    words = " ".join(stage.command)
    begun = time.monotonic()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(root), *_paths()]), "PYTHONUNBUFFERED": "1"}
    with open(log, "w", encoding="utf-8") as file:
        file.write(f"$ {words}\n")
        file.flush()
        process = subprocess.Popen(stage.command, cwd=root, env=environment, stdout=file, stderr=subprocess.STDOUT,
                                   start_new_session=True)
        try:
            code = process.wait(timeout=stage.seconds)
            ended = "" if code == 0 else f"exit code {code}: {_last_lines(log)}"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=GRACE)
            ended = f"over its limit of {stage.seconds} s: {_last_lines(log)}"
        finally:
            with suppress(ProcessLookupError):  # none of its children is left
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return Outcome(stage.name, not ended, ended, round(time.monotonic() - begun, 1), words)


def missing() -> list[str]:
    """Modules that are not there, of those that are needed and those that some tests need."""
    return [name for name in (*NEEDED, *OF_SOME_TESTS) if importlib.util.find_spec(name) is None]


def needing_what_is_missing(tests: Path) -> list[Path]:
    """Test files that import, at their top, something that is not there."""
    absent = set(missing())
    return [path for path in sorted(tests.rglob("test_*.py")) if absent & set(_imported(path))]


def commit(root: Path) -> str:
    """Of the checkout, with "+" where files differ from it; "unknown" where git does not tell."""
    told = []
    for arguments in (("rev-parse", "--short", "HEAD"), ("status", "--porcelain", "--untracked-files=no")):
        try:
            done = subprocess.run(("git", *arguments), cwd=root, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return "unknown"
        told.append(done.stdout.strip())
    return told[0] + ("+" if told[1] else "")


def folder_name() -> str:
    """A name for a folder of results: the GPU's, in small letters."""
    name = machine.gpu_name().lower()
    return "-".join("".join(letter if letter.isalnum() else " " for letter in name).split())


def _imported(path: Path) -> Iterator[str]:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


def _last_lines(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return " | ".join(lines[-_LAST_LINES:])


def _paths() -> list[Any]:
    given = os.environ.get("PYTHONPATH", "")
    return [given] if given else []
