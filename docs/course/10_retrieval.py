# %% [markdown]
# # 10. Retrieval and its metrics
#
# Somebody shows a shape, and we list all others, the most similar first. How good is the list? "It looks right" is not
# an answer, and a single number is not the whole one. This chapter computes the usual measures by hand, shows what
# each of them rewards, and how much of each is chance.
#
# It needs no trained network: we compare a few simple descriptors, some of which do surprisingly well.

# %%
import matplotlib.pyplot as plt
import numpy as np

import sparsenet as sn
from sparsenet.random import keyed_rng
from sparsenet.retrieval import Index, evaluate
from sparsenet.shapes import CLASSES, parametric_mesh

# %% [markdown]
# ## One list, by hand
#
# A query is a chair. Six other shapes are ranked, and three of them are chairs, the *relevant* ones: at ranks 1, 3 and
# 4.
#
#     rank         1    2    3    4    5    6
#     chair        x         x    x
#     precision    1/1  1/2  2/3  3/4  3/5  3/6
#
# *Precision* at a rank is the share of relevant shapes among those listed so far; *recall* is the share of the
# relevant shapes that have been listed so far. *Average precision*, AP, is the mean of the precisions at the relevant
# ranks: (1 + 2/3 + 3/4) / 3 = 0.806. It is 1 if all chairs come first.

# %%
def average_precision(relevant):
    """relevant : for each rank, whether the shape there is relevant"""
    relevant = np.asarray(relevant, bool)
    precision = np.cumsum(relevant) / np.arange(1, len(relevant) + 1)
    return precision[relevant].mean()


listed = [True, False, True, True, False, False]
print(f"AP = {average_precision(listed):.3f}")
assert average_precision(listed) == (1 + 2 / 3 + 3 / 4) / 3
assert average_precision([True, True, True, False, False, False]) == 1

# %% [markdown]
# Other measures look at other parts of the list:
#
# | measure | of the list above | question |
# |---|---|---|
# | **NN**, nearest neighbour | 1 | is the first one right? |
# | **FT**, first tier | 2/3 | recall at rank R, if R shapes are relevant; here R = 3 |
# | **ST**, second tier | 3/3 | recall at rank 2 R |
# | **AP** | 0.806 | the whole list |
#
# Each is averaged over all queries: every shape is a query once, and the others are ranked. The mean of AP is **mAP**.
# `evaluate` computes them all from descriptors. Let us build descriptors on a line that lead to just this list.

# %%
places = np.array([[0.0], [1], [2], [3], [4], [5], [6]])  # the query is at 0, the others at distances 1 to 6
kinds = np.array([0, 0, 1, 0, 0, 1, 1])
found = evaluate(places, kinds, metric="l2")
print({name: round(float(found.per_query[name][0]), 3) for name in ("AP", "NN", "FT", "ST")})
np.testing.assert_allclose(found.per_query["AP"][0], average_precision(listed))
np.testing.assert_allclose([found.per_query[name][0] for name in ("NN", "FT", "ST")], [1, 2 / 3, 1])

# %% tags=["picture"] alt="Precision over recall for the list: it falls to one half, and rises to three quarters"
figure, axis = plt.subplots(figsize=(5, 3), layout="constrained")
ranks = np.arange(1, 7)
precision, recall = np.cumsum(listed) / ranks, np.cumsum(listed) / 3
axis.plot(recall, precision, "o-", color="#3b6ea5")
for rank, across, up in zip(ranks, recall, precision, strict=True):
    axis.annotate(f"rank {rank}", (across, up), textcoords="offset points", xytext=(6, 5), fontsize=8)
axis.set(xlabel="recall", ylabel="precision", ylim=(0, 1.1), xlim=(0, 1.15))
axis.grid(alpha=0.3)

# %% [markdown]
# ## Four descriptors
#
# Now real lists: ten classes with ten shapes each, as voxels. And four ways to describe a shape.
#
# - **random**: 32 random numbers. It knows nothing, and shows what knowing nothing is worth.
# - **count**: the number of voxels, a single number.
# - **box**: how large the shape is along x, y and z, each in relation to the longest.
# - **D2**: take two random voxels and measure their distance, 2,000 times; the histogram of the distances is the
#   descriptor (Osada et al., 2002). It does not change if the shape is moved or turned.

# %%
SIDE = 24
shapes, labels = [], []
for label, name in enumerate(CLASSES):
    for number in range(10):
        mesh = parametric_mesh(name, keyed_rng(5, name, number))
        shapes.append(sn.Off3DPicture(mesh, render_size=SIDE).voxelize((SIDE,) * 3)[0])
        labels.append(label)
