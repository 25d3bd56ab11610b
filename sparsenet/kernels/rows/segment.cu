// Segment reductions: one row out of each run of consecutive rows, chunk by chunk, then chunks joined in their order.
//
//     values (N, C)   | a0 a1 a2 a3 a4 | b0 |  | d0 d1 ...      segments: runs of rows, some empty
//     partial         | a0-a3 | a4 | b0 | - | d...               chunks of at most CHUNK rows of one segment
//     out (S, C)      | a              | b  |0 | d
//
// The partial rows of a segment are its slots, see segments.cuh.  A block reduces one chunk for 32 channels: row group
// y takes rows y, y + 8, ..., the 8 groups are joined in order; then the same is done with the chunks of a segment.
// The order depends on sizes and splits alone.
//
//     sum    in double; the last block to finish a chunk of a segment joins its chunks: one launch
//     max    and its row: of equal ones the first; NaN wins.  A second launch joins the chunks
//
// Limited by memory: each value is read once.  Splits are cut off at N; without splits all rows are one
// segment.  Variants: SCALAR float, double or Half; CHUNK, rows.
#include "segment_sums.cuh"

// partial: as drawn above; partial and arrived: see segment_sums.cuh.
extern "C" __global__ void segment_sum(const SCALAR* __restrict__ values, OPTIONAL const long long* __restrict__ splits,
                                       const long long rows, const int segments, const int channels,
                                       const long long slots, OPTIONAL double* partial,
                                       OPTIONAL unsigned* __restrict__ arrived, SCALAR* __restrict__ out) {
    sum_segments(values, splits, rows, segments, channels, slots, partial, arrived, [=](int segment, int c, WIDE sum) {
        out[static_cast<long long>(segment) * channels + c] = sum;
    });
}

// The largest value so far and its row; row -1: none yet.
struct Best {
    WIDE value;
    long long row;
};

__device__ inline Best better(Best a, Best b) {
    if (a.row < 0 || b.row < 0) return a.row < 0 ? b : a;
    const bool a_nan = a.value != a.value, b_nan = b.value != b.value;
    if (a_nan != b_nan) return b_nan ? b : a;
    const bool equal = a_nan || a.value == b.value;
    return (equal ? b.row < a.row : b.value > a.value) ? b : a;
}

// Largest of rows `range` in one channel, valid in row group 0; `named` gives each row's number, null: itself.
__device__ inline Best best_row(const SCALAR* values, const long long* named, Range range, int channels, int channel,
                                Best (&groups)[GROUPS][32]) {
    Best best{0, -1};
    if (channel < channels)
        for (long long row = range.first + threadIdx.y; row < range.end; row += GROUPS) {
            const long long i = row * channels + channel;
            best = better(best, {values[i], named ? named[i] : row});
        }
    __syncthreads();
    groups[threadIdx.y][threadIdx.x] = best;
    __syncthreads();
    for (int group = 1; group < GROUPS; ++group) best = better(best, groups[group][threadIdx.x]);
    return best;
}

extern "C" __global__ void segment_max_chunks(const SCALAR* __restrict__ values, const long long* __restrict__ splits,
                                              const long long rows, const int segments, const int channels,
                                              const long long slots, SCALAR* __restrict__ partial,
                                              long long* __restrict__ partial_rows) {
    __shared__ Best groups[GROUPS][32];
    const int channel = blockIdx.y * 32 + threadIdx.x;
    for (long long slot = blockIdx.x; slot < slots; slot += gridDim.x) {
        const Range range = rows_of(splits, owner(splits, segments, slot), slot, rows);
        const Best best = best_row(values, nullptr, range, channels, channel, groups);
        if (threadIdx.y == 0 && channel < channels) {
            partial[slot * channels + channel] = best.value;
            partial_rows[slot * channels + channel] = best.row;
        }
    }
}

extern "C" __global__ void segment_max_join(const SCALAR* __restrict__ partial,
                                            const long long* __restrict__ partial_rows,
                                            const long long* __restrict__ splits, const long long rows,
                                            const int segments, const int channels, const WIDE nothing,
                                            SCALAR* __restrict__ out, long long* __restrict__ out_rows) {
    __shared__ Best groups[GROUPS][32];
    const int channel = blockIdx.y * 32 + threadIdx.x;
    for (int segment = blockIdx.x; segment < segments; segment += gridDim.x) {
        const Best best = best_row(partial, partial_rows, slots_of(splits, segment, rows), channels, channel, groups);
        if (threadIdx.y == 0 && channel < channels) {
            const long long i = static_cast<long long>(segment) * channels + channel;
            out[i] = best.row < 0 ? nothing : best.value;
            out_rows[i] = best.row;
        }
    }
}
