"""The step of gradient descent with momentum, all parameters in few launches."""
