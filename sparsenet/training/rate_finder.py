"""The learning-rate finder: the loss while the learning rate rises (Smith 2017, "Cyclical learning rates for training
neural networks", section 3.3, "LR range test")."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sparsenet.backend import to_device
from sparsenet.kernels import get_float32_matmul_precision, set_float32_matmul_precision
from sparsenet.optim import clip_gradients
from sparsenet.training.build import build_batching, build_network, build_optimizer
from sparsenet.training.finetuning import freeze, initialise, train_mode
from sparsenet.training.losses import Criterion
from sparsenet.training.precision import (
    check_precision,
    loss_scale,
    product_precision,
    run_backward,
    storage_dtype,
)
from sparsenet.training.ranks import Ranks
from sparsenet.training.record import compilation_told
from sparsenet.training.shards import ShardedStep
from sparsenet.training.splits import opened_splits

if TYPE_CHECKING:
    from sparsenet.data import SparseDataset
    from sparsenet.training.schema import Config

DIVERGED = 4.0  # the search ends if the running mean of the loss is so many times its least value, and above the first
MEMORY = 0.9  # of that running mean
SIGNIFICANT = 5.0  # times its standard deviation is what a smoothed loss has to fall by
WINDOW = 10  # smoothing takes the mean over about a tenth of the steps, as many on each side
ROWS = 20  # of the table


@dataclass(frozen=True)
class LearningRates:
    """The result of `find_learning_rate`: the loss of each step, in the order of rising rates.

    rates : (n,) float64, the learning rate of the step
    losses : (n,) float64, the loss of its batch, before the step
    smoothed : (n,) float64, the mean over the steps around it, as many on each side
    lowest_at : the rate at which the smoothed loss is lowest; None if it falls by less than its noise
    suggestion : a tenth of that rate, or None
    diverged : whether the loss ended the search, which otherwise reached the highest rate
    """

    rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    lowest_at: float | None
    diverged: bool

    @property
    def suggestion(self) -> float | None:
        return None if self.lowest_at is None else self.lowest_at / 10

    def table(self) -> str:
        """The rates and losses of about twenty steps, and what follows from them."""
        chosen = {round(place) for place in np.linspace(0, len(self.rates) - 1, ROWS)}
        lowest = None if self.lowest_at is None else self.rates.tolist().index(self.lowest_at)
        chosen |= set() if lowest is None else {lowest}
        lines = ["learning rate        loss    smoothed"]
        lines += [f"{self.rates[i]:13.3g}  {self.losses[i]:10.4f}  {self.smoothed[i]:10.4f}"
                  + ("  <- lowest" if i == lowest else "") for i in sorted(chosen)]
        lines.append("the loss diverged: higher rates were not tried" if self.diverged else
                     "the loss did not diverge: higher rates may be possible")
        lines.append("suggestion: none, as the loss fell by less than its noise: take more steps, or other rates"
                     if self.suggestion is None else
                     f"suggestion: optimizer.lr = {self.suggestion:.2g}, a tenth of the rate of the lowest loss")
        return "\n".join(lines)


def find_learning_rate(config: Config, lowest: float = 1e-6, highest: float = 10.0, steps: int = 100,
                       progress: bool = True, say: Callable[[str], None] = print) -> LearningRates:
    """Train from the config's first weights while the learning rate rises from `lowest` to `highest`, by the same
    factor from step to step, and record the loss; stop when it diverges.

    Batches, augmentation, loss and optimizer are those of the config, its schedule is not used.  Nothing is written and
    nothing is changed: the network is thrown away.  The same config gives the same numbers.

    A tenth of the rate at which the loss is lowest is a good first guess for a rate that decays or stays; one that
    rises first and then falls may come near that rate itself.

    lowest, highest : rates of the first and the last step
    steps : at least 10.  Momentum answers with a delay of about 1 / (1 - momentum) steps: take some ten times as many,
        or the suggestion is too high
    progress : show a progress bar on stderr if it is a terminal
    say : called with the lines of `train` about the data, and a line if kernels have to be compiled

    Source: Smith 2017, section 3.3.

    Raises
    ------
    ValueError : the rates do not rise from above 0, there are fewer than 10 steps, or the loss of the first is not
        finite; ConfigError as for `train`.
    """
    if not (0 < lowest < highest < math.inf):
        raise ValueError(f"find_learning_rate: rates from {lowest} to {highest}, expected finite ones that rise from "
                         "above 0")
    check_precision(config)
    if steps < 10:
        raise ValueError(f"find_learning_rate: steps is {steps}, expected at least 10")
    with (tempfile.TemporaryDirectory(prefix="sparsenet-") as folder, compilation_told(say), _precision(config),
          opened_splits(config, Path(folder), anew=True, progress=progress) as splits):
        for line in splits.lines():
            say(line)
        rates = np.geomspace(lowest, highest, steps)
        losses, diverged = _losses(config, splits.training, rates, progress)
    return _judged(rates[:len(losses)], np.array(losses), diverged)


@contextmanager
def _precision(config: Config) -> Iterator[None]:
    """A context in which products have the config's precision."""
    before = get_float32_matmul_precision()
    set_float32_matmul_precision(product_precision(config))
    try:
        yield
    finally:
        set_float32_matmul_precision(before)


