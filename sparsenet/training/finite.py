"""NaN and infinity stop training and are never saved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from sparsenet.training.precision import loss_scale
from sparsenet.training.schema import Config


def not_finite(what: str, config: Config, epoch: int, step: int) -> RuntimeError:
    """The error for a loss or weight that is not finite; it says what to do."""
    scale = loss_scale(config)
    scaled = f", or lower training.loss_scale, which is {scale:g}" if scale > 1 else ""
    return RuntimeError(f"training: {what} at epoch {epoch + 1}, batch {step + 1}: lower optimizer.lr, which is "
                        f"{config.optimizer.lr:g}, or set optimizer.max_gradient_norm{scaled}; "
                        "training.detect_anomaly = true names the layer where it begins")


def check_finite(weights: Mapping[str, np.ndarray], config: Config, epoch: int, step: int) -> None:
    """Raise RuntimeError if a weight is not finite; the last finite checkpoint is kept."""
    for name, array in weights.items():
        if not np.isfinite(array).all():
            raise not_finite(f"{name} is no longer finite", config, epoch, step)


@contextmanager
def anomalies_named(config: Config) -> Iterator[None]:
    """A context in which, with training.detect_anomaly, the first NaN or infinity raises and names its layer."""
    from sparsenet import detect_anomaly

    if not config.training.detect_anomaly:
        yield
        return
    try:
        with detect_anomaly():
            yield
    except FloatingPointError as error:
        raise RuntimeError(f"training: {error}") from error
