# %% [markdown]
# # 9. Training and descriptors
#
# All parts are there: sites, rulebooks, convolutions with their gradients, poolings. In this chapter they learn. We
# train a small network to tell five classes of household things apart, then throw its answer away and keep what it
# computed just before: a vector that describes the shape. That vector is what a search by similarity needs.
#
# Everything here takes seconds on a laptop. The shapes are small and few, so the figures are not impressive; the steps
# are those of a real training.

# %%
import matplotlib.pyplot as plt
import numpy as np

import sparsenet as sn
from sparsenet.random import keyed_rng
from sparsenet.shapes import parametric_mesh

CLASSES = ["bed", "chair", "lamp", "mug", "table"]
SIDE = 14  # cells

# %% [markdown]
# ## Data
#
# Twenty shapes of each class for training, eight others for testing. They are voxelized once; a batch joins the cells
# of some of them. (`sn.SparseDataset` and its loader do this from files, with several threads;
# [Data](../api/data.md).)

# %%
def shapes_of(name, numbers):
    """The cells of some shapes of a class; each number makes another shape, always the same one."""
    meshes = [parametric_mesh(name, keyed_rng(0, name, number)) for number in numbers]
    return [sn.Off3DPicture(mesh, render_size=SIDE).voxelize((SIDE,) * 3)[0] for mesh in meshes]


train = [(cells, label) for label, name in enumerate(CLASSES) for cells in shapes_of(name, range(20))]
test = [(cells, label) for label, name in enumerate(CLASSES) for cells in shapes_of(name, range(20, 28))]


def batch_of(samples):
    """(SparseTensor, labels)"""
    coordinates = np.vstack([np.insert(cells, 0, row, axis=1) for row, (cells, _) in enumerate(samples)])
    ones = np.ones((len(coordinates), 1), np.float32)
    return sn.SparseTensor(ones, coordinates, (SIDE,) * 3, len(samples)), np.array([label for _, label in samples])


x, labels = batch_of(train[::10])
print(x, labels)

# %% tags=["picture"] alt="One shape of each class as voxels: a bed, a chair, a lamp, a mug and a table"
figure, axes = plt.subplots(1, 5, figsize=(11, 2.6), subplot_kw={"projection": "3d"}, layout="constrained")
for axis, name, (cells, _) in zip(axes, CLASSES, train[::20], strict=True):
    sn.inspect.voxels.draw_voxels(axis, cells, "#3b6ea5")
    axis.set_title(name, fontsize=9)

# %% [markdown]
# ## A network
#
# `sn.s3dcnn` builds the network of the paper: blocks of a convolution of size 2, a leaky ReLU and a pooling of size 3
# with stride 2, until the grid is one cell; then linear layers. With three channel widths it has a field of 14 cells.
# The summary shows the grid shrink and the share of active cells grow, as in chapter 7.

# %%
def new_network():
    return sn.s3dcnn(len(CLASSES), seed=1, channels=(8, 16, 32))


net = new_network()
assert net.field == (SIDE,) * 3
print(net.summary(x))

# %% [markdown]
# ## The loss
#
# The network returns five numbers for a shape, the *logits*. `softmax` turns them into probabilities, and the loss is
# minus the logarithm of the probability of the right class: 0 if the network is certain and right, larger the less it
# believed in the truth. Someone who knows nothing and says one fifth to everything has a loss of `log(5) = 1.61`.

# %%
logits = net(x)
probabilities = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(axis=1, keepdims=True)
by_hand = -np.log(probabilities[np.arange(len(labels)), labels]).mean()
loss = sn.ops.softmax_cross_entropy(logits, labels)
print(f"the loss of the untrained network is {loss.item():.3f}, that of a guess {np.log(5):.3f}")
np.testing.assert_allclose(loss.item(), by_hand, rtol=1e-5)

# %% [markdown]
# ## The loop
#
# One *epoch* shows the network all training shapes once, in random order, in batches of 20. For each batch: compute
# the loss, walk backwards (chapter 6), and let the optimizer move each weight a little against its gradient.
# *Stochastic gradient descent* with *momentum* also remembers the direction of the last steps, which smooths them.

