"""Descriptors of shapes, exact search, and the evaluation of rankings."""

from sparsenet.retrieval.descriptors import Descriptors
from sparsenet.retrieval.embedding import embed, logit_adjustment
from sparsenet.retrieval.index import Index
from sparsenet.retrieval.metrics import evaluate
from sparsenet.retrieval.result import AtRank, ClassHits, Evaluation, PrecisionRecall, Scores
from sparsenet.retrieval.search import Found, find_similar

__all__ = ["AtRank", "ClassHits", "Descriptors", "Evaluation", "Found", "Index", "PrecisionRecall", "Scores", "embed",
           "evaluate", "find_similar", "logit_adjustment"]
