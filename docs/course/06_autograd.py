# %% [markdown]
# # 6. Autograd in one sitting
#
# To train a network we need to know, for each of its weights, how the loss would change if the weight changed a
# little: the *gradient*. Nobody derives it by hand. The computation is recorded while it runs, and then walked
# backwards, one small step of the chain rule at a time. This is *reverse-mode automatic differentiation*, and it fits
# on a page.
#
# We write that page, compare it with the library's, and see how to tell a right gradient from a wrong one.

# %%
import matplotlib.pyplot as plt
import numpy as np

import sparsenet as sn
from sparsenet.gradcheck import GradcheckError
from sparsenet.sparse import Geometry

# %% [markdown]
# ## One expression, by hand
#
# Let `c = a * b` and `d = c + a`, with a = 2 and b = 3. So c = 6 and d = 8. How does d react to a?
#
# Walk backwards from d. Its reaction to itself is 1. The sum passes this on unchanged, 1 to c and 1 to a. The product
# passes on what c received, times the *other* factor: `1 * b = 3` to a, and `1 * a = 2` to b. Two ways lead back to a,
# and what they bring is added: 1 + 3 = 4. Check: d = a * (b + 1), so the slope in a is b + 1 = 4.
#
# Two rules are all there is:
#
# - An operation turns the gradient of its output into gradients of its inputs, by a formula of its own.
# - Where several ways lead to one value, their gradients are added.

# %% [markdown]
# ## An engine
#
# A `Value` holds an array, the values that it was computed from, and a function for the first rule. `backward` visits
# the values in an order in which each comes after everything computed from it, so that its gradient is complete before
# it is passed on.

# %%
class Value:
    def __init__(self, array, parents=(), pass_back=None):
        self.array, self.parents, self.pass_back = np.asarray(array, float), parents, pass_back
        self.grad = np.zeros_like(self.array)

    def __add__(self, other):
        return Value(self.array + other.array, (self, other), lambda g: (g, g))

    def __mul__(self, other):
        return Value(self.array * other.array, (self, other), lambda g: (g * other.array, g * self.array))

    def __matmul__(self, other):
        return Value(self.array @ other.array, (self, other), lambda g: (g @ other.array.T, self.array.T @ g))

    def relu(self):
        return Value(np.maximum(self.array, 0), (self,), lambda g: (g * (self.array > 0),))

    def sum(self):
        return Value(self.array.sum(), (self,), lambda g: (np.full(self.array.shape, g),))

    def backward(self):
        self.grad = np.ones_like(self.array)
        for value in reversed(in_order(self)):
            if value.parents:
                for parent, gradient in zip(value.parents, value.pass_back(value.grad), strict=True):
                    parent.grad = parent.grad + gradient


def in_order(value, seen=None):
    """The values that this one was computed from, each before all that were computed from it, and itself."""
    seen = set() if seen is None else seen
    if id(value) in seen:
        return []
    seen.add(id(value))
    return [one for parent in value.parents for one in in_order(parent, seen)] + [value]


a, b = Value(2), Value(3)
d = a * b + a
d.backward()
print(f"d = {d.array}, its gradients: {a.grad} by a, {b.grad} by b")
assert (a.grad, b.grad) == (4, 2)

# %% [markdown]
# These thirty lines differentiate a small network: two matrices with a ReLU between them. `sn.Tensor` gets the same
# gradients.

# %%
rng = np.random.default_rng(0)
arrays = [rng.standard_normal(shape) for shape in ((5, 3), (3, 4), (4, 2))]

x, first, second = (Value(array) for array in arrays)
((x @ first).relu() @ second).sum().backward()

tensors = [sn.Tensor(array, requires_grad=True) for array in arrays]
loss = (sn.maximum(tensors[0] @ tensors[1], 0) @ tensors[2]).sum()
loss.backward()
for value, tensor in zip((x, first, second), tensors, strict=True):
    np.testing.assert_allclose(value.grad, tensor.grad, atol=1e-12)

