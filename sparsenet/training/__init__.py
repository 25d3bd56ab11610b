"""Training: config, loop, checkpoints and triplet mining."""

from sparsenet.training.build import build_network, load_network
from sparsenet.training.checkpoint import (
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    save_checkpoint,
)
from sparsenet.training.config import ConfigError, find_config, load_config, parse_config
from sparsenet.training.events import Event
from sparsenet.training.key_reference import describe_keys
from sparsenet.training.loop import TrainingResult, train
from sparsenet.training.mining import batch_hard, semi_hard
from sparsenet.training.rate_finder import LearningRates, find_learning_rate
from sparsenet.training.schema import Config
from sparsenet.training.trained import embed_shapes, open_shapes, part_settings

__all__ = ["Checkpoint", "CheckpointError", "Config", "ConfigError", "Event", "LearningRates", "TrainingResult",
           "batch_hard", "build_network", "describe_keys", "embed_shapes", "find_config", "find_learning_rate",
           "load_checkpoint", "load_config", "load_network", "open_shapes", "parse_config", "part_settings",
           "save_checkpoint", "semi_hard", "train"]