def _losses(config: Config, training_set: SparseDataset, rates: np.ndarray, progress: bool) -> tuple[list[float], bool]:
    """The loss before the step at each rate, up to where it diverges, and whether it does."""
    from tqdm import tqdm

    net = build_network(config, len(training_set.classes))
    if config.network.init_from:
        initialise(net, config, training_set.classes)
    freeze(net, config.network.freeze)
    net.to(config.training.device, storage_dtype(config))
    net.recompute = config.training.recompute
    criterion = Criterion(config, net, training_set)
    criterion.to(config.training.device)
    optimizer, _ = build_optimizer(config, net, criterion)
    optimizer.loss_scale = scale = loss_scale(config)
    parameters, batching = [*net.parameters(), *criterion.parameters()], build_batching(config, training_set, net)
    shards = config.training.shards
    sharded = ShardedStep(config, net, criterion, Ranks(shards=shards)) if shards > 1 else None
    train_mode(net)
    losses: list[float] = []
    mean = least = 0.0
    numbered = zip(rates.tolist(), _batches(training_set, batching), strict=False)
    for rate, (epoch, step, batch) in tqdm(numbered, desc="learning rates", total=len(rates), unit="step", leave=False,
                                           disable=None if progress else True):
        with np.errstate(all="ignore"):  # it is meant to diverge
            loss = None
            if sharded is not None:
                figures = sharded(batch, epoch, step)
            else:
                net.reseed(config.training.seed, epoch, step)
                loss, figures = criterion.loss(net, batch)
            value = float(to_device(figures, "cpu")[0])
            if not losses and not math.isfinite(value):
                raise ValueError(f"find_learning_rate: the loss of the first batch is {value}, expected a finite one")
            mean = MEMORY * mean + (1 - MEMORY) * value
            unbiased = mean / (1 - MEMORY ** (len(losses) + 1))
            least = min(least, unbiased) if losses else unbiased
            if not math.isfinite(value) or losses and unbiased > max(DIVERGED * least, losses[0]):
                return losses, True
            losses.append(value)
            if loss is not None:
                run_backward(loss, scale)
            optimizer.lr = rate
            if config.optimizer.max_gradient_norm:
                clip_gradients(parameters, config.optimizer.max_gradient_norm * scale)
            optimizer.step()
            optimizer.zero_grad()
    return losses, False


def _batches(training_set: SparseDataset, batching: dict[str, Any]) -> Iterator[tuple[int, int, Any]]:
    """(epoch, step, batch) of one epoch after the other, without end."""
    epoch = 0
    while True:
        with training_set.batches(**batching, epoch=epoch) as batches:
            yield from ((epoch, step, batch) for step, batch in enumerate(batches))
        epoch += 1


def _judged(rates: np.ndarray, losses: np.ndarray, diverged: bool) -> LearningRates:
    """The smoothed losses, and the rate at which they are lowest."""
    reach = max(1, len(losses) // (2 * WINDOW))
    smoothed = np.array([losses[max(0, i - reach):i + reach + 1].mean() for i in range(len(losses))])
    lowest = int(smoothed.argmin())
    width = 2 * reach + 1
    noise = np.diff(losses[:max(lowest + 1, len(losses) // 2)]).std() / math.sqrt(2 * width)  # of a smoothed loss
    falls = losses[:width].mean() - smoothed[lowest] > SIGNIFICANT * noise
    return LearningRates(rates, losses, smoothed, float(rates[lowest]) if falls else None, diverged)
