# %% [markdown]
# # 1. Sparse data
#
# A photograph fills its frame: every pixel has a colour, and a network that looks at it may as well look everywhere.
# Three dimensions are different. Put a chair into a cube of voxels, and nearly all of the cube is air. A network that
# treats the air like the chair spends almost all of its memory and time on nothing.
#
# This chapter measures how much of a shape's cube is really there, and introduces the two arrays that the rest of the
# course lives on: the *coordinates* of the cells that matter, and their *features*.
#
# You need Python and a little NumPy. Every statement that can be checked is checked: an `assert` in a cell is part of
# the lesson, and it would stop the chapter if it were wrong.

# %%
import matplotlib.pyplot as plt
import numpy as np

import sparsenet as sn
from sparsenet.random import keyed_rng
from sparsenet.shapes import parametric_mesh

# %% [markdown]
# ## From a mesh to voxels
#
# A *mesh* is a surface made of triangles. sparsenet has ten parametric classes of furniture and household things, so
# that we need no files: each number makes another chair, with proportions of its own.
#
# To *voxelize* a mesh is to find the cells of a grid that its surface passes through. The mesh is first scaled so that
# its longest side measures `render_size` cells; then each triangle is tested against each cell near it.

# %%
mesh = parametric_mesh("chair", keyed_rng(0, "chair", 3))
print(f"{len(mesh.vertices)} vertices, {len(mesh.faces)} triangles")

cells, features = sn.Off3DPicture(mesh, render_size=40).voxelize((40, 40, 40))
print(f"{len(cells)} of {40**3} cells are touched by the surface")
cells[:3]

# %% [markdown]
# The first array has a row `[x, y, z]` for each cell that the surface touches. The second has one row of numbers for
# each of these cells. At the input of a network that row is just the number 1, "there is something here"; deeper in
# the network it will be 32 or 192 numbers.

# %% tags=["picture"] alt="The voxels of a chair at four resolutions: 10, 20, 40 and 80 cells along its longest side"
figure, axes = plt.subplots(1, 4, figsize=(11, 3), subplot_kw={"projection": "3d"}, layout="constrained")
for axis, size in zip(axes, (10, 20, 40, 80), strict=True):
    shape, _ = sn.Off3DPicture(mesh, render_size=size).voxelize((size, size, size))
    sn.inspect.voxels.draw_voxels(axis, shape, "#3b6ea5")
    axis.set_title(f"{size} cells: {len(shape):,} of {size**3:,}", fontsize=9)

# %% [markdown]
# ## How sparse is a surface?
#
# A surface is two-dimensional. If we halve the side of the cells, a patch of surface that touched one cell now touches
# about four, while the cube holds eight times as many. The number of touched cells grows with the *square* of the
# resolution, the number of all cells with its *cube*, so the share that is touched falls in proportion to the
# resolution: the finer we look, the emptier the cube.

# %%
sizes = np.array([10, 20, 40, 80])
counts = np.array([len(sn.Off3DPicture(mesh, render_size=size).voxelize((size,) * 3)[0]) for size in sizes])
for size, count in zip(sizes, counts, strict=True):
    print(f"{size:>3} cells a side: {count:>6,} of {size**3:>7,} are active, {100 * count / size**3:4.1f}%")

power = np.polyfit(np.log(sizes), np.log(counts), 1)[0]  # the slope of the line in the picture below
print(f"the active cells grow like size^{power:.2f}")
assert 1.8 < power < 2.2  # a surface: close to 2, not to 3

# %% tags=["picture"] alt="Logarithmic plot: all cells rise with slope 3, the cells of a chair's surface with slope 2"
figure, axis = plt.subplots(figsize=(5.5, 3.6), layout="constrained")
axis.loglog(sizes, sizes.astype(float) ** 3, "s--", color="#7a7a7a", label="all cells of the cube: slope 3")
axis.loglog(sizes, counts, "o-", color="#3b6ea5", label=f"cells on the chair: slope {power:.2f}")
axis.set(xlabel="render size, cells", ylabel="cells")
axis.set_xticks(sizes, [str(size) for size in sizes])
axis.minorticks_off()
axis.grid(alpha=0.3)
axis.legend(frameon=False)

# %% [markdown]
# ## Two arrays instead of a cube
#
# A *site* is an active cell of a grid. We store one row `[batch, x, y, z]` for each site, where `batch` says which of
# several shapes the site belongs to, and one row of features. Nothing is stored for the other cells. A `SparseTensor`
# holds these two arrays together with the size of the grid.

# %%
coordinates = np.insert(cells, 0, 0, axis=1)  # batch 0 in front of x, y, z
x = sn.SparseTensor(features, coordinates, spatial_size=(40, 40, 40), batch_size=1)
x

# %% [markdown]
# Was it worth it? Compare the bytes. A dense grid of float32 takes 4 bytes for each cell and channel. The sparse
# tensor takes 4 bytes for each site and channel, and 16 for the site's four coordinates.

# %%
def dense_bytes(size, channels):
    return 4 * size**3 * channels


def sparse_bytes(sites, channels):
    return sites * (4 * channels + 16)


for channels in (1, 32):
    dense, sparse = dense_bytes(40, channels), sparse_bytes(len(x.coordinates), channels)
    print(f"{channels:>2} channels: {dense:>9,} bytes dense, {sparse:>7,} sparse, {dense / sparse:4.1f} times less")

assert sparse_bytes(len(x.coordinates), 32) == x.features.array.nbytes * 32 + x.coordinates.nbytes

