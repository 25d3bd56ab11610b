"""The folder in which compiled functions are kept, and the message if there is none."""

from __future__ import annotations

import ast
import errno
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

import sparsenet
from sparsenet.kernels.cpu import numba_cache
from sparsenet.kernels.cpu.numba_cache import compiled

PACKAGE = Path(sparsenet.__file__).parent
PROGRAM = """
import ctypes, os, sys
if os.getuid() == 0:  # give up what lets root write anywhere (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH)
    system, header, sets = ctypes.CDLL(None), (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert system.capget(header, sets) == 0
    sets[0] &= ~0b110
    sets[1] &= ~0b110
    assert system.capset(header, sets) == 0
import numpy as np
from sparsenet.kernels import launch
assert sys.modules["sparsenet"].__file__.startswith({root!r})
print(launch("leaky_relu_forward", np.array([[-1.0, 2.0]]), 0.5).tolist())
if "info" in sys.argv:
    from sparsenet.info import info
    print(info())
"""


@pytest.fixture
def read_only(tmp_path):
    """run(temporary folder, *words, **environment): a first launch from a package, and with a home, that cannot be
    written to; (standard output, lines of the standard error)."""
    if sys.platform != "linux":
        pytest.skip("the folders are read-only to root too in the way of Linux")
    root, home = tmp_path / "site", tmp_path / "home"
    shutil.copytree(PACKAGE, root / "sparsenet", ignore=shutil.ignore_patterns("__pycache__"))
    home.mkdir()
    for path in (*root.rglob("*"), root, home):
        path.chmod(0o555 if path.is_dir() else 0o444)

    def run(temporary: Path, *words: str, **environment: str) -> tuple[str, list[str]]:
        done = subprocess.run(
            [sys.executable, "-B", "-c", PROGRAM.format(root=str(root)), *words], capture_output=True,
            text=True, timeout=300, check=False, cwd="/",
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(root), "HOME": str(home),
                 "TMPDIR": str(temporary), **environment})
        assert done.returncode == 0, done.stderr
        return done.stdout, done.stderr.splitlines()

    yield run
    for path in (root, home, *root.rglob("*")):
        path.chmod(path.stat().st_mode | 0o200)


@pytest.fixture
def temporary(tmp_path) -> Path:
    (tmp_path / "tmp").mkdir()
    return tmp_path / "tmp"


def test_without_a_home_a_temporary_folder_of_ones_own_is_used_and_told(read_only, temporary):
    for _ in range(2):
        printed, said = read_only(temporary)
        assert printed == "[[-0.5, 2.0]]\n"
        assert len(said) == 1 and "NUMBA_CACHE_DIR" in said[0] and f"sparsenet-numba-{os.getuid()}" in said[0]
    (folder,) = temporary.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700 and folder.stat().st_uid == os.getuid()
    assert list(folder.rglob("*.nbc"))


def test_a_folder_that_is_named_is_used_and_nothing_is_told(read_only, temporary, tmp_path):
    named = tmp_path / "named"
    printed, said = read_only(temporary, NUMBA_CACHE_DIR=str(named))
    assert printed == "[[-0.5, 2.0]]\n" and said == [] and list(named.rglob("*.nbc")) and not list(temporary.iterdir())


def test_a_folder_that_is_named_but_cannot_be_used_is_told(temporary, tmp_path):
    (tmp_path / "file").touch()
    done = subprocess.run([sys.executable, "-c", "from sparsenet.kernels import launch; import numpy as np; "
                           "print(launch('leaky_relu_forward', np.array([[-1.0, 2.0]]), 0.5).tolist())"],
                          capture_output=True, text=True, timeout=300, check=True,
                          env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "file/in"), "TMPDIR": str(temporary),
                               "PYTHONPATH": str(PACKAGE.parent)})
    said = done.stderr.splitlines()
    assert done.stdout == "[[-0.5, 2.0]]\n" and len(said) == 1
    assert f"since {tmp_path / 'file/in'} cannot be used: set NUMBA_CACHE_DIR" in said[0]


def test_without_any_folder_functions_are_compiled_in_memory_and_info_says_so(read_only, temporary):
    (temporary / f"sparsenet-numba-{os.getuid()}").write_text("in the way")
    printed, said = read_only(temporary, "info")
    assert printed.startswith("[[-0.5, 2.0]]\n")
    assert len(said) == 1 and "compiled again in each process" in said[0] and "NUMBA_CACHE_DIR" in said[0]
    assert "in memory, compiled again in each process; NUMBA_CACHE_DIR names a folder" in printed


