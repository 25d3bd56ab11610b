"""The step of gradient descent with momentum, many parameters in each launch."""
