# %% [markdown]
# # 2. Sites, keys, the hash table
#
# A dense grid answers the question "what is in cell (3, 0, 2)?" by arithmetic: the address of the cell follows from
# its coordinates. A list of sites has no such address. A convolution with a filter of 3 x 3 x 3 asks this question 27
# times for each site, mostly about cells that are empty, so the answer has to be quick in both cases.
#
# This chapter builds it in three steps: one number for each cell, a sorted order, and a hash table.

# %%
import matplotlib.pyplot as plt
import numpy as np

import sparsenet as sn
from sparsenet.random import keyed_rng
from sparsenet.shapes import parametric_mesh
from sparsenet.sparse import ActiveSites

# %% [markdown]
# ## One number for each cell
#
# Number all cells of the batch one after another: the last axis fastest, then the one before it, the batch slowest.
# This is how NumPy lays out an array in memory, and the number of a cell is called its *key*. In a batch of two grids
# of 4 x 5 x 6 cells there are 240 keys:
#
#     key = ((batch * 4 + x) * 5 + y) * 6 + z

# %%
def key_of(batch, x, y, z):
    return ((batch * 4 + x) * 5 + y) * 6 + z


print(key_of(0, 0, 0, 0), key_of(0, 0, 0, 1), key_of(0, 3, 4, 5), key_of(1, 0, 0, 0), key_of(1, 3, 4, 5))
assert key_of(0, 3, 4, 5) == 119 and key_of(1, 0, 0, 0) == 120  # the first grid ends where the second begins
assert key_of(1, 2, 0, 3) == np.ravel_multi_index((1, 2, 0, 3), (2, 4, 5, 6))  # NumPy has it ready-made

# %% [markdown]
# Nothing is lost. Division with remainder takes a key apart again, from the last axis to the first:

# %%
rest, z = divmod(key_of(1, 2, 0, 3), 6)
rest, y = divmod(rest, 5)
batch, x = divmod(rest, 4)
assert (batch, x, y, z) == (1, 2, 0, 3)

# %% [markdown]
# Four coordinates have become one integer of 64 bits, which is faster to compare, to sort and to hash.
#
# ## A sorted order
#
# `ActiveSites` sorts the sites by their keys once, when they are made. From then on row numbers mean something:
# whoever gave the same sites in another order gets the same rows. The features are moved along, and `permutation` says
# how: row i was given as row `permutation[i]`.

# %%
given = np.array([[1, 0, 0, 0], [0, 3, 4, 5], [0, 0, 0, 1]])
sites = ActiveSites(given, spatial_size=(4, 5, 6), batch_size=2)
print("keys", sites.keys, "permutation", sites.permutation, "samples begin at rows", sites.batch_splits)
assert sites.keys.tolist() == [1, 119, 120]
assert np.array_equal(sites.coordinates, given[sites.permutation])
assert sites.batch_splits.tolist() == [0, 2, 3]  # the batch counts most in a key, so samples lie together

# %% [markdown]
# Two properties of this order will be used again and again:
#
# - All sites of one sample are consecutive rows.
# - The neighbour of a cell along the last axis has the next key. A run of sites along z is a run of consecutive keys.
#
# Sorted keys already allow a search: *bisection* halves the rows until one is left. A million keys take 20 steps. That
# is not bad, but each step waits for the memory to deliver a number from somewhere else. A hash table usually needs
# one.

# %%
rng = np.random.default_rng(0)
many = np.sort(rng.choice(10**9, 10**6, replace=False))
steps, low, high = 0, 0, len(many)
while low < high:  # where is the key many[777777]?
    middle = (low + high) // 2
    low, high = (middle + 1, high) if many[middle] < many[777777] else (low, middle)
    steps += 1
print(f"{steps} steps")
assert low == 777777 and 19 <= steps <= 20

# %% [markdown]
# ## A hash table in twenty lines
#
# A hash table is an array of *slots*, at least twice as many as keys, so that half of them stay empty. Each key has a
# *home* slot, computed from the key alone. If the home is taken, the key goes to the next slot that is free. A search
# starts at the home and walks on until it meets the key, or an empty slot, which proves that the key is not there.
# This is *open addressing with linear probing*.
#
# The home is found by mixing the bits of the key, so that the keys of a regular shape do not crowd together: multiply
# by a large odd number and keep some upper bits. (The number here is 2^64 divided by the golden ratio, an old
# favourite of Knuth's.)

# %%
EMPTY, MIX = -1, 0x9E3779B97F4A7C15


def home(key, slots):
    return (key * MIX % 2**64 >> 32) % slots


