# %% [markdown]
# # 8. A CUDA kernel without a GPU
#
# A GPU runs one small program, the *kernel*, on thousands of threads at once. Each thread learns its number and
# decides from it which piece of the work is its own. Nothing checks that the pieces fit: a thread that reads one
# element too far gets whatever lies there, and two threads that write to one place leave it to chance who wins. Such
# faults often stay silent, and look like bad luck in training.
#
# So this chapter runs kernels on the *processor*, where somebody watches. A C++ compiler (g++) and a few headers turn
# a CUDA source into an ordinary program that simulates every thread, stops at forbidden accesses, and runs each launch
# in several orders of the threads, because a right kernel does not depend on the order. It is slow, and it finds the
# faults.
#
# You need g++. Nothing else in the course does.

# %%
import re
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from sparsenet.kernels.cuda.source import CudaSource, use_driver
from sparsenet.sparse import ActiveSites, Geometry
from sparsenet.teach.cuda_host.host_driver import HostDriver, HostError

folder = Path(tempfile.mkdtemp(prefix="sparsenet-course-"))
driver = HostDriver()
driver.few = None  # it would also try fewer blocks than asked for: we do that ourselves


def compiled(name, text):
    """The kernels of a CUDA source; they run on the processor."""
    (folder / f"{name}.cu").write_text(text)
    return CudaSource(name, folder)


def run(source, kernel, blocks, threads, *arguments):
    with use_driver(driver):
        source.kernel(kernel)(blocks, threads, *arguments)


def report_of(*launch):
    """The fault of a launch, which must have one."""
    try:
        run(*launch)
    except HostError as error:
        kind = re.search(r"order: [^:]*|AddressSanitizer: [\w-]+", str(error))[0]
        what = re.search(r"(READ|WRITE) of size \d+", str(error))
        line = re.search(r"\w+\.cu:\d+", str(error))
        return ", ".join([kind, *(found[0] for found in (what, line) if found)])
    raise RuntimeError("the fault went unnoticed")


# %% [markdown]
# ## One thread, one number
#
# The threads of a launch come in *blocks*. A thread knows its block (`blockIdx.x`), the size of a block (`blockDim.x`)
# and its place in the block (`threadIdx.x`), so its number in the whole launch is `blockIdx.x * blockDim.x +
# threadIdx.x`.
#
# The number of threads is a multiple of the size of a block, and the work seldom is. So every kernel begins with a
# *guard*: threads beyond the end have nothing to do. We use the *grid-stride loop*, a guard and more: thread i takes
# the elements i, i + total, i + 2 total and so on, where total is the number of all threads. It is right for any
# number of blocks.
#
# Our first kernel is the leaky ReLU: x where it is positive, slope times x where it is not.

# %%
activations = compiled("activations", r"""
extern "C" __global__ void leaky_relu(const float* x, float* out, int n, float slope) {
    int total = gridDim.x * blockDim.x;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += total)
        out[i] = x[i] > 0 ? x[i] : slope * x[i];
}

extern "C" __global__ void no_guard(const float* x, float* out, float slope) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    out[i] = x[i] > 0 ? x[i] : slope * x[i];
}
""")

rng = np.random.default_rng(0)
x = rng.standard_normal(100).astype(np.float32)
out = np.empty_like(x)
run(activations, "leaky_relu", 4, 32, x, out, 100, 0.25)  # 4 blocks of 32 threads: 128 threads for 100 numbers
assert np.array_equal(out, np.where(x > 0, x, np.float32(0.25) * x))

again = np.empty_like(x)
run(activations, "leaky_relu", 1, 32, x, again, 100, 0.25)  # 32 threads: each goes round three or four times
assert np.array_equal(again, out)

# %% [markdown]
# The second kernel of that source forgets the guard. On a GPU it would read 28 numbers behind the end of one array and
# write 28 behind the end of the other, into something else that lies there. Here it is stopped at the first read:

# %%
fault = report_of(activations, "no_guard", 4, 32, x, out, 0.25)
print(fault)
assert "heap-buffer-overflow" in fault
run(activations, "no_guard", 4, 25, x, out, 0.25)  # with exactly 100 threads it happens to work

