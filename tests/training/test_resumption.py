"""A training can stop anywhere and continue with the same bits, and nothing is lost or overwritten."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace

import pytest
from small_runs import CLASSES, MINED, TRIPLETS, bits, interrupt, interrupt_within, run, stop_in_step, validating

from sparsenet.data import SparseDataset
from sparsenet.kernels.cpu.machine import blas_type, processor_type
from sparsenet.lock import LockedError, locked
from sparsenet.training import loop
from sparsenet.training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from sparsenet.training.config import ConfigError, parse_config

ADAM = ["optimizer.momentum=0.99", "optimizer.dampening=0.99"]  # as the file of these tests states others


@pytest.mark.parametrize(("overrides", "stop", "at"), [
    ([], 1, (0, 1)), ([], 4, (0, 4)), (["schedule.warmup=1.5", "optimizer.max_gradient_norm=0.5"], 6, (1, 2)),
    (["optimizer.ema=0.8", "optimizer.decay_norms_and_biases=false", "optimizer.weight_decay=0.1",
      "network.freeze=['convolution1']"], 3, (0, 3)), (["optimizer.ema=0.8", *TRIPLETS], 4, (1, 2)),
    ([*ADAM, "optimizer.kind=adam", "optimizer.amsgrad=true"], 3, (0, 3)),
    ([*ADAM, "optimizer.kind=adamw", "optimizer.lr=0.01", "optimizer.decay_norms_and_biases=false",
      "network.freeze=['convolution2']", *TRIPLETS], 3, (1, 1)),
    (TRIPLETS, 1, (0, 1)), (TRIPLETS, 4, (1, 2)), ([*TRIPLETS, *MINED], 5, (1, 1)),
])
def test_stopped_anywhere_and_resumed_it_gives_the_same_bits(config, tmp_path, monkeypatch, overrides, stop, at):
    """An epoch has 4 batches of 8, of triplets 2, mined 4: stopped in the middle and at the end of an epoch."""
    run(config(*overrides), tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_in_step(patch, stop, interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(config(*overrides), tmp_path / "stopped")
    stopped = load_checkpoint(tmp_path / "stopped" / "last.h5")
    assert (stopped.epoch, stopped.step) == at
    assert bool(stopped.latest) == bool(stopped.updates) == ("optimizer.ema=0.8" in overrides)
    run(config("data.workers=2", *overrides), tmp_path / "stopped", resume=True)
    assert bits(tmp_path / "stopped") == bits(tmp_path / "whole")


@pytest.mark.parametrize(("phase", "number", "at"), [
    ("validate", 1, (0, 4)), ("validate", 2, (1, 4)),  # a validation: the epoch's last step is saved
    ("save_checkpoint", 1, (0, 4)),  # the saving of that step
    ("save_checkpoint", 2, (0, 4)),  # of best.h5, which comes first
    ("save_checkpoint", 3, (1, 0)), ("write_csv", 1, (1, 0)), ("epoch_line", 1, (1, 0)),
    ("write_csv", 2, (2, 0)), ("evaluate_network", 1, (2, 0)), ("draw_figures", 1, (2, 0)),
])
def test_stopped_in_any_phase_it_loses_nothing(config, tmp_path, monkeypatch, whole, phase, number, at):
    """A file that is being written is finished first; everything else stops at once and is done again."""
    result, folder = whole
    lines = []
    with monkeypatch.context() as patch:
        interrupt_within(patch, phase, number)
        with pytest.raises(KeyboardInterrupt):
            run(config(), tmp_path / "stopped", say=lines.append)
    assert lines[-1].endswith(f"config.toml --out {tmp_path / 'stopped'} --resume")
    stopped = load_checkpoint(tmp_path / "stopped" / "last.h5")
    assert (stopped.epoch, stopped.step) == at
    resumed = run(config(), tmp_path / "stopped", resume=True)
    assert resumed.figures == result.figures
    for name in ("last.h5", "best.h5"):
        assert bits(tmp_path / "stopped", name) == bits(folder, name)


def test_killed_between_best_and_last_it_finds_the_best_again(config, tmp_path, monkeypatch, whole):
    real = loop.save_checkpoint

    def killed(path, state):
        if path.name == "last.h5" and state.step == 0:
            raise SystemExit
        real(path, state)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_checkpoint", killed)
        with pytest.raises(SystemExit):
            run(config(), tmp_path / "killed")
    assert load_checkpoint(tmp_path / "killed" / "best.h5").epoch == 1
    run(config(), tmp_path / "killed", resume=True)
    for name in ("last.h5", "best.h5"):
        assert bits(tmp_path / "killed", name) == bits(whole[1], name)


def test_ctrl_c_says_how_to_continue_if_there_is_something_to_continue(config, tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr(loop, "build_network", lambda *_: interrupt())
    with pytest.raises(KeyboardInterrupt):
        run(config(), tmp_path, say=lines.append)
    assert lines[-1] == "stopped before the first checkpoint: there is nothing to resume"


def test_resumed_it_keeps_a_best_of_before_the_stop(config, tmp_path, monkeypatch):
    validating(monkeypatch, (0.9, 1), (0.5, 1))
    run(config("training.epochs=1"), tmp_path)
    result = run(config("training.epochs=2"), tmp_path, resume=True)
    best = load_checkpoint(tmp_path / "best.h5")
    assert best.epoch == 1 and len(result.history) == 2
    assert all((array == best.weights[name]).all() for name, array in result.net.get_weights().items())


def test_resumed_without_best_it_keeps_the_best_of_the_rest(config, tmp_path, monkeypatch):
    validating(monkeypatch, (0.9, 1), (0.5, 1), (0.6, 1))
    run(config("training.epochs=1"), tmp_path)
    (tmp_path / "best.h5").unlink()
    lines = []
    run(config("training.epochs=3"), tmp_path, resume=True, say=lines.append)
    assert "note: best.h5 is missing or was not validated: the best of the coming epochs is kept" in lines
    assert load_checkpoint(tmp_path / "best.h5").epoch == 3


def test_a_damaged_best_is_reported_when_resuming(config, tmp_path):
    run(config("training.epochs=1"), tmp_path)
    (tmp_path / "best.h5").write_bytes(b"cut")
    with pytest.raises(CheckpointError, match="best.h5.*; if you remove it, the best of the coming epochs is kept"):
        run(config(), tmp_path, resume=True)


def test_max_seconds_stops_resumably_and_evaluates(config, tmp_path, whole):
    lines = []
    result = run(config("training.max_seconds=1e-9"), tmp_path / "stopped", say=lines.append)
    assert not any(line.startswith("stopped early") for line in lines), "that is said of training.patience"
    assert not result.finished and result.history == [] and "test_mAP" in result.figures
    assert load_checkpoint(tmp_path / "stopped" / "last.h5").step == 1
    result = run(config(), tmp_path / "stopped", resume=True)
    assert result.finished and bits(tmp_path / "stopped") == bits(whole[1])


def test_after_a_resume_the_csv_has_each_epoch_once(config, tmp_path):
    run(config("training.epochs=1"), tmp_path)
    with open(tmp_path / "metrics.csv", "a") as file:
        file.write("99,a line that a crash left\n")
    run(config("training.epochs=3"), tmp_path, resume=True)
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["epoch", "1", "2", "3"]


def test_a_checkpoint_is_written_when_its_time_has_come(config, tmp_path, monkeypatch):
    written = []
    real = loop.save_checkpoint

    def save(path, state):
        written.append((path.name, state.epoch, state.step))
        real(path, state)

    monkeypatch.setattr(loop, "save_checkpoint", save)
    run(config("training.checkpoint_seconds=1e-9", "training.epochs=1"), tmp_path)
    assert written == [("last.h5", 0, 1), ("last.h5", 0, 2), ("last.h5", 0, 3), ("last.h5", 0, 4), ("last.h5", 0, 4),
                       ("best.h5", 1, 0), ("last.h5", 1, 0)]


def test_a_run_is_never_overwritten_unasked(config, tmp_path):
    run(config("training.epochs=1"), tmp_path)
    with pytest.raises(CheckpointError, match="last.h5 already exists"):
        run(config(), tmp_path)
    (tmp_path / "last.h5").unlink()
    with pytest.raises(CheckpointError, match="best.h5 already exists"):
        run(config(), tmp_path)
    assert len(run(config(), tmp_path, overwrite=True).history) == 2


def test_starting_again_removes_the_old_runs_files_and_nothing_else(config, tmp_path, monkeypatch):
    old = ["best.h5", "last.h5", "metrics.csv", "evaluation.csv", "curves.png", "precision_recall.png"]
    for name in [*old, "notes.txt"]:
        (tmp_path / name).write_text("old")
    with pytest.raises(ConfigError):  # what cannot be trained removes nothing
        run(config("network.channels=[4]"), tmp_path, overwrite=True)
    assert set(os.listdir(tmp_path)) == {*old, "notes.txt"}
    stop_in_step(monkeypatch, 1, interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(config(), tmp_path, overwrite=True)
    assert set(os.listdir(tmp_path)) == {"last.h5", "config.toml", "notes.txt"}
    assert load_checkpoint(tmp_path / "last.h5").step == 1


def test_one_training_at_a_time_in_a_folder(config, tmp_path, monkeypatch):
    run(config("training.epochs=1"), tmp_path)
    with locked(tmp_path):
        for options in ({"resume": True}, {"overwrite": True}):
            with pytest.raises(LockedError, match=f"is in use by process {os.getpid()} on "):
                run(config(), tmp_path, **options)
    assert load_checkpoint(tmp_path / "last.h5").epoch == 1
    (tmp_path / ".lock").write_text("process 1 on a machine that was switched off\n")
    assert len(run(config(), tmp_path, resume=True).history) == 2


def test_what_has_all_its_epochs_is_evaluated_and_says_so(config, tmp_path):
    figures, lines = run(config(), tmp_path).figures, []
    assert run(config("training.epochs=1"), tmp_path, resume=True, say=lines.append).figures == figures
    assert lines[1] == f"{tmp_path / 'last.h5'} has finished 2 epochs, and training.epochs is 1: it is only evaluated"


def test_a_folder_that_cannot_be_meant_is_refused(config, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="file is a file, expected the folder of the run"):
        run(config(), tmp_path / "file")
    with pytest.raises(ValueError, match="give one of them"):
        run(config(), tmp_path, resume=True, overwrite=True)


def test_resuming_without_a_checkpoint_or_with_another_config_says_so(config, tmp_path):
    with pytest.raises(CheckpointError, match="last.h5: no such file"):
        run(config(), tmp_path, resume=True)
    run(config("training.epochs=1"), tmp_path)
    with pytest.raises(ConfigError, match='last.h5 was trained with: loss.kind is "triplet" and was "softmax", '
                                          "optimizer.lr is 0.3 and was 0.2: change that back"):
        run(config("optimizer.lr=0.3", "loss.kind=triplet"), tmp_path, resume=True)


def test_a_cosine_schedule_is_not_resumed_for_more_epochs(config, tmp_path):
    run(config("schedule.kind=cosine"), tmp_path)
    with pytest.raises(ConfigError, match="training.epochs is 3 and was 2 .the cosine schedule's rates depend on"):
        run(config("schedule.kind=cosine", "training.epochs=3"), tmp_path, resume=True)


def test_a_training_is_not_resumed_on_another_dataset(config, tmp_path, path):
    run(config("training.epochs=1"), tmp_path)
    shutil.copy(path, tmp_path / "moved.h5")
    assert len(run(config(f"data.path={tmp_path / 'moved.h5'}"), tmp_path, resume=True).history) == 2
    with SparseDataset.open(path) as dataset:
        others = [dataset[number] for number in range(len(dataset) - 1)]
    SparseDataset.create(tmp_path / "other.h5", others, (8, 8, 8), 8, CLASSES).close()
    with pytest.raises(ConfigError, match="was not trained on the dataset in .*other.h5"):
        run(config(f"data.path={tmp_path / 'other.h5'}", "training.epochs=3"), tmp_path, resume=True)


def older(path, **changes):
    """Turn a checkpoint into one from before data.validation_share, or from another machine."""
    state = load_checkpoint(path)
    lines = [line for line in state.config.splitlines() if not line.startswith(("validation_", "detect_anomaly"))]
    save_checkpoint(path, replace(state, **{"config": "\n".join(lines), "voxelization": {}, "processor": "",
                                            "blas": "", **changes}))


def test_a_checkpoint_of_before_there_was_a_validation_part_resumes_without_one(config, tmp_path):
    run(config("data.validation_share=0"), tmp_path / "whole")
    run(config("data.validation_share=0", "training.epochs=1"), tmp_path / "old")
    older(tmp_path / "old" / "last.h5")
    with pytest.raises(ConfigError, match="data.validation_share is 0.2 and was 0.0: change that back"):
        run(config(), tmp_path / "old", resume=True)
    run(config("data.validation_share=0"), tmp_path / "old", resume=True)
    assert bits(tmp_path / "old") == bits(tmp_path / "whole")


def test_a_training_that_moves_to_another_machine_says_so(config, tmp_path):
    run(config("training.epochs=1"), tmp_path)
    state, lines = load_checkpoint(tmp_path / "last.h5"), []
    assert state.processor == processor_type() and state.blas == blas_type()
    run(config(), tmp_path, resume=True, say=lines.append)
    assert not any("another machine" in line for line in lines)
    older(tmp_path / "last.h5", config=state.config, processor="z80", blas=state.blas)
    run(config("training.epochs=3"), tmp_path, resume=True, say=lines.append)
    told, = (line for line in lines if "another machine" in line)
    assert f"(processor 'z80', here {processor_type()!r})" in told and "blas" not in told and "\n" not in told


def test_a_checkpoint_says_how_its_shapes_were_made_voxels(config, tmp_path):
    run(config("training.epochs=1"), tmp_path)
    state = load_checkpoint(tmp_path / "best.h5")
    assert state.voxelization == {"render_size": 8, "fill": False, "up_axis": "z"}
    assert parse_config(state.config, "best.h5") == config("training.epochs=1")
