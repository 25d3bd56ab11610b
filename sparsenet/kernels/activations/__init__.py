"""Leaky ReLU and its gradient, element by element."""
