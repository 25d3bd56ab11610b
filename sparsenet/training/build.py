"""Builds the network, the optimizer and the batches from a config."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsenet.training.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from sparsenet.training.config import ConfigError, parse_config
from sparsenet.training.losses import classifies, descriptor_place, segments
from sparsenet.training.schema import Config, OptimizerConfig
from sparsenet.training.terms import classifier_of, sampling_of

if TYPE_CHECKING:
    from sparsenet.data import SparseDataset
    from sparsenet.nn import SparseNetwork
    from sparsenet.optim import EMA, ParameterGroups
    from sparsenet.optimizer import Optimizer
    from sparsenet.training.losses import Criterion


def build_network(config: Config, classes: int) -> SparseNetwork:
    """The network with its initial weights.  Its output is logits, or descriptors if no term of the loss classifies.

    Raises ConfigError if listed layers do not fit together, or into network.field.
    """
    from sparsenet.nn import resnet, s3dcnn, unet

    chosen, seed = config.network, config.training.seed
    if chosen.kind == "layers":
        net = _listed_network(config)
    elif chosen.kind == "resnet":
        net = resnet(seed=seed, channels=chosen.channels, blocks=chosen.blocks)
    elif chosen.kind == "unet":
        net = unet(seed=seed, channels=chosen.channels, blocks=chosen.blocks)
        net.field = _unet_field(config, net.dimension)
        if not segments(config):
            net.add_global_pool("mean")
    else:
        net = s3dcnn(seed=seed, channels=chosen.channels, norm=None if chosen.norm == "none" else chosen.norm)
    if chosen.field:
        net.field = (chosen.field,) * net.dimension
    _check_grids(net, config)
    term = classifier_of(config.loss)
    if term is not None:
        if config.network.dropout:
            net.add_dropout(config.network.dropout)
        term.add_classifier(net, classes)
    if config.loss.kind == "terms" or segments(config):  # embed what the terms see, whatever pooling comes before it
        net.descriptor = descriptor_place(net, config)
    return net


def _listed_network(config: Config) -> SparseNetwork:
    """The network of network.layers, which gives one row per sample, or one per site for a segmentation."""
    from sparsenet.nn.layer_list import network_of

    try:
        net = network_of(config.network.layers, seed=config.training.seed)
    except ValueError as error:
        raise ConfigError(f"config: network.layers, {error}") from None
    kinds = [layer.kind for layer in net.layers]
    if "depth_images" in kinds and "image_pool" not in kinds:
        raise ConfigError("config: network.layers has depth_images and no image_pool behind them, so that each image "
                          "would be a sample of its own: add an image_pool")
    if not config.network.field:
        net.field = _smallest_field(net)
    if segments(config):
        if net.gives_rows:
            raise ConfigError("config: loss.kind is segmentation, and network.layers give one row for each sample: "
                              "leave out the layers from the global pooling on")
        return net
    if not net.gives_rows:
        net.add_global_pool("mean")
    if not classifies(config):  # even behind a Linear, which need not be a classifier
        net.descriptor = len(net.layers)
    return net


def _smallest_field(net: SparseNetwork) -> tuple[int, ...]:
    """The smallest input grid for which the last layer's has one cell."""
    try:
        return tuple(max(1, side) for side in net.field_for(1))
    except ValueError as error:
        raise ConfigError(f"config: network.field is 0, expected the sides of the input grid: {error}") from None


