"""Operations: each a forward, a backward and a public function, on one page."""

from sparsenet.ops import arithmetic, comparison, elementwise, methods, reductions, shaping, sparse_arithmetic
from sparsenet.ops.add import add
from sparsenet.ops.batch_norm import batch_norm
from sparsenet.ops.cast import cast
from sparsenet.ops.concatenate import concatenate
from sparsenet.ops.convolution import convolution
from sparsenet.ops.dense import to_dense
from sparsenet.ops.dropout import dropout
from sparsenet.ops.global_pool import global_pool
from sparsenet.ops.inverse_convolution import inverse_convolution
from sparsenet.ops.leaky_relu import leaky_relu
from sparsenet.ops.level import level
from sparsenet.ops.linear import linear
from sparsenet.ops.max_pool import max_pool
from sparsenet.ops.softmax_cross_entropy import softmax_cross_entropy, softmax_cross_entropy_with_figures
from sparsenet.ops.triplet_loss import triplet_loss

__all__ = [
    "add",
    "arithmetic",
    "batch_norm",
    "cast",
    "comparison",
    "concatenate",
    "convolution",
    "dropout",
    "elementwise",
    "global_pool",
    "inverse_convolution",
    "leaky_relu",
    "level",
    "linear",
    "max_pool",
    "methods",
    "reductions",
    "shaping",
    "softmax_cross_entropy",
    "softmax_cross_entropy_with_figures",
    "sparse_arithmetic",
    "to_dense",
    "triplet_loss",
]
