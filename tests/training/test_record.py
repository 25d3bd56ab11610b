"""The table of epochs, and memory as each system reports it."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from sparsenet.training.record import peak_megabytes, resident_megabytes, write_csv


@pytest.mark.parametrize(("platform", "megabytes"), [("linux", 2.048), ("darwin", 0.002), ("win32", float("nan"))])
def test_the_peak_is_in_megabytes_whatever_the_system_s_unit(platform, megabytes, monkeypatch):
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrusage", lambda who: SimpleNamespace(ru_maxrss=2000))
    monkeypatch.setattr(sys, "platform", platform)
    assert peak_megabytes() == pytest.approx(megabytes, nan_ok=True)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the system does not report it")
def test_resident_memory_is_what_the_system_says():
    kilobytes = int(re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])
    assert resident_megabytes() == pytest.approx(kilobytes * 1024 / 1e6, rel=0.05)


def test_the_table_has_each_column_once_and_whole_numbers_without_a_point(tmp_path):
    rows = [{"epoch": 1.0, "loss": 1 / 3}, {"epoch": 2, "loss": float("nan"), "mAP": 2e15}]
    write_csv(tmp_path / "metrics.csv", rows)
    assert (tmp_path / "metrics.csv").read_text() == "epoch,loss,mAP\n1,0.333333,\n2,nan,2e+15\n"
