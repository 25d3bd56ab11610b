"""A level of a network (convolution, leaky ReLU, pooling) apart from its convolutions."""
