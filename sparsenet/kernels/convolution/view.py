"""The view of a rulebook that a pass of a convolution goes through on a CPU: the cheapest, in multiply-adds and bytes.

The same sums can be taken over three views:

    neighbours              each output row gathers K input rows, zeros for inactive cells
    transposed neighbours   each input row gathers K output rows
    pairs                   offset by offset, the pairs alone

Over neighbours, all K entries of a row are multiplied in one deep product; over pairs only those that exist, in
shallow products that move more for each.  A convolution of stride 1 without padding, for one, fills its transposed
neighbours and leaves gaps in the neighbours.  Costs are in multiply-adds at the rate of a large sgemm; the cost of
moving a float was measured on the shapes of S3DCNN (25 to 75% of the entries filled, 32 to 192 channels).
"""

from __future__ import annotations

from sparsenet.kernels.arguments import RulebookViews

_GATHER_COST = 10  # of a float gathered through neighbours
_PAIR_COST = 12  # of a float of a pair's input or output row, gathered or added
_WEIGHT_PAIR_COST = 20  # the same in the weight gradient, whose products are narrow
_SHALLOW_COST = 4000  # of a pair, divided by the depth of its product: products of depth 1 move more than they multiply


def forward_view(rulebook: RulebookViews, c_in: int, c_out: int) -> str:
    """"neighbours" or "pairs", for C_in to C_out channels."""
    limit = break_even_pairs(rulebook.shape[1], rulebook.shape[2], c_in, c_out)
    return "pairs" if _has_fewer_pairs(rulebook, limit) else "neighbours"


def input_gradient_view(rulebook: RulebookViews, c_in: int, c_out: int) -> str:
    """"transposed_neighbours" or "pairs", for C_in to C_out channels; "neighbours" in place of the former if the
    rulebook is submanifold: they are the same, with the offsets reversed."""
    limit = break_even_pairs(rulebook.shape[0], rulebook.shape[2], c_out, c_in)
    if _has_fewer_pairs(rulebook, limit):
        return "pairs"
    return "neighbours" if rulebook.submanifold else "transposed_neighbours"


def weight_gradient_view(rulebook: RulebookViews, c_in: int, c_out: int) -> str:
    """"neighbours", "transposed_neighbours" or "pairs", for C_in to C_out channels."""
    inputs, outputs, offsets = rulebook.shape
    product = c_in * c_out
    costs = {
        "neighbours": outputs * offsets * (product + _GATHER_COST * c_in),
        "transposed_neighbours": inputs * offsets * (product + _GATHER_COST * c_out),
        "pairs": rulebook.pair_count * (product + _WEIGHT_PAIR_COST * (c_in + c_out) + _SHALLOW_COST / max(c_in, 1)),
    }
    view = min(costs, key=lambda name: costs[name])
    return "neighbours" if view == "transposed_neighbours" and rulebook.submanifold else view


def break_even_pairs(rows: int, offsets: int, depth: int, width: int) -> float:
    """The number of pairs from which on products over neighbours cost less than products over the pairs.

    rows : that are made, each from up to `offsets` rows of `depth` channels, with `width` channels
    """
    over_neighbours = rows * offsets * (depth * width + _GATHER_COST * depth)
    each_pair = depth * width + _PAIR_COST * (depth + width) + _SHALLOW_COST / max(depth, 1)
    return over_neighbours / each_pair


def _has_fewer_pairs(rulebook: RulebookViews, limit: float) -> bool:
    """Whether there are fewer pairs than `limit`; they are counted only if their bounds leave it open."""
    if rulebook.shape[1] >= limit:  # each output site is in a pair
        return False
    return rulebook.max_pairs < limit or rulebook.pair_count < limit
