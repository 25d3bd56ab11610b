"""A config states only what differs; errors name the key, the file and the nearest known key."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from sparsenet.nn import Linear
from sparsenet.nn.layer_list import grids
from sparsenet.optim import SGD, Adam, AdamW
from sparsenet.toml import as_toml, parse_toml
from sparsenet.training.build import build_network, build_optimizer
from sparsenet.training.config import ConfigError, find_config, load_config, parse_config
from sparsenet.training.key_reference import describe_keys
from sparsenet.training.schema import Config
from sparsenet.training.terms import TERMS

CONFIGS = sorted(path.stem for path in (Path(__file__).parents[2] / "configs").glob("*.toml"))
DATA = '[data]\npath = "shapes.h5"\n'
LIMITS = (("at_least", "at least"), ("above", "above"), ("below", "below"))


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


def test_defaults_and_limits_change_on_purpose_alone():
    """keys.txt is a copy: what changes a run of a config that does not state it belongs in the changelog, too."""
    found = []
    for name, section in [(f.name, f.default) for f in fields(Config)] + list(TERMS.items()):
        for f in fields(section):
            limits = "".join(f", {words} {f.metadata[limit]:g}" for limit, words in LIMITS if
                             f.metadata[limit] is not None)
            found.append(f"{name}.{f.name} = {as_toml(f.default)}{limits}")
    assert found == Path(__file__).with_name("keys.txt").read_text(encoding="utf-8").splitlines()


def test_the_full_text_reads_back_as_the_same_config():
    config = parse_config('[data]\npath = "a \\"odd\\" \\\\ name\\n\\u00e9.h5"\n[network]\nchannels = [3]\n'
                          "[optimizer]\nlr = 1e-5\nnesterov = false\n", "a.toml")
    assert parse_config(config.text(), "its own text") == config


def test_poses_are_a_word_or_a_list_and_read_back():
    for text, poses in (("'max'", "max"), ("[0, 4, 8]", (0, 4, 8))):
        config = parse_config(f"data.path = 'a'\nevaluation.poses = {text}", "a.toml")
        assert config.evaluation.poses == poses and parse_config(config.text(), "its own text") == config
    given = parse_config("data.path = 'a'", "a.toml", ["evaluation.poses=[0,4,8]", "evaluation.prior=-1"])
    assert given.evaluation.poses == (0, 4, 8) and given.evaluation.prior == -1


def test_the_kind_of_the_optimizer_decides_its_defaults():
    net = Linear(2, 3)
    for text, kind, lr, weight_decay in (("", SGD, 0.1, 0), ("kind = 'adam'", Adam, 0.001, 0),
                                         ("kind = 'adamw'", AdamW, 0.001, 0.01),
                                         ("kind = 'adamw'\nlr = 0.1\nweight_decay = 0", AdamW, 0.1, 0)):
        config = parse_config(f"data.path = 'a'\n[optimizer]\n{text}", "a.toml")
        assert parse_config(config.text(), "its own text") == config
        optimizer, _ = build_optimizer(config, net)
        assert type(optimizer) is kind and (optimizer.lr, optimizer.weight_decay) == (lr, weight_decay)
    config = parse_config("data.path = 'a'", "a.toml", ["optimizer.kind=adam", "optimizer.beta1=0.5",
                                                        "optimizer.eps=1e-3", "optimizer.amsgrad=true"])
    optimizer, _ = build_optimizer(config, net)
    assert (optimizer.betas, optimizer.eps, optimizer.amsgrad) == ((0.5, 0.999), 1e-3, True)


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
    ("epochs = 3", ["'epochs'", "not a section"]),
    ("training = 3", ["a.toml", "training is 3, expected a section [training]"]),
    ("[evaluation]\nposes = 'all'", ["evaluation.poses", "first, mean, max, or a list of whole numbers"]),
    ("[evaluation]\nposes = 3", ["evaluation.poses is 3", "a list of whole numbers"]),
    ("[evaluation]\nposes = [0, -1]", ["evaluation.poses is -1", "at least 0"]),
    ("[evaluation]\nposes = []", ["evaluation.poses is []", "a list of whole numbers"]),
    ("[evaluation]\nprior = inf", ["evaluation.prior is inf", "finite"]),
    ("[evaluation]\ndescriptor = 'logits'", ["evaluation.descriptor", "layer, probabilities"]),
    ("[augmentation]\nmirror = 1", ["augmentation.mirror", "true or false"]),
    ("[training]\nepochs = 3.5", ["a.toml", "training.epochs", "3.5", "whole number"]),
    ("[training]\nepochs = true", ["training.epochs", "True", "whole number"]),
    ("[training]\nepochs = 0", ["training.epochs", "at least 1"]),
    ('[data]\npath = "a\\u0000b"', ["data.path", "without a NUL"]),
    ("[data]\nvalidation_share = 1.0", ["data.validation_share", "less than 1"]),
    ("[optimizer]\nlr = '0.1'", ["optimizer.lr", "a number"]),
    ("[optimizer]\nlr = 0", ["optimizer.lr", "more than 0"]),
    ("[optimizer]\nlr = nan", ["optimizer.lr", "finite"]),
    ("[optimizer]\nnesterov = 1", ["optimizer.nesterov", "true or false"]),
    ("[optimizer]\nkind = 'adan'", ["optimizer.kind is 'adan'", "sgd, adam, adamw", "did you mean adam?"]),
    ("[optimizer]\nkind = 'adam'\nmomentum = 0.9", ["a.toml", "optimizer.momentum is 0.9, and adam has no such key",
                                                    "leave it out, or set it to its default, 0.99"]),
    ("[optimizer]\nkind = 'adamw'\nnesterov = false", ["optimizer.nesterov is False, and adamw has no such key"]),
    ("[optimizer]\nbeta1 = 0.8", ["optimizer.beta1 is 0.8, and sgd has no such key", "its default, 0.9"]),
    ("[optimizer]\namsgrad = true", ["optimizer.amsgrad is True, and sgd has no such key"]),
    ("[optimizer]\nkind = 'adam'\nbeta2 = 1", ["optimizer.beta2 is 1.0", "less than 1"]),
    ("[optimizer]\nkind = 'adam'\neps = 0", ["optimizer.eps is 0.0", "at least 1e-30"]),
    ("[network]\nchannels = [1, 2.5]", ["network.channels", "list of whole numbers"]),
    ("[network]\nfreeze = 'convolution1'", ["network.freeze is 'convolution1'", "a list of texts"]),
    ("[network]\nfreeze = [\"a\\u0000\"]", ["network.freeze", "without a NUL"]),
    ("[optimizer]\nema = 1", ["optimizer.ema", "less than 1"]),
    ("[network]\nkind = 'layers'\nlayers = [{kind = 'relu', slope = 3}]", ["network.layers: layer 1 (relu): slope"]),
    (f"[network]\nlayers = ['{'x' * 90_000}']", ["network.layers: layer 1: kind is 'xxx"]),
    (f"[network]\nlayers = [{{kind = 'relu', {'x' * 90_000} = 1}}]", ["network.layers: layer 1 (relu): xxx"]),
    (f"[network]\nlayers = [{{kind = 'linear', channels = 0x{'f' * 90_000}}}]", ["a whole number of 360000"]),
    ("[network]\nchannels = [8, 0]", ["network.channels", "at least 1"]),
    ("[network]\ndropout = 1.0", ["network.dropout", "less than 1"]),
    ("[loss]\nkind = 'triplets'", ["loss.kind", "segmentation, triplet", "did you mean triplet?"]),
    ("[augmentation]\nup_axis = 3", ["augmentation.up_axis", "less than 3"]),
    ("[loss]\nkind = 'triplet'\nmining = 'hard'\nclasses_per_batch = 7", ["training.batch_size", "multiple"]),
    ("[loss]\nmining = 'semi_hard'\nmargin = 0", ["loss.margin", "a margin above 0"]),
    ("[data]\npath = 'a.h5'\nparametric_train = 3\nparametric_test = 3", ["parametric_train", "no data.path"]),
    ("[data]\nparametric_train = 3", ["parametric_test", "above 0"]),
    ("[training\nepochs = 3", ["a.toml", "not TOML"]),
    ("[optimizer]\nlr = 1e400", ["a.toml", "optimizer.lr is inf", "finite"]),
    ("[optimizer]\nlr = -inf", ["optimizer.lr is -inf", "finite"]),
    (f"[optimizer]\nlr = {10**400}", ["a.toml", "optimizer.lr", "below 1e308"]),
    (f"[training]\nepochs = {10**4000}", ["a.toml", "training.epochs", "at most 2147483647"]),
    (f"[training]\nepochs = {-10**4000}", ["a.toml", "training.epochs", "at least 1"]),
    (f"[training]\nepochs = 1{'0' * 5000}", ["a.toml", "thousands of digits"]),
    (f"[training]\nepochs = 0x{'f' * 90_000}", ["training.epochs is a whole number of 360000 bits", "at most"]),
    (f"[network]\nchannels = [0x{'f' * 90_000}]", ["network.channels is a whole number of 360000 bits", "at most"]),
    (f"[training]\nepochs = [0x{'f' * 90_000}]", ["training.epochs is a list of 1"]),
    (f"[training]\nseed = {2**63}", ["training.seed", "at most 9223372036854775807"]),
    (f"[network]\nchannels = [{2**40}]", ["network.channels", "at most 2147483647"]),
    (f"[network]\nchannels = [{'1,' * 31}]", ["network.channels has 31 numbers", "at most 30"]),
    (f"[training]\nepochs = {'[' * 2000}", ["a.toml", "nested too deeply"]),
    (f"[training]\nepochs = {'{a=' * 2000}", ["a.toml", "nested too deeply"]),
    (f"[training]\nepochs{'.a' * 90} = 1", ["a.toml", "training.epochs is a table"]),
    (f"[training]\nepochs{'.a' * 40_000} = 1", ["a.toml", "line 2 has 40000 dots"]),
    (f"[training]\nepochs = [{'[],' * 9000}]", ["a.toml", "training.epochs is a list of 9000"]),
    (f"[training]\nepochs = '{'x' * 90_000}'", ["a.toml", "training.epochs", "whole number"]),
    (f"[training]\n{'x' * 90_000} = 1", ["a.toml", "training.xxx", "not a key"]),
    (f"[{'x' * 90_000}]", ["a.toml", "xxx", "not a section"]),
    (f"[loss]\nkind = '{'x' * 90_000}'", ["a.toml", "loss.kind", "segmentation, triplet"]),
    ("#" * 200_000, ["a.toml", "longer than 100,000 bytes"]),
], ids=lambda value: value[:40] if isinstance(value, str) else "")
def test_what_is_wrong_is_named_in_one_short_line(text, words):
    with pytest.raises(ConfigError) as error:
        parse_config(text if "[data]" in text else text + "\n" + DATA, "a.toml")
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value) and len(str(error.value)) < 250


def test_a_config_without_data_says_what_to_set():
    with pytest.raises(ConfigError, match="data.path is not set"):
        parse_config("", "a.toml")


def test_an_integer_is_accepted_as_a_float():
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
    (f"training.epochs=1{'0' * 5000}", "whole number"),
    (f"training.epochs={'[' * 5000}", "whole number"),
    ("training.epochs=3\n[optimizer]\nlr=5", "whole number"),
    ("data.path=\udcff.h5", "a text in UTF-8"),
    (f"{'x' * 5000}=3", "expected section.key=value"),
], ids=lambda value: value[:40])
def test_a_wrong_override_is_named(override, words):
    with pytest.raises(ConfigError) as error:
        parse_config(DATA, "a.toml", [override])
    assert words in str(error.value) and override[:40] in str(error.value) and len(str(error.value)) < 250


@pytest.mark.parametrize("name", CONFIGS)
def test_the_shipped_configs_load_by_name_and_state_only_what_differs(name):
    config = load_config(name)
    sections = parse_toml(find_config(name).read_text(encoding="utf-8"))
    assert {f"{section}.{key}" for section, keys in sections.items() for key in keys} == set(
        config.differences(Config()))


def test_the_network_of_listed_layers_that_ships_is_built(tmp_path):
    """The last grid has 3 cells a side, and the classifier follows a descriptor of 64 numbers."""
    net = build_network(load_config("quickstart_layers"), 10)
    assert net.names()[-2:] == ["global_pool1", "linear1"] and net.layers[-1].in_features == 64
    assert grids(net, net.field)[-3] == (3, 3, 3) and net.field == (24, 24, 24)
    assert {layer.kind for layer in net.layers} >= {"residual", "batch_norm", "relu"}


def test_a_config_that_is_not_utf_8_is_named(tmp_path):
    path = tmp_path / "latin.toml"
    path.write_bytes('[data]\npath = "é.h5"\n'.encode("latin-1"))
    with pytest.raises(ConfigError, match="latin.toml: not a text in UTF-8 .invalid .* at byte 15"):
        load_config(path)


def test_a_file_of_gigabytes_is_not_read(tmp_path):
    path = tmp_path / "large.toml"
    with open(path, "wb") as file:
        file.truncate(10**12)  # a sparse file
    with pytest.raises(ConfigError, match="large.toml: longer than 100,000 bytes"):
        load_config(path)


def test_the_largest_numbers_that_are_taken_survive_the_text():
    config = parse_config(DATA, "a", [f"training.seed={2**63 - 1}", "training.epochs=2147483647", "optimizer.lr=1e308"])
    assert parse_config(config.text(), "again") == config


def test_a_missing_config_lists_the_shipped_ones():
    with pytest.raises(ConfigError, match="no such file.*paper.*quickstart"):
        load_config("nowhere.toml")
