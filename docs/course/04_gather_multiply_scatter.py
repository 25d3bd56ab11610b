# %% [markdown]
# # 4. Gather, multiply, scatter
#
# The rulebook says which input row meets which weight for which output row. Now we compute with it. The result will be
# compared, cell by cell, with the plainest convolution there is: loops over a dense grid.

# %%
import matplotlib.pyplot as plt
import numpy as np

import sparsenet as sn
from sparsenet.kernels import launch
from sparsenet.random import keyed_rng
from sparsenet.shapes import parametric_mesh
from sparsenet.sparse import ActiveSites, Geometry

rng = np.random.default_rng(0)

# %% [markdown]
# ## The dense loop
#
# A cell of the input holds a vector of C_in numbers, a cell of the output one of C_out. So the weight of one offset is
# a matrix (C_in, C_out), and the weights of the filter are an array (K, C_in, C_out). The value of output m is
#
#     out[m] = sum over k of  x[m * stride + k] @ W[k]
#
# Deep-learning libraries call this a convolution. A mathematician would flip the filter and call ours a
# cross-correlation; as the weights are learned, it makes no difference.

# %%
def dense_convolution(grid, weight, geometry):
    """grid (X, Y, C_in), weight (K, C_in, C_out) -> out (X', Y', C_out), and the number of vectors multiplied."""
    out, products = np.zeros((*geometry.output_size(grid.shape[:2]), weight.shape[2])), 0
    for cell in np.ndindex(out.shape[:2]):
        for k, offset in enumerate(geometry.kernel_offsets):
            out[cell] += grid[tuple(np.multiply(cell, geometry.stride) + offset)] @ weight[k]
            products += 1
    return out, products


# %% [markdown]
# As an example take an 8 x 8 grid with ten sites of three channels, and a 3 x 3 filter that makes four channels.

# %%
cells = np.stack(np.unravel_index(rng.choice(64, 10, replace=False), (8, 8)), axis=1)
sites = ActiveSites(np.insert(cells, 0, 0, axis=1), (8, 8), batch_size=1)
features = rng.standard_normal((10, 3))
weight = rng.standard_normal((9, 3, 4))
geometry = Geometry.make(2, size=3)

grid = np.zeros((8, 8, 3))
grid[tuple(sites.coordinates[:, 1:].T)] = features
dense, products = dense_convolution(grid, weight, geometry)
print(f"The dense loop multiplies {products} vectors by matrices, {(grid != 0).any(axis=2).sum()} cells are not zero")

# %% [markdown]
# ## The sparse loop
#
# The same sum, but only over the pairs of the rulebook. The order of the loops is different: the offset is outside.
# For one offset there is one matrix W[k], and all its pairs go through it together:
#
# 1. **Gather** the input rows of the pairs into a matrix (P_k, C_in).
# 2. **Multiply** it by W[k], a matrix product of the kind that processors do best.
# 3. **Scatter** the rows of the result: add each to its output row.

# %%
def sparse_convolution(features, weight, rulebook):
    out, products = np.zeros((len(rulebook.output_sites), weight.shape[2])), 0
    for k in range(len(weight)):
        n, m = rulebook.pairs[rulebook.pair_splits[k]:rulebook.pair_splits[k + 1]].T
        gathered = features[n]
        multiplied = gathered @ weight[k]
        out[m] += multiplied
        products += len(n)
    return out, products


rulebook = sites.rulebook(geometry)
sparse, products = sparse_convolution(features, weight, rulebook)
print(f"The sparse loop multiplies {products} vectors: {rulebook}")

places = tuple(rulebook.output_sites.coordinates[:, 1:].T)
np.testing.assert_allclose(sparse, dense[places], atol=1e-12)  # it equals the dense loop at the output sites ...
elsewhere = np.ones(dense.shape[:2], bool)
elsewhere[places] = False
assert (dense[elsewhere] == 0).all()  # ... and there is nothing anywhere else

# %% [markdown]
# Look at the line `out[m] += multiplied`. In NumPy, `out[m] += ...` with a repeated index in `m` keeps only one of the
# additions, a well-known trap. Here it is safe, because within one offset no output row occurs twice (chapter 3). On a
# GPU the same fact means that no two threads write to the same place, so no atomic operation is needed.

