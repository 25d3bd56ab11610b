"""Damaged mesh files by the thousand: each must give geometry or one clear error, soon and in little memory.

    python tests/campaign/meshes.py --count 20000 --seed 0

Files of every format, and those of $SPARSENET_DATA if it is set, are damaged at random, the same way for
the same seed.  Worker processes of 2 GB of address space read them; if one ends, or works on one file
for more than 10 s of processor time, that file has failed and is kept in --keep.  Warnings are errors.
"""

from __future__ import annotations

import argparse
import gzip
import multiprocessing
import os
import re
import resource
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path

import numpy as np

sys.path += [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]  # tests, and the package if not installed

from campaign.seeds import found_files, made_files  # noqa: E402

from sparsenet.shapes import Mesh, MeshError, read_mesh  # noqa: E402

MEMORY, SECONDS = 2 * 2**30, 10.0
_BATCH = 200
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")
_NUMBERS = [b"0", b"-1", b"1", b"3", b"255", b"256", b"65536", b"2147483647", b"-2147483648", b"4294967295",
            b"99999999999999999999", b"1e308", b"-1e999", b"nan", b"inf", b"1_0", b"0.5", b"9" * 400]
_HEADER = 400  # bytes, within which a lie about counts is told


def all_files() -> dict[str, bytes]:
    """Name and bytes of the whole files."""
    return {**made_files(), **found_files(os.environ.get("SPARSENET_DATA"))}


def damaged(files: dict[str, bytes], seed: int, number: int) -> tuple[str, bytes]:
    """The file of that number: a name and bytes."""
    rng = np.random.default_rng([seed, number])
    name = sorted(files)[rng.integers(len(files))]
    data = bytearray(files[name])
    inner = name.endswith(".gz") and rng.random() < 0.7  # damage what is packed
    if inner:
        data = bytearray(gzip.decompress(bytes(data)))
    for _ in range(rng.integers(1, 4)):
        mutation = _MUTATIONS[rng.integers(len(_MUTATIONS))]
        data = mutation(data, rng, files) or data
    if inner:
        data = bytearray(gzip.compress(bytes(data), mtime=0))
    return f"{number:06d}_{name}", bytes(data)


# Each takes bytes, at least one, and gives others.


def _flip(data: bytearray, rng: np.random.Generator, files: dict[str, bytes]) -> bytearray:
    for place in rng.integers(0, len(data), rng.integers(1, 9)):
        data[place] = rng.choice([rng.integers(256), data[place] ^ (1 << rng.integers(8)), *b"09-. \n/f"])
    return data


def _cut(data: bytearray, rng: np.random.Generator, files: dict[str, bytes]) -> bytearray:
    return data[:rng.integers(1, len(data) + 1)]


def _splice(data: bytearray, rng: np.random.Generator, files: dict[str, bytes]) -> bytearray:
    other = files[sorted(files)[rng.integers(len(files))]]
    start, stop = sorted(rng.integers(0, len(data) + 1, 2))
    begin = int(rng.integers(0, len(other)))
    return data[:start] + other[begin:begin + int(rng.integers(1, 2000))] + data[stop:]


def _other_number(data: bytearray, rng: np.random.Generator, files: dict[str, bytes]) -> bytearray:
    return _with_number(data, rng, len(data))


def _lie(data: bytearray, rng: np.random.Generator, files: dict[str, bytes]) -> bytearray:
    """Another count in the header, as text or as four bytes."""
    if rng.random() < 0.3 and len(data) > 90:
        place = int(rng.choice([8, 12, 80, rng.integers(0, 87)]))
        data[place:place + 4] = int(rng.choice([0, 1, 2**16, 2**31, 2**32 - 1, len(data)])).to_bytes(4, "little")
        return data
    return _with_number(data, rng, _HEADER)


def _with_number(data: bytearray, rng: np.random.Generator, end: int) -> bytearray:
    found = list(_NUMBER.finditer(bytes(data[:min(end, 2**16)])))
    if not found:
        return data
    match = found[rng.integers(len(found))]
    data[match.start():match.end()] = _NUMBERS[rng.integers(len(_NUMBERS))]
    return data


def _repeat(data: bytearray, rng: np.random.Generator, files: dict[str, bytes]) -> bytearray:
    """One line, or a run of bytes, repeated many times."""
    lines = bytes(data).split(b"\n")
    line = int(rng.integers(len(lines)))
    if len(lines[line]) > 2000:
        return data
    return bytearray(b"\n".join([*lines[:line], *[lines[line]] * int(rng.choice([2, 10, 3000])), *lines[line + 1:]]))


