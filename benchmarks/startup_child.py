"""A user's first minute, timed from inside: `python startup_child.py DATASET BATCH RENDER_SIZE`."""

from __future__ import annotations

import time

BEGUN = time.perf_counter()  # before the heavy imports, which are timed too

import json  # noqa: E402
import sys  # noqa: E402


def main(path: str, batch_size: int, render_size: int) -> None:
    import sparsenet as sn

    times = {"import": time.perf_counter() - BEGUN}
    net = sn.s3dcnn(40)
    with sn.SparseDataset.open(path) as dataset, dataset.batches(
            batch_size, field=net.field, render_size=render_size, geometries=net.geometries(),
            backward=True) as batches:
        batch = next(batches)
        times["import + first batch"] = time.perf_counter() - BEGUN
        optimizer = sn.optim.SGD(net.named_parameters(), 1e-3, 0.9)
        sn.ops.softmax_cross_entropy(net(batch), batch.labels.clip(0) % 40).backward()
        optimizer.step()
    times["all"] = time.perf_counter() - BEGUN
    print(json.dumps({**times, "compiled": _compile_seconds()}))


def _compile_seconds() -> dict[str, float]:
    """Seconds of Numba's passes for each function that was compiled rather than read from the cache; the time of a
    callee is included in its callers'."""
    found = {}
    for name, module in list(sys.modules.items()):
        if not name.startswith("sparsenet.kernels."):
            continue
        for attribute, value in vars(module).items():
            if getattr(value, "__module__", None) != name:  # imported from where it is counted
                continue
            for signature in getattr(value, "signatures", ()):
                metadata = value.overloads[signature].metadata or {}  # None: read from the cache
                passes = metadata.get("pipeline_times", {})
                seconds = sum(timer.run for stages in passes.values() for timer in stages.values())
                label = f"{name.rsplit('.', 1)[1]}.{attribute}"
                found[label] = found.get(label, 0.0) + seconds
    return {label: round(seconds, 3) for label, seconds in found.items() if seconds > 0.001}


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
