"""The events that a training reports to a callback."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sparsenet.nn import SparseNetwork


@dataclass(frozen=True)
class Event:
    """The argument of the callback of `train`.

    kind : "step": after an optimizer step; "epoch": after an epoch and its validation; "end": after the evaluation
    epoch : number of the current epoch, from 1; at the end, of the last one
    step, steps : batches done in this epoch, and batches of an epoch
    figures : by name: "loss", that of each term if there are several ("loss_contrastive", unweighted), "lr" and a
        classifier's "accuracy" of a batch; the row of metrics.csv of an epoch; the final evaluation ("test_accuracy",
        "test_mAP", ...) at the end
    net : the network, to be looked at; at the end that of best.h5
    """

    kind: str
    epoch: int
    step: int
    steps: int
    figures: dict[str, float]
    net: SparseNetwork

    @property
    def total_steps(self) -> int:
        """Optimizer steps since the training began, interruptions or not."""
        return (self.epoch - 1) * self.steps + self.step


Callback = Callable[[Event], object]
