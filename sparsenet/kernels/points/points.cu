// Points: the cells that they lie in, rows read at points, and rows of points reduced by group.
//
//     points (P, D)     p0 p1 p2 ...
//     rows (P, K)       of the site in the cell of each, K = 1; or in the 2^D cells around it, a bit of k for each
//                       axis, the last axis lowest
//     members (M,)      p7 p2 | p0 p1 p5 |  | p3           sorted by group; those before splits[0] are in no group
//     splits (S+1,)           2          5  5    6
//
// Where rows of features are read or written, a block is (lanes, rows): a row of threads takes a point, or a group, and its lanes channels side by side, so that a
// warp reads and writes lines of memory; lanes are as many as channels, at most 32.  A thread adds the members of a
// group in their order, in double.
//
// Limited by memory.  Variants: SCALAR float, double or Half (points: float or double).
#include "common.cuh"
#include "hash_table.cuh"

constexpr int MAX_DIMENSION = 4;
constexpr long long OUTSIDE = -1, NOT_FINITE = -2, NO_SAMPLE = -3;  // as in contract.py

// Where points lie.  samples null: all 0; sides: those from `dimension` on are not read.
struct Grid {
    const SCALAR* points;
    const long long* samples;
    const double* origin;
    const double* voxel_size;
    int sides[MAX_DIMENSION];
    int dimension;
    long long batch_size;
};

// Along one axis, in cells from the origin.
__device__ inline double place(const Grid& grid, long long p, int axis) {
    const double from = static_cast<double>(static_cast<WIDE>(grid.points[p * grid.dimension + axis]));
    return (from - grid.origin[axis]) / grid.voxel_size[axis];
}

// The sample of a point; NO_SAMPLE if there is none, NOT_FINITE if a place is not finite.
__device__ inline long long sample_of(const Grid& grid, long long p, bool finite) {
    const long long sample = grid.samples == nullptr ? 0 : grid.samples[p];
    if (sample < 0 || sample >= grid.batch_size) return NO_SAMPLE;
    return finite ? sample : NOT_FINITE;
}

// The key with one more axis; OUTSIDE if the cell is not in the grid or the key was no key.
__device__ inline long long next_key(const Grid& grid, long long key, double cell, int axis) {
    if (key < 0) return key;
    return cell >= 0 && cell < grid.sides[axis] ? key * grid.sides[axis] + static_cast<long long>(cell) : OUTSIDE;
}

extern "C" __global__ void point_keys(const SCALAR* __restrict__ points, OPTIONAL const long long* __restrict__ samples,
                                      const double* __restrict__ origin, const double* __restrict__ voxel_size,
                                      const int side0, const int side1, const int side2, const int side3,
                                      const int dimension, const long long batch_size, const long long count,
                                      long long* __restrict__ keys) {
    const Grid grid{points, samples, origin, voxel_size, {side0, side1, side2, side3}, dimension, batch_size};
    for (long long p = global_index(); p < count; p += global_stride()) {
        double at[MAX_DIMENSION];
        bool finite = true;
#pragma unroll
        for (int axis = 0; axis < MAX_DIMENSION; ++axis) {
            if (axis >= dimension) continue;
            at[axis] = floor(place(grid, p, axis));
            finite = finite && isfinite(at[axis]);
        }
        long long key = sample_of(grid, p, finite);
#pragma unroll
        for (int axis = 0; axis < MAX_DIMENSION; ++axis)
            if (axis < dimension) key = next_key(grid, key, at[axis], axis);
        keys[p] = key;
    }
}

// A thread takes a corner of a point.  weights null: corners is 1, the cell of the point; else corners is 2^dimension,
// the cells whose centres are around it.
extern "C" __global__ void point_rows(const SCALAR* __restrict__ points, OPTIONAL const long long* __restrict__ samples,
                                      const double* __restrict__ origin, const double* __restrict__ voxel_size,
                                      const int side0, const int side1, const int side2, const int side3,
                                      const int dimension, const long long batch_size,
                                      const long long* __restrict__ table_keys, const int* __restrict__ table_rows,
                                      const long long mask, const int corners, const long long count,
                                      int* __restrict__ rows, OPTIONAL double* __restrict__ weights) {
    const Grid grid{points, samples, origin, voxel_size, {side0, side1, side2, side3}, dimension, batch_size};
    const double shift = weights == nullptr ? 0 : 0.5;
    for (long long i = global_index(); i < count * corners; i += global_stride()) {
        const long long p = corners == 1 ? i : i / corners;
        const int k = static_cast<int>(i - p * corners);
        double cell[MAX_DIMENSION], weight = 1;
        bool finite = true;
#pragma unroll
        for (int axis = 0; axis < MAX_DIMENSION; ++axis) {
            if (axis >= dimension) continue;
            const double at = place(grid, p, axis) - shift, low = floor(at);
            const int far = (k >> (dimension - 1 - axis)) & 1;
            finite = finite && isfinite(at);
            cell[axis] = low + far;
            weight *= far ? at - low : 1 - (at - low);
        }
        long long key = sample_of(grid, p, finite);
#pragma unroll
        for (int axis = 0; axis < MAX_DIMENSION; ++axis)
            if (axis < dimension) key = next_key(grid, key, cell[axis], axis);
        rows[i] = key < 0 ? static_cast<int>(key) : find_row(table_keys, table_rows, mask, key);
        if (weights != nullptr) weights[i] = weight;
    }
}

