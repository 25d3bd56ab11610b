"""A disk that refuses to write is one error, and HDF5 never sees it; nor does it see Ctrl-C."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from sparsenet.files import read_hdf5, write_hdf5
from sparsenet.hdf5_output import Hdf5Output, _PatientFile

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
# A process that may write files of so many bytes only, as a full disk lets it; its last line says how it went.
LIMITED = """
import os, resource, signal, sys
from pathlib import Path
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path, limit, what = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
import numpy as np
from sparsenet.data import Sample, SparseDataset
from sparsenet.files import write_hdf5
rng = np.random.default_rng(0)
cells = [np.argwhere(rng.random((40, 40, 40)) < 0.05) for _ in range(60)]
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    if what == "dataset":
        SparseDataset.create(path, (Sample(part, 0, f"n{i}") for i, part in enumerate(cells)), (40,) * 3, 40, ["a"])
    else:
        write_hdf5(path, "test", 1, {}, {f"a{i}": part for i, part in enumerate(cells)})
except OSError as error:
    print(error.filename == str(path), error.strerror, os.listdir(path.parent))
else:
    print("written", path.stat().st_size)
"""


def write_limited(path: Path, limit: int, what: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", LIMITED, str(path), str(limit), what], capture_output=True, text=True,
                          env=ENVIRONMENT, timeout=120, check=False)


@pytest.mark.skipif(os.name != "posix", reason="limits the size of files")
@pytest.mark.parametrize("what", ["dataset", "arrays"])
@pytest.mark.parametrize("limit", [0, 5000, "all but a byte"])
def test_a_full_disk_is_one_error_and_leaves_no_file(tmp_path: Path, limit: int | str, what: str):
    if limit == "all but a byte":
        whole = write_limited(tmp_path / "x.h5", 1 << 30, what)
        limit = int(whole.stdout.split()[1]) - 1
        (tmp_path / "x.h5").unlink()
    done = write_limited(tmp_path / "x.h5", limit, what)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "True File too large []\n")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0 or not sys.platform.startswith("linux"),
                    reason="mounting a small disk needs root on Linux")
def test_a_disk_that_is_really_full(tmp_path: Path):
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", str(tmp_path)], check=False,
                             capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"this machine lets nobody mount: {mounted.stderr.strip()}")
    try:
        done = write_limited(tmp_path / "x.h5", 1 << 30, "dataset")
        assert (done.returncode, done.stderr, done.stdout) == (0, "", "True No space left on device []\n")
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_what_is_written_is_what_the_file_holds(tmp_path: Path, rng: np.random.Generator):
    values = rng.random((300, 40))
    with Hdf5Output(tmp_path / "x.h5", userblock_size=512) as output:
        grown = output.file.create_dataset("grown", (0, 40), "f4", maxshape=(None, 40), compression="gzip")
        for start in range(0, 300, 50):
            with output.writing():
                grown.resize(start + 50, axis=0)
                grown[start:] = values[start:start + 50]
        np.testing.assert_array_equal(grown[:], values.astype(np.float32))
        output.file.create_group("group")["text"] = "word"
    with h5py.File(tmp_path / "x.h5") as file:
        np.testing.assert_array_equal(file["grown"][:], values.astype(np.float32))
        assert file["group/text"].asstr()[()] == "word" and file.userblock_size == 512


class _Refusing:
    """A raw file whose writes fail from the n-th on."""

    def __init__(self, file, after: int, error: BaseException):
        self.file, self.after, self.error = file, after, error

    def __getattr__(self, name: str):
        return getattr(self.file, name)

    def write(self, data):
        self.after -= 1
        if self.after < 0:
            raise self.error
        return self.file.write(data)


def test_after_an_error_hdf5_reads_back_all_that_it_wrote(tmp_path: Path):
    values = np.random.default_rng(1).integers(0, 255, (200_000, 3))
    with pytest.raises(OSError, match="No space"):  # raised when the block ends, which it reaches
        with Hdf5Output(tmp_path / "x.h5") as output:
            output.file["before"] = values
            output.file.flush()
            output._disk._file = _Refusing(output._disk._file, 1, OSError(28, "No space left on device"))
            output.file["after"] = values + 1
            output.file.flush()
            np.testing.assert_array_equal(output.file["before"][:], values)
            np.testing.assert_array_equal(output.file["after"][:], values + 1)
            with pytest.raises(OSError, match="No space"), output.writing():
                pass


# A tool that writes a dataset, and at each of the calls by which HDF5 reaches its file gets Ctrl-C that many times.
INTERRUPTED = """
import signal, sys
import numpy as np
from sparsenet import hdf5_output
from sparsenet.cli.exit_code import run
from sparsenet.data import Sample, SparseDataset
which, times, number, calls = sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), 0
def interrupting(method):
    def called(*arguments):
        global calls
        calls += 1
        if calls == number:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)
        return method(*arguments)
    return called
disk = hdf5_output._PatientFile
setattr(disk, which, interrupting(getattr(disk, which)))
cells = np.argwhere(np.random.default_rng(0).random((40, 40, 40)) < 0.05)
samples = (Sample(cells, 0, f"n{i}") for i in range(60))
sys.exit(run(lambda: SparseDataset.create(sys.argv[1], samples, (40,) * 3, 40, ["a"]), "tool"))
"""


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize(("method", "call"), [("write", 1), ("write", 4), ("seek", 3), ("truncate", 1), ("close", 1)])
def test_ctrl_c_waits_until_hdf5_has_done_what_it_does(tmp_path: Path, method: str, call: int, times: int):
    words = [sys.executable, "-c", INTERRUPTED, str(tmp_path / "x.h5"), method, str(times), str(call)]
    done = subprocess.run(words, capture_output=True, text=True, env=ENVIRONMENT, timeout=120, check=False)
    assert (done.returncode, done.stderr, os.listdir(tmp_path)) == (130, "\ntool: interrupted\n", [])


def test_bytes_that_are_kept_lie_over_those_of_the_disk(tmp_path: Path):
    file = _PatientFile(tmp_path / "x")
    file.write(b"abcdefgh")
    file._file = _Refusing(file._file, 0, OSError(28, "No space left on device"))
    for place, data in ((2, b"CDE"), (7, b"HIJ"), (3, b"dd")):
        file.seek(place)
        file.write(data)
    file.seek(1)
    buffer = bytearray(11)
    assert file.readinto(buffer) == 11 and bytes(buffer) == b"bCddfgHIJ\0\0"
    assert file.error.filename == str(tmp_path / "x")
    file.close()


def test_an_error_of_the_block_goes_before_that_of_the_disk(tmp_path: Path):
    with pytest.raises(KeyError, match="mine"), Hdf5Output(tmp_path / "x.h5") as output:
        output._disk._file = _Refusing(output._disk._file, 0, OSError(28, "No space left on device"))
        raise KeyError("mine")


def test_small_files_are_written_and_sealed_through_it(tmp_path: Path):
    write_hdf5(tmp_path / "x.h5", "test", 1, {"n": 3}, {"group/a": np.arange(5), "b": "text"})
    found = read_hdf5(tmp_path / "x.h5", {"test": 1})
    assert found.attribute("n") == 3 and found.array("group/a").tolist() == [0, 1, 2, 3, 4]