def _unet_field(config: Config, dimension: int) -> tuple[int, ...]:
    """The smallest sides from data.render_size on that each halving of the grid divides."""
    size, step = config.data.render_size, 2 ** (len(config.network.channels) - 1)
    if not (size or config.network.field):
        raise ConfigError("config: data.render_size and network.field are 0, so the grid of the unet is unknown: set "
                          "one of them")
    return (-(-size // step) * step,) * dimension


def _check_grids(net: SparseNetwork, config: Config) -> None:
    """Raise ConfigError if a filter is larger than its grid, or the paths of a block lead to different grids."""
    from sparsenet.nn.layer_list import grids

    try:
        grids(net, net.field)
    except ValueError as error:
        raise ConfigError(f"config: the network does not fit an input grid with sides of {net.field[0]}: {error}; "
                          "network.field sets the sides") from None


def load_network(path: str | Path) -> tuple[SparseNetwork, Checkpoint]:
    """The network of a checkpoint, in evaluation mode, with its `classes` and `voxelization`; and the checkpoint
    (config, digest).

    Raises CheckpointError if it is damaged.
    """
    from sparsenet.shapes import Voxelization

    state = load_checkpoint(path)
    net = build_network(parse_config(state.config, str(path)), len(state.classes))
    net.load_state_dict(state.weights)
    net.classes = list(state.classes)
    if state.voxelization:
        try:
            net.voxelization = Voxelization(**state.voxelization)
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"checkpoint {path}: section [voxelization]: {error}") from None
    return net.eval(), state


def build_optimizer(config: Config, net: SparseNetwork, criterion: Criterion | None = None
                    ) -> tuple[Optimizer | ParameterGroups, Callable[[int, float], float]]:
    """The optimizer, and the learning rate as a function of the epochs done and the fraction done of the current one.

    criterion : its parameters are trained, too
    """
    from sparsenet import optim

    settings, schedule = config.optimizer, config.schedule
    made, arguments = _optimizer_of(settings)
    params = [*net.named_parameters(), *([] if criterion is None else criterion.heads())]
    vectors = [] if criterion is None else list(criterion.groups(settings.lr))
    groups = [{"params": params}] if settings.decay_norms_and_biases else optim.decay_groups(params)
    optimizer: Optimizer | ParameterGroups = (
        made(params, **arguments) if settings.decay_norms_and_biases and not vectors else
        optim.ParameterGroups(made, [*groups, *vectors], **arguments))
    rates: dict[str, Callable[[], Callable[[float], float]]] = {
        "constant": lambda: optim.ConstantRate(settings.lr),
        "exponential": lambda: optim.ExponentialDecay(settings.lr, schedule.decay),
        "step": lambda: optim.StepDecay(settings.lr, schedule.step_epochs, schedule.step_factor),
        "cosine": lambda: optim.CosineDecay(settings.lr, config.training.epochs),
    }
    scheduled = rates[schedule.kind]()

    def learning_rate(epoch: int, share: float) -> float:
        return scheduled(epoch) * (min(1.0, (epoch + share) / schedule.warmup) if schedule.warmup else 1.0)

    return optimizer, learning_rate


def _optimizer_of(settings: OptimizerConfig) -> tuple[type[Optimizer], dict[str, Any]]:
    """The class of the optimizer, and its settings."""
    from sparsenet import optim

    if settings.kind == "sgd":
        names = ("lr", "momentum", "dampening", "nesterov", "weight_decay")
        return optim.SGD, {name: getattr(settings, name) for name in names}
    arguments = {name: getattr(settings, name) for name in ("lr", "eps", "weight_decay", "amsgrad")}
    chosen = optim.AdamW if settings.kind == "adamw" else optim.Adam
    return chosen, {**arguments, "betas": (settings.beta1, settings.beta2)}


def build_average(config: Config, net: SparseNetwork) -> EMA | None:
    """The moving average of the weights, if optimizer.ema asks for one."""
    from sparsenet.optim import EMA

    return EMA(net, config.optimizer.ema) if config.optimizer.ema else None


def rendering(config: Config, shapes: SparseDataset, net: SparseNetwork) -> dict[str, Any]:
    """How `SparseDataset.batches` voxelizes shapes for the network: `render_size` and `fill`, None as they are stored.

    For a trained network, which knows how its training's shapes were voxelized, stored meshes are voxelized like those.
    """
    own = net.voxelization if shapes.has_meshes else None
    return {"render_size": config.data.render_size or (None if own is None else own.render_size),
            "fill": None if own is None else own.fill}


def check_field(config: Config, shapes: SparseDataset, net: SparseNetwork) -> None:
    """Raise ConfigError if the shapes are larger than the network's input grid, which would crop them."""
    size = rendering(config, shapes, net)["render_size"] or shapes.render_size
    if net.field is not None and size > min(net.field):
        larger = {"s3dcnn": "one more entry in network.channels", "layers": "a larger network.field",
                  "unet": "a larger network.field",
                  "resnet": "one more entry in network.channels, or a larger network.field"}[config.network.kind]
        raise ConfigError(f"config: data.render_size is {size}, and the network's input grid has sides of "
                          f"{min(net.field)}: shapes would be cropped: use a smaller render_size or {larger}")


def build_batching(config: Config, training_set: SparseDataset, net: SparseNetwork, own: Sequence[int] | None = None
                   ) -> dict[str, Any]:
    """The arguments of `training_set.batches`, the same in every epoch.

    own : the shards that this process has; None: all

    Raises ConfigError if the shapes are larger than the network's field, or batch norm would find a single row.
    """
    check_field(config, training_set, net)
    from sparsenet.data import ClassBalancedSampler, TripletSampler
    from sparsenet.shapes import Augmentation

    augment = Augmentation(config.augmentation.rotation, config.augmentation.affine, config.augmentation.shift,
                           config.augmentation.up_axis, config.augmentation.quarter_turns, config.augmentation.mirror)
    options = {"augment": augment, "seed": config.training.seed, "workers": config.data.workers, "field": net.field,
               "geometries": net.geometries(), "backward": True, "render_size": config.data.render_size or None,
               "device": config.training.device, "poses": "random"}
    count, labels = config.loss.batches_per_epoch or None, training_set.object_labels
    sampling, shards = sampling_of(config.loss), config.training.shards
    if shards > 1:
        options["shards"] = shards, range(shards) if own is None else own
    objects = len(training_set.object_samples)
    check_shards(config, [3 * config.loss.triplets_per_batch] if sampling == "triplets" else
                 [min(config.training.batch_size, objects), objects % config.training.batch_size]
                 if sampling == "shuffled" else [config.training.batch_size], net)
    if sampling == "shuffled":
        check_last_batch(config, objects, net)
        return {**options, "batch_size": config.training.batch_size, "shuffle": True}
    if sampling == "triplets":
        return {**options, "sampler": TripletSampler(labels, config.loss.triplets_per_batch, count)}
    return {**options, "sampler": ClassBalancedSampler(labels, config.training.batch_size,
                                                       config.loss.classes_per_batch, count)}


def check_last_batch(config: Config, objects: int, net: SparseNetwork) -> None:
    """Raise ConfigError if a batch of an epoch has one sample, and the network takes statistics over one row for each:
    one value has no variance, and the training would stop there."""
    from sparsenet.nn.layer_list import normalises_rows

    size = config.training.batch_size
    if (size == 1 or objects % size == 1) and net.field is not None and normalises_rows(net, net.field):
        raise ConfigError(f"config: training.batch_size is {size}, and of {objects} objects the last batch has one, "
                          "whose descriptor batch norm cannot normalise: choose another batch size")


def check_shards(config: Config, sizes: Sequence[int], net: SparseNetwork) -> None:
    """Raise ConfigError if a shard of a batch of one of these sizes has one sample, and the network takes statistics
    over one row for each."""
    from sparsenet.nn.layer_list import normalises_rows

    shards = config.training.shards
    small = [size for size in sizes if 0 < size < 2 * shards]
    if shards > 1 and small and net.field is not None and normalises_rows(net, net.field):
        raise ConfigError(f"config: training.shards is {shards}, and a batch of {small[0]} samples leaves one for some "
                          "shards, whose descriptor batch norm cannot normalise: choose fewer shards, or a batch size "
                          f"that leaves no batch of fewer than {2 * shards}")


def voxelization_of(config: Config, shapes: SparseDataset) -> dict[str, int | bool | str]:
    """How the shapes were voxelized, for the checkpoint: meshes given to the network later get the same treatment."""
    return {"render_size": config.data.render_size or shapes.render_size, "fill": shapes.fill,
            "up_axis": shapes.up_axis}
