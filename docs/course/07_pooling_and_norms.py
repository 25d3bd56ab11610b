# %% [markdown]
# # 7. Pooling and norms
#
# Convolutions are the only layers that multiply by weights, but a network that only convolves gets nowhere: it never
# sees more than a few cells at once, and its numbers grow or fade from layer to layer. *Pooling* shrinks the grid, so
# that the same filter sees more of the shape. *Norms* keep the numbers in range. Both raise a question that dense
# networks never ask: what about the cells that are not there?

# %%
import matplotlib.pyplot as plt
import numpy as np

import sparsenet as sn
from sparsenet.random import keyed_rng
from sparsenet.shapes import parametric_mesh
from sparsenet.sparse import Geometry

# %% [markdown]
# ## The largest of a window
#
# Max-pooling uses the same rulebook as a convolution: windows, offsets, neighbours. In place of a weighted sum it
# takes the largest cell of the window, for each channel on its own. The inactive cells of a window hold the
# background, so the background takes part wherever a window has an inactive cell.

# %%
def max_pool(features, background, neighbours):
    """(values, argmax): for each window the largest cell and the first offset that has it."""
    windows = np.where(neighbours[:, :, None] >= 0, features[neighbours], background)  # (M, K, C)
    return windows.max(axis=1), windows.argmax(axis=1)


x = sn.SparseTensor(np.array([[-4.0], [3.0], [3.0], [-1.0], [-2.0]]), np.array([[0, i] for i in (0, 2, 3, 4, 5)]), (8,),
                    batch_size=1)
halved = Geometry.make(1, size=2, stride=2)
rulebook = x.sites.rulebook(halved)
values, argmax = max_pool(x.features.numpy(), x.background.numpy(), rulebook.neighbours)
for site, row, value, offset in zip(rulebook.output_sites.coordinates[:, 1], rulebook.neighbours, values, argmax,
                                    strict=True):
    print(f"window {site}: rows {row.tolist()}, largest {value[0]:g}, at offset {offset[0]}")

pooled = sn.nn.SparseMaxPool(2, dimension=1)(x)
assert np.array_equal(pooled.features.numpy(), values)
assert values.ravel().tolist() == [0, 3, -1]

# %% [markdown]
# Three things happen in these three windows:
#
# - Window 0 holds the site -4 and an inactive cell. The background 0 is larger, and wins.
# - In window 1 two cells are equal. The first offset wins. That is a mere convention, but it has to be one, or the
#   gradient would go here on one machine and there on another.
# - Window 2 has no inactive cell, and -1 wins. Taking zero for "nothing found", as careless code does, would be wrong.
#
# In the backward pass the gradient of an output goes to the one cell that won, and to the background if that was it.

# %%
features = sn.Tensor(x.features.numpy(), requires_grad=True)
background = sn.Tensor(np.zeros(1), requires_grad=True)
sn.nn.SparseMaxPool(2, dimension=1)(x.with_features(features, background)).features.sum().backward()
assert features.grad.ravel().tolist() == [0, 1, 0, 1, 0]
assert background.grad.tolist() == [1]

# %% [markdown]
# ## What pooling does to a shape
#
# With each halving of the grid a surface at first loses about three of four sites, and the grid seven of eight cells.
# So the data becomes denser on its way through the network, and at the end there is one cell, which has seen
# everything.

# %%
chair = parametric_mesh("chair", keyed_rng(0, "chair", 3))
cells, ones = sn.Off3DPicture(chair, render_size=60).voxelize((64, 64, 64))
shape = sn.SparseTensor(ones, np.insert(cells, 0, 0, axis=1), (64, 64, 64), batch_size=1)
levels = [shape]
while levels[-1].spatial_size[0] > 1:
    levels.append(sn.nn.SparseMaxPool(2)(levels[-1]))
shares = [len(level.coordinates) / np.prod(level.spatial_size) for level in levels]
for level, share in zip(levels, shares, strict=True):
    print(f"{level.spatial_size[0]:>2} cells a side: {len(level.coordinates):>5,} sites, {100 * share:5.1f}% of all")
assert all(later >= earlier for earlier, later in zip(shares, shares[1:], strict=False)) and shares[-1] == 1

# %% tags=["picture"] alt="A chair after 0, 1, 2, 3 and 4 poolings: ever coarser, until it is a block of a few cells"
figure, axes = plt.subplots(1, 5, figsize=(11, 2.5), subplot_kw={"projection": "3d"}, layout="constrained")
for axis, level in zip(axes, levels, strict=False):
    sn.inspect.voxels.draw_voxels(axis, level.coordinates[:, 1:], "#3b6ea5")
    axis.set_title(f"{level.spatial_size[0]}³ cells", fontsize=9)