# %%
trap = np.zeros(1)
trap[[0, 0]] += 1
assert trap[0] == 1  # not 2
for k in range(9):
    m = rulebook.pairs[rulebook.pair_splits[k]:rulebook.pair_splits[k + 1], 1]
    assert len(np.unique(m)) == len(m)

# %% tags=["picture"] alt="One offset: rows are collected, multiplied by a matrix, and added to rows of the output"
k = int(np.diff(rulebook.pair_splits).argmax())
n, m = rulebook.pairs[rulebook.pair_splits[k]:rulebook.pair_splits[k + 1]].T
panels = {"features (N, C_in)": features, f"gathered: rows {n.tolist()}": features[n],
          f"weight of offset {k}": weight[k], "product": features[n] @ weight[k],
          "added to the output (M, C_out)": np.zeros_like(sparse)}
panels["added to the output (M, C_out)"][m] = features[n] @ weight[k]
figure, axes = plt.subplots(1, 5, figsize=(11, 3.6), layout="constrained")
for axis, (title, values) in zip(axes, panels.items(), strict=True):
    axis.imshow(values, cmap="RdBu_r", vmin=-3, vmax=3, aspect="equal", interpolation="nearest")
    axis.set_title(title, fontsize=8)
    axis.set_xticks([])
    axis.set_yticks(range(len(values)), [""] * len(values))

# %% [markdown]
# ## The library's layer
#
# `launch` runs a kernel of the library by its name. It takes the same arrays, with a constant row that we do not need
# yet. `sn.ops.convolution` does the same for a `SparseTensor`, and `sn.nn.SparseConv` is a layer that owns its
# weights.

# %%
np.testing.assert_allclose(launch("convolution_forward", features, weight, rulebook, None), sparse, atol=1e-12)

layer = sn.nn.SparseConv(3, 4, kernel_size=3, dimension=2, bias=False).to(dtype="float64")
layer.weight.array = weight
x = sn.SparseTensor(features, sites.coordinates, (8, 8), batch_size=1)
y = layer(x)
np.testing.assert_allclose(y.features.numpy(), sparse, atol=1e-12)
np.testing.assert_allclose(y.to_dense().numpy()[0], dense.transpose(2, 0, 1), atol=1e-12)  # every cell, active or not

# %% [markdown]
# ## What is saved
#
# The dense loop multiplies M_all * K vectors, M_all being all cells of the output; the sparse loop multiplies one for
# each pair. For a filter of 3 x 3 x 3 on the voxels of a chair:

# %%
chair = parametric_mesh("chair", keyed_rng(0, "chair", 3))
ratios = []
for size in (10, 20, 40, 80):
    shape, _ = sn.Off3DPicture(chair, render_size=size).voxelize((size,) * 3)
    voxels = ActiveSites(np.insert(shape, 0, 0, axis=1), (size,) * 3, batch_size=1)
    pairs = len(voxels.rulebook(Geometry.make_submanifold(3, size=3)).pairs)
    ratios.append(27 * size**3 / pairs)
    print(f"{size:>2} cells: {27 * size**3:>10,} products dense, {pairs:>7,} sparse: {ratios[-1]:5.1f} times fewer")
assert all(later > 1.5 * earlier for earlier, later in zip(ratios, ratios[1:], strict=False))

# %% [markdown]
# The saving doubles with each doubling of the resolution, because the share of active cells halves. Fewer products do
# not translate into time one to one: gathering and scattering move memory, and small matrices are less efficient than
# large ones. That is why the library has several ways through the same rulebook, and picks one by its size.
#
# ## Does the order matter?
#
# Mathematically, no. In floating point, yes: addition rounds, and another order of the same numbers gives another last
# bit. Many libraries let threads add in the order in which they finish, and so return different bits in each run.
# sparsenet adds in the order of the rulebook, however many threads there are.

# %%
numbers = np.array([1e8, 1, -1e8, 1], np.float32)
forwards, sorted_first = np.float32(0), np.float32(0)
for number in numbers:
    forwards += number
for number in np.sort(numbers):
    sorted_first += number
print(f"the sum is 2; in float32 it comes out as {forwards} or {sorted_first}, depending on the order")
assert forwards != sorted_first