# %%
def train_network(net, epochs, lr=0.02):
    """The mean loss of each epoch."""
    optimizer = sn.optim.SGD(net.parameters(), lr=lr, momentum=0.9, nesterov=True)
    losses = []
    for epoch in range(epochs):
        order = keyed_rng(1, "order", epoch).permutation(len(train))  # of (seed, epoch), not of what was drawn before
        in_epoch = []
        for start in range(0, len(order), 20):
            x, labels = batch_of([train[i] for i in order[start:start + 20]])
            net.zero_grad()
            loss = sn.ops.softmax_cross_entropy(net(x), labels)
            loss.backward()
            optimizer.step()
            in_epoch.append(loss.item())
        losses.append(np.mean(in_epoch))
    return losses


def accuracy(net, samples):
    net.eval()
    with sn.no_grad():
        x, labels = batch_of(samples)
        right = (net(x).numpy().argmax(axis=1) == labels).mean()
    net.train()
    return right


losses = train_network(net, epochs=12)
found = accuracy(net, train), accuracy(net, test)
print(f"loss {losses[0]:.2f} -> {losses[-1]:.2f}; right: {found[0]:.0%} in training, {found[1]:.0%} in testing")
assert losses[-1] < 0.5 * losses[0] and found[1] > 0.8  # a guess would be right in 20%

# %% tags=["picture"] alt="The training loss falls from above the level of a guess to near zero within twelve epochs"
figure, axis = plt.subplots(figsize=(5.5, 3), layout="constrained")
axis.plot(range(1, len(losses) + 1), losses, "o-", color="#3b6ea5")
axis.axhline(np.log(5), color="#7a7a7a", linestyle=":", label="a guess: log(5)")
axis.set(xlabel="epoch", ylabel="loss", ylim=(0, None))
axis.legend(frameon=False)

# %% [markdown]
# The figure that counts is the one on the *test* shapes, which no weight has seen. If you choose among several
# networks or settings by it, you have used it for training, too, and it flatters you. `sparsenet train` therefore
# holds out a part of the training shapes for such choices, and touches the test shapes once, at the end.
#
# ## The same bits again
#
# Train twice with the same seed, and you should get the same network: to compare two ideas, to continue after a power
# cut, to find out what changed. In many libraries you do not, because of the order of additions (chapter 4), and
# because random numbers are drawn in the order in which threads come by. Here randomness is keyed: what is drawn for
# an epoch depends on (seed, epoch) alone.

# %%
before, bits = sn.get_num_threads(), set()
for threads in (1, 2):
    sn.set_num_threads(threads)
    twin = new_network()
    train_network(twin, epochs=2)
    bits.add(b"".join(parameter.array.tobytes() for parameter in twin.parameters()))
sn.set_num_threads(before)
assert len(bits) == 1  # every weight, to the last bit, on one thread and on two

# %% [markdown]
# ## Descriptors
#
# The last layer maps a vector to five logits. It is a linear map, so if the network classifies well, that vector must
# already lie in another region for each class. It is the *descriptor*. To get it, run the network up to the layer
# before the last.

# %%
print(net.names()[-3:])


def descriptors(net, samples):
    net.eval()
    with sn.no_grad():
        vectors = net.run(batch_of(samples)[0], 0, len(net.layers) - 1).numpy()
    net.train()
    return vectors


vectors = descriptors(net, test)
test_labels = np.array([label for _, label in test])
assert vectors.shape == (len(test), 32)

# the classifier is a linear map of the descriptor
last = net.layers[-1]
np.testing.assert_allclose(net(batch_of(test)[0]).numpy(), vectors @ last.weight.array + last.bias.array, atol=1e-4)

# %% [markdown]
# Are shapes of a class close to each other? Compare directions: the *cosine* of the angle between two vectors is 1 if
# they point the same way, 0 if they are orthogonal.

# %%
def cosines(vectors):
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit @ unit.T


same = test_labels[:, None] == test_labels
others = ~np.eye(len(test), dtype=bool)
for name, one in (("untrained", new_network()), ("trained", net)):
    c = cosines(descriptors(one, test))
    print(f"{name:>9}: mean cosine within a class {c[same & others].mean():.3f}, between classes {c[~same].mean():.3f}")