# %% [markdown]
# ## Averages
#
# Average pooling takes the mean of the window, background included; the mean of a window full of background is the
# background, so that stays as it is. And where there is no background (`None`), the mean is over the active cells
# alone.
#
# Over the whole grid, *global pooling* does the same. Here the difference is dramatic, because nearly all cells are
# inactive:

# %%
with_background = sn.nn.GlobalPool("mean")(shape).item()
skipping = sn.SparseTensor(shape.features, shape.coordinates, shape.spatial_size, 1, background=None)
without = sn.nn.GlobalPool("mean")(skipping).item()
print(f"mean over all cells {with_background:.4f}, over the sites {without:.4f}")
np.testing.assert_allclose(with_background, len(cells) / 64**3, rtol=1e-5)
assert without == 1

# %% [markdown]
# ## Norms: the mean of what?
#
# Batch norm (Ioffe and Szegedy, 2015) subtracts from each channel its mean over the batch, and divides by its standard
# deviation, so that every layer receives numbers of a similar size. A learned weight and bias follow.
#
# Over which cells? There are two answers, and they give different networks:
#
# - `"grid"`: over *all* cells. This is what the dense layer computes, and it can be computed from the sites and the
#   background alone: (cells - sites) cells have the same value.
# - `"sites"`: over the active cells. This is what nearly all sparse libraries do.

# %%
def statistics(features, background, cells):
    """Mean and variance over all cells, of which len(features) are sites and the others hold the background."""
    others = cells - len(features)
    mean = (features.sum(axis=0) + others * background) / cells
    variance = (((features - mean) ** 2).sum(axis=0) + others * (background - mean) ** 2) / cells
    return mean, variance


rng = np.random.default_rng(0)
small = np.where(rng.random((2, 3, 5, 5, 5)) < 0.2, rng.standard_normal((2, 3, 5, 5, 5)), 0.0)
batch = sn.SparseTensor.from_dense(small)
mean, variance = statistics(batch.features.numpy(), batch.background.numpy(), 2 * 5**3)
np.testing.assert_allclose(mean, small.mean(axis=(0, 2, 3, 4)))  # the dense mean, without a dense grid
np.testing.assert_allclose(variance, small.var(axis=(0, 2, 3, 4)))

norm = sn.nn.BatchNorm(3, statistics="grid").to(dtype="float64")
normal = norm(batch).to_dense().numpy()
shape5 = (1, 3, 1, 1, 1)
np.testing.assert_allclose(normal, (small - mean.reshape(shape5)) / np.sqrt(variance.reshape(shape5) + norm.eps))

# %% [markdown]
# `"grid"` is exact. So why is `"sites"` the default? Look at the chair. Its sites take up 2% of the grid here, and
# 0.1% of the field of 126 cells in which the paper's network sees a shape of 40 cells. Over all cells the mean is
# nearly the background, and the standard deviation is tiny, so division by it blows the sites up:

# %%
values = rng.standard_normal((len(shape.coordinates), 1)) + 1  # as if a layer had computed them
x = sn.SparseTensor(values, shape.coordinates, shape.spatial_size, 1)
spread = {}
for statistics_of in ("grid", "sites"):
    y = sn.nn.BatchNorm(1, statistics=statistics_of).to(dtype="float64")(x)
    spread[statistics_of] = y.features.numpy().std()
    print(f"{statistics_of:>5}: the sites have mean {y.features.numpy().mean():6.2f} and standard deviation "
          f"{spread[statistics_of]:5.2f}, the background is {y.background.item():5.2f}")
np.testing.assert_allclose(spread["sites"], 1, rtol=1e-4)
assert spread["grid"] > 3
in_the_paper = sn.Off3DPicture(chair, render_size=40).voxelize((40, 40, 40))[0]
assert round(100 * len(in_the_paper) / 126**3, 1) == 0.1

# %% tags=["picture"] alt="Histograms of the sites after a norm: over all cells they spread far, over sites not"
figure, axes = plt.subplots(1, 2, figsize=(8, 2.8), layout="constrained", sharex=True)
for axis, statistics_of in zip(axes, ("grid", "sites"), strict=True):
    y = sn.nn.BatchNorm(1, statistics=statistics_of).to(dtype="float64")(x)
    axis.hist(y.features.numpy().ravel(), bins=60, color="#3b6ea5")
    axis.axvline(y.background.item(), color="#c4594f", label="background")
    axis.set_title(f'statistics="{statistics_of}"', fontsize=10)
    axis.set(xlabel="value after the norm", yticks=[])
    axis.legend(frameon=False, fontsize=8)

# %% [markdown]
# With `"sites"` the sites come out with mean 0 and standard deviation 1, whatever the grid. The background is
# transformed by the same map, so all inactive cells still agree.
#
# ## Training and evaluation
#
# In training, the statistics are those of the current batch: what a shape gets depends on its company. In evaluation
# that would be absurd, so the layer uses *running* averages of what it saw in training. They are plain numbers then,
# the same for sites and background and for any batch, and both kinds of statistics are exact against the dense layer.
#
# One consequence is a promise of the library: in evaluation a sample has the same output, to the last bit, alone or in
# any batch.

