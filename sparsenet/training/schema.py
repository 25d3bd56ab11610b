"""The keys of a config: sections, defaults, meanings and allowed values.

Each default and meaning is defined here and nowhere else.  Values marked (ours) are not from the paper.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from sparsenet.kernels.precision import PRECISIONS
from sparsenet.toml import as_toml


def key(default: Any, meaning: str, *, choices: tuple[str, ...] = (), at_least: float | None = None,
        above: float | None = None, below: float | None = None) -> Any:
    """A key of a section: its default, meaning and allowed values."""
    return field(default=default, metadata={"meaning": meaning, "choices": choices, "at_least": at_least,
                                            "above": above, "below": below})


@dataclass(frozen=True)
class DataConfig:
    """The dataset, its splits and classes."""

    path: str = key("", "HDF5 file written by `sparsenet make-dataset`; several, read as one, are separated as in the "
                        "variable PATH: 'a.h5:b.h5'")
    parametric_train: int = key(0, "training shapes per class of the built-in parametric dataset, made in the run's "
                                   "folder; 0: read data.path", at_least=0)
    parametric_test: int = key(0, "test shapes per class of the parametric dataset", at_least=0)
    train_split: str = key("train", "name of the training split")
    test_split: str = key("test", "name of the split for the final evaluation, never used in training")
    validation_split: str = key("", "name of the validation split; empty: val, valid, validation or evaluation, if "
                                    "the data has one that is not the training or test split")
    validation_share: float = key(0.1, "share of each class of the training split held out for validation if there is "
                                       "no validation split; drawn by (seed, name), at least one object, none of a "
                                       "class with fewer than five. 0: none, and the last epoch is the best",
                                  at_least=0, below=1)
    classes: str = key("all", "'all', or 'shared': only the classes that the training and test splits share "
                              "(21 of PSB's)", choices=("all", "shared"))
    render_size: int = key(40, "voxels along the longest side; a size other than the stored one needs a dataset with "
                               "stored meshes. 0: as stored", at_least=0)
    workers: int = key(2, "loader threads that prepare the next batches; 0: none. No effect on results",
                       at_least=0)


@dataclass(frozen=True)
class NetworkConfig:
    """The network.  S3DCNN: levels of convolution 2/1, leaky ReLU, max-pool 3/2, then one convolution and leaky ReLU.
    ResNet: levels of residual blocks of submanifold convolutions 3/1 with batch norm and ReLU, each of half the sides.
    UNet: such levels, and back up to the sites of the input.  Layers: those that are listed.  A GlobalPool follows if
    there is none, and the classifier if the loss has one.
    """

    kind: str = key("s3dcnn", "'s3dcnn': the paper's; 'resnet': residual blocks (ours); 'unet': a row for each site "
                              "(ours); 'layers': the listed layers",
                    choices=("s3dcnn", "resnet", "unet", "layers"))
    layers: tuple[dict[str, Any], ...] = key((), "layers of kind 'layers', each a table of its kind and settings, such "
                                                 "as {kind = 'convolution', channels = 64, size = 3, stride = 2}, or "
                                                 "its kind alone")
    field: int = key(0, "side of the input grid of a resnet, unet or listed layers, in voxels; 0: the smallest that "
                        "comes down to 4 cells a side for a resnet, to one cell for listed layers; for a unet, the "
                        "smallest multiple of 2^(levels - 1) from data.render_size on. The number of channels sets "
                        "that of s3dcnn", at_least=0)
    channels: tuple[int, ...] = key((32, 64, 96, 128, 160, 192),
                                    "output channels of the convolutions (Table 1), or of each level of a resnet or "
                                    "unet; not used by listed layers. Their number sets the side of the input grid: "
                                    "14, 30, 62, 126 for 3, 4, 5, 6; of a resnet 16, 32, 64, 128", at_least=1)
    norm: str = key("none", "'batch': batch norm after each convolution of s3dcnn (ours), over its sites; a resnet "
                            "or unet always has it", choices=("none", "batch"))
    blocks: int = key(1, "residual blocks at each level of a resnet or unet", at_least=1)
    dropout: float = key(0.0, "probability of dropping a descriptor's channel before the classifier (ours)",
                         at_least=0, below=1)
    projection: int = key(0, "numbers of a linear map of the descriptor that a contrastive term sees instead of it; in "
                             "training alone: the descriptor is what is embedded. 0: none (ours; Khosla et al. 2020)",
                          at_least=0)
    init_from: str = key("", "checkpoint or weights file of the first weights, for fine-tuning: arrays of equal name "
                             "and shape are taken, and a classifier's by class name; empty: random weights")
    freeze: tuple[str, ...] = key((), "layers or parameters that are not trained, by name or pattern, such as "
                                      "'convolution1' or 'convolution*.weight'. A norm that is frozen uses its running "
                                      "statistics")


@dataclass(frozen=True)
class TrainingConfig:
    """Duration, batch size, device and checkpoints."""

    seed: int = key(0, "seed of weights, order, augmentation and sampling: same seed, same bits", at_least=0)
    epochs: int = key(200, "epochs to train (the paper's classifier: 200)", at_least=1)
    batch_size: int = key(50, "samples in a batch, mined ones included (the paper: 45-90)", at_least=1)
    device: str = key("cpu", "device that the network runs on", choices=("cpu", "cuda"))
    precision: str = key("highest", "'highest': float32; 'tf32', 'fp16', 'bf16': format to which a GPU rounds float32 "
                                    "factors before multiplying; 'float16': a GPU stores parameters and features in "
                                    "float16, with float32 masters. A CPU has 'highest' alone",
                         choices=(*PRECISIONS, "float16"))
    loss_scale: float = key(0.0, "factor of the loss in the backward pass, which the step divides out: small gradients "
                                 "would be 0 in float16. 0: 1024 for float16 and fp16, else 1", at_least=0)
    shards: int = key(1, "parts that a batch is cut into, each of which runs alone: less memory, and work for several "
                         "processes (mpirun -n R sparsenet train CONFIG), whose number changes no result. The number "
                         "of shards does, as the batch size does: batch norm takes its statistics in each shard. 1: "
                         "the whole batch at once (ours)", at_least=1)
    recompute: int = key(0, "parts in which the network runs, of which all but the last run again in the backward pass "
                            "instead of keeping their activations: less memory, more time; for the least memory about "
                            "the square root of the number of convolutions. 0: all are kept. No effect on results "
                            "(ours; Chen et al. 2016)", at_least=0)
    tiles: str = key("", "TOML file of the GPU's tile sizes, written by tools/tune_tiles.py; empty: the built-in one")
    validate_every: int = key(1, "epochs between validations; the last epoch is always validated. 0: none, and the "
                                 "last epoch is the best (data.validation_share still holds out shapes)", at_least=0)
    patience: int = key(0, "stop after so many validations in a row without a better one (early stopping); 0: never",
                        at_least=0)
    checkpoint_seconds: float = key(300.0, "write last.h5 at least this often, in seconds", above=0)
    max_seconds: float = key(0.0, "stop after this many seconds, resumably, and evaluate; 0: no limit", at_least=0)
    detect_anomaly: bool = key(False, "check every layer and stop at the first NaN or infinity, naming the layer: "
                                      "slower, no effect on results")


@dataclass(frozen=True)
class LossConfig:
    """The training loss, how batches are drawn, and how triplets are chosen."""

    kind: str = key("softmax", "'softmax': classification; 'segmentation': a class for each site, for a network that "
                               "gives a row for each, such as a unet, and data with site labels (ours); 'triplet': "
                               "descriptors; 'terms': the weighted sum of those listed, also if it is left out beside "
                               "a list", choices=("softmax", "segmentation", "triplet", "terms"))
    terms: tuple[dict[str, Any], ...] = key((), "terms of kind 'terms', each a table [[loss.terms]] of its kind, "
                                                "weight and settings")
    sampling: str = key("auto", "'shuffled': each object once in an epoch; 'balanced': batches of classes_per_batch "
                                "classes with equally many objects (ours); auto: balanced for contrastive and mined "
                                "losses, shuffled for others, random triplets for unmined ones",
                        choices=("auto", "shuffled", "balanced"))
    pose_weight: float = key(0.0, "weight of the cross entropy of a classifier that tells which of the stored poses "
                                  "was drawn, from the descriptor (ours; Sedaghat et al. 2017); 0: none", at_least=0)
    label_smoothing: float = key(0.0, "share of a label that is spread over all classes (ours)", at_least=0, below=1)
    class_weights: str = key("none", "'balanced': a sample of class c counts objects / (classes * objects of c) in the "
                                     "softmax loss, or a site, by the sites of each part, in that of segmentation; "
                                     "'none': each counts 1", choices=("none", "balanced"))
    margin: float = key(0.2, "margin of the triplet loss (ours: the paper gives none)", at_least=0)
    distance: str = key("cosine", "distance of the triplet loss", choices=("cosine", "l2", "squared_l2"))
    triplets_per_batch: int = key(30, "triplets in a batch of TripletSampler (ours)", at_least=1)
    batches_per_epoch: int = key(0, "triplet or balanced batches in an epoch; 0: enough to show each sample once on "
                                    "average (ours)", at_least=0)
    mining: str = key("none", "'none': the paper's random triplets; 'hard', 'semi_hard': triplets mined in "
                              "class-balanced batches of training.batch_size (ours)",
                      choices=("none", "hard", "semi_hard"))
    classes_per_batch: int = key(10, "classes in a balanced batch; must divide training.batch_size (ours)", at_least=2)


@dataclass(frozen=True)
class OptimizerConfig:
    """SGD, Adam or AdamW; the defaults are those of the paper, which has SGD.

    The paper's code sums the loss gradient over the batch, we take the mean: its learning rate 0.002 corresponds to
    0.002 * batch size here (0.1 for the default of 50).
    """

    kind: str = key("sgd", "'sgd': gradient descent with momentum; 'adam'; 'adamw': Adam with decoupled weight decay "
                           "(ours). Each has keys that the others do not have", choices=("sgd", "adam", "adamw"))
    lr: float = key(0.1, "learning rate at epoch 0 = the paper's 0.002 * batch size 50; adam and adamw: 0.001 if it is "
                         "left out", above=0)
    momentum: float = key(0.99, "decay of the velocity of sgd per step", at_least=0)
    dampening: float = key(0.99, "the velocity adds (1 - dampening) * gradient; in the paper equal to momentum",
                           at_least=0)
    nesterov: bool = key(True, "use Nesterov momentum in sgd")
    beta1: float = key(0.9, "decay per step of the mean gradient of adam and adamw", at_least=0, below=1)
    beta2: float = key(0.999, "decay per step of the mean square gradient of adam and adamw", at_least=0, below=1)
    eps: float = key(1e-8, "what adam and adamw add to the root of the mean square", at_least=1e-30)
    amsgrad: bool = key(False, "adam and adamw divide by the largest mean square so far")
    weight_decay: float = key(0.0, "L2 penalty added to the gradient; adamw: lr * weight_decay of each weight is taken "
                                   "off, 0.01 if it is left out", at_least=0)
    decay_norms_and_biases: bool = key(True, "weight decay acts on biases and on the parameters of norms, too")
    ema: float = key(0.0, "decay per step of an exponential moving average of the weights, such as 0.999, with which "
                          "the network is validated and evaluated; 0: none (ours)", at_least=0, below=1)
    max_gradient_norm: float = key(0.0, "norm to which a larger gradient (of all parameters together) is scaled down "
                                        "before the step; 0: no limit (ours)", at_least=0)


# Defaults of kinds of optimizers, where they differ from those above.
OPTIMIZER_DEFAULTS: dict[str, dict[str, float]] = {"adam": {"lr": 0.001}, "adamw": {"lr": 0.001, "weight_decay": 0.01}}


@dataclass(frozen=True)
class ScheduleConfig:
    """The learning rate over epochs."""

    kind: str = key("exponential", "exponential: lr*exp(-decay*epoch); step: times step_factor every step_epochs; "
                                   "cosine: down to 0 at the last epoch; constant",
                    choices=("exponential", "step", "cosine", "constant"))
    decay: float = key(0.025, "rate of the exponential schedule (the paper's)", at_least=0)
    step_epochs: int = key(50, "epochs between the steps", at_least=1)
    step_factor: float = key(0.1, "factor of the learning rate at each step", above=0)
    warmup: float = key(0.0, "epochs in which the rate rises linearly from 0 to the schedule's, batch by batch (ours)",
                        at_least=0)


@dataclass(frozen=True)
class AugmentationConfig:
    """Random augmentation of training shapes, drawn by (seed, epoch, sample).  Rotation and affine map need a dataset
    with stored meshes, without which a shift is by whole cells; if it has several poses per object, one is drawn in any
    case."""

    rotation: str = key("none", "none, about the up axis, or uniform over all rotations",
                        choices=("none", "upright", "so3"))
    affine: float = key(0.0, "a of the linear map I + U(-a, a)^(3x3) (the paper: 0.2)", at_least=0)
    shift: float = key(0.0, "s of the shift render_size * U(-s, s) per axis (the paper: 0.2)", at_least=0)
    quarter_turns: bool = key(False, "turn by a random multiple of 90 degrees about the up axis, exactly, stored "
                                     "voxels too (ours)")
    mirror: bool = key(False, "flip with probability 1/2 along the first axis other than the up axis, exactly, stored "
                              "voxels too (ours)")
    up_axis: int = key(2, "the up axis of the dataset's meshes or voxels: 0, 1 or 2 is x, y or z. Imported meshes "
                          "stand along z: 2", at_least=0, below=3)


@dataclass(frozen=True)
class EvaluationConfig:
    """The evaluation on the test split; a validation uses one pose and one pass."""

    batch_size: int = key(64, "objects in a batch while evaluating", at_least=1)
    descriptor: str = key("layer", "what shapes are embedded to: the layer before the classifier, or a classifier's "
                                   "class probabilities (ours). The final evaluation of a classifier reports both; "
                                   "embed, search and the curve follow this key", choices=("layer", "probabilities"))
    metric: str = key("auto", "distance for ranking; auto: as in the paper, l2 for a classifier, cosine for triplets; "
                              "cosine for other terms of a loss, but for centres, and for class probabilities",
                      choices=("auto", "cosine", "l2"))
    protocol: str = key("none", "'paper': the first 20 objects of each class by name; '3dshapenets': each pose of "
                                "these, a query being its own first hit; 'none': all",
                        choices=("none", "paper", "3dshapenets"))
    poses: str | tuple[int, ...] = key(
        "first", "stored poses of an object used in the final evaluation: the first, the mean over all, the mean over "
                 "a list of pose numbers such as [0, 4, 8], or the greatest of each number over all (max; class "
                 "probabilities are averaged for the accuracy)", choices=("first", "mean", "max"), at_least=0)
    prior: float = key(0.0, "tau of logit adjustment in the final evaluation: tau * log(share of the class in "
                            "training) is subtracted from each logit. 1: for balanced test sets and class means; below "
                            "0: for a network trained on balanced batches (ours)")
    repetitions: int = key(1, "passes averaged in the final evaluation, each with its own random rotations "
                              "(augmentation.rotation); 1: not rotated", at_least=1)


@dataclass(frozen=True)
class Config:
    """All sections of a config.  `Config()` holds the defaults."""

    data: DataConfig = DataConfig()
    network: NetworkConfig = NetworkConfig()
    training: TrainingConfig = TrainingConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    def text(self) -> str:
        """Every key as TOML; `parse_config` reads it back."""
        lines = []
        for section in fields(self):
            lines.append(f"[{section.name}]")
            values = getattr(self, section.name)
            lines += [f"{f.name} = {as_toml(getattr(values, f.name))}" for f in fields(values)]
            lines.append("")
        return "\n".join(lines)

    def differences(self, other: Config) -> list[str]:
        """'section.key' of every key whose value differs in `other`."""
        return [f"{section.name}.{f.name}"
                for section in fields(self) for f in fields(getattr(self, section.name))
                if getattr(getattr(self, section.name), f.name) != getattr(getattr(other, section.name), f.name)]

    def shown(self, name: str) -> str:
        """The value of 'section.key' as TOML, on one line."""
        section, _, entry = name.partition(".")
        return " ".join(as_toml(getattr(getattr(self, section), entry)).split())
