"""Ablation: a config, and the same with one thing changed at a time, all compared on shapes held out of training.

The dataset that they see is made of the training split alone: a share of each class is held out of it, and the test
split is not in it.  So a config can be chosen by this table, and the test split be looked at once, at the end.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sparsenet.files import write_text
from sparsenet.toml import TomlError, as_toml, read_toml, shortened, shown
from sparsenet.wording import did_you_mean

if TYPE_CHECKING:
    from sparsenet.data import SparseDataset
    from sparsenet.data.sample import Sample
    from sparsenet.training.schema import Config

HELD_OUT = "held out"  # name of the split
SOURCES = ("modelnet40", "modelnet10", "psb")  # as `Sources` names them
FIGURES = {"accuracy": "test_accuracy", "mean over classes": "test_class_mean_accuracy", "descriptor mAP": "test_mAP",
           "posterior mAP": "test_posterior_mAP"}
COMPARED = ("accuracy", "descriptor mAP", "posterior mAP")
HEADER = ("variant", "change", "seeds", *(f"{name}, %" for name in FIGURES),
          *(f"{name}, less the recipe's" for name in COMPARED), *(f"{name}, range" for name in COMPARED),
          "training, min")
RECIPE = "the recipe"
_KEYS = ("config", "data", "share", "seeds", "without", "with")
_NO_EFFECT = ("data.path", "data.workers", "training.max_seconds", "training.checkpoint_seconds", "training.recompute")


@dataclass(frozen=True)
class Variant:
    """A config with changes.

    changes : as `section.key=value`, none for the recipe itself;  seeds : each trains a network
    """

    name: str
    changes: tuple[str, ...]
    seeds: tuple[int, ...]

    @property
    def trains(self) -> bool:
        """Whether it changes the training; otherwise it evaluates the recipe's network in another way."""
        return not self.changes or not all(change.startswith("evaluation.") for change in self.changes)

    @property
    def folder(self) -> str:
        """Its name in the letters of file names."""
        return re.sub(r"[^a-z0-9]+", "_", self.name.lower()).strip("_")


@dataclass(frozen=True)
class Ablation:
    """The content of an ablation file.

    config : the recipe, a file or the name of one that ships with the package;  data : one of SOURCES
    share : of each class of the training split that is held out
    variants : the recipe first, with every seed of the others
    """

    config: str
    data: str
    share: float
    variants: tuple[Variant, ...]


@dataclass(frozen=True)
class Outcome:
    """The figures of the trained networks of a variant: seed -> name in FIGURES -> percent; and seed -> seconds."""

    variant: Variant
    figures: dict[int, dict[str, float]]
    seconds: dict[int, float]


def read_ablation(name: str | Path) -> Ablation:
    """Read an ablation file, or the one of that name that ships with the package (`configs/ablation`).

        config = "modelnet40_descriptors"
        data = "modelnet40"
        share = 0.1
        seeds = [0]

        [without.mirror]
        augmentation.mirror = false

        [with."a moving average"]
        seeds = [0, 1, 2]
        optimizer.ema = 0.999

    Each table is a variant, with the keys of a config that it changes and, if they are its own, its seeds.  The recipe
    is trained with every seed.

    Raises
    ------
    ConfigError : there is no such file, or a variant is not a config.
    ValueError : it is not an ablation; the message names the key.
    """
    from sparsenet.training.build import build_network, build_optimizer
    from sparsenet.training.config import find_ablation, load_config

    path = find_ablation(name)
    try:
        given = read_toml(path)
    except TomlError as error:
        raise ValueError(f"ablation {path}: {error}") from None
    for key in given:
        if key not in _KEYS:
            raise ValueError(f"ablation {path}: {shown(key)} is not a key{did_you_mean(key, _KEYS)}")
    config, share = _value(path, given, "config", str, None), _value(path, given, "share", float, 0.1)
    data = _value(path, given, "data", str, "modelnet40")
    if not 0 < share < 1:
        raise ValueError(f"ablation {path}: share is {share}, expected a number above 0 and below 1")
    if data not in SOURCES:
        raise ValueError(f"ablation {path}: data is {shown(data)}, expected one of {', '.join(SOURCES)}")
    seeds = _seeds(path, "seeds", given.get("seeds", [0]))
    variants = [_variant(path, f"{group} {what}", changes, seeds) for group in ("without", "with")
                for what, changes in _value(path, given, group, dict, {}).items()]
    every = tuple(dict.fromkeys(seed for seeds in (seeds, *(one.seeds for one in variants)) for seed in seeds))
    variants.insert(0, Variant(RECIPE, (), every))
    for one in variants:
        twin = next(other for other in variants if other.folder == one.folder)
        if twin is not one or not one.folder:
            raise ValueError(f"ablation {path}: {one.name!r} and {twin.name!r} have the same letters: rename one")
        settings = load_config(config, one.changes)  # what is wrong is said before the first training
        build_optimizer(settings, build_network(settings, 2))
    return Ablation(config, data, share, tuple(variants))


