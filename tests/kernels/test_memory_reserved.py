"""How many addresses the memory of large results reserves: what machine, limits, container and user leave."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest

from sparsenet.kernels.cpu import memory
from sparsenet.kernels.cpu.memory import Pool

if sys.platform != "linux":
    pytest.skip("the pool is for Linux", allow_module_level=True)
import resource  # noqa: E402

MB = 1 << 20


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path):
    monkeypatch.delenv("SPARSENET_MEMORY_POOL", raising=False)
    monkeypatch.setattr(memory, "_CONTAINER", (str(tmp_path / "memory.max"), str(tmp_path / "limit_in_bytes")))
    monkeypatch.setattr(resource, "getrlimit", lambda limit: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    if memory._addresses() == 0:
        pytest.skip("this machine grants no more addresses than it has memory for")


def test_as_much_as_the_machine_has():
    assert memory._addresses() == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@pytest.mark.parametrize("limited", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_none_where_addresses_or_data_are_limited(monkeypatch, limited):
    monkeypatch.setattr(resource, "getrlimit", lambda limit: (
        1 << 40 if limit == getattr(resource, limited) else resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert memory._addresses() == 0
    assert Pool().empty((2 * MB,), np.uint8).flags.owndata


@pytest.mark.parametrize("name", ["memory.max", "limit_in_bytes"])
def test_no_more_than_the_container_has(tmp_path, name):
    whole = memory._addresses()
    for text, expected in (("max\n", whole), (f"{1 << 62}\n", whole), (f"{64 * MB}\n", 64 * MB)):
        (tmp_path / name).write_text(text)
        assert memory._addresses() == expected


def test_none_where_the_environment_says_so(monkeypatch):
    monkeypatch.setenv("SPARSENET_MEMORY_POOL", "0")
    assert Pool().empty((2 * MB,), np.uint8).flags.owndata
    monkeypatch.setenv("SPARSENET_MEMORY_POOL", "1")
    assert not Pool().empty((2 * MB,), np.uint8).flags.owndata
    monkeypatch.setenv("SPARSENET_MEMORY_POOL", "off")
    pool = Pool()
    for _ in range(2):
        with pytest.raises(ValueError, match="SPARSENET_MEMORY_POOL is 'off', expected 0 or 1"):
            pool.empty((2 * MB,), np.uint8)
