"""A plugin of pytest: record which tests execute which lines, or run only chosen tests, in a given order.

    REACHED_RECORD=FOLDER pytest -p reached tests/ops      # one JSON file per file of tests
    REACHED_CHOSEN=FILE pytest -p reached tests/ops        # the tests that the JSON list in FILE names

A record holds what the tests of one file need in seconds, and which of them execute which lines of the package.  The
CUDA sources that a test launches on the host stand in it as line 0.  Tests that failed are left out, and what a test
runs in other processes is not seen.

Numba's files are named by a digest of all kernels' sources, so that any change compiles all of them again.  Here the
digest is pinned, unless REACHED_UNPINNED is set: whoever changes a source removes the files of what depends on it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


class Chosen:
    """Keeps the tests that are named, in their order, and writes those that fail into FILE.failed."""

    def __init__(self, file: Path):
        self.places = {name: place for place, name in enumerate(json.loads(file.read_text("utf-8")))}
        self.failed = file.with_suffix(".failed")

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted((item for item in items if item.nodeid in self.places),
                          key=lambda item: self.places[item.nodeid])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            with self.failed.open("a", encoding="utf-8") as file:
                file.write(f"{report.nodeid}\n")


class Record:
    """Writes the record of each file of tests when all have run."""

    def __init__(self, folder: Path):
        from coverage import Coverage

        self.folder = folder
        self.seconds: dict[str, float] = defaultdict(float)
        self.failed: set[str] = set()
        self.launched: dict[str, set[str]] = defaultdict(set)
        self.files: set[str] = set()
        self.coverage = Coverage(data_file=None, config_file=False, source=["sparsenet"])
        self.coverage.start()

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.nodeid.endswith(".py"):  # also one that is skipped as a whole
            self.files.add(report.nodeid)

    def pytest_runtest_protocol(self, item: pytest.Item) -> None:
        self.coverage.switch_context(item.nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] += report.duration
        if report.outcome != "passed":
            self.failed.add(report.nodeid)

    def pytest_collection_finish(self) -> None:
        from cuda_host import host_driver

        launch, launched = host_driver._Process.launch, self.launched

        def noted(process: Any, kernel: Any, *arguments: Any) -> None:
            test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0]
            launched[os.path.relpath(kernel.source.path)].add(test)
            launch(process, kernel, *arguments)

        host_driver._Process.launch = noted

    def pytest_sessionfinish(self) -> None:
        self.coverage.stop()
        data = self.coverage.get_data()
        lines: dict[str, dict[str, dict[int, list[str]]]] = defaultdict(lambda: defaultdict(dict))
        found = [(os.path.relpath(path), data.contexts_by_lineno(path)) for path in data.measured_files()]
        found += [(path, {0: sorted(tests)}) for path, tests in self.launched.items()]
        for path, by_line in found:
            for line, tests in by_line.items():
                for test in tests:
                    if test and test not in self.failed:
                        lines[test.partition("::")[0]][path].setdefault(line, []).append(test)
        for file in self.files:
            passed = {test: round(seconds, 4) for test, seconds in self.seconds.items()
                      if test.startswith(f"{file}::") and test not in self.failed}
            number = {test: place for place, test in enumerate(passed)}
            numbered = {path: {line: [number[test] for test in tests if test in number]
                               for line, tests in by_line.items()} for path, by_line in lines[file].items()}
            record = {"digest": digest(Path(file)), "seconds": passed, "lines": numbered}
            (self.folder / f"{file.replace('/', '.')}.json").write_text(json.dumps(record), encoding="utf-8")


def pytest_configure(config: pytest.Config) -> None:
    if os.environ.get("REACHED_RECORD"):
        config.pluginmanager.register(Record(Path(os.environ["REACHED_RECORD"])))
    if os.environ.get("REACHED_CHOSEN"):
        config.pluginmanager.register(Chosen(Path(os.environ["REACHED_CHOSEN"])))
    if not os.environ.get("REACHED_UNPINNED"):
        from sparsenet.kernels.cpu import numba_cache

        numba_cache.sources_digest = lambda: "pinned"