class TestTheTemporaryFolder:
    """Files in a folder that others may write to are never read: Numba's files are pickles."""

    @pytest.fixture
    def folder(self, monkeypatch, tmp_path) -> Path:
        if not hasattr(os, "getuid"):
            pytest.skip("needs a system with users")
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        return tmp_path / f"sparsenet-numba-{os.getuid()}"

    def test_is_made_for_this_user_alone(self, folder):
        assert numba_cache._temporary_folder() == folder == numba_cache._temporary_folder()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700

    @pytest.mark.parametrize("mode", [0o770, 0o707, 0o720, 0o702, 0o701])
    def test_is_refused_if_others_may_use_it(self, folder, mode):
        folder.mkdir()
        folder.chmod(mode)
        assert numba_cache._temporary_folder() is None

    def test_is_refused_if_it_is_a_link_or_a_file(self, folder, tmp_path):
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        folder.symlink_to(tmp_path / "elsewhere")
        assert numba_cache._temporary_folder() is None
        folder.unlink()
        folder.write_text("")
        assert numba_cache._temporary_folder() is None

    def test_is_refused_if_it_is_another_users(self, folder):
        if os.getuid():
            pytest.skip("needs root to give a folder away")
        folder.mkdir(mode=0o700)
        os.chown(folder, 54321, 54321)
        assert numba_cache._temporary_folder() is None

    def test_may_be_missing(self, monkeypatch):
        def missing() -> str:
            raise FileNotFoundError("no usable temporary directory")

        monkeypatch.setattr(tempfile, "gettempdir", missing)
        assert numba_cache._temporary_folder() is None


def test_a_full_disk_costs_the_cached_copy_and_not_the_call(monkeypatch, capsys):
    def twice(x):
        return 2 * x

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(numba_cache, "_told", set())
    function = compiled(twice)
    monkeypatch.setattr(function._cache._cache_file, "save", full)
    assert function(3) == 6 and function(np.float64(1.5)) == 3.0
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and "No space left on device" in said[0] and "NUMBA_CACHE_DIR" in said[0]


class TestAChangeOfWhatIsInlined:
    """A package of numba_cache.py, a function that is kept, and one from another file that is inlined into it."""

    CALLER = """
from small.cpu.numba_cache import compiled
from small.shared import step

@compiled
def twice(x):
    return step(step(x))
"""
    SHARED = "import numba\n\n@numba.njit\ndef step(x):\n    return x {}\n"
    PROGRAM = "from small.caller import twice; print(twice(3), sum(twice.stats.cache_hits.values()))"

    @pytest.fixture
    def package(self, tmp_path) -> Path:
        (tmp_path / "small/cpu").mkdir(parents=True)
        shutil.copy(numba_cache.__file__, tmp_path / "small/cpu/numba_cache.py")
        (tmp_path / "small/caller.py").write_text(self.CALLER)
        return tmp_path / "small"

    def run(self, package: Path, change: str) -> str:
        """The value of twice(3), and how many functions were not compiled but loaded."""
        (package / "shared.py").write_text(self.SHARED.format(change))
        environment = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
        done = subprocess.run([sys.executable, "-B", "-c", self.PROGRAM], capture_output=True, text=True, check=False,
                              timeout=300, cwd=package.parent, env=environment | {"PYTHONPATH": str(package.parent)})
        assert done.returncode == 0 and done.stderr == "", done.stderr
        return done.stdout.strip()

    def test_compiles_the_caller_anew(self, package):
        assert [self.run(package, change) for change in ("+ 1", "+ 1", "+ 5", "* 2", "+ 1")] == \
            ["5 0", "5 1", "13 0", "12 0", "5 0"]

    def test_leaves_the_files_of_the_present_sources_alone(self, package):
        self.run(package, "+ 1")
        before = set((package / "__pycache__").glob("*.nb[ci]"))
        other = package / "__pycache__" / f"caller.twice_more-6-0123456789abcdef.{numba_cache.PYTHON}.nbi"
        other.touch()
        self.run(package, "+ 5")
        (package / "caller.py").write_text("# a line\n" + self.CALLER)
        self.run(package, "+ 5")
        after = set((package / "__pycache__").glob("*.nb[ci]"))
        assert len(before) == 2 and len(after) == 3 and other in after and not after & before


def test_every_function_that_is_kept_goes_through_it():
    """njit(cache=True) raises while a module is imported if no folder can be written to."""
    for path in sorted((PACKAGE / "kernels").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword):
                assert node.arg != "cache", f"{path.name}, line {node.lineno}: use compiled of numba_cache.py"
