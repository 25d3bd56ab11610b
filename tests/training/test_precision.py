"""The precision of a training: what a CPU does not have is refused, and a scaled loss changes no bit."""

from __future__ import annotations

from dataclasses import replace

import pytest
from small_runs import bits, run

from sparsenet.training import ConfigError, find_learning_rate, load_checkpoint
from sparsenet.training.precision import loss_scale, product_precision, storage_dtype
from sparsenet.training.resumption import resumption_lines


@pytest.mark.parametrize(("precision", "words"), [
    ("tf32", "multiplies float32 as it is, and rounds nothing to TF32"), ("fp16", "to FP16"), ("bf16", "to BF16"),
    ("float16", "stores no float16"),
])
def test_a_cpu_refuses_what_it_does_not_have_before_it_writes_anything(config, tmp_path, precision, words):
    refused = config(f"training.precision={precision}")
    message = (f"training.precision is {precision}, and training.device is cpu, which .*{words}: set "
               "training.precision to highest, or training.device to cuda")
    with pytest.raises(ConfigError, match=message):
        run(refused, tmp_path / "out")
    with pytest.raises(ConfigError, match=message):
        find_learning_rate(refused)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("precision", "storage", "products", "scale"), [
    ("highest", "float32", "highest", 1), ("tf32", "float32", "tf32", 1), ("bf16", "float32", "bf16", 1),
    ("fp16", "float32", "fp16", 1024), ("float16", "float16", "highest", 1024),
])
def test_each_precision_means(config, precision, storage, products, scale):
    on_gpu = config("training.device=cuda", f"training.precision={precision}")
    assert (storage_dtype(on_gpu), product_precision(on_gpu), loss_scale(on_gpu)) == (storage, products, scale)
    assert loss_scale(config("training.device=cuda", f"training.precision={precision}", "training.loss_scale=8")) == 8


def test_a_loss_scaled_by_a_power_of_two_changes_no_bit(config, tmp_path):
    clipped = "optimizer.max_gradient_norm=0.5", "training.epochs=1"
    run(config(*clipped), tmp_path / "plain")
    run(config(*clipped, "training.loss_scale=256"), tmp_path / "scaled")
    assert bits(tmp_path / "scaled") == bits(tmp_path / "plain")


def test_a_gradient_that_overflows_says_what_to_lower(config, tmp_path):
    with pytest.raises(RuntimeError, match="or lower training.loss_scale, which is 1e.38; training.detect_anomaly"):
        run(config("training.loss_scale=1e38", "optimizer.lr=1e3"), tmp_path)


def test_a_checkpoint_records_it_and_resuming_with_another_says_so(whole, config):
    _, folder = whole
    state = load_checkpoint(folder / "last.h5")
    assert 'precision = "highest"' in state.config and "loss_scale = 0.0" in state.config
    lower = config("training.device=cuda", "training.precision=bf16", "training.epochs=3")
    lines = resumption_lines(state, folder / "last.h5", True, {}, lower)
    assert lines[1:] == ["note: training.precision is bf16 and was highest: from here on the bits differ from those of "
                         "an uninterrupted run"]
    same = replace(lower, training=replace(lower.training, precision="highest"))
    assert len(resumption_lines(state, folder / "last.h5", True, {}, same)) == 1
