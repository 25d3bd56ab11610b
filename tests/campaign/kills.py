"""Kill -9 at random moments: whole files, a resumed training with the same bits, no process left.

    python tests/campaign/kills.py --count 50 --seed 0

Each round kills make-dataset, train or embed at a random moment of its run; a round whose command ended before is
repeated.  Afterwards every file that does not end in .part must open and be one that an undisturbed run writes; then
the command runs again (train resumes) and its file must equal the undisturbed one bit for bit; no process of the
killed run may live on, no .part file may stay behind.  Exit code 1 after a failure.  Linux.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from workshop import SMALL, command, content_digest, environment, must_run, run, settings, wait_until_gone

PATIENCE = 20  # seconds that the workers of a killed process may take to end
TRAINING = settings(*SMALL, "training.epochs=8", "training.checkpoint_seconds=0.2", "training.validate_every=2")


@dataclass
class Job:
    """A command that is killed.

    words : the first run
    resumed : the run after a kill that left `product`
    product : the file that it makes
    seconds, digest : of an undisturbed run and of its product
    """

    name: str
    words: list[str]
    resumed: list[str]
    product: Path
    seconds: float = 0.0
    digest: str = ""


def jobs(folder: Path) -> list[Job]:
    """The three commands, each writing into a folder of its own; their undisturbed results are made here."""
    (folder / "sources").mkdir()
    for name in ("make", "run", "embedded"):
        (folder / name).mkdir()
    trained = folder / "sources/trained"
    must_run(command("train", "quickstart", *TRAINING, "--out", trained, "--quiet"))
    dataset, descriptors = folder / "make/shapes.h5", folder / "embedded/descriptors.h5"
    make = command("make-dataset", "builtin", dataset, "--train", 12, "--test", 4, "--render-size", 20,
                   "--keep-meshes", "--processes", 2, "--quiet")
    train = command("train", "quickstart", *TRAINING, "--out", folder / "run", "--quiet")
    embed = command("embed", trained / "last.h5", descriptors, "--split", "all", "--quiet")
    found = [Job("make-dataset", make, make, dataset), Job("embed", embed, embed, descriptors),
             Job("train", train, [*train, "--resume"], folder / "run/last.h5")]
    for job in found:
        must_run(job.words)  # compiles
        for path in job.product.parent.iterdir():
            path.unlink()
        begun = time.monotonic()
        must_run(job.words)
        job.seconds, job.digest = time.monotonic() - begun, content_digest(job.product)
    return found


def kill(job: Job, seconds: float) -> bool:
    """Start a job and kill its main process after this many seconds.  Returns whether it still ran."""
    process = subprocess.Popen(job.words, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               start_new_session=True)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        pass
    ran = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    left = wait_until_gone(process.pid, PATIENCE)
    if left:
        os.killpg(process.pid, signal.SIGKILL)
        raise AssertionError(f"{len(left)} processes live on {PATIENCE} s after the kill")
    return ran


def check_round(job: Job, moment: float) -> bool:
    """One kill and what follows; returns whether the command still ran.  Raises AssertionError."""
    folder = job.product.parent
    for path in folder.iterdir():
        path.unlink()
    ran = kill(job, moment)
    for path in folder.glob("*.h5"):
        if not path.name.endswith(".part"):
            content_digest(path)  # raises OSError for a file that is not whole
    done = run(job.resumed if job.product.exists() else job.words)
    assert done.returncode == 0, f"the run after the kill exits {done.returncode}: {done.stdout}{done.stderr}"
    assert content_digest(job.product) == job.digest, f"{job.product.name} differs from the undisturbed run's"
    parts = [path.name for path in folder.iterdir() if ".part" in path.name]
    assert not parts, f"left behind: {parts}"
    return ran


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    failures = killed = 0
    with tempfile.TemporaryDirectory() as name:
        kinds = jobs(Path(name))
        while killed < arguments.count:
            job = kinds[killed % len(kinds)]
            moment = float(rng.uniform(0.1, 1.0)) * job.seconds
            try:
                if not check_round(job, moment):
                    job.seconds = min(job.seconds, moment)  # it takes less time than it did
                    continue
            except (AssertionError, OSError) as error:
                failures += 1
                print(f"{job.name} killed after {moment:.2f} of {job.seconds:.2f} s: {error}", flush=True)
            killed += 1
    print(f"kills: make-dataset, embed and train killed {killed} times while they ran, {failures} failures")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
