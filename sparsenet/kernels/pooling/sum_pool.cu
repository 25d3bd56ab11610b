// Sums and means over the windows of a rulebook; average pooling and sum pooling.
//
//     features (N, C)  row n | c0 c1 ... |      windows (M, K)                row m | n0 n1 ... |   -1 inactive,
//     out (M, C)       row m | c0 c1 ... |      transposed_neighbours (N, K)  row n | m0 m1 ... |   -2 outside the grid
//
//     out[m] = (sum over k of features[windows[m, k]] + inactive cells of m * background) / cells of m
//
// A sum is not divided.  Without a background, inactive cells are no cells of m.
// One thread per element; neighbouring threads have neighbouring channels and share the offsets of their row.
// A block takes `tile` rows at a time, so that a 32-bit division gives row and channel.

// Variants: SCALAR float, double or Half.  Summed in WIDE.
#include "runs.cuh"

// Calls visit(row) for each row that a window names, by rising offset; returns the number of inactive cells.
// together: all lanes of the warp have this window, so each reads one offset, and the warp visits those that name a row.
template <typename Visit>
__device__ inline int for_each_named(const int* window, int offsets, bool together, Visit visit) {
    if (together) {
        const int lane = threadIdx.x % 32, own = lane < offsets ? window[lane] : -2;
        for (unsigned left = __ballot_sync(0xffffffffu, own >= 0); left != 0; left &= left - 1)
            visit(static_cast<long long>(__shfl_sync(0xffffffffu, own, __ffs(static_cast<int>(left)) - 1)));
        return __popc(__ballot_sync(0xffffffffu, own == -1));
    }
    int inactive = 0;
    for (int k = 0; k < offsets; ++k) {
        const long long n = window[k];
        if (n >= 0) visit(n);
        inactive += n == -1;
    }
    return inactive;
}

__device__ inline bool shares_windows(int channels, int offsets) { return channels % 32 == 0 && offsets <= 32; }

// What a row of `windows` is made of: rows (M,) WIDE, 1 / cells of m, 1 for a sum; and the inactive cells among them,
// times that, 0 without a background.
extern "C" __global__ void sum_pool_shares(const int* __restrict__ windows, long long rows, int offsets, bool mean,
                                           bool with_background, WIDE* __restrict__ shares,
                                           WIDE* __restrict__ background_shares) {
    for (long long m = global_index(); m < rows; m += global_stride()) {
        int active = 0, inactive = 0;
        for (int k = 0; k < offsets; ++k) {
            active += windows[m * offsets + k] >= 0;
            inactive += windows[m * offsets + k] == -1;
        }
        if (!with_background) inactive = 0;
        const int cells = active + inactive;
        const WIDE share = mean && cells > 1 ? WIDE(1) / static_cast<WIDE>(cells) : WIDE(1);
        shares[m] = share;
        background_shares[m] = static_cast<WIDE>(inactive) * share;
    }
}

// background: `background_rows` rows, 1 or one for each sample; null: inactive cells do not count.
extern "C" __global__ void sum_pool_forward(const SCALAR* __restrict__ features,
                                            OPTIONAL const SCALAR* __restrict__ background, int background_rows,
                                            const int* __restrict__ windows, const int* __restrict__ coordinates,
                                            int width, long long rows, int offsets, int channels, int tile, bool mean,
                                            SCALAR* __restrict__ out) {
    const bool together = shares_windows(channels, offsets);
    const long long step = static_cast<long long>(gridDim.x) * tile;
    for (long long first = static_cast<long long>(blockIdx.x) * tile; first < rows; first += step) {
        const int here = rows - first < tile ? static_cast<int>(rows - first) : tile;
        for (int t = threadIdx.x; t < here * channels; t += blockDim.x) {
            const int row = t / channels, c = t - row * channels;
            const int* window = windows + (first + row) * offsets;
            WIDE sum = 0;
            int cells = 0;
            const int inactive = for_each_named(window, offsets, together, [&](long long n) {
                sum += static_cast<WIDE>(features[n * channels + c]);
                ++cells;
            });
            if (background != nullptr && inactive > 0) {  // infinity in it, times 0, would be NaN
                const long long sample = background_rows > 1 ? coordinates[(first + row) * width] : 0;
                sum += static_cast<WIDE>(inactive) * static_cast<WIDE>(background[sample * channels + c]);
                cells += inactive;
            }
            out[first * channels + t] = mean && cells > 1 ? sum / static_cast<WIDE>(cells) : sum;
        }
    }
}

// result[n] = sum of shares[m] * gradient[m] over the windows m that hold n.
extern "C" __global__ void sum_pool_backward(const SCALAR* __restrict__ gradient, const WIDE* __restrict__ shares,
                                             const int* __restrict__ transposed, long long rows, int offsets,
                                             int channels, int tile, SCALAR* __restrict__ result) {
    const bool together = shares_windows(channels, offsets);
    const long long step = static_cast<long long>(gridDim.x) * tile;
    for (long long first = static_cast<long long>(blockIdx.x) * tile; first < rows; first += step) {
        const int here = rows - first < tile ? static_cast<int>(rows - first) : tile;
        for (int t = threadIdx.x; t < here * channels; t += blockDim.x) {
            const int row = t / channels, c = t - row * channels;
            WIDE sum = 0;
            for_each_named(transposed + (first + row) * offsets, offsets, together, [&](long long m) {
                sum += shares[m] * static_cast<WIDE>(gradient[m * channels + c]);
            });
            result[first * channels + t] = sum;
        }
    }
}

// partial (slots, C): sums of background_shares[m] * gradient[m]; see runs.cuh.
// splits: null if all rows count as one sample.
extern "C" __global__ void sum_pool_background(const SCALAR* __restrict__ gradient,
                                               const WIDE* __restrict__ background_shares,
                                               OPTIONAL const long long* __restrict__ splits, int samples,
                                               long long rows, int channels, int run, WIDE* __restrict__ partial) {
    sum_runs(splits, samples, rows, channels, run, partial, [=](long long m, long long c) {
        return background_shares[m] * static_cast<WIDE>(gradient[m * channels + c]);
    });
}
