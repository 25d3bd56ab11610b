"""Reads the settings of an experiment: a TOML file states only what differs from the defaults in `schema`.

`load_config` reads a file, `Config.text()` writes out every key (the checkpoint stores that text), and
`describe_keys` prints the reference.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

from sparsenet.toml import TomlError, parse_toml, read_toml, shortened, shown
from sparsenet.training.schema import (
    OPTIMIZER_DEFAULTS,
    AugmentationConfig,
    Config,
    LossConfig,
    NetworkConfig,
    OptimizerConfig,
)
from sparsenet.training.terms import TERMS, Contrastive, kind_of, sampling_of, terms_of
from sparsenet.wording import did_you_mean

ABLATION = "ablation/"  # folder of the files that are lists of changes to a config
LAYERS, TEXTS = "tuple[dict[str, Any], ...]", "tuple[str, ...]"  # types of keys
LIMITS = {"int": 2**31 - 1, "seed": 2**63 - 1, "list": 30}  # for an integer, for the seed, for the length of a list


class ConfigError(ValueError):
    """The config cannot be used; the message names the file and the key."""


def find_config(name: str | Path) -> Path:
    """The file `name`, or the config of that name that ships with the package (such as 'quickstart').

    Raises
    ------
    ConfigError : neither exists; the message lists the configs that ship with the package.
    """
    return _found("config", name, {known: path for known, path in _shipped().items() if not known.startswith(ABLATION)})


def find_ablation(name: str | Path) -> Path:
    """The file `name`, or the ablation of that name that ships with the package, a list of changes to a config.

    Raises ConfigError as `find_config` does.
    """
    return _found("ablation", name, {known.removeprefix(ABLATION): path for known, path in _shipped().items()
                                     if known.startswith(ABLATION)})


def _shipped() -> dict[str, Path]:
    """The TOML files that ship with the package, by name."""
    package = Path(__file__).resolve().parents[1]
    installed, source_tree = package / "configs", package.parent / "configs"
    folder = installed if installed.is_dir() else source_tree
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.toml"))}


def _found(what: str, name: str | Path, shipped: dict[str, Path]) -> Path:
    if Path(name).is_file():
        return Path(name)
    if str(name) in shipped:
        return shipped[str(name)]
    raise ConfigError(f"{what} {name}: no such file; the package ships with {', '.join(sorted(shipped))}")


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> Config:
    """Read a TOML file (or a shipped config by name), then apply `section.key=value` overrides.

    Raises
    ------
    ConfigError : no such file, not TOML, an unknown key, or a wrong type or value.
    """
    path = find_config(path)
    try:
        sections = read_toml(path)
    except TomlError as error:
        raise ConfigError(f"config {path}: {error}") from None
    return _config_of(sections, str(path), overrides)


def parse_config(text: str, source: str, overrides: Iterable[str] = ()) -> Config:
    """The config in a TOML text; messages call it `source`.  See `load_config`."""
    try:
        sections = parse_toml(text)
    except TomlError as error:
        raise ConfigError(f"config {source}: {error}") from None
    return _config_of(sections, source, overrides)


def _config_of(stated_sections: dict[str, Any], source: str, overrides: Iterable[str]) -> Config:
    sections = {section.name: section.default for section in fields(Config)}
    stated: dict[str, dict[str, Any]] = {name: {} for name in sections}
    for name, entries in stated_sections.items():
        if name in sections and not isinstance(entries, dict):
            raise ConfigError(f"config {source}: {name} is {shown(entries)}, expected a section [{name}]")
        if name not in sections:
            raise ConfigError(f"config {source}: {shown(name)} is not a section{did_you_mean(name, sections)}")
        for entry, value in entries.items():
            stated[name][entry] = _checked(sections[name], name, entry, value, source)
    for override in overrides:
        name, entry, value = _parse_override(override, sections)
        stated[name][entry] = _checked(sections[name], name, entry, value, f"--set {shortened(override)}")
    if stated["loss"].get("terms"):
        stated["loss"].setdefault("kind", "terms")
    stated["optimizer"] = OPTIMIZER_DEFAULTS.get(stated["optimizer"].get("kind", "sgd"), {}) | stated["optimizer"]
    config = Config(**{name: type(default)(**stated[name]) for name, default in sections.items()})
    _check_together(config, source)
    return config


def _parse_override(override: str, sections: dict[str, Any]) -> tuple[str, str, Any]:
    name, equals, text = override.partition("=")
    section, dot, entry = name.strip().partition(".")
    if not equals or not dot:
        raise ConfigError(f"--set {shortened(override)}: expected section.key=value, as in training.epochs=10")
    if section not in sections:
        raise ConfigError(f"--set {shortened(override)}: {shown(section)} is not a section"
                          f"{did_you_mean(section, sections)}")
    try:
        parsed = parse_toml(f"value = {text.strip()}")
    except TomlError:
        parsed = {}
    # A string arrives without its quotation marks, which the shell removes.
    return section, entry, parsed["value"] if list(parsed) == ["value"] else text.strip()


def _checked(defaults: Any, section: str, entry: str, value: Any, source: str) -> Any:
    """The value, converted to its key's type.  Raises ConfigError, which names the key and the file."""
    known = {f.name: f for f in fields(defaults)}
    if entry not in known:
        everywhere = [f"{s.name}.{f.name}" for s in fields(Config) for f in fields(s.default)]
        namesakes = [name for name in everywhere if name.endswith(f".{entry}")]
        hint = (did_you_mean(f"{section}.{entry}", namesakes) or did_you_mean(entry, known, f"{section}.")
                or did_you_mean(f"{section}.{entry}", everywhere))
        raise ConfigError(f"config {source}: {section}.{shortened(entry)} is not a key{hint}")
    kind, limits, name = known[entry].type, known[entry].metadata, f"config {source}: {section}.{entry}"
    if kind == LAYERS:
        value = _layers(value, name) if entry == "layers" else _terms(value, name, source)
    else:
        value = _of_kind(kind, value, name)
    if limits["choices"] and isinstance(value, str) and value not in limits["choices"]:
        or_list = ", or a list of whole numbers" if "tuple" in kind else ""
        raise ConfigError(f"{name} is {shown(value)}, expected one of {', '.join(limits['choices'])}{or_list}"
                          f"{did_you_mean(value, limits['choices'])}")
    for number in value if isinstance(value, tuple) else () if isinstance(value, str) else (value,):
        if isinstance(number, float) and not math.isfinite(number):
            raise ConfigError(f"{name} is {number}, expected a finite number")
        if limits["at_least"] is not None and number < limits["at_least"]:
            raise ConfigError(f"{name} is {shown(number)}, expected at least {limits['at_least']}")
        if limits["above"] is not None and number <= limits["above"]:
            raise ConfigError(f"{name} is {shown(number)}, expected more than {limits['above']}")
        if limits["below"] is not None and number >= limits["below"]:
            raise ConfigError(f"{name} is {shown(number)}, expected less than {limits['below']}")
        if type(number) is int and number > LIMITS.get(entry, LIMITS["int"]):
            raise ConfigError(f"{name} is {shown(number)}, expected at most {LIMITS.get(entry, LIMITS['int'])}")
    return value


