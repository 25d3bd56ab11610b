"""The training loop, read from top to bottom; its helpers follow in the order they are called."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sparsenet.backend import to_device
from sparsenet.files import arrays_digest, write_text
from sparsenet.interrupts import deferred_interrupt
from sparsenet.kernels import set_float32_matmul_precision, set_tile_table
from sparsenet.kernels.cpu.machine import blas_type, processor_type
from sparsenet.kernels.fetch import fetch_later
from sparsenet.lock import locked
from sparsenet.optim import clip_gradients
from sparsenet.training.build import (
    build_average,
    build_batching,
    build_network,
    build_optimizer,
    voxelization_of,
)
from sparsenet.training.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from sparsenet.training.evaluation import (
    NO_RETRIEVAL,
    check_evaluation,
    check_validation,
    evaluate_network,
    score,
    stalled,
    validate,
)
from sparsenet.training.events import Callback, Event
from sparsenet.training.finetuning import freeze, initialise, train_mode
from sparsenet.training.finite import anomalies_named, check_finite, not_finite
from sparsenet.training.losses import Criterion, class_names, segments
from sparsenet.training.precision import (
    check_precision,
    loss_scale,
    product_precision,
    run_backward,
    storage_dtype,
)
from sparsenet.training.ranks import Ranks, Stopped
from sparsenet.training.record import (
    Stopwatch,
    compilation_told,
    draw_figures,
    epoch_line,
    figures_line,
    resident_megabytes,
    write_csv,
)
from sparsenet.training.resumption import load_resumable, resumption_lines, resumption_told, score_of
from sparsenet.training.schema import Config
from sparsenet.training.shards import ShardedStep
from sparsenet.training.splits import Splits, opened_splits

if TYPE_CHECKING:
    from sparsenet.autograd import Tensor
    from sparsenet.data import SparseBatch
    from sparsenet.nn import SparseNetwork
    from sparsenet.retrieval import Evaluation

TIMES = ("waiting", "forward", "backward", "update", "loading", "rulebooks")  # the last two in loader threads
SUMS = ("samples", "dropped", *TIMES)  # and a criterion's figures
OUTPUTS = ("metrics.csv", "evaluation.csv", "curves.png", "precision_recall.png", "best.h5", "last.h5")


@dataclass
class TrainingResult:
    """The result of `train`.

    net : the network of best.h5.
    history : a dict of figures for each epoch, as in metrics.csv.
    figures : the final evaluation of `net` on the test split: "test_accuracy" of a classifier, "test_mAP", ... (see
        `NetworkEvaluation`), "test_mIoU" of a segmentation.
    evaluation : the retrieval by what evaluation.descriptor names, with its curve and figures; None if no class has two
        test objects.
    finished : False if max_seconds stopped training, which can then be resumed; True after early stopping.
    """

    net: SparseNetwork
    history: list[dict[str, float]]
    figures: dict[str, float]
    evaluation: Evaluation | None
    finished: bool


def train(config: Config, out: str | Path, callback: Callback | None = None, *, resume: bool = False,
          overwrite: bool = False, progress: bool = True, say: Callable[[str], None] = print,
          ranks: Ranks | None = None) -> TrainingResult:
    """Train a network as the config says, select the best epoch, and evaluate it on the test split.

    The best epoch is selected on the validation data, never on the test split: by accuracy, then by loss; for
    triplets by mAP, for a segmentation by mean IoU.  Without validation data it is the last epoch.

    Writes into the folder `out`: last.h5 (checkpoint, after each epoch and every
    training.checkpoint_seconds), best.h5 (the best epoch), metrics.csv (one line per epoch), config.toml (every key),
    evaluation.csv and, with matplotlib, curves.png and precision_recall.png.

    Parameters
    ----------
    callback : called with an `Event` after each step, each epoch and at the end; its result is not used.  If it raises,
        training stops, and can be resumed from last.h5.
    resume : continue from out/last.h5, with the same bits as without an interruption.
    overwrite : start from scratch even if last.h5 or best.h5 exists; the files of the old run are removed.
    progress : show a progress bar on stderr if it is a terminal.
    say : called with one line for each epoch, for the final figures, and for each note.
    ranks : this process among those that share the work (`training.mpi.world`); each calls this function with the same
        arguments and returns the same result.  Rank 0 alone writes, says, calls `callback` and validates.

    Raises
    ------
    ConfigError, ValueError : the config contradicts itself, the dataset, or the checkpoint being resumed.
    CheckpointError : there is no complete checkpoint to resume, or a file would be overwritten.
    LockedError : another process is training in `out`.
    RuntimeError : the loss or a weight is no longer finite; with training.detect_anomaly it names the layer.
    KeyboardInterrupt : after Ctrl-C, once last.h5 is written; a second Ctrl-C interrupts immediately.
    """
    out, last, best = Path(out), Path(out) / "last.h5", Path(out) / "best.h5"
    ranks = Ranks(shards=config.training.shards) if ranks is None else ranks
    if not ranks.first:
        callback, progress, say = None, False, silent
    check_precision(config)
    if resume and overwrite:
        raise ValueError("training: resume continues the run in the folder, overwrite removes it: give one of them")
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"training: {out} is a file, expected the folder of the run")
    if resume and not last.exists():
        raise CheckpointError(f"training: {last}: no such file: there is nothing to resume, start a new training")
    out.mkdir(parents=True, exist_ok=True)
    with locked(out) if ranks.first else nullcontext(), resumption_told(out, say), compilation_told(say):
        there = [path for path in (last, best) if path.exists()]
        if there and not resume and not overwrite and ranks.first:
            raise CheckpointError(f"training: {there[0]} already exists: continue it with --resume (resume=True), "
                                  "replace it with --overwrite (overwrite=True), or name another folder")
        if not ranks.first:
            ranks.wait()  # until the data are there
        with opened_splits(config, out, anew=not resume and ranks.first, progress=progress) as splits:
            for line in splits.lines():
                say(line)
            if ranks.first:
                ranks.wait()
            return train_on(splits, config, out, callback, resume, progress, say, ranks)


def silent(line: str) -> None:
    """The `say` of all ranks but the first."""


def train_on(splits: Splits, config: Config, out: Path, callback: Callback | None, resume: bool, progress: bool,
             say: Callable[[str], None], ranks: Ranks) -> TrainingResult:
    """`train` on opened splits, in a locked folder whose files may be written."""
    from tqdm import tqdm

    begun = time.monotonic()
    training_set, last, best = splits.training, out / "last.h5", out / "best.h5"
    classes, class_counts = class_names(config, training_set), []
    if not segments(config):
        class_counts = np.bincount(training_set.object_labels, minlength=len(classes)).tolist()
    state = load_resumable(last, config, training_set) if resume else None
    check_evaluation(splits.test, config)
    check_validation(splits.validation, config)
    set_float32_matmul_precision(product_precision(config))
    set_tile_table(config.training.tiles or None)
    net = build_network(config, len(classes))
    if config.network.init_from and not resume:
        for line in initialise(net, config, classes):
            say(line)
    freeze(net, config.network.freeze)
    net.to(config.training.device, storage_dtype(config))
    net.recompute = config.training.recompute
    average = build_average(config, net)
    criterion = Criterion(config, net, training_set)
    criterion.to(config.training.device)
    optimizer, learning_rate = build_optimizer(config, net, criterion)
    optimizer.loss_scale = scale = loss_scale(config)
    parameters = [*net.parameters(), *criterion.parameters()]
    batching = build_batching(config, training_set, net, ranks.own)
    sharded = ShardedStep(config, net, criterion, ranks) if config.training.shards > 1 else None
    if ranks.first:
        for name in () if resume else OUTPUTS:
            (out / name).unlink(missing_ok=True)
        write_text(out / "config.toml", config.text())
    machine = {"processor": processor_type(config.training.device), "blas": blas_type()}
    epoch, step, count, earlier, sums, history, best_score = 0, 0, 0, 0.0, {}, [], None
    if state is not None:
        net.load_state_dict(state.latest or state.weights)
        criterion.load_state_dict(state.loss)
        if average is not None and state.updates:
            average.load_state_dict({"updates": state.updates, "averages": state.weights})
        optimizer.load_state_dict(state.momentum)
        epoch, step, earlier, sums, history = state.epoch, state.step, state.seconds, state.running, state.history
        best_score = score_of(best)
        for line in resumption_lines(state, last, best_score is not None, machine, config):
            say(line)

    def averaged() -> Any:
        return nullcontext() if average is None else average.applied()

    def save(path: Path) -> None:
        if not ranks.first:
            return
        latest = net.get_weights()
        learned = {name: to_device(array, "cpu") for name, array in criterion.state_dict().items()}
        check_finite(latest | learned, config, epoch, step)
        used = latest  # an average is saved in float32, however the network is stored
        if average is not None:
            used = latest | {name: to_device(one, "cpu") for name, one in average.state_dict()["averages"].items()}
        with deferred_interrupt():
            save_checkpoint(path, Checkpoint(
                weights=used, epoch=epoch, step=step,
                momentum={name: to_device(array, "cpu") for name, array in optimizer.state_dict().items()},
                seconds=earlier + time.monotonic() - begun, config=config.text(), classes=classes,
                running=sums, history=history, dataset=training_set.digest,
                voxelization=voxelization_of(config, training_set), class_counts=class_counts,
                loss=learned, latest={} if average is None else latest,
                updates=0 if average is None else average.updates, **machine))

    def tell(kind: str, number: int, done: int, figures: dict[str, float]) -> None:
        if callback is not None:
            callback(Event(kind, number, done, count, figures, net))

    def finished_row(epoch: int, sums: dict[str, float]) -> dict[str, float]:
        row = summary_of(epoch, learning_rate(epoch, 1.0), sums)
        if len(splits.validation) and validates(epoch + 1, config):
            with averaged():
                row |= validate(net, splits.validation, config)
        return row | {"seconds": earlier + time.monotonic() - begun, "resident_MB": resident_megabytes()}

    out_of_time = False
    saved = time.monotonic()
    while epoch < config.training.epochs and not out_of_time and not stalled(history, config.training.patience):
        sums = {name: sums.get(name, 0.0) for name in (*SUMS, *criterion.figures)}
        watch = Stopwatch(sums)
        train_mode(net)
        batches = training_set.batches(**batching, epoch=epoch, start=step)
        count = step + len(batches)
        bar = tqdm(total=count, initial=step, desc=f"epoch {epoch + 1}", unit="batch", leave=False,
                   disable=None if progress else True)  # None: only on a terminal
        with batches, bar, deferred_interrupt() as interrupted, anomalies_named(config):
            for batch in watch.waiting("waiting", batches):
                if sharded is not None:
                    arriving = fetch_later(sharded(batch, epoch, step, watch))
                else:
                    net.reseed(config.training.seed, epoch, step)
                    with watch("forward"):
                        loss, figures = loss_of(net, batch, criterion)
                        arriving = fetch_later(figures)
                    with watch("backward"), np.errstate(all="ignore"):  # a non-finite loss is reported below
                        run_backward(loss, scale)
                with watch("update"):
                    optimizer.lr = learning_rate(epoch, (step + 1) / count)
                    if config.optimizer.max_gradient_norm:
                        clip_gradients(parameters, config.optimizer.max_gradient_norm * scale)
                    optimizer.step()
                    optimizer.zero_grad()
                    if average is not None:
                        average.update()
                    # Meanwhile the GPU still runs the backward pass.
                    found = dict(zip(criterion.figures, arriving().tolist(), strict=True))
                if not math.isfinite(found["loss"]):  # this step is never saved
                    raise not_finite(f"the loss is {found['loss']}", config, epoch, step)
                step += 1
                sums["samples"] += len(batch)
                for name, value in found.items():
                    sums[name] += value if name == "right" else value * len(batch)
                sums["loading"] += batch.seconds["loading"]
                sums["rulebooks"] += batch.seconds["rulebooks"]
                bar.update()
                show(bar, sums)
                shares = {"accuracy": found.pop("right") / len(batch)} if "right" in found else {}
                tell("step", epoch + 1, step, {**found, "lr": optimizer.lr, **shares})

                now = time.monotonic()
                if 0 < config.training.max_seconds <= now - begun and ranks.first:  # whose clock counts
                    out_of_time = True
                dropped, stop, late = ranks.totals(int(batch.dropped.sum()), interrupted(), out_of_time)
                out_of_time = bool(late)
                sums["dropped"] += dropped
                if stop or out_of_time or now - saved >= config.training.checkpoint_seconds:
                    save(last)
                    saved = now
                if stop:
                    raise KeyboardInterrupt if ranks.size == 1 else Stopped
                if out_of_time:
                    break
            if step == count:
                save(last)  # Ctrl-C during validation loses nothing: on resuming, no batch is left
        if step < count:
            break

        if ranks.size > 1:
            ranks.check_alike(arrays_digest(net.get_weights()), "the weights")
        row = ranks.from_first(partial(finished_row, epoch, sums))
        history.append(row)
        epoch, step, sums = epoch + 1, 0, {}
        new_score = score(row)
        if new_score is not None and (best_score is None or new_score > best_score):
            best_score = new_score
            save(best)  # before last.h5: a resumed run either has this best or finds it again
        save(last)
        saved = time.monotonic()
        if ranks.first:
            write_csv(out / "metrics.csv", history)
        say(epoch_line(row, config.training.epochs))
        tell("epoch", epoch, count, row)

    early = stalled(history, config.training.patience)
    if early and epoch < config.training.epochs:
        say(f"stopped early: none of the last {config.training.patience} validations was better (training.patience)")
    if best_score is None:
        save(best)
    if ranks.first and history:  # an interruption may have come between last.h5 and this
        write_csv(out / "metrics.csv", history)
    ranks.wait()  # for best.h5
    net.load_state_dict(load_checkpoint(best).weights)
    final = ranks.from_first(lambda: evaluate_network(net, splits.test, config, classes, class_counts))
    figures, evaluation = final.figures, final.evaluation
    if ranks.first:
        write_csv(out / "evaluation.csv", [figures])
        draw_figures(out, history, evaluation)
    if final.segmentation is not None:
        say(str(final.segmentation))
    nothing = NO_RETRIEVAL if evaluation is None and final.segmentation is None else ""
    say("; ".join(filter(None, [figures_line(figures), nothing, splits.remark])))
    tell("end", epoch + (step > 0), step or count, figures)
    return TrainingResult(net, history, figures, evaluation, finished=early or epoch >= config.training.epochs)


def loss_of(net: SparseNetwork, batch: SparseBatch, criterion: Criterion) -> tuple[Tensor, Any]:
    """The loss of a batch, and an array of the criterion's figures of it."""
    return criterion.loss(net, batch)