# %% tags=["picture"] alt="Which thread computes which of 40 elements: two blocks of 8 threads, three rounds"
elements = np.arange(40)
figure, axis = plt.subplots(figsize=(9, 1.9), layout="constrained")
axis.imshow((elements % 16 // 8)[None], cmap="Pastel1", vmin=0, vmax=8, aspect="auto", extent=(0, 40, 0, 1))
for element in elements:
    axis.text(element + 0.5, 0.5, element % 16, ha="center", va="center", fontsize=8)
for border in (16, 32):
    axis.axvline(border, color="black", linewidth=1.5)
axis.set(yticks=[], xlabel="element; the number in a cell is that of its thread", xticks=[0, 8, 16, 24, 32, 40])
axis.set_title("two blocks of 8 threads; the loop goes round at the black lines", fontsize=9)

# %% [markdown]
# ## A race
#
# Adding up numbers looks as easy: each thread adds its number to the result. But `*sum += x[i]` is three steps: read,
# add, write. If two threads read before either has written, one of the additions is lost. This is a *race*. It does
# not have to happen in every run, which makes it hard to find by testing results.
#
# The simulator runs the threads of a launch in several orders and compares what comes out. It changes from one thread
# to another only where threads wait for each other, so it loses no addition here; it finds the race because
# floating-point numbers that are added in another order give another last bit. The result depends on who comes first:
# that is the fault.
#
# The classic cure is a sum by halves in *shared memory*, which the threads of one block have in common. In each step,
# half of the threads add the other half's numbers to their own. Between the steps stands `__syncthreads()`, the
# *barrier*: no thread goes on until all threads of its block have arrived.

# %%
sums = compiled("sums", r"""
extern "C" __global__ void race(const float* x, float* sum, int n) {
    int i = threadIdx.x;
    if (i < n) *sum += x[i];
}

template <bool WAIT>
__device__ void add_by_halves(const float* x, float* sum, int n) {
    __shared__ float part[64];
    int i = threadIdx.x;
    part[i] = i < n ? x[i] : 0;
    __syncthreads();
    for (int half = 32; half > 0; half /= 2) {
        if (i < half) part[i] += part[i + half];
        if (WAIT) __syncthreads();
    }
    if (i == 0) *sum = part[0];
}

extern "C" __global__ void by_halves(const float* x, float* sum, int n) { add_by_halves<true>(x, sum, n); }

extern "C" __global__ void without_barrier(const float* x, float* sum, int n) { add_by_halves<false>(x, sum, n); }
""")

numbers, total = rng.standard_normal(50).astype(np.float32), np.zeros(1, np.float32)
run(sums, "by_halves", 1, 64, numbers, total, 50)
assert abs(total[0] - numbers.sum(dtype=float)) < 1e-5

for kernel in ("race", "without_barrier"):
    fault = report_of(sums, kernel, 1, 64, numbers, np.zeros(1, np.float32), 50)
    print(f"{kernel}: {fault}")
    assert "order" in fault

# %% [markdown]
# Both faults are found without knowing the right answer: another order gave another result, and that alone is
# forbidden. The sum by halves adds floating-point numbers, too, but always in the same order, whatever the threads do.
#
# There is an instruction for additions that several threads may make at once, `atomicAdd`. For integers it is fine.
# For floating-point numbers it brings back the problem of chapter 4: the order of the additions is left to chance, and
# with it the last bits. sparsenet uses no atomic additions of floats, and the simulator refuses to compile them.
#
# ## The convolution as a kernel
#
# Now the sparse convolution of chapter 4, by its neighbours: `out[m, c]` is a sum over the offsets k and the input
# channels. Every (m, c) gets a thread of its own. No two threads write to the same place, so there is no race, and
# each thread adds in the same order every time.
#
#     out (M, C_out), row-major: element i belongs to output m = i / C_out, channel c = i % C_out

# %%
convolutions = compiled("convolutions", r"""
extern "C" __global__ void convolve(const float* x, const float* weight, const int* neighbours, float* out,
                                    int outputs, int offsets, int c_in, int c_out) {
    long long elements = (long long)outputs * c_out, total = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < elements; i += total) {
        long long m = i / c_out;
        int c = i % c_out;
        float sum = 0;
        for (int k = 0; k < offsets; k++) {
            long long n = neighbours[m * offsets + k];
            if (n < 0) continue;
            for (int a = 0; a < c_in; a++)
                sum += x[n * c_in + a] * weight[((long long)k * c_in + a) * c_out + c];
        }
        out[i] = sum;
    }
}
""")

cells = np.stack(np.unravel_index(rng.choice(512, 60, replace=False), (8, 8, 8)), axis=1)
sites = ActiveSites(np.insert(cells, 0, 0, axis=1), (8, 8, 8), batch_size=1)
rulebook = sites.rulebook(Geometry.make_submanifold(3, size=3))
features = rng.standard_normal((60, 3)).astype(np.float32)
weight = rng.standard_normal((27, 3, 5)).astype(np.float32)
out = np.full((60, 5), np.nan, np.float32)
run(convolutions, "convolve", 8, 32, features, weight, np.ascontiguousarray(rulebook.neighbours), out, 60, 27, 3, 5)

expected = np.zeros((60, 5))
for k in range(27):
    n, m = rulebook.pairs[rulebook.pair_splits[k]:rulebook.pair_splits[k + 1]].T
    expected[m] += features[n].astype(float) @ weight[k]
np.testing.assert_allclose(out, expected, atol=1e-5)
print(f"{out.size} outputs, each by a thread of its own; largest difference {np.abs(out - expected).max():.0e}")

# %% [markdown]
# Two habits in these lines are worth copying.
#
# **The output was filled with NaN.** An element that no thread writes would show up as NaN in the comparison, where a
# zero could pass for a result.
#
# **Row times channels is computed in 64 bits** (`long long`). With 100 million sites and 32 channels, `n * c_in`
# exceeds what an `int` can hold, and on a GPU the sum silently becomes a negative address.

# %%
assert 100_000_000 * 32 > np.iinfo(np.int32).max

# %% [markdown]
# ## How fast would it be?
#
# The simulator cannot tell, but arithmetic can. Each thread reads C_in numbers of x for each neighbour, and C_out
# threads read the same ones. Count for each pair: C_in * C_out multiply-adds, and as many reads of x and of the
# weights. A GPU can do tens of operations in the time that one read from its main memory takes, so this kernel would
# wait for memory nearly always.
#
# Fast kernels read a *tile* of x and one of the weights into shared memory once, and use each number many times. With
# tiles of T x T, every number is used T times.

# %%
def reads_per_multiply_add(tile):
    """A tile of T rows and T channels takes 2 T^2 reads and feeds T^3 multiply-adds for each T of depth."""
    return 2 * tile**2 / tile**3


print({tile: f"{reads_per_multiply_add(tile):g}" for tile in (1, 16, 64, 128)})
assert reads_per_multiply_add(1) == 2 and reads_per_multiply_add(64) == 1 / 32

# %% [markdown]
# That is the whole secret of a fast matrix product; [the convolution's page](../kernels/convolution.md) draws the real
# thing, tile by tile. On a machine with a GPU, the same `.cu` sources are compiled by CuPy on first use.
#
# ## What to remember
#
# - A kernel is one program for all threads. It needs a guard, and a grid-stride loop is one.
# - Threads that share memory need barriers between writing and reading. A right kernel gives the same result in any
#   order.
# - Give each output to one thread, and neither races nor atomics arise.
# - Fill outputs with NaN in tests, and multiply rows in 64 bits.

# %% [markdown]
# ## Exercises
#
# ### Exercise 1. The gradient of the leaky ReLU
#
# Write a kernel for the backward pass: the gradient passes where x is positive, and is multiplied by the slope
# elsewhere. Test it against NumPy with 1 and with 7 blocks.

# %% tags=["solution"]
backward = compiled("backward", r"""
extern "C" __global__ void leaky_relu_backward(const float* x, const float* gradient, float* out, int n,
                                               float slope) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
        out[i] = x[i] > 0 ? gradient[i] : slope * gradient[i];
}

extern "C" __global__ void shift(const int* x, int* out) {
    __shared__ int line[64];
    int i = threadIdx.x;
    line[i] = x[i];
    __syncthreads();
    out[i] = line[(i + 1) % 64];
}

extern "C" __global__ void shift_in_place(int* x) {
    int i = threadIdx.x, next = x[(i + 1) % 64];
    __syncthreads();
    x[i] = next;
}

extern "C" __global__ void scatter(const float* x, const int* pairs, float* out, int count, int channels) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < count * channels; i += gridDim.x * blockDim.x) {
        int pair = i / channels, c = i % channels;
        out[pairs[2 * pair + 1] * channels + c] += x[pairs[2 * pair] * channels + c];
    }
}
""")
gradient = rng.standard_normal(100).astype(np.float32)
for blocks in (1, 7):
    found = np.full_like(x, np.nan)
    run(backward, "leaky_relu_backward", blocks, 32, x, gradient, found, 100, 0.25)
    assert np.array_equal(found, np.where(x > 0, gradient, np.float32(0.25) * gradient))

# %% [markdown]
# ### Exercise 2. Everybody moves up
#
# Thread i of one block of 64 threads writes `x[i + 1]` to place i, the last one `x[0]`. Write it with an output array,
# through shared memory. Then do it in place, without an output array. Where does the barrier go, and what happens
# without it?

# %% tags=["solution"]
line, moved = np.arange(64, dtype=np.int32), np.empty(64, np.int32)
run(backward, "shift", 1, 64, line, moved)
assert np.array_equal(moved, np.roll(line, -1))
run(backward, "shift_in_place", 1, 64, line)  # all threads read, then the barrier, then all write
assert np.array_equal(line, moved)
# Without the barrier a thread may overwrite its number before its neighbour has read it.

# %% [markdown]
# ### Exercise 3. Scatter
#
# Chapter 4 scattered by pairs, offset by offset: `out[m] += ...`. Write a kernel `scatter` that adds the row `x[n]` to
# `out[m]` for a list of pairs. For which lists is it right? Show one for which it is not.

# %% tags=["solution"]
rows = rng.standard_normal((60, 3)).astype(np.float32)
k = int(np.diff(rulebook.pair_splits).argmax())
pairs = np.ascontiguousarray(rulebook.pairs[rulebook.pair_splits[k]:rulebook.pair_splits[k + 1]])
added = np.zeros((60, 3), np.float32)
run(backward, "scatter", 2, 32, rows, pairs, added, len(pairs), 3)
expected = np.zeros_like(added)
expected[pairs[:, 1]] = rows[pairs[:, 0]]
assert np.array_equal(added, expected)  # right for the pairs of one offset: no output row occurs twice

clash = np.array([[0, 5], [1, 5], [2, 5]], np.int32)  # three rows for output 5
fault = report_of(backward, "scatter", 2, 32, rows, clash, np.zeros((60, 3), np.float32), 3, 3)
print(fault)
assert "order" in fault

driver.close()