def _layers(value: Any, name: str) -> tuple[dict[str, Any], ...]:
    """A list of layers, each as a table."""
    from sparsenet.nn.layer_list import checked_layers

    if not isinstance(value, list):
        raise ConfigError(f"{name} is {shown(value)}, expected a list of layers")
    try:
        return checked_layers(value)
    except ValueError as error:
        raise ConfigError(f"{name}: {error}") from None


def _terms(value: Any, name: str, source: str) -> tuple[dict[str, Any], ...]:
    """A list of terms, each as a table of all its keys."""
    if not isinstance(value, list):
        raise ConfigError(f"{name} is {shown(value)}, expected a list of tables [[loss.terms]]")
    if len(value) > LIMITS["list"]:
        raise ConfigError(f"{name} has {len(value)} terms, expected at most {LIMITS['list']}")
    return tuple(_term(given, f"term {number}", name, source) for number, given in enumerate(value, start=1))


def _term(given: Any, place: str, name: str, source: str) -> dict[str, Any]:
    if not isinstance(given, dict) or "kind" not in given:
        raise ConfigError(f"{name}: {place} is {shown(given)}, expected a table of kind, weight and settings")
    kind = given["kind"]
    if not isinstance(kind, str) or kind not in TERMS:
        hint = did_you_mean(kind, TERMS) if isinstance(kind, str) else ""
        raise ConfigError(f"{name}: kind of {place} is {shown(kind)}, expected one of {', '.join(TERMS)}{hint}")
    defaults = TERMS[kind]()
    found = {entry: _checked(defaults, f"loss.terms, {place} ({kind})", entry, setting, source)
             for entry, setting in given.items() if entry != "kind"}
    return {"kind": kind} | {f.name: found.get(f.name, f.default) for f in fields(defaults)}


