// Rulebooks: coordinates of sites, output sites, neighbours.
//
//     key    row-major index of (batch, x, y, z)         input cell = output * stride - padding + offset * dilation
//
//     neighbours (M, K)   row m  | n  -1  n  -1  n ... |    each one lookup in the hash table of the input keys
//     windows (M, K)      row m  | n  -1  n  -2  n ... |    -2: outside the grid
//
// Variants: DIMENSION 1 to 4.  A property of the axes comes as four numbers, of which the last may be idle.

#include "common.cuh"
#include "hash_table.cuh"

constexpr int TILE = 64;  // rows that a block takes at a time: row and offset come from a 32-bit division

struct Axis {
    int size, outputs, kernel, stride, padding, dilation;
};

// Coordinates (N, 1 + DIMENSION) of keys.
extern "C" __global__ void site_coordinates(const long long* __restrict__ keys, long long count, int size_0, int size_1,
                                            int size_2, int size_3, int* __restrict__ coordinates) {
    const int size[4] = {size_0, size_1, size_2, size_3};
    for (long long i = global_index(); i < count; i += global_stride()) {
        long long rest = keys[i];
#pragma unroll
        for (int axis = DIMENSION - 1; axis >= 0; --axis) {
            const long long quotient = rest / size[axis];
            coordinates[i * (1 + DIMENSION) + 1 + axis] = static_cast<int>(rest - quotient * size[axis]);
            rest = quotient;
        }
        coordinates[i * (1 + DIMENSION)] = static_cast<int>(rest);
    }
}

// The output coordinate that an offset joins to an input coordinate, or -1.
__device__ inline long long joined(const Axis& axis, long long coordinate, int offset) {
    const long long at = coordinate + axis.padding - static_cast<long long>(offset) * axis.dilation;
    if (at < 0 || at % axis.stride != 0) return -1;
    return at / axis.stride < axis.outputs ? at / axis.stride : -1;
}

// Calls sink(first key of a line of outputs, coordinate on the last axis) for each output that a key is joined to.
template <typename Axes, typename Sink>
__device__ inline void for_each_output(const Axes& axes, long long key, Sink& sink) {
    long long coordinate[DIMENSION];
    int lines = 1;
#pragma unroll
    for (int axis = DIMENSION - 1; axis >= 0; --axis) {
        coordinate[axis] = key % axes[axis].size;
        key /= axes[axis].size;
        if (axis < DIMENSION - 1) lines *= axes[axis].kernel;
    }
    for (int line = 0; line < lines; ++line) {
        long long at[DIMENSION];
        int rest = line;
        bool inside = true;
#pragma unroll
        for (int axis = DIMENSION - 2; axis >= 0; --axis) {
            at[axis] = joined(axes[axis], coordinate[axis], rest % axes[axis].kernel);
            rest /= axes[axis].kernel;
            inside = inside && at[axis] >= 0;
        }
        if (!inside) continue;
        long long base = key;  // what is left of it: the sample
#pragma unroll
        for (int axis = 0; axis < DIMENSION - 1; ++axis) base = base * axes[axis].outputs + at[axis];
        base *= axes[DIMENSION - 1].outputs;
        for (int k = axes[DIMENSION - 1].kernel - 1; k >= 0; --k) {  // so that outputs come in rising order
            const long long last = joined(axes[DIMENSION - 1], coordinate[DIMENSION - 1], k);
            if (last >= 0) sink(base + last);
        }
    }
}

#define AXES_OF_A_FILTER                                                                                        \
    {                                                                                                           \
        {size_0, outputs_0, kernel_0, stride_0, padding_0, dilation_0},                                         \
        {size_1, outputs_1, kernel_1, stride_1, padding_1, dilation_1},                                         \
        {size_2, outputs_2, kernel_2, stride_2, padding_2, dilation_2},                                         \
        {size_3, outputs_3, kernel_3, stride_3, padding_3, dilation_3},                                         \
    }

// ---- output sites, one bit for every output cell:  bit key % 32 of word key / 32 ----

struct Marker {
    unsigned* bits;
    long long word;
    unsigned waiting;  // bits of `word` not yet written

    __device__ void operator()(long long key) {
        if (key / 32 != word) flush();
        word = key / 32;
        waiting |= 1u << (key % 32);
    }
    __device__ void flush() {  // a bit that is there already costs a read and no atomic
        if (waiting && (bits[word] & waiting) != waiting) atomicOr(bits + word, waiting);
        waiting = 0;
    }
};

extern "C" __global__ void mark_outputs(const long long* __restrict__ keys, long long count,
                                        int size_0, int size_1, int size_2, int size_3,
                                        int outputs_0, int outputs_1, int outputs_2, int outputs_3,
                                        int kernel_0, int kernel_1, int kernel_2, int kernel_3,
                                        int stride_0, int stride_1, int stride_2, int stride_3,
                                        int padding_0, int padding_1, int padding_2, int padding_3,
                                        int dilation_0, int dilation_1, int dilation_2, int dilation_3,
                                        unsigned* __restrict__ bits) {
    const Axis axes[4] = AXES_OF_A_FILTER;
    for (long long i = global_index(); i < count; i += global_stride()) {
        Marker marker{bits, 0, 0};
        for_each_output(axes, keys[i], marker);
        marker.flush();
    }
}

