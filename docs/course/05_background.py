# %% [markdown]
# # 5. The background and exactness
#
# So far the inactive cells were zero, and stayed zero. A real network breaks this at its first layer: it adds a bias.
# A dense layer adds the bias to every cell, the empty ones included, and from then on the empty cells are not empty.
#
# Sparse libraries answer in two ways. Most of them skip the empty cells and let the bias act on the sites alone; the
# result is *another* network than the dense one, sometimes a good one. The other answer goes back to Graham's first
# sparse networks (2014): notice that all empty cells are still *equal*, and carry their common value along. sparsenet
# calls it the *background*. It costs one vector for each layer, and makes the sparse network equal to the dense one in
# every cell.

# %%
import matplotlib.pyplot as plt
import numpy as np

import sparsenet as sn
from sparsenet.sparse import Geometry

# %% [markdown]
# ## One layer, by hand
#
# A line of six cells, one active with the value 4. The filter has the weights 2 and 3, and the bias is 10. The dense
# layer computes `2 x[m] + 3 x[m + 1] + 10` at each of five positions:
#
#     input     0   0   4   0   0   0
#     output   10  22  18  10  10
#
# Two outputs see the site. All others are 10: their common value is the background of the output. A sparse layer has
# to compute two rows and one constant.

# %%
x = sn.SparseTensor(np.array([[4.0]]), np.array([[0, 2]]), spatial_size=(6,), batch_size=1)
weight, bias = sn.Tensor(np.array([[[2.0]], [[3.0]]])), sn.Tensor(np.array([10.0]))
y = sn.ops.convolution(x, weight, bias, Geometry.make(1, size=2))
print("sites", y.coordinates[:, 1].tolist(), "features", y.features.tolist(), "background", y.background.tolist())
assert y.coordinates[:, 1].tolist() == [1, 2]
assert y.background.tolist() == [10.0]
assert y.to_dense().tolist() == [[[10, 22, 18, 10, 10]]]

# %% [markdown]
# ## A second layer
#
# Now the inactive cells hold 10, not 0. The next layer, with the same weights, meets windows such as (10, 22): one
# cell is a site, the other is background. Must we now store all the tens? No. Convolution is *linear*. Write each cell
# as the background plus a difference:
#
#     x[m] = u + (x[m] - u)
#
# The differences are zero in all inactive cells, so the sparse loop of chapter 4 applies to them. And a grid full of u
# gives the same value at every position, `u * (sum of the weights) + b`, one row for the whole grid:
#
#     out[m] = sum over k of  (x[m + k] - u) @ W[k]   +   u @ (sum over k of W[k]) + b
#
# That row is also the background of the output, since a window without any site sees nothing but u.

# %%
def convolution_with_background(features, background, weight, bias, rulebook):
    """(features, background) of the output."""
    differences = features - background
    constant = background @ weight.sum(axis=0) + bias
    out = np.tile(constant, (len(rulebook.output_sites), 1))
    for k in range(len(weight)):
        n, m = rulebook.pairs[rulebook.pair_splits[k]:rulebook.pair_splits[k + 1]].T
        out[m] += differences[n] @ weight[k]
    return out, constant


geometry = Geometry.make(1, size=2)
arrays = [one.numpy() for one in (y.features, y.background, weight, bias)]
features, background = convolution_with_background(*arrays, y.sites.rulebook(geometry))
z = sn.ops.convolution(y, weight, bias, geometry)
assert np.array_equal(features, z.features.numpy()) and np.array_equal(background, z.background.numpy())

line = y.to_dense().numpy()[0, 0]
assert z.to_dense().tolist() == [[(2 * line[:-1] + 3 * line[1:] + 10).tolist()]]
print("background", z.background.tolist(), "all cells", z.to_dense().numpy()[0, 0])

# %% [markdown]
# The background went from 0 to 10 to `10 * (2 + 3) + 10 = 60`. Nobody stored a grid.
#
# ## Through the rest of a network
#
# Every layer that treats all cells alike maps equal cells to equal cells, so each can carry a background:
#
# - An **activation** acts on each cell alone: it acts on the background as on any row.
# - **Max-pooling** takes the largest cell of a window. In a window with an inactive cell the background competes.
# - **Padding** puts cells around the grid. In a convolution they hold the background, too, which is what makes a
#   padded layer keep one background; a dense network that pads with zeros differs from it near the border if the
#   background is not zero.
# - **Dropout**, **norms** and **global pooling** have rules of the same kind; chapter 7 looks at two of them.
#
# Let us check a whole network against a dense one. The image is a ring, the weights are random and the biases are not
# zero.