# %% [markdown]
# ## Why the order matters
#
# Suppose `backward` simply called itself: a value passes its gradient on to its parents as soon as something arrives.
# The answer would be right, but in a chain of doublings, `x = x + x`, each value would be visited twice as often as
# the one after it. The order above visits each once.

# %%
def careless(value, gradient, visits):
    visits[0] += 1
    for parent, own in zip(value.parents, value.pass_back(gradient) if value.parents else (), strict=True):
        careless(parent, own, visits)


chain = Value(1)
for _ in range(12):
    chain = chain + chain
visits = [0]
careless(chain, np.ones(()), visits)
print(f"13 values: {visits[0]:,} visits if each arrival is passed on, {len(in_order(chain))} in order")
assert visits[0] == 2**13 - 1 and len(in_order(chain)) == 13

# %% tags=["picture"] alt="A graph of a, b, c and d: values flow forward, gradients backward, and two of them meet at a"
figure, axis = plt.subplots(figsize=(7, 2.7), layout="constrained")
places = {"a": (0, 1), "b": (0, 0), "c = a * b": (1.5, 0.25), "d = c + a": (3, 0.75)}
words = {"a": "2", "b": "3", "c = a * b": "6", "d = c + a": "8"}
grads = {"a": "1 + 3 = 4", "b": "2", "c = a * b": "1", "d = c + a": "1"}
for start, end in (("a", "c = a * b"), ("b", "c = a * b"), ("c = a * b", "d = c + a"), ("a", "d = c + a")):
    axis.annotate("", places[end], places[start], arrowprops={"arrowstyle": "->", "color": "#3b6ea5", "shrinkA": 42,
                                                              "shrinkB": 42})
for name, (across, up) in places.items():
    axis.text(across, up, f"{name}\nvalue {words[name]}\ngradient {grads[name]}", ha="center", va="center", fontsize=9,
              bbox={"boxstyle": "round", "facecolor": "#e9ecef", "edgecolor": "#3b6ea5"})
axis.set(xlim=(-0.6, 3.6), ylim=(-0.4, 1.4))
axis.set_axis_off()

# %% [markdown]
# ## Is it right?
#
# A formula for a gradient is quickly written and quickly wrong. The test is as old as calculus: move the input a
# little in both directions, and look at the change, `(f(x + h) - f(x - h)) / 2h`. How small is a little? If h is
# large, the function bends away from its slope, and the error grows like h². If h is tiny, the two values agree in
# almost all digits, and their difference is mostly rounding, which is divided by h. The best step lies between.

# %%
steps = 10.0 ** np.arange(-13, 0)
slope = np.cos(1.0)  # of the sine at 1
errors = {"float64": [], "float32": []}
for name, found in errors.items():
    for step in steps:
        up, down = np.sin(np.array([1 + step, 1 - step], name))
        found.append(abs(float(up - down) / (2 * step) - slope))

best = {name: steps[int(np.argmin(found))] for name, found in errors.items()}
print({name: f"best step {best[name]:.0e}, error {min(errors[name]):.0e}" for name in errors})
assert 1e-7 < best["float64"] < 1e-4 and min(errors["float64"]) < 1e-9
assert min(errors["float32"]) > 1e-7  # four or five digits at best: check gradients in float64

# %% tags=["picture"] alt="The error of a finite difference over its step: a V for float64 and a worse one for float32"
figure, axis = plt.subplots(figsize=(5.5, 3.4), layout="constrained")
for (name, found), colour in zip(errors.items(), ("#3b6ea5", "#c4594f"), strict=True):
    axis.loglog(steps, np.maximum(found, 1e-13), "o-", color=colour, label=name)
axis.set(xlabel="step h", ylabel="error of the slope of sin at 1")
axis.grid(alpha=0.3)
axis.legend(frameon=False)

