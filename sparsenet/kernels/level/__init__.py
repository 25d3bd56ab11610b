"""A level of a network (convolution, leaky ReLU, pooling) beside its convolutions."""
