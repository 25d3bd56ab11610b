# %% [markdown]
# # 3. The rulebook by hand
#
# A convolution slides a filter over a grid. At each position it multiplies the cells under the filter by the filter's
# weights and adds up. On sparse data most of these products are with nothing. The *rulebook* is the list of those that
# are left: which input site meets which weight for which output site. It depends on where the sites are and on the
# shape of the filter, never on the features or the weights. So it is made once and used for every channel, by the
# forward and the backward pass, and by every layer of the same shape on the same sites.
#
# We make one with pencil and paper, then with a loop, and compare it with the library's.

# %%
import matplotlib.pyplot as plt
import numpy as np

import sparsenet as sn
from sparsenet.random import keyed_rng
from sparsenet.shapes import parametric_mesh
from sparsenet.sparse import ActiveSites, Geometry

# %% [markdown]
# ## Four sites on a line
#
# Take one dimension and a line of eight cells. Four of them are active, at places 1, 2, 5 and 7, and in this order
# they are the rows 0 to 3.
#
#     cell   0  1  2  3  4  5  6  7
#     row    .  0  1  .  .  2  .  3
#
# The filter has size 3. Its *offsets* are 0, 1 and 2, and at output position m it covers the input cells m, m + 1 and
# m + 2. There are six positions where it fits into the line: 0 to 5.
#
# An output site is *active* if the filter covers at least one active cell there. Position 0 covers the cells 0, 1, 2,
# of which 1 and 2 are active. Every other position covers at least one, too: check it. So all six output cells are
# active, although only four input cells are.
#
# Now write for each output which row is under which offset, and -1 if there is none. This table is called the
# *neighbours*.
#
#     output    offset 0   offset 1   offset 2
#       0         -1          0          1
#       1          0          1         -1
#       2          1         -1         -1
#       3         -1         -1          2
#       4         -1          2         -1
#       5          2         -1          3

# %%
line = ActiveSites(np.array([[0, 1], [0, 2], [0, 5], [0, 7]]), spatial_size=(8,), batch_size=1)
rulebook = line.rulebook(Geometry.make(dimension=1, size=3))
print(rulebook.neighbours)
assert rulebook.neighbours.tolist() == [[-1, 0, 1], [0, 1, -1], [1, -1, -1], [-1, -1, 2], [-1, 2, -1], [2, -1, 3]]
assert rulebook.output_sites.coordinates[:, 1].tolist() == [0, 1, 2, 3, 4, 5]

# %% [markdown]
# ## The rule for any filter
#
# With stride and padding, and in any number of dimensions, output m and offset k meet the input cell
#
#     m * stride - padding + k * dilation
#
# for each axis on its own. The loop below is this sentence and nothing more. It tries every output cell of the grid,
# which is far too slow for a real shape and just right for understanding.

# %%
def rulebook_by_hand(sites, geometry):
    """(coordinates of the outputs, neighbours), by trying every cell of the output grid."""
    row_of = {tuple(site): row for row, site in enumerate(sites.coordinates.tolist())}
    outputs, neighbours = [], []
    for batch in range(sites.batch_size):
        for cell in np.ndindex(*geometry.output_size(sites.spatial_size)):
            start = np.multiply(cell, geometry.stride) - geometry.padding
            places = start + geometry.kernel_offsets * geometry.dilation
            rows = [row_of.get((batch, *place), -1) for place in places.tolist()]
            if max(rows) >= 0:
                outputs.append((batch, *cell))
                neighbours.append(rows)
    return np.array(outputs), np.array(neighbours)


outputs, neighbours = rulebook_by_hand(line, rulebook.geometry)
assert np.array_equal(neighbours, rulebook.neighbours)

# %% [markdown]
# Note what the dictionary does with a cell outside the grid: it is not among the sites, so it gives -1 like any
# inactive cell. Padding needs no extra code.
#
# Let us try two dimensions, strides and padding, with two samples in the batch:

