"""Training steps of a U-Net on a surface, forward and backward, beside the same network in spconv; and their memory.

Levels of 32, 64, 128 and 256 channels, submanifold 3^3, batch norm, residual blocks, inverse convolutions.  Without a
background both compute one function, so that their outputs are compared before anything is timed.
"""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np

from benchmarks import peers, reference
from benchmarks.figures import Results
from benchmarks.steps import peak_bytes
from benchmarks.timing import Settings, case, interleave
from sparsenet import get_backend, set_backend
from sparsenet.backend import REFERENCE
from sparsenet.inspect import trace
from sparsenet.nn import SparseNetwork, unet
from sparsenet.optim import SGD
from sparsenet.sparse import SparseTensor, prepare

SECTION, MEMORY = "U-Net", "U-Net memory"
CLASSES, CHANNELS = 20, (32, 64, 128, 256)
SITES, SITES_OF_QUICK, SITES_TO_VERIFY = (20_000, 100_000), (1_500,), 1_000
GOAL = 1.8  # spconv's step over ours
GOAL_OF_MEMORY = 1.3  # the peak of a step over what it keeps
TOLERANCE = 2e-3  # of float32 through 27 norms, each of which magnifies rounding


def surface(sites: int) -> tuple[np.ndarray, tuple[int, int, int]]:
    """(sites, 4) int32 rows [0, x, y, z], the cells nearest to a sphere, in a grid whose sides are a multiple of 8: a
    shell two cells thick."""
    radius = np.sqrt(sites / (8 * np.pi))
    side = 8 * int(np.ceil((2 * radius + 4) / 8))
    axes = np.indices((side,) * 3, np.float32) - np.float32((side - 1) / 2)
    off_surface = np.abs(np.sqrt((axes ** 2).sum(axis=0)) - np.float32(radius)).ravel()
    cells = np.sort(np.argsort(off_surface, kind="stable")[:sites])
    rows = np.zeros((sites, 4), np.int32)
    rows[:, 1:] = np.stack(np.unravel_index(cells, (side,) * 3), axis=1)
    return rows, (side,) * 3


class Task:
    """The network and its input, without a background, as spconv has it."""

    def __init__(self, sites: int):
        self.net: SparseNetwork = unet(CLASSES, channels=CHANNELS, in_channels=3)
        self.coordinates, self.grid = surface(sites)
        self.features = np.random.default_rng(0).standard_normal((sites, 3), np.float32)
        self.geometries = self.net.geometries()

    def fresh(self) -> SparseTensor:
        """The input without rulebooks."""
        return SparseTensor(self.features, self.coordinates, self.grid, 1, background=None)

    def prepared(self) -> SparseTensor:
        """The input as delivered by a loader."""
        x = self.fresh()
        prepare(x.sites, self.geometries, backward=True)
        return x

    def step(self, x: SparseTensor) -> object:
        """Forward and backward."""
        self.net.zero_grad()
        y = self.net(x).features
        y.sum().backward()
        return y

    def train(self, x: SparseTensor) -> None:
        """Forward, backward and SGD."""
        self.step(x)
        SGD(self.net.parameters(), 1e-3).step()

    def arrays(self) -> dict[str, np.ndarray]:
        """The arguments that a peer needs."""
        weights = {f"weights/{name}": array for name, array in self.net.get_weights().items() if "running" not in name}
        return {"coordinates": self.coordinates, "features": self.features, "grid": np.array(self.grid), **weights}


def measure_unet(results: Results, settings: Settings) -> None:
    """Add the section: milliseconds of a step with rulebooks at hand, and of one that builds them, as spconv's does.

    Raises RuntimeError if the network differs from the formulas of its kernels in float64.
    """
    _verify()
    with ExitStack() as stack:
        others = [stack.enter_context(peer) for peer in peers.available(settings.peers, results.notes.append,
                                                                        settings.device, ("spconv",))]
        for sites in SITES_OF_QUICK if settings.quick else SITES:
            _measure(Task(sites), f"{sites:,} sites", others, results, settings)


def measure_unet_memory(results: Results, settings: Settings) -> None:
    """Add the section: the peak of a step, network and rulebooks included, over the bytes that `trace` lists."""
    for sites in SITES_OF_QUICK if settings.quick else SITES:
        task, name = Task(sites), f"{sites:,} sites"
        task.train(task.prepared())  # compiles
        kept = trace(task.net, task.prepared()).kept
        del task
        peak = peak_bytes(lambda sites=sites: (task := Task(sites)).train(task.prepared()))
        for what, size in {**vars(kept), "kept": kept.total, "peak": peak}.items():
            results.add(MEMORY, name, what, size / 1e6, "MB", better="lower" if what == "peak" else "")
        results.add(MEMORY, name, "peak / kept", peak / kept.total, "x", better="lower",
                    goal=None if settings.quick else GOAL_OF_MEMORY)


def _measure(task: Task, name: str, others: list[peers.Peer], results: Results, settings: Settings) -> None:
    cases = {"prepared": case(task.step, task.prepared), "with rulebooks": case(task.step, task.fresh)}
    for peer in others:
        if _agrees(peer, task, name, results):
            cases[peer.name] = peer.case("step")
    times = interleave(cases, settings)
    for which, timing in times.items():
        results.add(SECTION, name, which, 1e3 * timing.median, "ms", spread=timing.spread, better="lower")
        if which in (peer.name for peer in others):
            ours = times["with rulebooks"]
            results.add(SECTION, name, f"{which} / ours", timing.median / ours.median, "x",
                        spread=max(timing.spread, ours.spread), better="higher", goal=None if settings.quick else GOAL)


def _agrees(peer: peers.Peer, task: Task, name: str, results: Results) -> bool:
    """Whether a peer's network gives the same; if not, it is noted and not timed."""
    try:
        got = peer.set_up("unet", task.arrays())["output"]
        reference.check(f"{peer.label}'s U-Net", got, task.net(task.fresh()).features.numpy(), TOLERANCE)
    except (peers.PeerError, RuntimeError) as error:
        results.notes.append(f"{peer.label}, U-Net, {name}: left out of the ratios: {error}")
        return False
    return True


def _verify() -> None:
    """Check the network against the formulas of its kernels, in float64."""
    task, before = Task(SITES_TO_VERIFY), get_backend()
    found = task.net(task.fresh()).features.numpy()
    try:
        set_backend(REFERENCE)
        expected = task.net.to(dtype="float64")(task.fresh().astype("float64")).features.numpy()
    finally:
        set_backend(before)
    reference.check("the U-Net", found, expected, TOLERANCE)