def _of_kind(kind: str, value: Any, name: str) -> Any:
    """The value, converted to the type of its key: an integer may stand for a float, a list for a tuple."""
    if kind.startswith("str | "):
        kind = "str" if isinstance(value, str) else kind.removeprefix("str | ")
    if kind == "float" and type(value) is int:
        try:
            value = float(value)
        except OverflowError:
            raise ConfigError(f"{name} is {shown(value)}, expected a number below 1e308") from None
    if kind.startswith("tuple") and isinstance(value, list) and all(type(v) is int for v in value) and value:
        value = tuple(value)
        if len(value) > LIMITS["list"]:
            raise ConfigError(f"{name} has {len(value)} numbers, expected at most {LIMITS['list']}")
    if kind == TEXTS:
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            raise ConfigError(f"{name} is {shown(value)}, expected a list of texts")
        for text in value:
            _of_kind("str", text, name)
        return tuple(value)
    if type(value) is not {"int": int, "float": float, "bool": bool, "str": str}.get(kind, tuple):
        words = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a text"}
        raise ConfigError(f"{name} is {shown(value)}, expected {words.get(kind, 'a list of whole numbers')}")
    if kind == "str" and not _is_file_name(value):
        raise ConfigError(f"{name} is {shown(value)}, expected a text in UTF-8 without a NUL")
    return value


def _is_file_name(text: str) -> bool:
    """Whether a text can be stored as UTF-8 and passed to the operating system; text from the command line may not."""
    try:
        return b"\0" not in text.encode("utf-8")
    except UnicodeEncodeError:
        return False


def _check_together(config: Config, source: str) -> None:
    """Checks that involve more than one key."""
    parametric = config.data.parametric_train, config.data.parametric_test
    if any(parametric) and (config.data.path or not all(parametric)):
        raise ConfigError(f"config {source}: the parametric dataset needs data.parametric_train and "
                          "data.parametric_test above 0, and no data.path")
    if not any(parametric) and not config.data.path:
        raise ConfigError(f"config {source}: data.path is not set: name the HDF5 file of `sparsenet make-dataset`")
    _check_network(config.network, source)
    _check_optimizer(config.optimizer, source)
    _check_loss(config, source)


def _check_network(network: NetworkConfig, source: str) -> None:
    """Raise ConfigError if a key of [network] is set that networks of its kind do not have."""
    if network.kind not in ("resnet", "unet") and network.blocks != 1:
        raise ConfigError(f"config {source}: network.blocks is {network.blocks}, and only a resnet or unet has blocks: "
                          "set network.kind to one of them, or leave network.blocks out")
    if network.kind == "layers" and not network.layers:
        raise ConfigError(f"config {source}: network.kind is layers, and network.layers is empty: list them, or name "
                          "another kind")
    if network.kind != "layers" and network.layers:
        raise ConfigError(f"config {source}: network.layers is set, and network.kind is {network.kind}: set "
                          "network.kind to layers, or leave network.layers out")
    defaults = NetworkConfig()
    for key in ("channels", "norm") if network.kind == "layers" else ("field",) if network.kind == "s3dcnn" else ():
        if getattr(network, key) != getattr(defaults, key):
            raise ConfigError(f"config {source}: network.{key} has no effect on a network of kind {network.kind}: "
                              "leave it out")


def _check_optimizer(optimizer: OptimizerConfig, source: str) -> None:
    """Raise ConfigError if a key of [optimizer] is set that optimizers of its kind do not have."""
    of_sgd, of_adam = ("momentum", "dampening", "nesterov"), ("beta1", "beta2", "eps", "amsgrad")
    for name in of_adam if optimizer.kind == "sgd" else of_sgd:
        value, default = getattr(optimizer, name), getattr(OptimizerConfig(), name)
        if value != default:
            raise ConfigError(f"config {source}: optimizer.{name} is {shown(value)}, and {optimizer.kind} has no such "
                              f"key: leave it out, or set it to its default, {shown(default)}")


