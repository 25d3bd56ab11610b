"""Training: config, loop, checkpoint; the choice of triplets."""

from sparsenet.training.build import build_network, load_network
from sparsenet.training.checkpoint import (
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    save_checkpoint,
    weights_digest,
)
from sparsenet.training.config import (
    Config,
    ConfigError,
    describe_keys,
    find_config,
    load_config,
    parse_config,
)
from sparsenet.training.loop import TrainingResult, train
from sparsenet.training.mining import batch_hard, semi_hard

__all__ = ["Checkpoint", "CheckpointError", "Config", "ConfigError", "TrainingResult", "batch_hard", "build_network",
           "describe_keys", "find_config", "load_checkpoint", "load_config", "load_network", "parse_config",
           "save_checkpoint", "semi_hard", "train", "weights_digest"]