// The first point or group of this row of threads, and how far it steps.
__device__ inline long long first_row() { return static_cast<long long>(blockIdx.x) * blockDim.y + threadIdx.y; }
__device__ inline long long row_stride() { return static_cast<long long>(gridDim.x) * blockDim.y; }

// The row of features, or else of the background below a point (null: zeros), in one channel.
__device__ inline WIDE value_at(const SCALAR* features, const SCALAR* below, long long row, int channels, int channel) {
    if (row >= 0) return features[row * channels + channel];
    return below == nullptr ? WIDE(0) : static_cast<WIDE>(below[channel]);
}

// weights null: corners is 1, and the row is copied.  background: one row, or one for each sample; null: zeros.
extern "C" __global__ void interpolate_rows(const SCALAR* __restrict__ features, const int* __restrict__ rows,
                                            OPTIONAL const double* __restrict__ weights,
                                            OPTIONAL const SCALAR* __restrict__ background,
                                            OPTIONAL const long long* __restrict__ samples, const long long count,
                                            const int corners, const int channels, SCALAR* __restrict__ out) {
    for (long long p = first_row(); p < count; p += row_stride()) {
        const SCALAR* const below =
            background == nullptr ? nullptr : background + (samples == nullptr ? 0 : samples[p]) * channels;
        for (int c = threadIdx.x; c < channels; c += blockDim.x) {
            if (weights == nullptr) {
                out[p * channels + c] = value_at(features, below, rows[p], channels, c);
                continue;
            }
            double total = 0;
            for (long long k = p * corners; k < (p + 1) * corners; ++k)
                total += weights[k] * value_at(features, below, rows[k], channels, c);
            out[p * channels + c] = static_cast<WIDE>(total);
        }
    }
}

// Member m is entry m of (P, corners), so of point m / corners.  weights null: ones.
extern "C" __global__ void group_sum(const SCALAR* __restrict__ values, const long long* __restrict__ members,
                                     const long long* __restrict__ splits, OPTIONAL const double* __restrict__ weights,
                                     const int corners, const bool mean, const long long groups, const int channels,
                                     SCALAR* __restrict__ out) {
    for (long long s = first_row(); s < groups; s += row_stride()) {
        const long long first = splits[s], end = splits[s + 1];
        for (int c = threadIdx.x; c < channels; c += blockDim.x) {
            double total = 0;
            for (long long i = first; i < end; ++i) {
                const long long member = members[i];
                const long long point = corners == 1 ? member : member / corners;
                const WIDE value = values[point * channels + c];
                total += weights == nullptr ? static_cast<double>(value) : weights[member] * value;
            }
            if (mean && end - first > 1) total /= static_cast<double>(end - first);
            out[s * channels + c] = static_cast<WIDE>(total);
        }
    }
}

// The largest value and the first member that has it; NaN is the largest.  An empty group: `nothing`, and -1.
extern "C" __global__ void group_max(const SCALAR* __restrict__ values, const long long* __restrict__ members,
                                     const long long* __restrict__ splits, const long long groups, const int channels,
                                     const WIDE nothing, SCALAR* __restrict__ out, long long* __restrict__ chosen) {
    for (long long s = first_row(); s < groups; s += row_stride()) {
        const long long first = splits[s], end = splits[s + 1];
        for (int c = threadIdx.x; c < channels; c += blockDim.x) {
            WIDE best = nothing;
            long long which = -1;
            for (long long i = first; i < end; ++i) {
                const long long member = members[i];
                const WIDE value = values[member * channels + c];
                if (which < 0 || value > best || (value != value && best == best)) {
                    best = value;
                    which = member;
                }
            }
            out[s * channels + c] = best;
            chosen[s * channels + c] = which;
        }
    }
}
