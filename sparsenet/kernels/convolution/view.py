"""Which way is the cheapest for a pass of a convolution on a CPU, by counting multiply-adds and bytes.

The same sums can be taken over three views of a rulebook:

    outputs    the neighbour table: each output row gathers all K inputs, zeros where there are none
    inputs     the transposed table, from the other side
    pairs      the filled entries alone, offset by offset

A table multiplies every entry, as deep products; pairs multiply only what there is, as shallower products, and
move more for each.  A convolution of stride 1 without padding, for one, fills its transposed table and leaves
gaps in the other.  Costs are in multiply-adds at the rate of a large sgemm; what a gathered or added float
costs beside them was measured on the shapes of S3DCNN (25 to 75% of filled entries, 32 to 192 channels).
"""

from __future__ import annotations

_GATHERED = 10  # a float that a table gathers
_PAIRED = 12  # a float of a pair's input or output row, gathered or added
_PAIRED_WEIGHTS = 20  # the same in the weight gradient, whose products are narrow
_SHALLOW = 4000  # of a pair, divided by the depth of its product: products of depth 1 move more than they multiply


def forward_way(pairs: int, outputs: int, offsets: int, c_in: int, c_out: int) -> str:
    """"outputs" or "pairs".  The input gradient is the same with inputs for outputs and channels swapped."""
    table = outputs * offsets * (c_in * c_out + _GATHERED * c_in)
    listed = pairs * (c_in * c_out + _PAIRED * (c_in + c_out) + _SHALLOW / max(c_in, 1))
    return "pairs" if listed < table else "outputs"


def weight_gradient_way(pairs: int, inputs: int, outputs: int, offsets: int, c_in: int, c_out: int) -> str:
    """"outputs", "inputs" or "pairs"."""
    costs = {
        "outputs": outputs * offsets * (c_in * c_out + _GATHERED * c_in),
        "inputs": inputs * offsets * (c_in * c_out + _GATHERED * c_out),
        "pairs": pairs * (c_in * c_out + _PAIRED_WEIGHTS * (c_in + c_out) + _SHALLOW / max(c_in, 1)),
    }
    return min(costs, key=lambda way: costs[way])
