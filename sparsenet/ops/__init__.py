"""Operations: each a forward, a backward and a public function, on one page."""

from sparsenet.ops import arithmetic, comparison, elementwise, methods, reductions, shaping, sparse_arithmetic
from sparsenet.ops.add import add
from sparsenet.ops.average_pool import average_pool, sum_pool
from sparsenet.ops.batch_norm import batch_norm
from sparsenet.ops.broadcast import broadcast
from sparsenet.ops.cast import cast
from sparsenet.ops.centre_loss import centre_loss, triplet_centre_loss
from sparsenet.ops.concatenate import concatenate
from sparsenet.ops.contrastive import supervised_contrastive
from sparsenet.ops.convolution import convolution
from sparsenet.ops.cosine_linear import cosine_linear
from sparsenet.ops.cosine_softmax import cosine_softmax, cosine_softmax_with_figures
from sparsenet.ops.dense import to_dense
from sparsenet.ops.depth_images import depth_images, image_pool
from sparsenet.ops.dropout import dropout
from sparsenet.ops.exponentials import elu, gelu, sigmoid, silu, tanh
from sparsenet.ops.global_pool import global_pool
from sparsenet.ops.group_norm import group_norm, instance_norm
from sparsenet.ops.inverse_convolution import inverse_convolution
from sparsenet.ops.join import join
from sparsenet.ops.layer_norm import layer_norm
from sparsenet.ops.leaky_relu import leaky_relu
from sparsenet.ops.level import level
from sparsenet.ops.linear import linear
from sparsenet.ops.max_pool import max_pool
from sparsenet.ops.points import at_points, from_points
from sparsenet.ops.prelu import prelu
from sparsenet.ops.proxy_anchor import proxy_anchor
from sparsenet.ops.prune import prune
from sparsenet.ops.softmax import softmax
from sparsenet.ops.softmax_cross_entropy import softmax_cross_entropy, softmax_cross_entropy_with_figures
from sparsenet.ops.transposed_convolution import transposed_convolution
from sparsenet.ops.triplet_loss import triplet_loss
from sparsenet.ops.upsample import upsample

__all__ = [
    "add",
    "arithmetic",
    "at_points",
    "average_pool",
    "batch_norm",
    "broadcast",
    "cast",
    "centre_loss",
    "comparison",
    "concatenate",
    "convolution",
    "cosine_linear",
    "cosine_softmax",
    "cosine_softmax_with_figures",
    "depth_images",
    "dropout",
    "elementwise",
    "elu",
    "from_points",
    "gelu",
    "global_pool",
    "group_norm",
    "image_pool",
    "instance_norm",
    "inverse_convolution",
    "join",
    "layer_norm",
    "leaky_relu",
    "level",
    "linear",
    "max_pool",
    "methods",
    "prelu",
    "proxy_anchor",
    "prune",
    "reductions",
    "shaping",
    "sigmoid",
    "silu",
    "softmax",
    "softmax_cross_entropy",
    "softmax_cross_entropy_with_figures",
    "sparse_arithmetic",
    "sum_pool",
    "supervised_contrastive",
    "tanh",
    "to_dense",
    "transposed_convolution",
    "triplet_centre_loss",
    "triplet_loss",
    "upsample",
]