labels = np.array(labels)


def d2(cells, rng, pairs=2000):
    first, second = cells[rng.integers(len(cells), size=(2, pairs))]
    distances = np.linalg.norm((first - second).astype(float), axis=1)
    return np.histogram(distances, bins=32, range=(0, 1.2 * SIDE))[0] / pairs


def box(cells):
    sides = np.ptp(cells, axis=0) + 1
    return sides / sides.max()


described = {
    "random": np.random.default_rng(0).standard_normal((len(shapes), 32)),
    "count": np.array([[len(cells)] for cells in shapes], float),
    "box": np.array([box(cells) for cells in shapes]),
    "D2": np.array([d2(cells, keyed_rng(7, "D2", row)) for row, cells in enumerate(shapes)]),
}
results = {name: evaluate(vectors, labels, metric="l2") for name, vectors in described.items()}
print("            mAP     NN     FT     ST")
for name, one in results.items():
    print(f"{name:<8}{100 * one.mAP:6.1f} {100 * one.NN:6.1f} {100 * one.FT:6.1f} {100 * one.ST:6.1f}")
assert results["D2"].mAP > results["count"].mAP > results["random"].mAP

# %% alt="Precision-recall curves of the four descriptors: random is a low flat line, the others lie above it"
sn.inspect.precision_recall(results)

# %% [markdown]
# A descriptor without any learning already finds a good part of the classes. Such a *baseline* belongs beside every
# trained network: a mAP of 50% is impressive only if a histogram of distances does not reach it.
#
# ## How much of it is chance?
#
# The random descriptor does not have mAP 0. Nine of the 99 others are relevant, so about 9% of any stretch of a random
# list are. Its AP is a few percent more, because a hit that happens to come early has a high precision, and lifts the
# mean. `evaluate` states the expected value for a random ranking beside mAP. We compare it with the mean of a thousand
# shuffled lists.

# %%
rng = np.random.default_rng(1)
shuffled = [average_precision(rng.permutation(np.arange(99) < 9)) for _ in range(1000)]
print(f"chance: {100 * results['D2'].chance:.2f}% by formula, {100 * np.mean(shuffled):.2f}% in a thousand shuffles")
assert abs(np.mean(shuffled) - results["D2"].chance) < 0.005
assert results["D2"].chance > 9 / 99 and abs(results["random"].mAP - results["D2"].chance) < 0.02

# %% [markdown]
# Chance depends on the gallery. With two classes of equal size it is about one half, with forty classes a few percent.
# So a mAP cannot be compared between data sets, and even on one data set a protocol that keeps only 20 shapes a class
# has another chance level than one that keeps all.

# %%
chances = {classes: evaluate(np.random.default_rng(0).standard_normal((10 * classes, 4)),
                             np.repeat(np.arange(classes), 10)).chance for classes in (2, 10, 40)}
print({classes: f"{100 * chance:.1f}%" for classes, chance in chances.items()})
assert chances[2] > 0.45 and chances[40] < 0.05

# %% [markdown]
# ## Ties
#
# Integers such as `count` make *ties*: several shapes at the same distance. Which comes first? If the sort decides, it
# is the order of the files, and a data set sorted by class makes a useless descriptor look perfect. The extreme case
# is a network that maps everything to one point:

# %%
useless = np.ones((len(shapes), 4))
in_files_order = [average_precision(np.delete(labels, query) == 0) for query in range(10)]  # the first class's queries
by_position = np.mean(in_files_order)
print(f"mAP of the first class if ties stay in the order of the files: {by_position:.0%}; by evaluate: "
      f"{evaluate(useless, labels, metric='l2').mAP:.1%}")
assert by_position == 1
np.testing.assert_allclose(evaluate(useless, labels, metric="l2").mAP, 9 / 99)

# %% [markdown]
# `evaluate` treats tied shapes alike: each gets the precision at the end of its group. A constant descriptor has the
# precision of the whole list, 9 in 99.
#
# ## Cosine or distance?
#
# The cosine compares directions, and the L2 distance compares places. For vectors of length one they give the same
# ranking, since `|a - b|² = 2 - 2 cos`. For `count`, a vector of one number, all directions are equal, and the cosine
# sees nothing at all.

# %%
d2_vectors = described["D2"]
unit = d2_vectors / np.linalg.norm(d2_vectors, axis=1, keepdims=True)
np.testing.assert_allclose(((unit[0] - unit[1]) ** 2).sum(), 2 - 2 * unit[0] @ unit[1])
np.testing.assert_allclose(evaluate(unit, labels, metric="l2").mAP, evaluate(d2_vectors, labels, metric="cosine").mAP,
                           rtol=1e-6)
