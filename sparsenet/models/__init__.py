"""Trained models that come with the package, each NAME.h5 with its card, NAME.md; and classification by one."""

from sparsenet.models.classification import Classification, classify
from sparsenet.models.pretrained import check_models, load_pretrained, model_card, model_names, model_path

__all__ = ["Classification", "check_models", "classify", "load_pretrained", "model_card", "model_names", "model_path"]