def summary_of(epoch: int, lr: float, sums: dict[str, float]) -> dict[str, float]:
    """The training figures of an epoch, from its sums."""
    worked = sum(sums[part] for part in ("waiting", "forward", "backward", "update"))
    row = {"epoch": epoch + 1, "lr": lr}
    row |= {name: value / sums["samples"] for name, value in sums.items() if name.startswith("loss")}
    if "right" in sums:
        row["accuracy"] = sums["right"] / sums["samples"]
    row["dropped"] = sums["dropped"]
    return row | {"samples_per_second": sums["samples"] / worked, **{part: sums[part] for part in TIMES}}


def show(bar: Any, sums: dict[str, float]) -> None:
    """Show loss, accuracy and samples/s of the epoch so far at the end of the progress bar."""
    row = summary_of(0, 0.0, sums)
    words = {"loss": f"{row['loss']:.4f}", "samples/s": f"{row['samples_per_second']:.0f}"}
    if "accuracy" in row:
        words["accuracy"] = f"{100 * row['accuracy']:.1f}%"
    bar.set_postfix(words, refresh=False)


def validates(done: int, config: Config) -> bool:
    """Whether validation follows epoch number `done`, counted from 1."""
    every = config.training.validate_every
    return every > 0 and (done % every == 0 or done == config.training.epochs)