np.testing.assert_allclose(evaluate(described["count"], labels, metric="cosine").mAP, 9 / 99)

# %% [markdown]
# ## The search itself
#
# An `Index` holds descriptors and answers with the nearest. It is exact, it compares the query with every vector. Here
# is the answer for one mug, as a picture:

# %%
query = 10 * CLASSES.index("mug") + 3
index = Index("l2")
index.add(described["D2"])
distances, rows = index.search(described["D2"][query:query + 1], k=6)
rows, distances = rows.ravel().tolist(), distances.ravel()
print([f"{CLASSES[labels[row]]} {row % 10}: {distance:.3f}" for row, distance in zip(rows, distances, strict=True)])
assert rows[0] == query and distances[0] == 0  # the shape itself

# %% tags=["picture"] alt="A mug and the five shapes nearest to it by the D2 descriptor; right ones are green"
pictures = [sn.inspect.Picture(shapes[row], f"{CLASSES[labels[row]]} {row % 10}", CLASSES[labels[row]], distance)
            for row, distance in zip(rows, distances, strict=True)]
figure = sn.inspect.gallery(pictures[0], pictures[1:])
figure

# %% [markdown]
# ## What to remember
#
# - AP is the mean of the precisions at the relevant ranks; mAP its mean over the queries. NN looks at the first place
#   only.
# - State chance beside mAP, and a simple baseline. Compare figures of one gallery and one protocol only.
# - Ties must not depend on the order of the files.
#
# This is the end of the course. With meshes of your own, the same steps are five commands, in the
# [overview](../../README.md); a network trained on ModelNet40 comes with the package; and [Where to start
# reading](../reading.md) leads through the source.

# %% [markdown]
# ## Exercises
#
# ### Exercise 1. Two lists
#
# Four of eight ranked shapes are relevant. List A has them at ranks 1, 2, 7, 8, list B at ranks 2, 3, 4, 5. Which has
# the higher AP, NN, FT? Which would you rather have in a shop, which when looking for all copies of a part?

# %% tags=["solution"]
a, b = np.isin(np.arange(1, 9), [1, 2, 7, 8]), np.isin(np.arange(1, 9), [2, 3, 4, 5])
print(f"A: AP {average_precision(a):.3f}, NN {a[0]:d}, FT {a[:4].sum() / 4}; "
      f"B: AP {average_precision(b):.3f}, NN {b[0]:d}, FT {b[:4].sum() / 4}")
assert average_precision(a) > average_precision(b) and a[:4].sum() < b[:4].sum()
# A wins by AP and NN, B by FT: in a shop the first places count, while B finds all four after five looks.

# %% [markdown]
# ### Exercise 2. Duplicates
#
# Put each shape into the gallery twice. What happens to NN? To mAP? Why are near-duplicates in a test set a problem,
# and how would you notice them?

# %% tags=["solution"]
twice = evaluate(np.vstack([described["D2"]] * 2), np.tile(labels, 2), metric="l2")
print(f"NN {results['D2'].NN:.2f} -> {twice.NN:.2f}, mAP {results['D2'].mAP:.3f} -> {twice.mAP:.3f}")
assert twice.NN == 1 and twice.mAP > results["D2"].mAP
# Each query finds its twin at distance 0. The figures rise, and the descriptor is as it was. Distances of exactly or
# nearly 0 between different files give them away.

# %% [markdown]
# ### Exercise 3. Large classes
#
# Suppose one class has a hundred shapes that are easy to find, and ten classes have five shapes each that are not. The
# mean over the queries and the mean over the classes differ. By how much, if AP is 0.9 for the easy and 0.3 for the
# others? Build such a gallery with random vectors, and find both figures in the result of `evaluate`.

# %% tags=["solution"]
over_queries, over_classes = (100 * 0.9 + 50 * 0.3) / 150, (0.9 + 10 * 0.3) / 11
print(f"{over_queries:.2f} over the queries, {over_classes:.2f} over the classes")
rng = np.random.default_rng(3)
easy = 10 + 0.1 * rng.standard_normal((100, 8))
hard = rng.standard_normal((50, 8))
kinds = np.concatenate([np.zeros(100, int), np.repeat(np.arange(1, 11), 5)])
one = evaluate(np.vstack([easy, hard]), kinds, metric="l2")
print(f"by evaluate: mAP {one.mAP:.2f}, macro mAP {one.macro.mAP:.2f}")
assert abs(over_queries - 0.7) < 1e-9 and one.mAP > one.macro.mAP + 0.3