# %% [markdown]
# `sn.gradcheck` does this for every input of a function, along random directions, in float64. It also notices kinks,
# such as that of a ReLU at zero, where there is no slope to compare with.
#
# ## An operation of the library
#
# In sparsenet an operation is a `Function` with two methods on plain arrays. `forward` computes and saves what
# `backward` will need. Here is the sparse convolution of chapter 4, with the gradients of its third exercise and the
# background of chapter 5: a complete operation on a page.

# %%
class Convolution(sn.Function):
    """Features (N, C_in), background (C_in,), weight (K, C_in, C_out) to features (M, C_out), background (C_out,)."""

    def __init__(self, rulebook):
        super().__init__()
        self.rulebook = rulebook

    def pairs(self):
        for k, (begin, end) in enumerate(zip(self.rulebook.pair_splits, self.rulebook.pair_splits[1:], strict=False)):
            yield k, *self.rulebook.pairs[begin:end].T

    def forward(self, features, background, weight):
        self.save(features, background, weight)
        constant = background @ weight.sum(axis=0)
        out = np.tile(constant, (len(self.rulebook.output_sites), 1))
        for k, n, m in self.pairs():
            out[m] += (features[n] - background) @ weight[k]
        return out, constant

    def backward(self, gradient, constant_gradient):
        features, background, weight = self.saved
        of_features, of_weight = np.zeros_like(features), np.zeros_like(weight)
        for k, n, m in self.pairs():
            of_features[n] += gradient[m] @ weight[k].T
            of_weight[k] = (features[n] - background).T @ gradient[m]
        through_constant = gradient.sum(axis=0) + constant_gradient  # it is in every row, and in the background
        of_weight += np.outer(background, through_constant)
        of_background = weight.sum(axis=0) @ through_constant - of_features.sum(axis=0)
        return of_features, of_background, of_weight


grid = np.where(rng.random((1, 2, 6, 6)) < 0.3, rng.standard_normal((1, 2, 6, 6)), 0)
x = sn.SparseTensor.from_dense(grid)
geometry = Geometry.make(2, size=2)
rulebook = x.sites.rulebook(geometry)
inputs = [sn.Tensor(array, requires_grad=True) for array in
          (x.features.numpy(), np.array([0.5, -2.0]), rng.standard_normal((4, 2, 3)))]
assert sn.gradcheck(lambda *tensors: Convolution(rulebook).apply(*tensors), inputs)  # it raises if one is wrong

# %% [markdown]
# ## The gradient of the background
#
# What *is* the gradient of a background? The background stands for all inactive cells at once, so by the second rule
# its gradient is the *sum* of the gradients that these cells would have. We can see it by making every cell a site:
# the same numbers, the same loss, but now each cell has a gradient of its own.

# %%
background = inputs[1].array
full_grid = np.where(grid != 0, grid, background[:, None, None])  # a dense grid with the background filled in
active = (grid != 0).any(axis=1)[0]
weight = inputs[2].detach()

as_sites = sn.Tensor(full_grid[0].reshape(2, -1).T.copy(), requires_grad=True)
everywhere = np.insert(np.argwhere(np.ones((6, 6), bool)), 0, 0, axis=1)
dense = sn.SparseTensor(as_sites, everywhere, (6, 6), 1, background=None)
(sn.ops.convolution(dense, weight, None, geometry).to_dense() ** 2).sum().backward()
of_cells = as_sites.grad.reshape(6, 6, 2)

features = sn.Tensor(full_grid[0][:, active].T.copy(), requires_grad=True)
shared = sn.Tensor(background, requires_grad=True)
sparse = sn.SparseTensor(features, np.insert(np.argwhere(active), 0, 0, axis=1), (6, 6), 1, background=shared)
(sn.ops.convolution(sparse, weight, None, geometry).to_dense() ** 2).sum().backward()