# %%
rng = np.random.default_rng(1)
dense = rng.random((2, 1, 7, 7)) * (rng.random((2, 1, 7, 7)) < 0.2)
sites = sn.SparseTensor.from_dense(dense).sites
for geometry in (Geometry.make(2, size=2), Geometry.make(2, size=3, stride=2), Geometry.make(2, size=3, padding=1),
                 Geometry.make(2, size=(1, 3), stride=(1, 2), dilation=2)):
    outputs, neighbours = rulebook_by_hand(sites, geometry)
    found = sites.rulebook(geometry)
    assert np.array_equal(outputs, found.output_sites.coordinates)
    assert np.array_equal(neighbours, found.neighbours)
    print(f"size {geometry.size}, stride {geometry.stride}, padding {geometry.padding}: {len(sites)} sites in, "
          f"{len(outputs)} out, {(neighbours >= 0).sum()} pairs")

# %% [markdown]
# The picture shows the rulebook of a 3 x 3 filter on one small grid: the input sites, the filter, the output sites,
# and the table of neighbours. Each offset has a colour. Output 3 is outlined, and so are the input cells that it
# reads.

# %% alt="Input and output sites of a 3 by 3 filter, with the pairs of one output site marked"
small = sn.SparseTensor.from_dense(dense[:1])
sn.inspect.rulebook(small, Geometry.make(2, size=3), output=3)

# %% [markdown]
# ## Three views of one thing
#
# The neighbours say for each *output* what it reads. A backward pass wants to know for each *input* by whom it was
# read: the *transposed neighbours*. And to do one matrix product for each weight we want, for each *offset*, the list
# of its (input row, output row) *pairs*. All three have the same content. Here are the pairs of the line above:

# %%
for k in range(3):
    begin, end = rulebook.pair_splits[k], rulebook.pair_splits[k + 1]
    print(f"offset {k}: (input, output)", *[tuple(pair) for pair in rulebook.pairs[begin:end].tolist()])

m, k = np.nonzero(rulebook.neighbours >= 0)  # each entry that is not -1 is a pair ...
assert len(m) == len(rulebook.pairs) == 9
n = rulebook.neighbours[m, k]
by_offset = np.lexsort((m, k))  # ... and they are listed by offset, then by output
assert np.array_equal(rulebook.pairs, np.stack([n, m], axis=1)[by_offset])

transposed = np.full((len(line), 3), -1)
transposed[n, k] = m
assert np.array_equal(rulebook.transposed_neighbours, transposed)

# %% [markdown]
# Why is there at most one output for each (input, offset)? Because the rule can be solved for m: given the input cell
# and the offset, `m = (cell + padding - k * dilation) / stride`, which is one cell or, if the division leaves a
# remainder, none. So within one offset no input row and no output row occurs twice. Chapter 4 depends on this.

# %%
for k in range(3):
    pairs = rulebook.pairs[rulebook.pair_splits[k]:rulebook.pair_splits[k + 1]]
    assert len(set(pairs[:, 0].tolist())) == len(set(pairs[:, 1].tolist())) == len(pairs)

# %% [markdown]
# ## Growth, and how to stop it
#
# In the line four sites became six. In three dimensions it is worse: a filter of 3 x 3 x 3 makes up to 27 sites out of
# one. Layer by layer the active cells spread around the shape, and the data is less sparse each time.
#
# A *submanifold* convolution (Graham and van der Maaten, 2017) keeps the sites as they are: the output sites *are* the
# input sites, and the filter, of odd size, is centred on each. This costs something, which chapter 5 will name, and
# buys depth without growth.

# %%
chair = parametric_mesh("chair", keyed_rng(0, "chair", 3))
cells, _ = sn.Off3DPicture(chair, render_size=24).voxelize((24, 24, 24))
shape = ActiveSites(np.insert(cells, 0, 0, axis=1) + np.array([0, 8, 8, 8]), (40, 40, 40), batch_size=1)

growing, counts = shape, [len(shape)]
for _ in range(4):
    growing = growing.rulebook(Geometry.make(3, size=3, padding=1)).output_sites
    counts.append(len(growing))
print("sites after each convolution of size 3:", counts)
assert all(after > 1.3 * before for before, after in zip(counts, counts[1:], strict=False))

kept = shape.rulebook(Geometry.make_submanifold(3, size=3))
assert kept.output_sites is shape
print(f"submanifold: {len(shape)} sites stay; {len(kept.pairs) / len(shape):.1f} of 27 neighbours are active")

