"""Descriptors of shapes, exact search, and the evaluation of rankings."""

from sparsenet.retrieval.descriptors import Descriptors
from sparsenet.retrieval.embedding import embed
from sparsenet.retrieval.index import Index
from sparsenet.retrieval.metrics import evaluate
from sparsenet.retrieval.result import Evaluation, Scores
from sparsenet.retrieval.search import Found, find_similar

__all__ = ["Descriptors", "Evaluation", "Found", "Index", "Scores", "embed", "evaluate", "find_similar"]