def insert(keys, slots):
    table = [(EMPTY, None)] * slots
    for row, key in enumerate(keys):
        slot = home(key, slots)
        while table[slot][0] != EMPTY:
            slot = (slot + 1) % slots
        table[slot] = (key, row)
    return table


def find(table, key):
    """(row or -1, number of slots looked at)"""
    slot, looked = home(key, len(table)), 1
    while table[slot][0] not in (EMPTY, key):
        slot, looked = (slot + 1) % len(table), looked + 1
    return (table[slot][1] if table[slot][0] == key else -1), looked


table = insert([1, 119, 120], slots=8)
for key in (119, 1, 120, 5):
    print(f"key {key:>3}: home {home(key, 8)}, row and slots looked at {find(table, key)}")
assert [find(table, key)[0] for key in (1, 119, 120, 5)] == [0, 1, 2, -1]

# %% [markdown]
# Now a real shape. The library keeps the hash table of its sites in `sites.hash_table`: two arrays, the keys and the
# rows. `lookup` takes coordinates and answers with rows, -1 for a cell that is not active or lies outside the grid.
# Our table gives the same answers.

# %%
chair = parametric_mesh("chair", keyed_rng(0, "chair", 3))
cells, _ = sn.Off3DPicture(chair, render_size=40).voxelize((40, 40, 40))
sites = ActiveSites(np.insert(cells, 0, 0, axis=1), (40, 40, 40), batch_size=1)

table_keys, table_rows = sites.hash_table
ours = insert(sites.keys.tolist(), slots=len(table_keys))
print(f"{len(sites):,} keys in {len(table_keys):,} slots: load {len(sites) / len(table_keys):.2f}")

# each site's neighbour in the direction of +x
queries = sites.coordinates + np.array([0, 1, 0, 0])
rows = sites.lookup(queries)
print(f"{(rows >= 0).mean():.0%} of the sites have a neighbour there")
inside = queries[:, 1] < 40
keys = np.ravel_multi_index(queries[inside].T, (1, 40, 40, 40)).tolist()
assert [find(ours, key)[0] for key in keys] == rows[inside].tolist()
assert (rows[~inside] == -1).all()

# %% [markdown]
# ## How long is a search?
#
# That depends on the *load*, the share of slots that are taken. Knuth showed that with well-mixed keys the average
# search for a key that is there looks at about `(1 + 1 / (1 - load)) / 2` slots, and one for a key that is not there
# at about `(1 + 1 / (1 - load)^2) / 2`. At a load of one half these are 1.5 and 2.5; at nine tenths 5.5 and 50.5. This
# is why half of the slots are kept empty. (The formulas are for large tables; ours, of 4,096 slots, stays a little
# below them when it is nearly full.)

# %%
slots = 4096
loads = np.array([0.1, 0.3, 0.5, 0.7, 0.9])
present, absent = [], []
for load in loads:
    chosen = rng.choice(10**9, int(load * slots) + 2000, replace=False).tolist()
    kept, others = chosen[:-2000], chosen[-2000:]
    filled = insert(kept, slots)
    present.append(np.mean([find(filled, key)[1] for key in kept]))
    absent.append(np.mean([find(filled, key)[1] for key in others]))

theory = (1 + 1 / (1 - loads)) / 2, (1 + 1 / (1 - loads) ** 2) / 2
np.testing.assert_allclose(present[:4], theory[0][:4], rtol=0.15)
np.testing.assert_allclose(absent[:4], theory[1][:4], rtol=0.25)
for load, there, missing in zip(loads, present, absent, strict=True):
    print(f"load {load:.1f}: {there:5.2f} slots for a key that is there, {missing:6.2f} for one that is not")

# %% tags=["picture"] alt="Slots looked at over the load, measured and by Knuth's formulas: a steep rise near 1"
figure, axis = plt.subplots(figsize=(5.5, 3.6), layout="constrained")
line = np.linspace(0, 0.93, 200)
axis.plot(line, (1 + 1 / (1 - line)) / 2, color="#3b6ea5", label="key is there, formula")
axis.plot(line, (1 + 1 / (1 - line) ** 2) / 2, color="#c4594f", label="key is not there, formula")
axis.plot(loads, present, "o", color="#3b6ea5", label="measured")
axis.plot(loads, absent, "o", color="#c4594f", label="measured")
axis.axvline(0.5, color="#7a7a7a", linestyle=":", label="the most that sparsenet allows")
axis.set(xlabel="load", ylabel="slots looked at", ylim=(0, 30))
axis.legend(frameon=False, fontsize=8)