# %% tags=["picture"] alt="A chair's sites after 0, 1, 2 and 3 convolutions of size 3: it swells until its legs touch"
figure, axes = plt.subplots(1, 4, figsize=(11, 3), subplot_kw={"projection": "3d"}, layout="constrained")
grown = shape
for number, axis in enumerate(axes):
    sn.inspect.voxels.draw_voxels(axis, grown.coordinates[:, 1:], "#3b6ea5")
    axis.set(xlim=(4, 36), ylim=(4, 36), zlim=(4, 36))
    axis.set_title(f"{number} convolutions: {len(grown):,} sites", fontsize=9)
    grown = grown.rulebook(Geometry.make(3, size=3, padding=1)).output_sites

# %% [markdown]
# A submanifold rulebook has a symmetry: if n is under offset k of m, then m is under the opposite offset of n. So its
# transposed neighbours are the neighbours with the offsets reversed, and need not be stored at all.

# %%
assert np.array_equal(kept.transposed_neighbours, kept.neighbours[:, ::-1])

# %% [markdown]
# ## What to remember
#
# - Output m and offset k meet the input cell `m * stride - padding + k * dilation`. An output is active if one of
#   these is.
# - Neighbours (M, K), transposed neighbours (N, K) and pairs (P, 2) are three views of the same rulebook.
# - Within one offset, no row occurs twice, neither as input nor as output.
# - Ordinary convolutions make sites grow; submanifold convolutions keep them.
#
# In the next chapter the rulebook goes to work.

# %% [markdown]
# ## Exercises
#
# ### Exercise 1. Pencil and paper
#
# The line has eight cells, and the sites are at 0, 3 and 4. Write down the output sites and the neighbours of a filter
# of size 2 with stride 2, then of a submanifold filter of size 3.

# %% tags=["solution"]
answer = ActiveSites(np.array([[0, 0], [0, 3], [0, 4]]), (8,), batch_size=1)
strided = answer.rulebook(Geometry.make(1, size=2, stride=2))
# Windows are (0, 1), (2, 3), (4, 5), (6, 7); the last has no site.
assert strided.output_sites.coordinates[:, 1].tolist() == [0, 1, 2]
assert strided.neighbours.tolist() == [[0, -1], [-1, 1], [2, -1]]
centred = answer.rulebook(Geometry.make_submanifold(1, size=3))
# Cell 0 has no neighbour on either side; 3 and 4 have each other.
assert centred.neighbours.tolist() == [[-1, 0, -1], [-1, 1, 2], [1, 2, -1]]

# %% [markdown]
# ### Exercise 2. Count before you build
#
# A filter of size K^3 with stride 1 and enough padding is applied to N sites that are all far from the border. How
# many pairs does its rulebook have, whatever the shape? And with size 2, stride 2 on a grid of even size? Check your
# answers on the chair.

# %% tags=["solution"]
# Each site meets each offset once, at exactly one output: N * K^3 pairs.
full = shape.rulebook(Geometry.make(3, size=3, padding=2))
assert len(full.pairs) == len(shape) * 27
# Windows of size 2 and stride 2 tile the grid: each site is in one of them.
tiles = shape.rulebook(Geometry.make(3, size=2, stride=2))
assert len(tiles.pairs) == len(shape)

# %% [markdown]
# ### Exercise 3. Without trying every cell
#
# `rulebook_by_hand` tries every output cell. Write `output_cells(sites, geometry)`, which finds the output sites from
# the input sites alone, by solving the rule for m. Its cost should follow the number of sites, not the size of the
# grid.

# %% tags=["solution"]
def output_cells(sites, geometry):
    found, size = set(), geometry.output_size(sites.spatial_size)
    for offset in geometry.kernel_offsets:
        shifted = sites.coordinates[:, 1:] + np.array(geometry.padding) - offset * geometry.dilation
        cells, rest = np.divmod(shifted, geometry.stride)
        fits = (rest == 0).all(axis=1) & (cells >= 0).all(axis=1) & (cells < size).all(axis=1)
        found |= {(batch, *cell) for batch, cell in zip(sites.coordinates[fits, 0].tolist(), cells[fits].tolist(),
                                                        strict=True)}
    return np.array(sorted(found))  # sorted tuples are sorted keys


for geometry in (Geometry.make(3, size=3, padding=1), Geometry.make(3, size=3, stride=2), Geometry.make(3, size=2)):
    assert np.array_equal(output_cells(shape, geometry), shape.rulebook(geometry).output_sites.coordinates)