# %%
distance = np.hypot(*np.meshgrid(np.arange(20) - 9.5, np.arange(20) - 9.5, indexing="ij"))
image = ((distance > 5) & (distance < 6.5)).astype(float)[None, None]  # (B, C, X, Y)
ring = sn.SparseTensor.from_dense(image)

net = sn.SparseNetwork(dimension=2, in_channels=1, seed=7)
net.add_convolution(3, 3).add_leaky_relu(0.1).add_max_pool(2).add_convolution(2, 2).add_leaky_relu(0.1)
net.to(dtype="float64")
rng = np.random.default_rng(0)
for layer in (net.layers[0], net.layers[3]):
    layer.bias.array = rng.standard_normal(layer.bias.shape)


def dense_network(net, grid):
    """The same layers on the whole grid (B, C, X, Y)."""
    for layer in net.layers:
        if layer.kind == "leaky_relu":
            grid = np.where(grid > 0, grid, layer.negative_slope * grid)
            continue
        size, stride = layer.geometry.output_size(grid.shape[2:]), layer.geometry.stride
        last = [(n - 1) * s + 1 for n, s in zip(size, stride, strict=True)]
        windows = [grid[:, :, a:a + last[0]:stride[0], b:b + last[1]:stride[1]]
                   for a, b in layer.geometry.kernel_offsets]
        if layer.kind == "max_pool":
            grid = np.max(windows, axis=0)
        else:
            products = [np.einsum("bcxy,cd->bdxy", w, k) for w, k in zip(windows, layer.weight.array, strict=True)]
            grid = sum(products) + layer.bias.array[:, None, None]
    return grid


dense = dense_network(net, image)
sparse = net(ring)
print(f"{len(sparse.coordinates)} sites of {sparse.spatial_size}, background {sparse.background.numpy().round(3)}")
print(f"largest difference from the dense network in any cell: {np.abs(sparse.to_dense().numpy() - dense).max():.1e}")
np.testing.assert_allclose(sparse.to_dense().numpy(), dense, atol=1e-12)

# %% [markdown]
# Equality at the sites alone would be a weaker statement. Here it holds in *all* cells, and so it holds again after
# the next layer, whatever that is. This is an equation about the mathematics: in float64 the two differ by rounding,
# 1e-15 or so.
#
# Let us watch the background on its way:

# %%
for record in net.activations(ring):
    words = np.array2string(np.asarray(record.background), precision=3)
    print(f"{record.name:<14}{len(record.sites):>4} sites of {record.spatial_size}, background {words}")

# %% alt="Three channels of three layers: all inactive cells of one have one colour, that of its background"
sn.inspect.activation_slices(net.activations(ring)[:3], channels=3)

# %% [markdown]
# ## Without a background
#
# `background=None` switches to the way of most libraries: inactive cells are skipped, and the bias acts on the sites
# alone. What does it change?

# %%
skipping = sn.SparseTensor(ring.features, ring.coordinates, ring.spatial_size, 1, background=None)
without = net(skipping).to_dense().numpy()
off = np.abs(without - dense).max(axis=(0, 1))
sites = np.zeros(dense.shape[2:], bool)
sites[tuple(sparse.coordinates[:, 1:].T)] = True
print(f"it differs in {(off > 1e-9).sum()} of {off.size} cells, by up to {off.max():.2f}; "
      f"at sites alone by up to {off[sites].max():.2f}")
assert off[sites].max() > 0.01

# %% tags=["picture"] alt="The output with a background, without one, and their difference, large around the ring"
figure, axes = plt.subplots(1, 3, figsize=(10, 3.1), layout="constrained")
limit = np.abs(dense).max()
panels = (("as the dense network", dense[0, 0], limit), ("no background", without[0, 0], limit),
          ("difference", off, off.max()))
for axis, (title, values, most) in zip(axes, panels, strict=True):
    shown = axis.imshow(values.T, origin="lower", cmap="RdBu_r", vmin=-most, vmax=most)
    axis.set_title(title, fontsize=10)
    figure.colorbar(shown, ax=axis, shrink=0.8)

