"""The sparse grid: active sites, filter geometries, rulebooks, sparse tensors."""

from sparsenet.sparse.geometry import Geometry
from sparsenet.sparse.imaging import DepthImaging
from sparsenet.sparse.plan import Branches, ConvolutionStep, PoolingStep, prepare
from sparsenet.sparse.reversed_rulebook import ReversedRulebook
from sparsenet.sparse.rulebook import Rulebook
from sparsenet.sparse.sites import ActiveSites
from sparsenet.sparse.spacing import Spacing
from sparsenet.sparse.tensor import SparseTensor
from sparsenet.sparse.union import intersection, union
from sparsenet.sparse.upsampling import Upsampling

__all__ = [
    "ActiveSites",
    "Branches",
    "ConvolutionStep",
    "DepthImaging",
    "Geometry",
    "PoolingStep",
    "ReversedRulebook",
    "Rulebook",
    "Spacing",
    "SparseTensor",
    "Upsampling",
    "intersection",
    "prepare",
    "union",
]
