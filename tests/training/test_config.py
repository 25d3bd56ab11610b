"""A config states only what differs; whatever is wrong with it is told with key, file and nearest key."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from sparsenet.training.config import ConfigError, find_config, load_config, parse_config
from sparsenet.training.schema import Config, describe_keys

CONFIGS = sorted(path.stem for path in (Path(__file__).parents[2] / "configs").glob("*.toml"))
DATA = '[data]\npath = "shapes.h5"\n'


def test_what_a_file_does_not_state_is_the_default():
    config = parse_config(DATA + "[training]\nepochs = 3\n", "a.toml")
    assert config.training.epochs == 3
    assert config.differences(Config()) == ["data.path", "training.epochs"]


def test_the_defaults_are_the_paper_s():
    config = Config()
    assert config.network.channels == (32, 64, 96, 128, 160, 192)
    assert config.data.render_size == 40
    assert config.optimizer.lr == pytest.approx(0.002 * config.training.batch_size)
    assert config.optimizer.momentum == config.optimizer.dampening == 0.99
    assert config.schedule.kind == "exponential" and config.schedule.decay == 0.025


def test_the_full_text_reads_back_as_the_same_config():
    config = parse_config('[data]\npath = "a \\"odd\\" \\\\ name\\n\\u00e9.h5"\n[network]\nchannels = [3]\n'
                          "[optimizer]\nlr = 1e-5\nnesterov = false\n", "a.toml")
    assert parse_config(config.text(), "its own text") == config


def test_the_reference_names_every_key_with_its_default():
    text = describe_keys()
    assert parse_config(text.replace('path = ""', 'path = "x"'), "reference").differences(Config()) == ["data.path"]
    for section in fields(Config):
        for key in fields(section.default):
            assert key.metadata["meaning"] and f"\n{key.name} = " in text


@pytest.mark.parametrize(("text", "words"), [
    ("[training]\nepohs = 3", ["a.toml", "training.epohs", "did you mean training.epochs?"]),
    ("[training]\nmomentum = 3", ["training.momentum", "optimizer.momentum"]),
    ("[trainig]\nepochs = 3", ["a.toml", "'trainig'", "did you mean training?"]),
    ("epochs = 3", ["'epochs'", "no section"]),
    ("training = 3", ["a.toml", "training is 3, expected a table [training]"]),
    ("[evaluation]\nposes = 'all'", ["evaluation.poses", "first, mean"]),
    ("[training]\nepochs = 3.5", ["a.toml", "training.epochs", "3.5", "whole number"]),
    ("[training]\nepochs = true", ["training.epochs", "True", "whole number"]),
    ("[training]\nepochs = 0", ["training.epochs", "at least 1"]),
    ("[optimizer]\nlr = '0.1'", ["optimizer.lr", "a number"]),
    ("[optimizer]\nlr = 0", ["optimizer.lr", "more than 0"]),
    ("[optimizer]\nlr = nan", ["optimizer.lr", "finite"]),
    ("[optimizer]\nnesterov = 1", ["optimizer.nesterov", "true or false"]),
    ("[network]\nchannels = [1, 2.5]", ["network.channels", "list of whole numbers"]),
    ("[network]\nchannels = [8, 0]", ["network.channels", "at least 1"]),
    ("[network]\ndropout = 1.0", ["network.dropout", "less than 1"]),
    ("[loss]\nkind = 'triplets'", ["loss.kind", "softmax, triplet", "did you mean triplet?"]),
    ("[augmentation]\nup_axis = 3", ["augmentation.up_axis", "0 to 2"]),
    ("[loss]\nkind = 'triplet'\nmining = 'hard'\nclasses_per_batch = 7", ["training.batch_size", "multiple"]),
    ("[loss]\nmining = 'semi_hard'\nmargin = 0", ["loss.margin", "more than 0"]),
    ("[data]\npath = 'a.h5'\nparametric_train = 3\nparametric_test = 3", ["parametric_train", "no data.path"]),
    ("[data]\nparametric_train = 3", ["parametric_test", "above 0"]),
    ("[training\nepochs = 3", ["a.toml", "not TOML"]),
])
def test_what_is_wrong_is_named(text, words):
    with pytest.raises(ConfigError) as error:
        parse_config(text if "[data]" in text else text + "\n" + DATA, "a.toml")
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_a_config_without_data_says_what_to_set():
    with pytest.raises(ConfigError, match="data.path is not set"):
        parse_config("", "a.toml")


def test_a_whole_number_stands_for_a_float():
    value = parse_config(DATA + "[optimizer]\nlr = 1", "a.toml").optimizer.lr
    assert value == 1.0 and type(value) is float


def test_overrides_are_toml_values_and_win_over_the_file():
    overrides = ["training.epochs=7", "network.channels=[4, 8]", 'data.path="b.h5"', "optimizer.nesterov=false"]
    config = parse_config(DATA + "[training]\nepochs = 3", "a.toml", overrides)
    assert (config.training.epochs, config.network.channels) == (7, (4, 8))
    assert (config.data.path, config.optimizer.nesterov) == ("b.h5", False)


def test_an_override_with_text_may_go_without_quotation_marks():
    assert parse_config(DATA, "a.toml", ["data.path=runs/b.h5"]).data.path == "runs/b.h5"


@pytest.mark.parametrize(("override", "words"), [
    ("epochs=3", "expected section.key=value"),
    ("training.epochs", "expected section.key=value"),
    ("training.epoch=3", "did you mean training.epochs?"),
    ("training.epochs=soon", "whole number"),
    ("train.epochs=3", "did you mean training?"),
])
def test_a_wrong_override_is_named(override, words):
    with pytest.raises(ConfigError) as error:
        parse_config(DATA, "a.toml", [override])
    assert words in str(error.value) and override in str(error.value)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_shipped_configs_load_by_name_and_state_only_what_differs(name):
    config = load_config(name)
    text = find_config(name).read_text(encoding="utf-8")
    stated = {line.split("=")[0].strip() for line in text.splitlines() if "=" in line.split("#")[0]}
    assert stated == {key.split(".")[1] for key in config.differences(Config())}


def test_a_config_that_is_not_utf_8_is_named(tmp_path):
    path = tmp_path / "latin.toml"
    path.write_bytes('[data]\npath = "é.h5"\n'.encode("latin-1"))
    with pytest.raises(ConfigError, match="latin.toml: not a text in UTF-8 .invalid .* at byte 15"):
        load_config(path)


def test_a_missing_config_lists_the_shipped_ones():
    with pytest.raises(ConfigError, match="no such file.*paper.*quickstart"):
        load_config("nowhere.toml")
