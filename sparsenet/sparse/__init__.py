"""The sparse grid: active sites, filter geometries, rulebooks, sparse tensors."""

from sparsenet.sparse.geometry import Geometry
from sparsenet.sparse.plan import Branches, ConvolutionStep, prepare
from sparsenet.sparse.rulebook import ReversedRulebook, Rulebook
from sparsenet.sparse.sites import ActiveSites
from sparsenet.sparse.tensor import SparseTensor
from sparsenet.sparse.union import intersection, union

__all__ = [
    "ActiveSites",
    "Branches",
    "ConvolutionStep",
    "Geometry",
    "ReversedRulebook",
    "Rulebook",
    "SparseTensor",
    "intersection",
    "prepare",
    "union",
]