# %% [markdown]
# With one channel the coordinates are most of what we store. With 32 channels they hardly count, and the saving comes
# close to the inverse of the share of active cells, 1 / 3.5%.
#
# ## There and back
#
# Sparse storage changes where numbers lie, never what they are. `to_dense` writes the features into a grid (B, C, X,
# Y, Z), in PyTorch's order, with the *background* in all other cells. The background is the vector that every inactive
# cell is taken to have. Here it is zero; chapter 5 is about it. `from_dense` goes the other way: it makes a site of
# each cell that differs from the background.

# %%
grid = x.to_dense().numpy()
assert grid.shape == (1, 1, 40, 40, 40)
assert grid.sum() == len(x.coordinates)  # ones at the sites, zeros elsewhere

back = sn.SparseTensor.from_dense(grid)
assert np.array_equal(back.coordinates, x.coordinates)
assert np.array_equal(back.features.numpy(), x.features.numpy())

# %% [markdown]
# Several shapes in one batch simply follow each other. They may have any number of sites, even none, and nothing is
# padded to a common length: a batch of a chair and a much smaller mug costs the sites of the chair plus those of the
# mug.

# %%
mug = parametric_mesh("mug", keyed_rng(0, "mug", 0))
mug_cells, mug_features = sn.Off3DPicture(mug, render_size=16).voxelize((40, 40, 40))
both = sn.SparseTensor(
    np.vstack([features, mug_features]),
    np.vstack([coordinates, np.insert(mug_cells, 0, 1, axis=1)]),  # the mug is batch 1
    spatial_size=(40, 40, 40), batch_size=2)
splits = both.sites.batch_splits
print(f"sample 0 has rows {splits[0]} to {splits[1] - 1}, sample 1 rows {splits[1]} to {splits[2] - 1}")
assert np.diff(splits).tolist() == [len(cells), len(mug_cells)]

# %% [markdown]
# ## Points
#
# Not everything starts as a mesh. A laser scanner yields points in metres. `from_points` puts each point into the cell
# `floor((p - origin) / voxel_size)` and merges points that share a cell, here by their mean.

# %%
points = np.array([[0.02, 0.31], [0.09, 0.38], [0.25, 0.05]])  # metres, in two dimensions to keep it short
values = np.array([[1.0], [3.0], [10.0]])
scan = sn.SparseTensor.from_points(points, values, voxel_size=0.1, origin=(0, 0), spatial_size=(4, 4))
for site, feature in zip(scan.coordinates.tolist(), scan.features.tolist(), strict=True):
    print(site, feature)
assert scan.features.tolist() == [[2.0], [10.0]]  # the first two points share cell (0, 3): their mean is 2

# %% [markdown]
# ## What to remember
#
# - The surface of a shape fills a share of its cube that falls as the resolution rises: 15% at 10 cells, 2% at 80.
# - A sparse tensor is two arrays, coordinates (N, 1 + D) and features (N, C), plus the size of the grid.
# - All other cells have one common vector, the background. Nothing is lost: `to_dense` restores every cell.
#
# The next chapter asks the question on which everything else depends: given a cell, how do we find its row?

# %%
share = 100 * counts / sizes**3.0
assert share.round().tolist() == [15, 8, 4, 2]

# %% [markdown]
# ## Exercises
#
# ### Exercise 1. When does it not pay?
#
# With C channels, dense storage takes `4 C` bytes a cell and sparse storage `4 C + 16` bytes a site. At which share of
# active cells are they equal, for 1 and for 32 channels? Is a photograph worth storing sparsely? A page of
# handwriting, on which 15% of the pixels are ink?

# %% tags=["solution"]
def break_even(channels):
    """The share of active cells at which both take the same number of bytes."""
    return 4 * channels / (4 * channels + 16)


print([f"{channels} channels: {100 * break_even(channels):.0f}%" for channels in (1, 32)])
assert break_even(1) == 0.2  # the handwriting saves a little, even with one channel
assert abs(break_even(32) - 8 / 9) < 1e-12
assert sparse_bytes(10**3, 1) == 5 * dense_bytes(10, 1)  # all cells active, as in a photograph: five times as much

# %% [markdown]
# ### Exercise 2. `to_dense` by hand
#
# Write `to_dense` in NumPy, for any batch and any number of channels, without a loop over the sites. Compare it with
# the library on `both`.

# %% tags=["solution"]
def to_dense(x):
    grid = np.zeros((x.batch_size, x.channels, *x.spatial_size), np.float32)
    batch, *place = x.coordinates.T
    grid[batch, :, *place] = x.features.numpy()  # the slice between index arrays: rows of C numbers are written
    return grid


assert np.array_equal(to_dense(both), both.to_dense().numpy())

# %% [markdown]
# ### Exercise 3. A solid is not sparse
#
# `voxelize(..., fill=True)` also takes the cells inside a closed surface. Measure the power of the growth for a filled
# mug from 10 to 80 cells. Predict it first: is it nearer to 2 or to 3? Why is it not exactly either?

# %% tags=["solution"]
def count(size, fill):
    return len(sn.Off3DPicture(mug, render_size=size).voxelize((size,) * 3, fill=fill)[0])


def growth(fill):
    return np.polyfit(np.log(sizes), np.log([count(size, fill) for size in sizes]), 1)[0]


print(f"surface {growth(False):.2f}, solid {growth(True):.2f}")
# A thick solid would grow like size^3. The wall of a mug is thin: at low resolution it is hardly thicker than its
# surface, so the power lies between.
assert growth(False) < growth(True) < 3
