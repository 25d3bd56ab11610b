"""The distributions: one version everywhere, a wheel of the package alone, a source distribution whose tests run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

import sparsenet

ROOT = Path(__file__).resolve().parents[1]
LEFT_OUT = shutil.ignore_patterns(".git", ".venv*", ".cache", ".*_cache", ".hypothesis", "__pycache__", "*.egg-info",
                                  "build", "dist", "runs", "*.h5", "*.npz")


def files_of(folder: Path, *parts: str) -> set[str]:
    """The files in these parts of a folder, or in all of it, as paths from it."""
    return {path.relative_to(folder).as_posix() for part in parts or (".",) for path in (folder / part).rglob("*")
            if path.is_file()}


class TestVersion:
    def test_the_changelog_begins_with_it(self):
        text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
        assert re.search(r"^## ([\d.]+)", text, re.MULTILINE).group(1) == sparsenet.__version__

    def test_the_citation_names_it(self):
        text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
        assert re.search(r"^version: (.+)$", text, re.MULTILINE).group(1) == sparsenet.__version__

    def test_the_installed_metadata_have_it(self):
        try:
            assert version("sparsenet") == sparsenet.__version__
        except PackageNotFoundError:
            pytest.skip("sparsenet is on the path, but not installed")


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of the sources."""
    if not (ROOT / "sparsenet").is_dir():
        pytest.skip("the sources of the package are not here")
    return Path(shutil.copytree(ROOT, tmp_path_factory.mktemp("source") / "sparsenet", ignore=LEFT_OUT))


@pytest.fixture(scope="module")
def built(source, tmp_path_factory) -> tuple[Path, Path]:
    """A source distribution, and the wheel that is built from it."""
    out = tmp_path_factory.mktemp("built")
    done = subprocess.run([sys.executable, "-P", "-m", "build", "--no-isolation", "--outdir", str(out), str(source)],
                          capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Deprecat" not in done.stdout + done.stderr
    (archive,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return archive, wheel


@pytest.mark.extra("release")
class TestDistributions:
    def test_the_wheel_holds_the_package_and_its_configs_alone(self, source, built):
        with zipfile.ZipFile(built[1]) as wheel:
            names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        configs = {f"sparsenet/{name}" for name in files_of(source, "configs")}
        assert names == files_of(source, "sparsenet") | configs

    def test_the_source_distribution_holds_all_but_what_git_reads(self, source, built, tmp_path):
        with tarfile.open(built[0]) as archive:
            archive.extractall(tmp_path, filter="data")
        (unpacked,) = tmp_path.iterdir()
        made = {name for name in files_of(source) if name.startswith("sparsenet.egg-info/")}
        found = {name for name in files_of(unpacked) if not name.startswith("sparsenet.egg-info/")}
        assert found - {"PKG-INFO", "setup.cfg"} == files_of(source) - made - {".gitignore"}

    def test_checkers_have_nothing_to_say(self, built):
        for words in (["twine", "check", "--strict", *map(str, built)], ["check_wheel_contents", str(built[1])]):
            done = subprocess.run([sys.executable, "-P", "-m", *words], capture_output=True, text=True, timeout=120,
                                  check=False)
            assert done.returncode == 0, done.stdout + done.stderr

    def test_the_wheel_works_where_the_sources_are_not(self, built, tmp_path):
        subprocess.run([sys.executable, "-P", "-m", "pip", "install", "--quiet", "--no-deps", "--target",
                        str(tmp_path / "site"), str(built[1])], check=True, timeout=120)
        environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
        for words, told in ((["info"], str(tmp_path / "site" / "sparsenet")), (["train", "--keys"], "[optimizer]"),
                            (["benchmark", "--help"], "not installed with the package")):
            done = subprocess.run([sys.executable, "-P", "-m", "sparsenet", *words], cwd=tmp_path, env=environment,
                                  capture_output=True, text=True, timeout=120, check=False)
            assert done.returncode == 0 and told in done.stdout, done.stderr
