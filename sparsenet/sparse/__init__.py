"""Where features live: active sites, filter geometries, rulebooks, sparse tensors."""

from sparsenet.sparse.geometry import Geometry
from sparsenet.sparse.rulebook import Rulebook, prepare
from sparsenet.sparse.sites import ActiveSites
from sparsenet.sparse.tensor import SparseTensor

__all__ = ["ActiveSites", "Geometry", "Rulebook", "SparseTensor", "prepare"]
