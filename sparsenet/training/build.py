"""From a config to what a training is made of: dataset, network, optimizer, batches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsenet.training.checkpoint import Checkpoint, load_checkpoint
from sparsenet.training.config import ConfigError, parse_config
from sparsenet.training.judge import check_judgeable
from sparsenet.training.schema import Config

if TYPE_CHECKING:
    from sparsenet.data import SparseDataset
    from sparsenet.nn import SparseNetwork
    from sparsenet.optim import SGD

# Keys (and all of [evaluation]) that may be others when a training is resumed.
MAY_CHANGE = ("data.path", "data.workers", "training.epochs", "training.device", "training.precision",
              "training.tiles", "training.validate_every",
              "training.checkpoint_seconds", "training.max_seconds")


def load_resumable(path: Path, config: Config, training_set: SparseDataset) -> Checkpoint:
    """The checkpoint, if its training went by the same config (but for MAY_CHANGE) and dataset.

    Raises
    ------
    CheckpointError, ConfigError : it is not whole; keys differ (all are named), or the dataset does.
    """
    state = load_checkpoint(path)
    differing = [key for key in parse_config(state.config, str(path)).differences(config)
                 if not _may_change(key, config)]
    if differing:
        why = " (the cosine schedule's rates depend on it)" if "training.epochs" in differing else ""
        raise ConfigError(f"config: {', '.join(differing)} differ from what {path} was trained with{why}: set them "
                          "back, or start anew in another folder")
    # Files of before the dataset's digest was kept state "".
    if state.classes != training_set.classes or state.dataset not in ("", training_set.digest):
        raise ConfigError(f"config: {path} was trained on another dataset than {training_set.path} holds: set "
                          "data.path back, or start anew in another folder")
    return state


def _may_change(key: str, config: Config) -> bool:
    if key == "training.epochs" and config.schedule.kind == "cosine":
        return False
    return key in MAY_CHANGE or key.startswith("evaluation.")


def open_dataset(config: Config, out: Path, anew: bool, progress: bool = False) -> tuple[SparseDataset, SparseDataset]:
    """The splits to train and to test on, of the classes the config names.

    The parametric dataset is made in `out`; `anew` makes it again where it is there already.
    """
    from sparsenet.data import SparseDataset

    path = Path(config.data.path or out / "shapes.h5")
    if not config.data.path and (anew or not path.exists()):
        make_parametric(config, path, progress)
    dataset = SparseDataset.open(path)
    splits = config.data.train_split, config.data.test_split
    names = dataset.classes if config.data.classes == "all" else dataset.shared_classes(*splits)
    training_set, test_set = (dataset.subset(split).only_classes(names) for split in splits)
    if not len(training_set) or not len(test_set):
        raise ConfigError(f"config: {path} has {len(training_set)} labelled samples in {splits[0]!r} and "
                          f"{len(test_set)} in {splits[1]!r}: set data.train_split and data.test_split")
    check_judgeable(test_set, config)
    return training_set, test_set


def make_parametric(config: Config, path: Path, progress: bool = False) -> None:
    """Write the built-in shapes of (training.seed, counts) to a dataset file; meshes kept if turned."""
    from sparsenet.data.convert import Conversion
    from sparsenet.data.importers import import_parametric

    if not config.data.render_size:
        raise ConfigError("config: data.render_size is 0, the parametric dataset needs a size to be made at")
    moved = config.augmentation.rotation != "none" or config.augmentation.affine > 0
    import_parametric(path, {config.data.train_split: config.data.parametric_train,
                             config.data.test_split: config.data.parametric_test}, config.training.seed,
                      Conversion(config.data.render_size, keep_meshes=moved, progress=progress))


def build_network(config: Config, classes: int) -> SparseNetwork:
    """The network with its first weights: ends in logits, or for triplets in the descriptor."""
    from sparsenet.nn import s3dcnn

    net = s3dcnn(seed=config.training.seed, channels=config.network.channels)
    if config.loss.kind == "triplet":
        return net
    if config.network.dropout:
        net.add_dropout(config.network.dropout)
    return net.add_linear(classes)


def load_network(path: str | Path) -> tuple[SparseNetwork, Checkpoint]:
    """The network of a checkpoint, in evaluation mode, and the checkpoint (classes, config, digest).

    Raises CheckpointError where it is not whole.
    """
    state = load_checkpoint(path)
    net = build_network(parse_config(state.config, str(path)), len(state.classes))
    net.load_state_dict(state.weights)
    return net.eval(), state


def build_optimizer(config: Config, net: SparseNetwork) -> tuple[SGD, Callable[[int, float], float]]:
    """SGD, and the learning rate as a function of the epochs done and the share done of the present one."""
    from sparsenet import optim

    settings, schedule = config.optimizer, config.schedule
    optimizer = optim.SGD(net.named_parameters(), settings.lr, settings.momentum, settings.dampening,
                          settings.nesterov, settings.weight_decay)
    rates = {
        "constant": lambda: optim.ConstantRate(settings.lr),
        "exponential": lambda: optim.ExponentialDecay(settings.lr, schedule.decay),
        "step": lambda: optim.StepDecay(settings.lr, schedule.step_epochs, schedule.step_factor),
        "cosine": lambda: optim.CosineDecay(settings.lr, config.training.epochs),
    }
    scheduled = rates[schedule.kind]()

    def learning_rate(epoch: int, share: float) -> float:
        return scheduled(epoch) * (min(1.0, (epoch + share) / schedule.warmup) if schedule.warmup else 1.0)

    return optimizer, learning_rate


def check_field(config: Config, shapes: SparseDataset, net: SparseNetwork) -> None:
    """Raise ConfigError where the shapes are larger than the network's input, which would cut them off."""
    size = config.data.render_size or shapes.render_size
    if net.field is not None and size > min(net.field):
        raise ConfigError(f"config: data.render_size is {size}, and the grid of a network of "
                          f"{len(config.network.channels)} channels has sides of {min(net.field)}: shapes would be cut "
                          "off: use a smaller render_size or one more entry in network.channels")


def build_batching(config: Config, training_set: SparseDataset, net: SparseNetwork) -> dict[str, Any]:
    """What `training_set.batches` is called with in every epoch.

    Raises ConfigError where the shapes are larger than the network's field.
    """
    check_field(config, training_set, net)
    from sparsenet.data import ClassBalancedSampler, TripletSampler
    from sparsenet.shapes import Augmentation

    augment = Augmentation(config.augmentation.rotation, config.augmentation.affine, config.augmentation.shift,
                           config.augmentation.up_axis)
    options = {"augment": augment, "seed": config.training.seed, "workers": config.data.workers, "field": net.field,
               "geometries": net.geometries(), "backward": True, "render_size": config.data.render_size or None,
               "device": config.training.device, "poses": "random"}
    count, labels = config.loss.batches_per_epoch or None, training_set.object_labels
    if config.loss.kind == "softmax":
        return {**options, "batch_size": config.training.batch_size, "shuffle": True}
    if config.loss.mining == "none":
        return {**options, "sampler": TripletSampler(labels, config.loss.triplets_per_batch, count)}
    return {**options, "sampler": ClassBalancedSampler(labels, config.training.batch_size,
                                                       config.loss.classes_per_batch, count)}