# %%
net = sn.SparseNetwork(dimension=3, in_channels=1, seed=3)
net.add_convolution(8, 3).add_batch_norm().add_relu().add_max_pool(2).add_convolution(8, 2).add_linear(4)
shapes = []
for name in ("chair", "mug", "lamp"):
    cells, ones = sn.Off3DPicture(parametric_mesh(name, keyed_rng(0, name, 1)), render_size=18).voxelize((20, 20, 20))
    shapes.append(sn.SparseTensor(ones, np.insert(cells, 0, 0, axis=1), (20, 20, 20), batch_size=1))
company = sn.join(shapes)

trained_on = net(company).numpy()  # in training the norm sees the whole batch
alone = net(shapes[0]).numpy()
assert not np.allclose(trained_on[:1], alone)

net.eval()
assert np.array_equal(net(company).numpy()[:1], net(shapes[0]).numpy())  # in evaluation: the same bits
print("in training:  ", trained_on[0, :2], "in company,", alone[0, :2], "alone")
print("in evaluation:", net(company).numpy()[0, :2], "in company,", net(shapes[0]).numpy()[0, :2], "alone")

# %% [markdown]
# `InstanceNorm` and `GroupNorm` take their statistics for each sample on its own, in training as well. Samples then
# differ in what their inactive cells become, and the background has a row for each: (B, C) in place of (C,).

# %%
by_sample = sn.nn.InstanceNorm(3).to(dtype="float64")(batch)
assert by_sample.background.shape == (2, 3) and not np.allclose(by_sample.background.numpy()[0],
                                                                by_sample.background.numpy()[1])

# %% [markdown]
# ## What to remember
#
# - In max-pooling the background competes in every window with an inactive cell; among equals the first offset wins.
# - Pooling makes the data denser: from a few percent of the cells to all of the last one.
# - `"grid"` statistics equal the dense layer, `"sites"` statistics train well on sparse data. In evaluation both are
#   fixed numbers, and a sample's output does not depend on its batch.

# %% [markdown]
# ## Exercises
#
# ### Exercise 1. Average pooling is a convolution
#
# Which convolution equals average pooling with size 2 and stride 2 for one channel? What happens to the background in
# either? Check it on the chair.

# %% tags=["solution"]
average = sn.nn.SparseAvgPool(2)(shape)
mean_filter = sn.Tensor(np.full((8, 1, 1), 1 / 8, np.float32))
convolved = sn.ops.convolution(shape, mean_filter, None, Geometry.make(3, size=2, stride=2))
np.testing.assert_allclose(average.features.numpy(), convolved.features.numpy(), atol=1e-6)
assert np.array_equal(average.coordinates, convolved.coordinates)
# The weights sum to one, so both keep the background. (For C channels the filter would be 1/8 times the identity.)
lifted = shape.with_features(shape.features, sn.Tensor(np.array([5.0], np.float32)))
assert sn.nn.SparseAvgPool(2)(lifted).background.item() == 5
np.testing.assert_allclose(sn.ops.convolution(lifted, mean_filter, None, Geometry.make(3, 2, 2)).background.item(), 5)

# %% [markdown]
# ### Exercise 2. Folding a norm away
#
# In evaluation a batch norm is a map `a * x + c` for each channel. A convolution before it could do the same, by other
# weights and another bias. Which? Fold the norm of `net` into its first convolution, and compare the outputs.

# %% tags=["solution"]
first, norm = net.layers[0], net.layers[1]
a = norm.weight.array / np.sqrt(norm.running_var.array + norm.eps)
folded = sn.nn.SparseConv(1, 8, 3)
folded.weight.array = first.weight.array * a  # the last axis of the weights is the output channel
folded.bias.array = (first.bias.array - norm.running_mean.array) * a + norm.bias.array
expected = norm(first(shapes[0]))
np.testing.assert_allclose(folded(shapes[0]).features.numpy(), expected.features.numpy(), atol=1e-6)
np.testing.assert_allclose(folded(shapes[0]).background.numpy(), expected.background.numpy(), atol=1e-6)

# %% [markdown]
# ### Exercise 3. A maximum that is lost
#
# Someone pools without a background, taking the largest of the *active* cells. Find an input for which the result
# differs from max-pooling of the dense grid, although the background is zero. How large can the difference become?

# %% tags=["solution"]
x = sn.SparseTensor(np.array([[-100.0]]), np.array([[0, 0]]), (2,), 1)
dense = max(x.to_dense().numpy().ravel())
of_active = sn.nn.SparseMaxPool(2, dimension=1)(x.with_features(x.features, None)).features.item()
assert dense == 0 and of_active == -100
# As large as one likes. After a ReLU it cannot happen: no site is below a background of zero then.