def _check_loss(config: Config, source: str) -> None:
    """Raise ConfigError if terms of the loss contradict each other, or a key is set that has no effect on it."""
    loss, defaults = config.loss, LossConfig()
    if (loss.kind == "terms") != bool(loss.terms):
        raise ConfigError(f"config {source}: loss.kind is {loss.kind}, and loss.terms "
                          + ("is set: leave out loss.kind, or the terms" if loss.terms else "is empty: list them"))
    without_effect = {"triplet": ("label_smoothing", "class_weights"),
                      "terms": ("label_smoothing", "class_weights", "margin", "distance", "mining",
                                "triplets_per_batch")}
    for name in without_effect.get(loss.kind, ()):
        if getattr(loss, name) != getattr(defaults, name):
            raise ConfigError(f"config {source}: loss.{name} has no effect on "
                              + ("the triplet loss: leave it out" if loss.kind == "triplet" else
                                 "loss.terms: set it in a term that has it"))
    if loss.mining == "semi_hard" and not loss.margin:
        raise ConfigError(f"config {source}: loss.margin is 0, semi-hard mining needs a margin above 0")
    terms = terms_of(loss)
    if sum(one.classifies for one in terms) > 1:
        raise ConfigError(f"config {source}: several of loss.terms train a classifier, and the network has one: choose "
                          "one of them, once")
    if any(one.per_site for one in terms):
        _check_segmentation(config, source)
    for number, one in enumerate(terms, start=1):
        if problem := one.problem():
            raise ConfigError(f"config {source}: loss.terms, term {number} ({kind_of(one)}): {problem}")
    _check_batches(config, source)


def _check_segmentation(config: Config, source: str) -> None:
    """Raise ConfigError if a key is set that has no effect on a segmentation, or contradicts it."""
    if len(terms_of(config.loss)) > 1 or config.loss.pose_weight:
        raise ConfigError(f"config {source}: a segmentation has no terms beside it: it needs a row for each site, and "
                          "they one for each sample: set loss.kind = 'segmentation' alone")
    if config.network.kind not in ("unet", "layers"):
        raise ConfigError(f"config {source}: loss.kind is segmentation, and a network of kind {config.network.kind} "
                          "gives one row for each sample: set network.kind to unet, or to layers")
    defaults = Config()
    for section, names in (("data", ("classes",)), ("evaluation", ("descriptor", "metric", "protocol", "poses", "prior",
                                                                   "repetitions"))):
        for name in names:
            if getattr(getattr(config, section), name) != getattr(getattr(defaults, section), name):
                raise ConfigError(f"config {source}: {section}.{name} has no effect on a segmentation: leave it out")


def _check_batches(config: Config, source: str) -> None:
    """Raise ConfigError if batches cannot be drawn as the loss needs them, or a part of the network has no use."""
    loss, sampling = config.loss, sampling_of(config.loss)
    if sampling == "triplets" and loss.sampling != "auto":
        raise ConfigError(f"config {source}: loss.sampling is {loss.sampling}, and a triplet loss without mining draws "
                          "triplets: leave it out, or set loss.mining")
    if sampling == "balanced" and config.training.batch_size % loss.classes_per_batch:
        raise ConfigError(f"config {source}: training.batch_size is {config.training.batch_size}, expected a "
                          f"multiple of loss.classes_per_batch, {loss.classes_per_batch}")
    if sampling == "balanced" and config.training.batch_size == loss.classes_per_batch and any(
            one.compares for one in terms_of(loss)):
        raise ConfigError(f"config {source}: training.batch_size and loss.classes_per_batch are both "
                          f"{loss.classes_per_batch}, so a batch has one object of each class and the loss none to "
                          "compare it with: lower loss.classes_per_batch")
    if config.network.projection and not any(isinstance(one, Contrastive) for one in terms_of(loss)):
        raise ConfigError(f"config {source}: network.projection is {config.network.projection}, and no term of the "
                          "loss is contrastive, which alone would see it: leave it out")
    turned = [name for name in ("rotation", "quarter_turns")
              if getattr(config.augmentation, name) != getattr(AugmentationConfig(), name)]
    if loss.pose_weight and turned:
        raise ConfigError(f"config {source}: loss.pose_weight is set, and augmentation.{turned[0]} turns each pose "
                          "into another, so none can be predicted: leave one of them out")
