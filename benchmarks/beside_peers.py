"""A convolution at a million sites, compared with spconv and a masked implicit product in Triton, interleaved on the
same inputs."""

from __future__ import annotations

import itertools
from contextlib import ExitStack
from dataclasses import replace

import numpy as np

from benchmarks import passes, peers, reference
from benchmarks.figures import Results
from benchmarks.timing import Case, Settings, case, interleave
from sparsenet.backend import to_device

SECTION = "beside peers"
GOALS = {"spconv": 1.5, "triton": 1.2}  # a peer's time over ours
# A peer's name of a precision -> our name; a peer also stores halves.
PRECISIONS = {"fp16": "float16 stored", "tf32": "tf32", "float32": "float32"}


def measure_beside_peers(results: Results, settings: Settings) -> None:
    """Add the section: forward and backward (both gradients) at each width and precision."""
    sites, geometry = passes.surface(settings)
    with ExitStack() as stack:
        running = [stack.enter_context(peer) for peer in peers.available(
            settings.peers, results.notes.append, "cuda", names=tuple(GOALS))]
        tasks = [passes.Task(sites.rulebook(geometry), width, width)
                 for width in (reversed(passes.widths(settings)) if running else ())]
        for precision, task in itertools.product(PRECISIONS, tasks):
            with passes.using(passes.PRECISIONS[PRECISIONS[precision]][0]):
                _measure(running, task, precision, results, replace(settings, repeats=min(5, settings.repeats)))


def _measure(running: list[peers.Peer], task: passes.Task, precision: str, results: Results,
             settings: Settings) -> None:
    """Measure one width and precision, with every peer whose results are correct."""
    name = f"{task.c_in} -> {task.c_out}, {PRECISIONS[precision]}"
    right = [peer for peer in running if _is_right(peer, task, precision, name, results)]
    if not right:
        return
    ours = task.passes(passes.PRECISIONS[PRECISIONS[precision]][1])
    cases: dict[str, Case] = {one: case(run, None, "cuda") for one, run in ours.items()}
    cases |= {f"{one}, {peer.name}": peer.case(one) for peer in right for one in ("forward", "backward")}
    times = interleave(cases, settings)
    mine = {"forward": times["forward"].median,
            "backward": times["input gradient"].median + times["weight gradient"].median}
    for one, seconds in mine.items():
        results.add(SECTION, name, one, 1e3 * seconds, "ms", better="lower")
    for peer in right:
        for one, seconds in mine.items():
            timing = times[f"{one}, {peer.name}"]
            results.add(SECTION, name, f"{one}, {peer.name}", 1e3 * timing.median, "ms", spread=timing.spread,
                        better="lower")
            results.add(SECTION, name, f"{one}, {peer.name} / ours", timing.median / seconds, "x",
                        spread=timing.spread, better="higher", goal=GOALS[peer.name])


def _is_right(peer: peers.Peer, task: passes.Task, precision: str, name: str, results: Results) -> bool:
    """Set up and run the task in the peer.  Returns whether its results match float64; otherwise adds a note."""
    rows = task.rows_checked("forward")  # also for the input gradient: there are as many inputs as outputs
    expected = {"output": task.expected("forward"), "input_gradient": task.expected("input gradient"),
                "weight_gradient": task.expected("weight gradient")}
    arrays = {"coordinates": to_device(task.rulebook.input_sites.coordinates, "cpu"), "rows": rows,
              "grid": np.array(task.rulebook.input_sites.spatial_size)}
    try:
        got = peer.set_up("large", arrays, precision=precision, c_in=task.c_in, c_out=task.c_out)
    except peers.PeerError as error:
        results.notes.append(f"{peer.label}, {name}: left out: {error}")
        return False
    worst = max(reference.relative_error(got[one].astype(np.float64), value) for one, value in expected.items())
    if not worst <= 2 * passes.TOLERANCES[PRECISIONS[precision]]:
        results.notes.append(f"{peer.label}, {name}: wrong by {worst:.2g} of the largest value: left out")
        return False
    return True