# %% [markdown]
# Both are legitimate networks, and trained ones of either kind work. But only with a background may you take the
# weights of a dense network and expect its results, test a layer against a dense loop, or speak of "the" convolution.
#
# ## The exception that was announced
#
# A submanifold convolution (chapter 3) computes outputs at the input sites only. The dense layer also changes the
# cells *around* the shape; the submanifold layer declares them to be background. It is equal to the dense layer
# followed by a reset of all other cells, and so it is exact against *that*, but it is not the dense layer.

# %%
layer = sn.nn.SubmanifoldConv(1, 1, 3, dimension=2).to(dtype="float64")
layer.bias.array = np.array([0.5])
out = layer(ring)
full = sn.ops.convolution(ring, layer.weight, layer.bias, Geometry.make(2, size=3, padding=1)).to_dense().numpy()
active = image != 0
reset = np.where(active, full, out.background.numpy()[0])
np.testing.assert_allclose(out.to_dense().numpy(), reset, atol=1e-12)
assert not np.allclose(out.to_dense().numpy(), full)

# %% [markdown]
# ## What to remember
#
# - All inactive cells of a layer hold one vector, the background. Layers map it like any other cell.
# - Convolution is linear: compute with the differences from the background, then add one constant row.
# - Sparse equals dense in every cell: for convolutions, activations and poolings, with gradients, as the next chapter
#   shows. Submanifold layers, and tensors without a background, are outside of this promise by definition.

# %% [markdown]
# ## Exercises
#
# ### Exercise 1. A background that dies
#
# A ReLU follows a convolution of one channel with the weights 1 and -1 and the bias b. The input has the background 5.
# For which b is the background of the ReLU's output zero? What is special about this filter?

# %% tags=["solution"]
def background_after(b, first=5.0):
    x = sn.SparseTensor(np.zeros((0, 1)), np.zeros((0, 2), int), (6,), 1, background=np.array([first]))
    edge = sn.Tensor(np.array([[[1.0]], [[-1.0]]]))
    y = sn.ops.convolution(x, edge, sn.Tensor(np.array([b])), Geometry.make(1, size=2))
    return sn.nn.ReLU()(y).background.item()


# The weights sum to zero, so a constant grid becomes b, whatever its value: the filter sees edges only.
assert background_after(-1.0) == 0 and background_after(0.0) == 0 and background_after(0.25) == 0.25
assert background_after(0.25, first=100.0) == 0.25

# %% [markdown]
# ### Exercise 2. Where does the background win?
#
# A line of six cells has sites at 0, 2 and 3, with the values -1, 2 and 0.5, and the background is 1. It is max-pooled
# with size and stride 2. Which output cells are sites, and what do they hold? Which of them hold the background?

# %% tags=["solution"]
values = np.array([[-1.0], [2.0], [0.5]])
x = sn.SparseTensor(values, np.array([[0, 0], [0, 2], [0, 3]]), (6,), 1, background=np.ones(1))
pooled = sn.nn.SparseMaxPool(2, dimension=1)(x)
assert pooled.coordinates[:, 1].tolist() == [0, 1]
assert pooled.features.tolist() == [[1.0], [2.0]]  # in the first window cell 1 is inactive and holds 1, more than -1
assert pooled.to_dense().tolist() == [[[1.0, 2.0, 1.0]]]  # the third window has no site at all

# %% [markdown]
# ### Exercise 3. Zero padding
#
# A dense network usually pads with zeros. Find an input for which a padded sparse convolution differs from it, and say
# in which cells. Then make them agree without changing the sparse layer.

# %% tags=["solution"]
x = sn.SparseTensor(np.array([[4.0]]), np.array([[0, 2]]), (6,), 1, background=np.array([1.0]))
ones = sn.Tensor(np.ones((3, 1, 1)))
padded = sn.ops.convolution(x, ones, None, Geometry.make(1, size=3, padding=1)).to_dense().numpy()[0, 0]
line = x.to_dense().numpy()[0, 0]
with_zeros = np.convolve(np.pad(line, 1), [1, 1, 1], "valid")
assert (padded != with_zeros).nonzero()[0].tolist() == [0, 5]  # the first and the last cell see the padding
with_background = np.convolve(np.pad(line, 1, constant_values=1.0), [1, 1, 1], "valid")
assert np.array_equal(padded, with_background)  # let the dense network pad with the background instead