before, bits = sn.get_num_threads(), set()
big_rulebook = voxels.rulebook(Geometry.make_submanifold(3, size=3))
big_features = rng.standard_normal((len(voxels), 16), np.float32)
big_weight = rng.standard_normal((27, 16, 16), np.float32)
for threads in (1, 2, 5):
    sn.set_num_threads(threads)
    out = launch("convolution_forward", big_features, big_weight, big_rulebook, None)
    bits.add(out.tobytes())
sn.set_num_threads(before)
assert len(bits) == 1  # the same bits for 1, 2 and 5 threads

# %% [markdown]
# ## What to remember
#
# - For each offset: gather the input rows, multiply them by one matrix, add the results to the output rows.
# - It equals the dense convolution in every cell, as long as inactive cells are zero and stay zero. The next chapter
#   removes this condition.
# - Within one offset no output row occurs twice, so the additions need no atomics, and their order can be fixed.

# %% [markdown]
# ## Exercises
#
# ### Exercise 1. The order of the neighbours
#
# Write the convolution with the other view: a loop over the *outputs*, reading `rulebook.neighbours`. It never writes
# to the same place from two outputs. Which of the two would you rather run on a thousand threads, and what does it
# cost?

# %% tags=["solution"]
def by_output(features, weight, rulebook):
    out = np.zeros((len(rulebook.output_sites), weight.shape[2]))
    for m, row in enumerate(rulebook.neighbours):
        for k, n in enumerate(row):
            if n >= 0:
                out[m] += features[n] @ weight[k]
    return out


np.testing.assert_allclose(by_output(features, weight, rulebook), sparse, atol=1e-12)
# Each output can have a thread of its own, with no coordination at all. The cost: it reads M * K numbers, most of them
# -1, to find P pairs, and the products are of single vectors, unless many outputs are taken together.
print(f"{rulebook.neighbours.size} entries for {len(rulebook.pairs)} pairs")
assert rulebook.neighbours.size > 2 * len(rulebook.pairs)

# %% [markdown]
# ### Exercise 2. Stride
#
# Neither function of this chapter mentions the stride in the sparse loop. Does it work for stride 2, and for two
# strides that differ? Test it against the dense loop.

# %% tags=["solution"]
# It works as it is: the stride is in the rulebook.
for strided in (Geometry.make(2, size=3, stride=2), Geometry.make(2, size=2, stride=(1, 3))):
    rules, some = sites.rulebook(strided), weight[:strided.volume]
    expected, _ = dense_convolution(grid, some, strided)
    found, _ = sparse_convolution(features, some, rules)
    np.testing.assert_allclose(found, expected[tuple(rules.output_sites.coordinates[:, 1:].T)], atol=1e-12)

# %% [markdown]
# ### Exercise 3. The way back
#
# Suppose we know the gradient of some loss by the output, `d` of shape (M, C_out). By the rule `out[m] += x[n] @
# W[k]`, which gradient does input row n get from the pair (n, m) of offset k, and which gradient does W[k] get? Write
# both as gather, multiply, scatter, and check one entry of each by changing it a little.

# %% tags=["solution"]
def gradients(features, weight, rulebook, d):
    of_features, of_weight = np.zeros_like(features), np.zeros_like(weight)
    for k in range(len(weight)):
        n, m = rulebook.pairs[rulebook.pair_splits[k]:rulebook.pair_splits[k + 1]].T
        of_features[n] += d[m] @ weight[k].T  # gather from the outputs, scatter to the inputs
        of_weight[k] = features[n].T @ d[m]  # gather from both
    return of_features, of_weight


d = rng.standard_normal(sparse.shape)
of_features, of_weight = gradients(features, weight, rulebook, d)
step = 1e-6
moved = features.copy()
moved[4, 1] += step
change = ((sparse_convolution(moved, weight, rulebook)[0] - sparse) * d).sum() / step
np.testing.assert_allclose(change, of_features[4, 1], rtol=1e-6)
moved = weight.copy()
moved[5, 2, 3] += step
change = ((sparse_convolution(features, moved, rulebook)[0] - sparse) * d).sum() / step
np.testing.assert_allclose(change, of_weight[5, 2, 3], rtol=1e-6, atol=1e-8)