within, between = c[same & others].mean(), c[~same].mean()
assert within > between + 0.3

# %% tags=["picture"] alt="Cosines between all test shapes: all bright before training, five bright blocks after"
figure, axes = plt.subplots(1, 2, figsize=(8, 3.6), layout="constrained")
for axis, (name, one) in zip(axes, (("untrained", new_network()), ("trained", net)), strict=True):
    shown = axis.imshow(cosines(descriptors(one, test)), cmap="viridis", vmin=-0.2, vmax=1)
    axis.set_title(f"{name}: cosine of two shapes", fontsize=9)
    axis.set_xticks(np.arange(5) * 8 + 3.5, CLASSES, fontsize=8)
    axis.set_yticks(np.arange(5) * 8 + 3.5, CLASSES, fontsize=8)
figure.colorbar(shown, ax=axes, shrink=0.8)

# %% [markdown]
# A map of the descriptors in two dimensions, by their principal components, with the shapes themselves:

# %% alt="A map of the test shapes by the first two principal components of their descriptors; classes form groups"
sn.inspect.descriptor_map(vectors, test_labels, CLASSES, [cells for cells, _ in test], thumbnails=14)

# %% [markdown]
# ## What to remember
#
# - A step of training: forward, loss, backward, optimizer. An epoch is one pass over the training shapes.
# - Only shapes that took part in no choice tell how good a network is.
# - With fixed orders of addition and keyed randomness, the same seed gives the same bits.
# - The descriptor is the vector before the classifier. It can describe shapes of classes that the network never saw.
#
# The last chapter measures how good a descriptor is.

# %% [markdown]
# ## Exercises
#
# ### Exercise 1. The gradient of the loss
#
# Show that the gradient of the loss by the logits is `(p - t) / B`, where p are the probabilities, t is 1 for the
# right class and 0 elsewhere, and B is the size of the batch. What does each row sum to, and what does that mean?

# %% tags=["solution"]
x, labels = batch_of(test[::5])
logits = sn.Tensor(net(x).numpy(), requires_grad=True)
sn.ops.softmax_cross_entropy(logits, labels).backward()
p = np.exp(logits.array - logits.array.max(axis=1, keepdims=True))
p /= p.sum(axis=1, keepdims=True)
np.testing.assert_allclose(logits.grad, (p - np.eye(5)[labels]) / len(labels), atol=1e-6)
np.testing.assert_allclose(logits.grad.sum(axis=1), 0, atol=1e-6)  # adding a constant to all logits changes nothing

# %% [markdown]
# ### Exercise 2. Too fast, too slow
#
# Train new networks for three epochs with the learning rates 0.0005, 0.02 and 5. Predict the order of their losses
# first.

# %% tags=["solution"]
ends = {}
for lr in (0.0005, 0.02, 5.0):
    with np.errstate(all="ignore"):  # it may overflow
        ends[lr] = train_network(new_network(), epochs=3, lr=lr)[-1]
print({lr: f"{end:.3g}" for lr, end in ends.items()})
# Too slow: it has hardly moved. Too fast: each step jumps over the valley, and the loss grows, here beyond all bounds.
assert ends[0.02] < ends[0.0005] and not ends[5.0] < np.log(5)

# %% [markdown]
# ### Exercise 3. A class that it never saw
#
# Descriptors are said to work for unknown classes. Compute those of eight bookshelves and eight bottles (or any two
# other classes of `sn.shapes.CLASSES`). Is the nearest neighbour of each among these sixteen, by cosine, of its own
# class? How often would chance get it right?

# %% tags=["solution"]
unseen = [name for name in sn.shapes.CLASSES if name not in CLASSES][:2]
strangers = [(cells, label) for label, name in enumerate(unseen) for cells in shapes_of(name, range(8))]
c = cosines(descriptors(net, strangers)) - 2 * np.eye(16)  # not itself
kinds = np.array([label for _, label in strangers])
right = (kinds[c.argmax(axis=1)] == kinds).mean()
print(f"{unseen}: the nearest neighbour is of the same class for {right:.0%}; by chance {7 / 15:.0%}")
assert right > 0.55
