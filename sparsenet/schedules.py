"""Learning rates as functions of the epoch, which may be a fraction."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class ConstantRate:
    """A constant learning rate."""

    lr: float

    def __call__(self, epoch: float) -> float:
        return self.lr


@dataclass(frozen=True)
class ExponentialDecay:
    """lr * exp(-rate * epoch); the paper's classifier: rate 0.025."""

    lr: float
    rate: float

    def __call__(self, epoch: float) -> float:
        return self.lr * math.exp(-self.rate * epoch)


@dataclass(frozen=True)
class StepDecay:
    """lr * factor ** (epoch // epochs)."""

    lr: float
    epochs: int
    factor: float = 0.1

    def __call__(self, epoch: float) -> float:
        return self.lr * self.factor ** (epoch // self.epochs)


@dataclass(frozen=True)
class CosineDecay:
    """Half a cosine wave, from lr at epoch 0 down to `least` at epoch `epochs`."""

    lr: float
    epochs: int
    least: float = 0.0

    def __call__(self, epoch: float) -> float:
        done = min(epoch / self.epochs, 1.0)
        return self.least + (self.lr - self.least) * (1 + math.cos(math.pi * done)) / 2