# %% [markdown]
# ## One refinement
#
# A convolution asks for the neighbours (x, y, z-1), (x, y, z), (x, y, z+1): three consecutive keys. It would be a pity
# to scatter them over the table, because memory delivers 64 bytes at a time, which is eight keys. sparsenet therefore
# mixes `key >> 3` and keeps the three low bits: the eight keys of such a run have their homes side by side.

# %%
def home_of_run(key, slots):
    return ((key >> 3) * MIX % 2**64 >> 32 << 3 | key & 7) % slots


print("mixed      ", [home(key, 2**20) for key in range(800, 808)])
print("kept a run ", [home_of_run(key, 2**20) for key in range(800, 808)])
first = home_of_run(800, 2**20)
assert [home_of_run(key, 2**20) for key in range(800, 808)] == list(range(first, first + 8))

# %% [markdown]
# The price is a little crowding. The picture shows each slot of the chair's table, coloured by how many slots a search
# for its key looks at; in white, the empty ones.

# %% alt="The slots of the chair's hash table, and a histogram: most keys are found at the first slot"
report = sn.inspect.hash_table_report(sites)
print(f"{report['at_home']:.0%} of the keys are at home, a search looks at {report['mean_probe']:.2f} slots on average")
assert report["at_home"] > 0.6 and report["mean_probe"] < 3
sn.inspect.hash_table(sites)

# %% [markdown]
# ## What to remember
#
# - The key of a cell is its row-major number in the batch of grids: one integer, which can be taken apart again.
# - Sites are sorted by key. The order is the same whoever gives them, and samples and runs along z lie together.
# - A hash table that is at most half full finds a row, or its absence, in one or two looks.
#
# Next: all questions of a filter, asked once and written down. That is the rulebook.

# %% [markdown]
# ## Exercises
#
# ### Exercise 1. How large may a grid be?
#
# Keys are signed 64-bit integers, and the number of all cells of a batch has to stay below 2^63. What is the largest
# side of a cube of cells in a batch of 64? At a voxel size of one millimetre, how long is that side? Does the memory
# for the sites depend on it?

# %% tags=["solution"]
side = int((2**63 // 64) ** (1 / 3)) + 2
while 64 * side**3 >= 2**63:  # from above: a cube root in floating point may be off by one
    side -= 1
print(f"{side:,} cells, {side / 1000:,.0f} m at a millimetre each")
assert side == 2**19 - 1
ActiveSites(np.array([[63, side - 1, side - 1, side - 1]]), (side,) * 3, batch_size=64)  # one site, one row: any grid
try:
    ActiveSites(np.zeros((1, 4), int), (side + 1,) * 3, batch_size=64)
    raise AssertionError("one cell more must be refused")
except OverflowError as error:
    print(error)

# %% [markdown]
# ### Exercise 2. A shortcut with a trap
#
# The key of a cell's neighbour along z is `key + 1`. So can we find all neighbours along z by looking for `key + 1`
# among the sorted keys? Find sites in a grid of 2 x 2 x 3 for which this is wrong, then repair it.

# %% tags=["solution"]
pair = ActiveSites(np.array([[0, 0, 0, 2], [0, 0, 1, 0]]), (2, 2, 3), batch_size=1)
assert pair.keys.tolist() == [2, 3]  # consecutive keys, yet not neighbours: the first cell is the last of its line


def has_next(sites):
    """Whether the cell at z + 1 is active, for each site."""
    return np.isin(sites.keys + 1, sites.keys) & (sites.coordinates[:, -1] + 1 < sites.spatial_size[-1])


assert has_next(pair).tolist() == [False, False]
after = sites.lookup(sites.coordinates + np.array([0, 0, 0, 1]))
assert np.array_equal(has_next(sites), after >= 0)

# %% [markdown]
# ### Exercise 3. A bad hash
#
# Use the key itself as the home: `home = key % slots`. Insert the chair's keys into 8192 slots and compare the longest
# search with that of the mixed hash. Why is a shape the worst case for such a hash?

# %% tags=["solution"]
def longest(home):
    taken, worst = set(), 0
    for key in sites.keys.tolist():
        slot, looked = home(key, 8192), 1
        while slot in taken:
            slot, looked = (slot + 1) % 8192, looked + 1
        taken.add(slot)
        worst = max(worst, looked)
    return worst


plain, mixed = longest(lambda key, slots: key % slots), longest(home)
print(f"the longest search looks at {plain} slots without mixing, {mixed} with it")
assert plain > 3 * mixed
# The grid has 64,000 cells, so eight cells share each home, and a shape has its sites in regular places: legs, edges
# and planes at equal distances, whose keys differ by multiples of 40 and 1,600. Linear probing then piles them up.
