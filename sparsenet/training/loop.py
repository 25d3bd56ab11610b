"""The training loop, to be read from top to bottom.  What it calls stands below it, in that order."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sparsenet.backend import array_module, to_device
from sparsenet.command import deferred_interrupt
from sparsenet.files import write_text
from sparsenet.kernels import set_float32_matmul_precision, set_tile_table
from sparsenet.kernels.fetch import fetch_later
from sparsenet.optim import clip_gradients
from sparsenet.training.build import build_batching, build_network, build_optimizer, load_resumable, open_dataset
from sparsenet.training.checkpoint import Checkpoint, CheckpointError, save_checkpoint
from sparsenet.training.judge import NO_RETRIEVAL, judge, judge_finally
from sparsenet.training.record import (
    Stopwatch,
    draw_figures,
    epoch_line,
    figures_line,
    resident_megabytes,
    write_csv,
)
from sparsenet.training.schema import Config

if TYPE_CHECKING:
    from sparsenet.autograd import Tensor
    from sparsenet.data import SparseBatch
    from sparsenet.nn import SparseNetwork
    from sparsenet.retrieval import Evaluation

TIMES = ("waiting", "forward", "backward", "update", "loading", "rulebooks")  # the last two in loader threads
SUMS = ("samples", "loss", "right", "dropped", *TIMES)
OUTPUTS = ("metrics.csv", "evaluation.csv", "curves.png", "precision_recall.png", "best.h5", "last.h5")


@dataclass
class TrainingResult:
    """What `train` ends with.

    net : the trained network.
    history : a dict of figures for each epoch done, as in metrics.csv.
    figures : the final evaluation's: "test_accuracy" of a classifier, "test_mAP", "test_AUC", ...
    evaluation : of the retrieval, with its curve and table; None where no class has two test objects.
    finished : False where max_seconds stopped it: it can be resumed.
    """

    net: SparseNetwork
    history: list[dict[str, float]]
    figures: dict[str, float]
    evaluation: Evaluation | None
    finished: bool


def train(config: Config, out: str | Path, *, resume: bool = False, overwrite: bool = False, progress: bool = True,
          say: Callable[[str], None] = print) -> TrainingResult:
    """Train a network as the config says, and evaluate it on the test split.

    Writes into the folder `out`: last.h5 (checkpoint, after each epoch and every
    training.checkpoint_seconds), best.h5 (of the epoch that validated best; of the end where none
    was validated), metrics.csv (a line an epoch), config.toml (every key), evaluation.csv and, with
    matplotlib, curves.png and precision_recall.png.

    Parameters
    ----------
    resume : go on from out/last.h5, with the same bits as if there had been no stop.
    overwrite : start anew where there is a last.h5 or best.h5; what the old training wrote is removed.
    progress : show a bar on stderr.
    say : is given a line for each epoch, and the final figures.

    Raises
    ------
    ConfigError, ValueError : the config does not fit itself, the dataset, or the checkpoint resumed.
    CheckpointError : nothing whole to resume, or something there that would be overwritten.
    RuntimeError : the loss is no longer finite.
    KeyboardInterrupt : after Ctrl-C, when last.h5 is written; a second one interrupts at once.
    """
    from tqdm import tqdm

    begun = time.monotonic()
    out, last, best = Path(out), Path(out) / "last.h5", Path(out) / "best.h5"
    there = [path for path in (last, best) if path.exists()]
    if there and not resume and not overwrite:
        raise CheckpointError(f"training: {there[0]} is there already: resume it, overwrite it, or name another "
                              "folder")
    if resume and not last.exists():
        raise CheckpointError(f"training: {last}: no such file: there is nothing to resume, start anew")
    out.mkdir(parents=True, exist_ok=True)
    training_set, test_set = open_dataset(config, out, anew=not resume, progress=progress)
    state = load_resumable(last, config, training_set) if resume else None
    set_float32_matmul_precision(config.training.precision)
    set_tile_table(config.training.tiles or None)
    net = build_network(config, len(training_set.classes)).to(config.training.device)
    optimizer, learning_rate = build_optimizer(config, net)
    batching = build_batching(config, training_set, net)
    for name in () if resume else OUTPUTS:
        (out / name).unlink(missing_ok=True)
    write_text(out / "config.toml", config.text())
    epoch, step, earlier, sums, history = 0, 0, 0.0, {}, []
    if state is not None:
        net.load_state_dict(state.weights)
        optimizer.load_state_dict(state.momentum)
        epoch, step, earlier, sums, history = state.epoch, state.step, state.seconds, state.running, state.history
        say(f"resuming {last} at epoch {epoch + 1}, batch {step + 1}")

    def save(path: Path) -> None:
        save_checkpoint(path, Checkpoint(
            weights=net.get_weights(), epoch=epoch, step=step,
            momentum={name: to_device(array, "cpu") for name, array in optimizer.state_dict().items()},
            seconds=earlier + time.monotonic() - begun, config=config.text(), classes=training_set.classes,
            running=sums, history=history, dataset=training_set.digest))

    out_of_time = False
    saved = time.monotonic()
    while epoch < config.training.epochs and not out_of_time:
        sums = dict.fromkeys(SUMS, 0.0) | sums
        watch = Stopwatch(sums)
        net.train()
        batches = training_set.batches(**batching, epoch=epoch, start=step)
        count = step + len(batches)
        bar = tqdm(total=count, initial=step, desc=f"epoch {epoch + 1}", unit="batch", leave=False,
                   disable=not progress)
        with batches, bar, deferred_interrupt() as interrupted:
            for batch in watch.waiting("waiting", batches):
                net.reseed(config.training.seed, epoch, step)
                with watch("forward"):
                    loss, figures = loss_of(net, batch, config)
                    arriving = fetch_later(figures)
                with watch("backward"), np.errstate(all="ignore"):  # a loss that is not finite is told below
                    loss.backward()
                with watch("update"):
                    optimizer.lr = learning_rate(epoch, (step + 1) / count)
                    if config.optimizer.max_gradient_norm:
                        clip_gradients(net.parameters(), config.optimizer.max_gradient_norm)
                    optimizer.step()
                    optimizer.zero_grad()
                    value, *right = arriving().tolist()  # a GPU has what follows the loss still to do meanwhile
                if not math.isfinite(value):  # nothing of this step is ever saved
                    raise RuntimeError(f"training: the loss is {value} at epoch {epoch + 1}, batch {step + 1}: lower "
                                       f"optimizer.lr, which is {config.optimizer.lr:g}")
                step += 1
                sums["samples"] += len(batch)
                sums["loss"] += value * len(batch)
                sums["right"] += sum(right)
                sums["dropped"] += int(batch.dropped.sum())
                sums["loading"] += batch.seconds["loading"]
                sums["rulebooks"] += batch.seconds["rulebooks"]
                bar.update()
                show(bar, sums, config)

                now = time.monotonic()
                out_of_time = 0 < config.training.max_seconds <= now - begun
                if interrupted() or out_of_time or now - saved >= config.training.checkpoint_seconds:
                    save(last)
                    saved = now
                if interrupted():
                    raise KeyboardInterrupt
                if out_of_time:
                    break
        if step < count:
            break
        save(last)  # a Ctrl-C while validating loses nothing: resumed, the epoch has no batch left

        row = summary_of(epoch, learning_rate(epoch, 1.0), sums, config)
        if validates(epoch + 1, config):
            row |= judge(net, test_set, config)
        row |= {"seconds": earlier + time.monotonic() - begun, "resident_MB": resident_megabytes()}
        history.append(row)
        epoch, step, sums = epoch + 1, 0, {}
        save(last)
        saved = time.monotonic()
        if is_best(history, config):
            save(best)
        write_csv(out / "metrics.csv", history)
        say(epoch_line(row, config.training.epochs))

    if not best.exists():
        save(best)
    figures, evaluation = judge_finally(net, test_set, config)
    write_csv(out / "evaluation.csv", [figures])
    draw_figures(out, history, evaluation)
    say(figures_line(figures) if evaluation is not None else f"{figures_line(figures)}; {NO_RETRIEVAL}")
    return TrainingResult(net, history, figures, evaluation, finished=epoch >= config.training.epochs)


def loss_of(net: SparseNetwork, batch: SparseBatch, config: Config) -> tuple[Tensor, Any]:
    """The loss of a batch, and in an array the loss and, of a classifier, how many samples it got right."""
    from sparsenet import ops

    outputs = net(batch)
    if config.loss.kind == "softmax":
        return ops.softmax_cross_entropy_with_figures(outputs, batch.labels)
    if config.loss.mining == "none":  # TripletSampler: anchors, then their positives, then their negatives
        rows = array_module(outputs.array).arange(len(batch)).reshape(3, -1)
    else:
        rows = mine(outputs, to_device(batch.labels, config.training.device), config)
    anchor, positive, negative = (outputs[chosen] for chosen in rows)
    loss = ops.triplet_loss(anchor, positive, negative, config.loss.margin, config.loss.distance)
    return loss, loss.array.reshape(1)


def mine(descriptors: Tensor, labels: Any, config: Config) -> tuple[Any, Any, Any]:
    """Rows of anchors, positives and negatives, chosen within the batch."""
    from sparsenet.training.mining import batch_hard, semi_hard

    if config.loss.mining == "hard":
        return batch_hard(descriptors, labels, config.loss.distance)
    return semi_hard(descriptors, labels, config.loss.margin, config.loss.distance)


def summary_of(epoch: int, lr: float, sums: dict[str, float], config: Config) -> dict[str, float]:
    """The figures of an epoch's training, from its sums."""
    worked = sum(sums[part] for part in ("waiting", "forward", "backward", "update"))
    row = {"epoch": epoch + 1, "lr": lr, "loss": sums["loss"] / sums["samples"]}
    if config.loss.kind == "softmax":
        row["accuracy"] = sums["right"] / sums["samples"]
    row["dropped"] = sums["dropped"]
    return row | {"samples_per_second": sums["samples"] / worked, **{part: sums[part] for part in TIMES}}


def show(bar: Any, sums: dict[str, float], config: Config) -> None:
    """Loss, accuracy and samples/s of the epoch so far, at the end of the progress bar."""
    row = summary_of(0, 0.0, sums, config)
    words = {"loss": f"{row['loss']:.4f}", "samples/s": f"{row['samples_per_second']:.0f}"}
    if "accuracy" in row:
        words["accuracy"] = f"{100 * row['accuracy']:.1f}%"
    bar.set_postfix(words, refresh=False)


def validates(done: int, config: Config) -> bool:
    """Whether the epoch that ends, the `done`th, is validated."""
    every = config.training.validate_every
    return every > 0 and (done % every == 0 or done == config.training.epochs)


def is_best(history: list[dict[str, float]], config: Config) -> bool:
    """Whether the last epoch validated better than all before."""
    figure = "test_accuracy" if config.loss.kind == "softmax" else "test_mAP"
    earlier = [row[figure] for row in history[:-1] if figure in row]
    return figure in history[-1] and history[-1][figure] > max(earlier, default=-1.0)
