"""Mutated stored files: each is read whole or refused in one clear line.

    python tests/campaign/stored_files.py --count 2000 --seed 0

Files of every kind that the package reads (datasets, sealed and not, checkpoints, weights, descriptors, an index, TOML
configs) are changed: bytes anywhere, and HDF5 files through h5py, too, as a stranger would who seals them anew.  A
process forked for each, with 2 GB of address space and 10 s of processor time, opens it and reads all of it.  Right is
an object, or one ValueError or OSError in one line that names the file; of a sealed file with changed bytes only the
latter.  Each case is a function of (seed, number): `--only NUMBER` repeats one.  POSIX only.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import stored_kinds
from stored_mutations import mutated

ADDRESS_SPACE = 2 << 30  # bytes
PROCESSOR_TIME, WALL_TIME = 10, 60  # seconds
RIGHT = ("object", "refused")


def attempt(kind: stored_kinds.Kind, path: Path, must_refuse: bool) -> str:
    """Read the file in this process: "object", "refused" or what is wrong."""
    try:
        kind.read(path)
    except (ValueError, OSError) as error:
        text = str(error)
        if "\n" in text or path.name not in text or len(text) > 1000:
            return f"not one line that names the file: {type(error).__name__}: {text!r:.300}"
        return "refused"
    except BaseException as error:  # noqa: BLE001  (whatever comes is the finding)
        return f"{type(error).__name__}: {error!s:.300}"
    return "a sealed file with changed bytes was read" if must_refuse else "object"


def in_a_process(kind: stored_kinds.Kind, path: Path, must_refuse: bool) -> str:
    """The same in a forked process with its limits."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
        resource.setrlimit(resource.RLIMIT_CPU, (PROCESSOR_TIME, PROCESSOR_TIME))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.alarm(WALL_TIME)
        os.write(writer, attempt(kind, path, must_refuse).encode("utf-8", "replace"))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as pipe:
        said = pipe.read()
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        return f"killed by signal {signal.Signals(os.WTERMSIG(status)).name}"
    return said


def run(numbers: list[int], seed: int, folder: Path, kinds: list[str]) -> list[str]:
    """Try the cases; returns a line for each that went wrong.  Wrong files stay in the folder."""
    originals = stored_kinds.make(folder, kinds)
    counts: Counter[tuple[str, str]] = Counter()
    wrong = []
    for number in numbers:
        rng = np.random.default_rng((seed, number))
        kind = originals[number % len(originals)]
        path = folder / f"case{number}{kind.original.suffix}"
        change = mutated(kind.original, path, rng, kind.sealed, folder)
        outcome = in_a_process(kind, path, kind.sealed and change.startswith("bytes"))
        counts[kind.name, outcome if outcome in RIGHT else "WRONG"] += 1
        if outcome in RIGHT:
            path.unlink()
        else:
            wrong.append(f"case {number}, {kind.name}, {change}: {outcome}")
    for name in dict.fromkeys(kind.name for kind in originals):
        parts = ", ".join(f"{counts[name, outcome]} {outcome}" for outcome in (*RIGHT, "WRONG"))
        print(f"{name:>22}: {parts}")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="the number of one case")
    parser.add_argument("--kinds", nargs="+", default=list(stored_kinds.KINDS), choices=list(stored_kinds.KINDS))
    parser.add_argument("--keep", type=Path, help="a folder for the originals and the files that went wrong")
    arguments = parser.parse_args()
    numbers = list(range(arguments.count)) if arguments.only is None else [arguments.only]
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        wrong = run(numbers, arguments.seed, folder, arguments.kinds)
    print("\n".join(wrong) or f"{len(numbers)} files: each was read whole or refused in one line")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
