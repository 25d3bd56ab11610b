"""Reads the settings of an experiment: a TOML file states what differs from the defaults in `schema`.

`load_config` reads a file, `Config.text()` writes every key out (that text goes into the checkpoint),
`describe_keys` prints the reference.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

from sparsenet.suggestion import did_you_mean
from sparsenet.training.schema import Config


class ConfigError(ValueError):
    """A config that cannot be used; the message names the file and the key."""


def find_config(name: str | Path) -> Path:
    """The file `name`, or the config of that name that ships with the package ('quickstart').

    Raises
    ------
    ConfigError : there is neither; the message lists the shipped ones.
    """
    if Path(name).is_file():
        return Path(name)
    package = Path(__file__).resolve().parents[1]
    installed, source_tree = package / "configs", package.parent / "configs"
    folder = installed if installed.is_dir() else source_tree
    shipped = {path.stem: path for path in sorted(folder.glob("*.toml"))}
    if str(name) in shipped:
        return shipped[str(name)]
    raise ConfigError(f"config {name}: no such file; the package ships with {', '.join(sorted(shipped))}")


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> Config:
    """Read a TOML file (or a shipped config by name), then apply `section.key=value` overrides.

    Raises
    ------
    ConfigError : no such file, no TOML, an unknown key, a wrong type or value.
    """
    path = find_config(path)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"config {path}: not a text in UTF-8 ({error.reason} at byte {error.start})") from None
    return parse_config(text, str(path), overrides)


def parse_config(text: str, source: str, overrides: Iterable[str] = ()) -> Config:
    """The config that a TOML text describes; `source` is how messages call it.  See `load_config`."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"config {source}: not TOML: {error}") from None
    sections = {section.name: section.default for section in fields(Config)}
    stated: dict[str, dict[str, Any]] = {name: {} for name in sections}
    for name, table in tables.items():
        if name in sections and not isinstance(table, dict):
            raise ConfigError(f"config {source}: {name} is {table!r}, expected a table [{name}]")
        if name not in sections:
            raise ConfigError(f"config {source}: {name!r} is no section{did_you_mean(name, sections)}")
        for entry, value in table.items():
            stated[name][entry] = _checked(sections[name], name, entry, value, source)
    for override in overrides:
        name, entry, value = _parse_override(override, sections)
        stated[name][entry] = _checked(sections[name], name, entry, value, f"--set {override}")
    config = Config(**{name: type(default)(**stated[name]) for name, default in sections.items()})
    _check_together(config, source)
    return config


def _parse_override(override: str, sections: dict[str, Any]) -> tuple[str, str, Any]:
    name, equals, text = override.partition("=")
    section, dot, entry = name.strip().partition(".")
    if not equals or not dot:
        raise ConfigError(f"--set {override}: expected section.key=value, as in training.epochs=10")
    if section not in sections:
        raise ConfigError(f"--set {override}: {section!r} is no section{did_you_mean(section, sections)}")
    try:
        value = tomllib.loads(f"value = {text.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()  # a text without its quotation marks, which a shell eats
    return section, entry, value


def _checked(defaults: Any, section: str, entry: str, value: Any, source: str) -> Any:
    """The value as its key's type, or a ConfigError that names key and file."""
    known = {f.name: f for f in fields(defaults)}
    if entry not in known:
        everywhere = [f"{s.name}.{f.name}" for s in fields(Config) for f in fields(s.default)]
        hint = did_you_mean(entry, known, f"{section}.") or did_you_mean(f"{section}.{entry}", everywhere)
        raise ConfigError(f"config {source}: {section}.{entry} is no key{hint}")
    kind, limits, name = known[entry].type, known[entry].metadata, f"config {source}: {section}.{entry}"
    if kind == "float" and type(value) is int:
        value = float(value)
    if kind.startswith("tuple") and isinstance(value, list) and all(type(v) is int for v in value) and value:
        value = tuple(value)
    if type(value) is not {"int": int, "float": float, "bool": bool, "str": str}.get(kind, tuple):
        words = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a text"}
        raise ConfigError(f"{name} is {value!r}, expected {words.get(kind, 'a list of whole numbers')}")
    if limits["choices"] and value not in limits["choices"]:
        raise ConfigError(f"{name} is {value!r}, expected one of {', '.join(limits['choices'])}"
                          f"{did_you_mean(value, limits['choices'])}")
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, float) and not math.isfinite(number):
            raise ConfigError(f"{name} is {number}, expected a finite number")
        if limits["at_least"] is not None and number < limits["at_least"]:
            raise ConfigError(f"{name} is {number}, expected at least {limits['at_least']}")
        if limits["above"] is not None and number <= limits["above"]:
            raise ConfigError(f"{name} is {number}, expected more than {limits['above']}")
    return value


def _check_together(config: Config, source: str) -> None:
    """What no key can tell on its own."""
    parametric = config.data.parametric_train, config.data.parametric_test
    if any(parametric) and (config.data.path or not all(parametric)):
        raise ConfigError(f"config {source}: the parametric dataset needs data.parametric_train and "
                          "data.parametric_test above 0, and no data.path")
    if not any(parametric) and not config.data.path:
        raise ConfigError(f"config {source}: data.path is not set: name the HDF5 file of tools/make_dataset.py")
    if config.network.dropout >= 1:
        raise ConfigError(f"config {source}: network.dropout is {config.network.dropout}, expected less than 1")
    if config.augmentation.up_axis > 2:
        raise ConfigError(f"config {source}: augmentation.up_axis is {config.augmentation.up_axis}, expected 0 to 2")
    if config.loss.mining == "semi_hard" and not config.loss.margin:
        raise ConfigError(f"config {source}: loss.margin is 0, semi-hard mining needs more than 0")
    mined = config.loss.kind == "triplet" and config.loss.mining != "none"
    if mined and config.training.batch_size % config.loss.classes_per_batch:
        raise ConfigError(f"config {source}: training.batch_size is {config.training.batch_size}, expected a "
                          f"multiple of loss.classes_per_batch, {config.loss.classes_per_batch}")
