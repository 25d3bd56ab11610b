"""A full disk and a read-only folder, for every command: one line of error, nothing broken, nothing left behind.

    sudo python tests/campaign/full_disk.py

Each command writes into a small file system in memory that holds a file of an earlier run.  It is filled up to
several degrees, so that the disk is full at the first byte, in the middle, or shortly before the end; then it is
mounted read-only.  A command must exit with 1 and one line, or with 0 if its files had room; the earlier file
must be as it was or a whole new one; no .part file may stay.  Needs root (it mounts) and Linux.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workshop import SMALL, command, content_digest, environment, must_run, settings

SIZE = 8 << 20  # bytes of the file system
ROOM = (0, 4096, 20_000, 100_000, 400_000)  # bytes that are left of it


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of SIZE bytes, mounted on `folder`."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path, room: int) -> None:
    """Fill the file system up to this many free bytes."""
    with open(folder / "filler", "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
        file.truncate(max(0, file.tell() - room))


def commands(sources: Path) -> dict[str, tuple[list[str], str]]:
    """The commands by name: the arguments, with DISK for the small disk, and the file that is written."""
    trained = sources / "trained"
    train = command("train", "quickstart", *settings(*SMALL, "training.epochs=2"), "--quiet")
    must_run([*train, "--out", str(trained)])
    must_run(command("embed", trained / "last.h5", sources / "descriptors.h5", "--quiet"))
    query = sources / "query.off"
    query.write_text("OFF\n4 4 6\n0 0 0\n1 0 0\n0 1 0\n0 0 1\n3 0 1 2\n3 0 1 3\n3 0 2 3\n3 1 2 3\n", encoding="ascii")
    last = trained / "last.h5"
    return {
        "make-dataset": (command("make-dataset", "builtin", "DISK/shapes.h5", "--train", 8, "--test", 4,
                                 "--processes", 2, "--keep-meshes", "--quiet"), "shapes.h5"),
        "train": ([*train, "--out", "DISK", "--overwrite"], "last.h5"),
        "quickstart": ([sys.executable, "-m", "sparsenet", "quickstart", "--out", "DISK", "--seconds", "1", "--quiet"],
                       "last.h5"),
        "embed": (command("embed", last, "DISK/descriptors.h5", "--quiet"), "descriptors.h5"),
        "evaluate": (command("evaluate", last, "--json", "DISK/figures.json", "--picture", "DISK/curve.png", "--quiet"),
                     "figures.json"),
        "search": (command("search", last, query, "--descriptors", sources / "descriptors.h5", "--picture",
                             "DISK/found.png"), "found.png"),
        "inspect": (command("inspect", "--checkpoint", last, "--mesh", query, "--out",
                                    "DISK/page.html"), "page.html"),
    }


def check(words: list[str], disk: Path, product: str) -> str:
    """Run it; returns what is wrong, or nothing."""
    before = (disk / product).read_bytes() if (disk / product).exists() else None
    done = subprocess.run([word.replace("DISK", str(disk)) for word in words], env=environment(), capture_output=True,
                          text=True, timeout=600, check=False)
    errors = done.stderr.strip().splitlines()
    if done.returncode not in (0, 1) or "Traceback" in done.stderr:
        return f"exit code {done.returncode}: {' | '.join(errors[-3:])}"
    if done.returncode == 1 and not any(": error: " in line for line in errors):
        return f"exit code 1 without an error line: {' | '.join(errors[-3:])}"
    parts = [path.name for path in disk.rglob("*.part")]
    if parts:
        return f"left behind {parts}"
    path = disk / product
    if path.exists():
        if path.suffix == ".h5" and path.read_bytes() != before:
            content_digest(path)
    elif before is not None and done.returncode == 1 and "--overwrite" not in words and "quickstart" not in words:
        return f"{product} of before is gone"
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    if os.geteuid():
        print("full_disk: needs root, to mount a small file system", file=sys.stderr)
        return 2
    failures = rounds = 0
    with tempfile.TemporaryDirectory() as name:
        sources, disk = Path(name) / "sources", Path(name) / "disk"
        sources.mkdir()
        for tool, (words, product) in commands(sources).items():
            for room in (*ROOM, None):  # None: read-only
                with small_disk(disk):
                    (disk / product).write_bytes((sources / "descriptors.h5").read_bytes())
                    if room is None:
                        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
                    else:
                        fill(disk, room)
                    problem = check(words, disk, product)
                    rounds += 1
                    if problem:
                        failures += 1
                        state = "read-only" if room is None else f"{room} bytes free"
                        print(f"{tool}, {state}: {problem}", flush=True)
    print(f"full_disk: {rounds} rounds of seven commands, {failures} failures")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