_MUTATIONS = (_flip, _cut, _splice, _other_number, _lie, _repeat)


def read_batch(read: Callable[[Path], Mesh], files: dict[str, bytes], seed: int, numbers: range, folder: str,
               limit: float, results: Connection) -> None:
    """Runs in a worker: reports the start of each file, then its outcome."""
    warnings.simplefilter("error")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in numbers:
        name, data = damaged(files, seed, number)
        path = Path(folder, name)
        path.write_bytes(data)
        results.send((number, None, 0.0))
        began = time.process_time()
        resource.setrlimit(resource.RLIMIT_CPU, (int(began + limit) + 2, resource.RLIM_INFINITY))
        try:
            mesh = read(path)
            sound = len(mesh.faces) and np.isfinite(mesh.vertices).all() and mesh.faces.max() < len(mesh.vertices)
            outcome = "read" if sound else "unsound: the mesh has faces or vertices that cannot be"
        except MeshError as error:
            text = str(error)
            clear = "\n" not in text and text.startswith(str(path)) and len(text) < len(str(path)) + 400
            outcome = "refused" if clear else f"unclear: {text!r:.600}"
        except OSError as error:
            outcome = f"unclear: {error!r}"
        except BaseException as error:  # whatever it is, it is told as a failure
            outcome = f"raised: {type(error).__name__}: {error}"
        seconds = time.process_time() - began
        if seconds > limit:
            outcome = f"slow: {seconds:.1f} s of processor time"
        path.unlink()
        results.send((number, outcome, seconds))
    results.close()


@dataclass
class Worker:
    """A process that reads files, and the number of the file that it last reported."""

    process: multiprocessing.process.BaseProcess
    numbers: range
    current: int


@dataclass
class Outcome:
    """How many files were read and refused, the failures by name, and the longest processor time of one file."""

    tally: Counter = field(default_factory=Counter)
    failures: dict[str, str] = field(default_factory=dict)
    longest: float = 0.0


def campaign(count: int, seed: int, workers: int, keep: Path, read: Callable[[Path], Mesh] = read_mesh,
             limit: float = SECONDS) -> Outcome:
    """Read `count` damaged files, in `limit` seconds of processor time each; those that fail are kept in a folder."""
    files = all_files()
    waiting = [range(start, min(start + _BATCH, count)) for start in range(0, count, _BATCH)][::-1]
    running: dict[Connection, Worker] = {}
    result = Outcome()
    with tempfile.TemporaryDirectory() as folder:
        while waiting or running:
            while waiting and len(running) < workers:
                pipe, worker = start(read, files, seed, waiting.pop(), folder, limit)
                running[pipe] = worker
            for pipe in wait(list(running)):
                worker = running[pipe]
                try:
                    number, outcome, seconds = pipe.recv()
                except EOFError:  # it is done, or was ended
                    worker.process.join()
                    pipe.close()
                    del running[pipe]
                    if not worker.process.exitcode:
                        continue
                    number, outcome, seconds = worker.current, f"died: exit code {worker.process.exitcode}", 0.0
                    waiting += [range(number + 1, worker.numbers.stop)] if number + 1 < worker.numbers.stop else []
                worker.current = number
                if outcome is None:
                    continue
                result.tally[outcome.partition(":")[0]] += 1
                result.longest = max(result.longest, seconds)
                if outcome not in ("read", "refused"):
                    name, data = damaged(files, seed, number)
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / name).write_bytes(data)
                    result.failures[name] = outcome
    return result


def start(read: Callable[[Path], Mesh], files: dict[str, bytes], seed: int, numbers: range, folder: str,
          limit: float) -> tuple[Connection, Worker]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=read_batch, args=(read, files, seed, numbers, folder, limit, theirs))
    process.start()
    theirs.close()
    return ours, Worker(process, numbers, numbers.start)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--keep", type=Path, default=Path("damaged_meshes"), help="folder for the files that failed")
    arguments = parser.parse_args()
    result = campaign(arguments.count, arguments.seed, arguments.workers, arguments.keep)
    for name, outcome in result.failures.items():
        print(f"{arguments.keep / name}: {outcome}")
    tally = result.tally
    print(f"{sum(tally.values())} damaged meshes: {tally['read']} read, {tally['refused']} refused in one line, "
          f"{len(result.failures)} failed; the longest took {result.longest:.2f} s of processor time")
    return 1 if result.failures else 0


if __name__ == "__main__":
    sys.exit(main())
