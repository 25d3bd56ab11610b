"""The puzzles, a folder each, in the order in which they are meant to be solved."""

NUMPY = ("offsets", "keys", "lookup", "outputs", "neighbours", "pairs", "convolution", "background", "max_pool",
         "backward")
CUDA = ("scale", "stride_loop", "gather", "mirror", "block_sum", "warp_sum", "histogram", "hash_insert",
        "convolution_kernel", "tiled_convolution")
NAMES = NUMPY + CUDA
