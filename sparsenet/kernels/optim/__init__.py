"""The steps of gradient descent with momentum and of Adam, many parameters in each launch."""