def _variant(path: Path, name: str, given: Any, seeds: tuple[int, ...]) -> Variant:
    if not isinstance(given, dict):
        raise ValueError(f"ablation {path}: {name} is {shown(given)}, expected a table of keys of a config")
    changes = []
    for section, keys in given.items():
        if section == "seeds":
            seeds = _seeds(path, f"seeds of {name}", keys)
        elif not isinstance(keys, dict):
            raise ValueError(f"ablation {path}: {section} of {name} is {shown(keys)}, expected section.key = value")
        else:
            changes += [f"{section}.{key}={as_toml(value)}" for key, value in keys.items()]
    if not changes:
        raise ValueError(f"ablation {path}: {name} changes nothing, expected section.key = value")
    return Variant(name, tuple(changes), seeds)


def _value(path: Path, given: dict[str, Any], name: str, kind: type, default: Any) -> Any:
    value = given.get(name, default)
    if not isinstance(value, kind):
        words = {str: "a text", float: "a number with a point", dict: "tables of variants"}[kind]
        raise ValueError(f"ablation {path}: {name} is {'missing' if value is None else shown(value)}, expected {words}")
    return value


def _seeds(path: Path, name: str, value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or not value or not all(type(seed) is int and seed >= 0 for seed in value) or (
            len(set(value)) < len(value)):
        raise ValueError(f"ablation {path}: {name}: {shown(value)}, expected distinct whole numbers, 0 or more")
    return tuple(value)


def ablate(ablation: Ablation, dataset: Path, work: Path, names: Sequence[str] | None, seconds: float | None,
           say: Callable[[str], None], overrides: tuple[str, ...] = ()) -> list[Outcome]:
    """Train the variants of these names, and the recipe, one after another, and all again with the next seed; a run
    that is finished is read, one that was stopped goes on.  Variants of [evaluation] alone are the recipe's networks,
    evaluated in another way.

    names : None: all
    seconds : for each training; one that is not finished by then is left out, and goes on next time

    Raises
    ------
    ValueError : a finished run is of another config: the list has been changed since.
    """
    work.mkdir(parents=True, exist_ok=True)
    path = held_out_dataset(dataset, work, ablation.share)
    chosen = [one for one in ablation.variants if names is None or one.name in (RECIPE, *names)]
    outcomes = [Outcome(one, {}, {}) for one in chosen]
    for seed in chosen[0].seeds:
        for outcome in outcomes:
            if seed in outcome.variant.seeds:
                found = _measured(ablation, outcome.variant, seed, path, work, seconds, say, overrides)
                if found is not None:
                    outcome.figures[seed], outcome.seconds[seed] = found["figures"], found["seconds"]
    return [outcome for outcome in outcomes if outcome.figures]


def _measured(ablation: Ablation, variant: Variant, seed: int, dataset: Path, work: Path, seconds: float | None,
             say: Callable[[str], None], overrides: tuple[str, ...]) -> dict[str, Any] | None:
    """The figures of a run, None if it is not finished yet."""
    from sparsenet.training.config import load_config, parse_config

    limit = [] if seconds is None else [f"training.max_seconds={seconds}"]
    fixed = [f"data.path={as_toml(str(dataset))}", f'data.test_split="{HELD_OUT}"', "data.validation_share=0.0",
             'evaluation.protocol="none"', f"training.seed={seed}"]
    config = load_config(ablation.config, [*variant.changes, *overrides, *fixed, *limit])
    folder = work / f"{variant.folder}_seed{seed}"
    result = folder / "figures.json"
    if result.exists():
        found = json.loads(result.read_text(encoding="utf-8"))
        _check_same(parse_config(found["config"], str(result)), config, folder)
        return found
    say(f"{variant.name}, seed {seed}: {folder}")
    if variant.trains:
        from sparsenet.training import train

        trained = train(config, folder, resume=(folder / "last.h5").exists(), say=say)
        if not trained.finished:
            say(f"{variant.name}, seed {seed}: stopped after {seconds:.0f} s, to be continued")
            return None
        figures, taken = trained.figures, trained.history[-1]["seconds"]
    else:
        recipe = work / f"{ablation.variants[0].folder}_seed{seed}"
        if not (recipe / "figures.json").exists():
            say(f"{variant.name}, seed {seed}: waits for the recipe's network")
            return None
        folder.mkdir(exist_ok=True)
        figures, taken = _evaluated(recipe / "last.h5", dataset, config), 0.0
    rounded = {name: round(100 * float(figures[key]), 2) for name, key in FIGURES.items() if key in figures}
    found = {"figures": rounded, "seconds": taken, "config": config.text()}
    write_text(result, json.dumps(found, indent=1))
    return found


def _evaluated(checkpoint: Path, dataset: Path, config: Config) -> dict[str, float]:
    """The figures of a trained network on the shapes held out, as [evaluation] of this config says."""
    from sparsenet.training import load_network, open_shapes
    from sparsenet.training.evaluation import evaluate_network

    net, state = load_network(checkpoint)
    with open_shapes(config, checkpoint, dataset) as shapes:
        return evaluate_network(net.to(config.training.device), shapes.only_classes(state.classes), config,
                                state.classes, state.class_counts).figures


def _check_same(before: Config, now: Config, folder: Path) -> None:
    changed = [key for key in before.differences(now) if key not in _NO_EFFECT]
    if changed:
        raise ValueError(f"reproduce: {folder} is of {changed[0]} = {shortened(before.shown(changed[0]))}, now it is "
                         f"{shortened(now.shown(changed[0]))}: remove that folder, or name another one with --work")


def held_out_dataset(source: Path, folder: Path, share: float) -> Path:
    """A dataset of the training split of another, in which `share` of each class is a split of its own, HELD_OUT;
    made at the first call."""
    from sparsenet.data import SparseDataset

    path = folder / f"held_out_{share:g}.h5"
    if path.exists():
        return path
    with SparseDataset.open(source) as whole:
        training = whole.subset("train")
        kept, held = training.split(share, 0)
        SparseDataset.create(path, _samples({"train": kept, HELD_OUT: held}), whole.spatial_size, whole.render_size,
                             whole.classes, whole.fill, whole.up_axis, whole.part_classes).close()
    return path


def _samples(parts: dict[str, SparseDataset]) -> Iterator[Sample]:
    for split, part in parts.items():
        for row in range(len(part)):
            sample = part[row]
            yield replace(sample, split=split, features=sample.features if part.has_features else None)


def table_rows(outcomes: Sequence[Outcome]) -> list[list[str]]:
    """A row for each variant: means over its seeds; less those of the recipe with the same seeds; greatest less
    least."""
    recipe = next((one.figures for one in outcomes if one.variant.name == RECIPE), {})
    rows = []
    for one in outcomes:
        means, differences, ranges = [], [], []
        for name in FIGURES:
            values = {seed: found[name] for seed, found in one.figures.items() if name in found}
            both = [seed for seed in values if name in recipe.get(seed, {}) and one.variant.name != RECIPE]
            means.append(f"{np.mean(list(values.values())):.2f}" if values else "-")
            if name in COMPARED:
                differences.append(f"{np.mean([values[s] - recipe[s][name] for s in both]):+.2f}" if both else "")
                ranges.append(f"{max(values.values()) - min(values.values()):.2f}" if len(values) > 1 else "")
        changes = " ".join(" ".join(one.variant.changes).split()) if one.variant.changes else ""
        rows.append([one.variant.name, changes if len(changes) <= 120 else f"{changes[:117]}...",
                     " ".join(map(str, one.figures)), *means, *differences, *ranges,
                     f"{np.mean(list(one.seconds.values())) / 60:.0f}"])
    return rows
