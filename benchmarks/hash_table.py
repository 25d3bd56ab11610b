"""The hash table from site keys to rows: keys per second."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from benchmarks import reference
from benchmarks.figures import Results
from benchmarks.timing import Settings, case, interleave
from sparsenet.backend import to_device
from sparsenet.kernels import launch
from sparsenet.sparse import ActiveSites

SECTION = "hash table"
GPU_GOAL = 2000.0  # M keys/s inserted
_BATCH, _GRID = 64, (126, 126, 126)  # S3DCNN's


def measure_hash_table(results: Results, settings: Settings) -> None:
    """Add the section: millions of keys per second, for insertion and for look-up of present and absent keys."""
    counts: tuple[int, ...] = (20_000, 1_000_000) if settings.device == "cpu" else (1_000_000, 16_000_000)
    if settings.quick:
        counts = (10_000,) if settings.device == "cpu" else (500,)
    for count in counts:
        host = draw_keys(count)
        keys, present, absent = (to_device(host[name], settings.device) for name in ("inserted", "present", "absent"))
        table = _sites(keys).hash_table
        for name, queries, expected in (("present", present, host["rows"]), ("absent", absent, np.full(count, -1))):
            found = to_device(launch("hash_lookup", *table, queries), "cpu")
            reference.check(f"hash table: {name} keys", found, expected, 0.0)
        cases = {
            "insert": case(lambda sites: sites.hash_table, lambda keys=keys: _sites(keys), settings.device),
            "look up, present": case(lambda table=table, present=present: launch("hash_lookup", *table, present),
                                     device=settings.device),
            "look up, absent": case(lambda table=table, absent=absent: launch("hash_lookup", *table, absent),
                                    device=settings.device),
        }
        for name, timing in interleave(cases, settings).items():
            goal = GPU_GOAL if settings.device == "cuda" and name == "insert" else None
            results.add(SECTION, f"{count:,} keys", name, count / timing.median / 1e6, "M keys/s",
                        spread=timing.spread, better="higher", goal=goal)


def draw_keys(count: int) -> dict[str, np.ndarray]:
    """2 * count cells drawn without replacement, half of which are inserted.

    Each (count,): "inserted", sorted; "present", the same in random order, and "rows", the position of each in
    "inserted"; "absent", the other half in random order.  Made without searching, so millions take seconds.
    """
    rng = np.random.default_rng(5)
    drawn = np.sort(rng.integers(0, _BATCH * prod(_GRID), 2 * count + count // 2))
    drawn = drawn[np.append(True, drawn[1:] != drawn[:-1])]
    order = rng.permutation(drawn.size)[:2 * count]
    is_inserted = np.zeros(drawn.size, bool)
    is_inserted[order[:count]] = True
    inserted, rows = drawn[is_inserted], rng.permutation(count)
    return {"inserted": inserted, "present": inserted[rows], "rows": rows, "absent": drawn[order[count:]]}


def _sites(keys: Any) -> ActiveSites:
    """Sites with sorted keys, without a hash table."""
    return ActiveSites.from_keys(keys, _GRID, _BATCH)
