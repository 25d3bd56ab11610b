"""Trained models that come with the package, each NAME.h5 with its card, NAME.md; what they make of mesh files."""

from sparsenet.models.classification import Classification, classify
from sparsenet.models.folder import (
    FolderDescriptors,
    FoundFiles,
    cache_folder,
    embed_folder,
    embed_meshes,
    search_folder,
)
from sparsenet.models.pretrained import check_models, load_pretrained, model_card, model_names, model_path

__all__ = ["Classification", "FolderDescriptors", "FoundFiles", "cache_folder", "check_models", "classify",
           "embed_folder", "embed_meshes", "load_pretrained", "model_card", "model_names", "model_path",
           "search_folder"]