np.testing.assert_allclose(features.grad, of_cells[active], atol=1e-10)  # a site's gradient is that of its cell ...
np.testing.assert_allclose(shared.grad, of_cells[~active].sum(axis=0), atol=1e-10)  # ... the others are summed up
print(f"{(~active).sum()} inactive cells; the gradient of the background is {shared.grad.round(3)}")

# %% [markdown]
# So sparse equals dense in the backward pass, too.
#
# ## What to remember
#
# - Forward records, backward walks the record in reverse, and gradients that meet are added.
# - An operation is a pair of formulas on arrays: `forward` saves, `backward` uses what it saved.
# - Check gradients by central differences in float64. The step is neither large nor tiny.
# - The gradient of the background is the sum over all inactive cells.

# %% [markdown]
# ## Exercises
#
# ### Exercise 1. A new formula
#
# Give `Value` a method `exp`, whose derivative is itself. With it, compute the gradient of `log(sum(exp(x)))` without
# a formula for the logarithm: only the derivative of log at one point is needed, and you may pass it to `pass_back`.
# What do the gradients sum to, and why?

# %% tags=["solution"]
def exp(value):
    out = np.exp(value.array)
    return Value(out, (value,), lambda g: (g * out,))


def log(value):
    return Value(np.log(value.array), (value,), lambda g: (g / value.array,))


x = Value([1.0, 2.0, 4.0])
log(exp(x).sum()).backward()
np.testing.assert_allclose(x.grad, np.exp(x.array) / np.exp(x.array).sum())
np.testing.assert_allclose(x.grad.sum(), 1)  # the softmax: adding 1 to all x adds 1 to the result
print(x.grad.round(4))

# %% [markdown]
# ### Exercise 2. An error of a tenth of a percent
#
# Multiply the gradient of the features by 1.001. Does `sn.gradcheck` notice? Then leave out the term `-
# of_features.sum(axis=0)`. Which test would have missed that?

# %% tags=["solution"]
class Slightly(Convolution):
    def backward(self, gradient, constant_gradient):
        of_features, *others = super().backward(gradient, constant_gradient)
        return 1.001 * of_features, *others


class Forgetful(Convolution):
    def backward(self, gradient, constant_gradient):
        of_features, of_background, of_weight = super().backward(gradient, constant_gradient)
        return of_features, of_background + of_features.sum(axis=0), of_weight


for wrong in (Slightly, Forgetful):
    try:
        sn.gradcheck(lambda *tensors, wrong=wrong: wrong(rulebook).apply(*tensors), inputs)
        raise RuntimeError(f"{wrong.__name__} went unnoticed")
    except GradcheckError as error:
        print(wrong.__name__, "-", str(error).splitlines()[0])
# The term does not depend on the value of the background: the gradient is wrong for any, zero too. But only a test that
# asks for the *gradient of the background* sees it, as here. If the background is a constant, all is well:
constant = [inputs[0], inputs[1].detach(), inputs[2]]
assert sn.gradcheck(lambda *tensors: Forgetful(rulebook).apply(*tensors), constant)

# %% [markdown]
# ### Exercise 3. A long chain
#
# `in_order` calls itself for each parent. What happens for a chain of 5,000 additions? Write it with a loop and a list
# in place of the recursion.

# %% tags=["solution"]
def in_order_by_loop(value):
    order, seen, stack = [], set(), [(value, False)]
    while stack:
        one, parents_done = stack.pop()
        if parents_done:
            order.append(one)
        elif id(one) not in seen:
            seen.add(id(one))
            stack += [(one, True), *((parent, False) for parent in reversed(one.parents))]
    return order


long = start = Value(1)
for _ in range(5000):
    long = long + Value(1)
try:
    in_order(long)
    raise RuntimeError("the recursion should be too deep")
except RecursionError:
    print("too deep for the recursion")
assert len(in_order_by_loop(long)) == 10001
assert [id(one) for one in in_order_by_loop(d)] == [id(one) for one in in_order(d)]  # the same order on a small graph
