"""Whether Numba has kept the kernels of a family."""

from __future__ import annotations

from sparsenet.kernels.cpu import numba_cache
from sparsenet.kernels.cpu.numba_cache import is_kept


def test_whether_a_family_was_compiled_before(tmp_path, monkeypatch):
    monkeypatch.setattr(numba_cache, "cache_folder", lambda family: tmp_path / family)
    for family in ("voxels", "rows"):
        (tmp_path / family).mkdir()
    (tmp_path / "voxels/cpu._mark-106.py27.nbi").touch()
    assert not is_kept("voxels")
    (tmp_path / f"voxels/cpu._mark-106-0123456789abcdef.{numba_cache.PYTHON}.nbi").touch()  # of other sources
    (tmp_path / f"rows/cpu._sum-10-{numba_cache.sources_digest()}.{numba_cache.PYTHON}.nbi").touch()
    assert not is_kept("voxels")
    (tmp_path / f"voxels/cpu._mark-106-{numba_cache.sources_digest()}.{numba_cache.PYTHON}.nbi").touch()
    assert is_kept("voxels")
    monkeypatch.setattr(numba_cache, "cache_folder", lambda family: None)
    assert not is_kept("voxels")


def test_the_names_are_those_that_numba_gives():
    from sparsenet.random import keyed_rng
    from sparsenet.shapes import parametric_mesh, voxelize

    voxelize(parametric_mesh("mug", keyed_rng(0)), 8, 8)
    assert is_kept("voxels") == (numba_cache.cache_folder("voxels") is not None)