// ---- output sites, as a list of candidates that is then sorted: for grids too large for bits ----

struct Lister {
    long long* place;

    __device__ void operator()(long long key) { *place++ = key; }
};

// candidates (N, per_site): the outputs that a key is joined to, then -1.
extern "C" __global__ void list_candidates(const long long* __restrict__ keys, long long count, int per_site,
                                           int size_0, int size_1, int size_2, int size_3,
                                           int outputs_0, int outputs_1, int outputs_2, int outputs_3,
                                           int kernel_0, int kernel_1, int kernel_2, int kernel_3,
                                           int stride_0, int stride_1, int stride_2, int stride_3,
                                           int padding_0, int padding_1, int padding_2, int padding_3,
                                           int dilation_0, int dilation_1, int dilation_2, int dilation_3,
                                           long long* __restrict__ candidates) {
    const Axis axes[4] = AXES_OF_A_FILTER;
    for (long long i = global_index(); i < count; i += global_stride()) {
        Lister lister{candidates + i * per_site};
        for_each_output(axes, keys[i], lister);
        while (lister.place < candidates + (i + 1) * per_site) *lister.place++ = -1;
    }
}

// ---- neighbours ----

struct Filter {
    int size[4], kernel[4], stride[4], padding[4], dilation[4];

    __device__ int offsets() const {
        int count = 1;
#pragma unroll
        for (int axis = 0; axis < DIMENSION; ++axis) count *= kernel[axis];
        return count;
    }

    // The key of the input cell under an offset of an output (batch, x, y, ...); -1 outside the grid.
    __device__ long long key_under(int offset, const int* output) const {
        int at_axis[DIMENSION];
#pragma unroll
        for (int axis = DIMENSION - 1; axis >= 0; --axis) {
            at_axis[axis] = offset % kernel[axis];
            offset /= kernel[axis];
        }
        long long key = output[0];
        bool inside = true;
#pragma unroll
        for (int axis = 0; axis < DIMENSION; ++axis) {
            const long long at = static_cast<long long>(output[1 + axis]) * stride[axis] - padding[axis]
                                 + static_cast<long long>(at_axis[axis]) * dilation[axis];
            inside = inside && at >= 0 && at < size[axis];
            key = key * size[axis] + (inside ? at : 0);
        }
        return inside ? key : -1;
    }
};

#define FILTER                                                                                              \
    {                                                                                                       \
        {size_0, size_1, size_2, size_3}, {kernel_0, kernel_1, kernel_2, kernel_3},                         \
        {stride_0, stride_1, stride_2, stride_3}, {padding_0, padding_1, padding_2, padding_3},             \
        {dilation_0, dilation_1, dilation_2, dilation_3},                                                   \
    }

// One thread an entry: neighbouring threads look for neighbouring offsets, which lie in one run of the table.
extern "C" __global__ void neighbours(const long long* __restrict__ table_keys, const int* __restrict__ table_rows,
                                      long long mask, const int* __restrict__ outputs, long long rows,
                                      int size_0, int size_1, int size_2, int size_3,
                                      int kernel_0, int kernel_1, int kernel_2, int kernel_3,
                                      int stride_0, int stride_1, int stride_2, int stride_3,
                                      int padding_0, int padding_1, int padding_2, int padding_3,
                                      int dilation_0, int dilation_1, int dilation_2, int dilation_3,
                                      int* __restrict__ table) {
    const Filter filter = FILTER;
    const int offsets = filter.offsets();
    const long long step = static_cast<long long>(gridDim.x) * TILE;
    for (long long first = static_cast<long long>(blockIdx.x) * TILE; first < rows; first += step) {
        const int here = rows - first < TILE ? static_cast<int>(rows - first) : TILE;
        for (int t = threadIdx.x; t < here * offsets; t += blockDim.x) {
            const int row = t / offsets;
            const long long key = filter.key_under(t - row * offsets, outputs + (first + row) * (1 + DIMENSION));
            table[first * offsets + t] = key >= 0 ? find_row(table_keys, table_rows, mask, key) : -1;
        }
    }
}

// The same table, and -2 for a cell outside the grid: what poolings read if they are padded.
extern "C" __global__ void windows(const int* __restrict__ neighbours, const int* __restrict__ outputs, long long rows,
                                   int size_0, int size_1, int size_2, int size_3,
                                   int kernel_0, int kernel_1, int kernel_2, int kernel_3,
                                   int stride_0, int stride_1, int stride_2, int stride_3,
                                   int padding_0, int padding_1, int padding_2, int padding_3,
                                   int dilation_0, int dilation_1, int dilation_2, int dilation_3,
                                   int* __restrict__ table) {
    const Filter filter = FILTER;
    const int offsets = filter.offsets();
    const long long step = static_cast<long long>(gridDim.x) * TILE;
    for (long long first = static_cast<long long>(blockIdx.x) * TILE; first < rows; first += step) {
        const int here = rows - first < TILE ? static_cast<int>(rows - first) : TILE;
        for (int t = threadIdx.x; t < here * offsets; t += blockDim.x) {
            const int row = t / offsets, n = neighbours[first * offsets + t];
            const int* output = outputs + (first + row) * (1 + DIMENSION);
            table[first * offsets + t] = n < 0 && filter.key_under(t - row * offsets, output) < 0 ? -2 : n;
        }
    }
}
