"""Sites and rulebooks on every backend."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sparsenet.sparse import ActiveSites, rulebook, sites


@pytest.fixture
def placed(backend, launch, monkeypatch) -> Callable[[ActiveSites], ActiveSites]:
    """Moves sites to the device on which the backend's kernels, and those of their rulebooks, run.

    On "reference" and "cuda" they stay where they are, and what they launch runs as formulas or from the CUDA sources.
    """
    if backend in ("reference", "cuda"):
        for module in (rulebook, sites):
            monkeypatch.setattr(module, "launch", launch)
    return lambda given: given.to("cuda") if backend == "gpu" else given
