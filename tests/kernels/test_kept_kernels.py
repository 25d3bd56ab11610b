"""Whether Numba has kept the kernels of a family."""

from __future__ import annotations

from sparsenet.kernels import numba_cache
from sparsenet.kernels.numba_cache import is_kept


def test_whether_a_family_was_compiled_before(tmp_path, monkeypatch):
    monkeypatch.setattr(numba_cache, "cache_folder", lambda: tmp_path)
    (tmp_path / "voxelize_meshes._mark-1.py311.nbi").touch()
    (tmp_path / "voxelize._mark-106.py27.nbi").touch()
    assert not is_kept("voxelize")
    (tmp_path / f"voxelize._mark-106-0123456789abcdef.{numba_cache.PYTHON}.nbi").touch()  # of other sources
    assert not is_kept("voxelize")
    (tmp_path / f"voxelize._mark-106-{numba_cache.sources_digest()}.{numba_cache.PYTHON}.nbi").touch()
    assert is_kept("voxelize")
    monkeypatch.setattr(numba_cache, "cache_folder", lambda: None)
    assert not is_kept("voxelize")


def test_the_names_are_those_that_numba_gives():
    from sparsenet.random import keyed_rng
    from sparsenet.shapes import parametric_mesh, voxelize

    voxelize(parametric_mesh("mug", keyed_rng(0)), 8, 8)
    assert is_kept("voxelize") == (numba_cache.cache_folder() is not None)
