"""Proxy-anchor loss: each class has a proxy, which all descriptors of a batch pull or push, the hardest ones most.

    s[i, k] = x_i p_k / (|x_i| |p_k|)                  cosine of descriptor i and proxy k
    P+ = the proxies whose class is in the batch, P = all proxies
    loss = 1/|P+| sum over k in P+ of log(1 + sum over i of class k     of exp(-alpha (s[i, k] - margin)))
         + 1/|P|  sum over k in P  of log(1 + sum over i of other class of exp( alpha (s[i, k] + margin)))

Source: Kim et al., Proxy anchor loss for deep metric learning (2020), equation 4.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sparsenet.autograd import Function, Tensor
from sparsenet.backend import array_module
from sparsenet.ops.labels import class_labels
from sparsenet.ops.unit_vectors import check_rows, checked_number, one_hot, product, unit_gradient, unit_vectors


class ProxyAnchor(Function):
    def __init__(self, labels: Any, alpha: float, margin: float):
        super().__init__()
        self.labels, self.alpha, self.margin = labels, alpha, margin

    def forward(self, descriptors: Any, proxies: Any) -> Any:
        xp = array_module(descriptors)
        (units, norms), (vectors, lengths) = unit_vectors(descriptors), unit_vectors(proxies)
        cosines = product(units, vectors.T)
        of_class = one_hot(self.labels, len(vectors)) > 0
        present = xp.maximum(of_class.any(axis=0).sum(), 1)
        pulled, near = _log_one_plus_sum(self.alpha * (self.margin - cosines), of_class)
        pushed, far = _log_one_plus_sum(self.alpha * (self.margin + cosines), ~of_class)
        if any(self.needs):
            self.save(self.alpha * (far / len(vectors) - near / present), units, norms, vectors, lengths)
        return (pulled.sum() / present + pushed.sum() / len(vectors)).astype(descriptors.dtype)

    def backward(self, gradient: Any) -> tuple[Any, Any]:
        slopes, units, norms, vectors, lengths = self.saved
        slopes, dtype = slopes * gradient.astype(np.float64), gradient.dtype
        of_descriptors = of_proxies = None
        if self.needs[0]:
            of_descriptors = unit_gradient(product(slopes, vectors), units, norms).astype(dtype)
        if self.needs[1]:
            of_proxies = unit_gradient(product(slopes.T, units), vectors, lengths).astype(dtype)
        return of_descriptors, of_proxies


def _log_one_plus_sum(exponents: Any, counted: Any) -> tuple[Any, Any]:
    """log(1 + sum of exp(e) over the counted rows) of each column, and its derivative by each exponent."""
    xp = array_module(exponents)
    exponents = xp.concatenate([xp.zeros((1, exponents.shape[1])), xp.where(counted, exponents, -np.inf)])
    largest = exponents.max(axis=0)
    terms = xp.exp(exponents - largest)
    totals = terms.sum(axis=0)
    return largest + xp.log(totals), terms[1:] / totals


def proxy_anchor(descriptors: Tensor, proxies: Tensor, labels: Any, alpha: float = 32.0, margin: float = 0.1) -> Tensor:
    """The proxy-anchor loss of a batch: a Tensor ().

    descriptors : Tensor (B, C); float16 is converted to float32, the dtype of the loss then
    proxies : Tensor (classes, C) of the same dtype, learned: the paper gives them 100 times the learning rate of the
        network
    labels : (B,) integers 0 ... classes-1 of any dtype, a list, array or Tensor; on the host or on the same device
    alpha : above 0;  margin : at least 0; both defaults are the paper's

    An empty batch has loss 0.  A zero vector has cosine 0 with all others, and gradient 0.

    Raises
    ------
    TypeError : an argument is not a Tensor of floats, the dtypes differ, or labels are not integers.
    ValueError : a shape does not fit, a label is out of range (the row is named), or a setting is.

    Example
    -------
    >>> rows, proxies = Tensor([[3.0, 0.0], [0.0, 2.0]]), Tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> round(proxy_anchor(rows, proxies, [0, 1]).item(), 3), round(proxy_anchor(rows, proxies, [1, 0]).item(), 1)
    (3.24, 38.4)
    """
    name = "proxy_anchor"
    alpha = checked_number(name, "alpha", alpha, above=True)
    margin = checked_number(name, "margin", margin)
    descriptors = check_rows(name, "descriptors", descriptors)
    proxies = check_rows(name, "proxies", proxies, descriptors)
    if not len(proxies.array):
        raise ValueError(f"{name}: proxies have shape {proxies.shape}, expected at least one")
    labels = class_labels(name, labels, descriptors, "descriptors", proxies.shape[0], "the proxies are of")
    return ProxyAnchor(labels, alpha, margin).apply(descriptors, proxies)
