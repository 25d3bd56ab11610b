// Max-pooling over the windows of a rulebook, with the background as a competitor.
//
//     features (N, C)    row n  | c0 c1 ... |      windows (M, K)                row m | n0 n1 ... |
//     out, argmax (M, C) row m  | c0 c1 ... |      transposed_neighbours (N, K)  row n | m0 m1 ... |
//
//     out[m, c] = max over k of features[windows[m, k], c], background[c] if it is -1; -2 is skipped
//
// One thread per element; neighbouring threads have neighbouring channels and share the offsets of their row.
// A block takes `tile` rows at a time, so that a 32-bit division gives row and channel.

// Variants: SCALAR float, double or Half.  Compared and summed in WIDE.
#include "runs.cuh"

// The larger of two; NaN wins.
__device__ inline void consider(WIDE value, int k, WIDE& best, int& chosen) {
    if (chosen < 0 || value > best || value != value) {
        best = value;
        chosen = k;
    }
}

// background: `background_rows` rows, 1 or one for each sample; null: inactive cells are skipped, and a
// window without a site gives 0 and argmax 0.  relative: the background is subtracted from the values.
extern "C" __global__ void max_pool_forward(const SCALAR* __restrict__ features,
                                            OPTIONAL const SCALAR* __restrict__ background, int background_rows,
                                            const int* __restrict__ windows, const int* __restrict__ coordinates,
                                            int width, long long rows, int offsets, int channels, int tile,
                                            bool relative, SCALAR* __restrict__ out, short* __restrict__ argmax) {
    const long long step = static_cast<long long>(gridDim.x) * tile;
    // If a warp has one row, each lane reads one offset of the window; then all visit the offsets that have a site, and
    // the first one that has a cell without.
    const bool together = channels % 32 == 0 && offsets <= 32;
    for (long long first = static_cast<long long>(blockIdx.x) * tile; first < rows; first += step) {
        const int here = rows - first < tile ? static_cast<int>(rows - first) : tile;
        for (int t = threadIdx.x; t < here * channels; t += blockDim.x) {
            const int row = t / channels, c = t - row * channels;
            const int* window = windows + (first + row) * offsets;
            bool skip = background == nullptr;  // of the inactive cells the background competes at the first
            const long long sample = background_rows > 1 ? coordinates[(first + row) * width] : 0;
            const WIDE below = skip ? WIDE(0) : static_cast<WIDE>(background[sample * channels + c]);
            WIDE best = 0;
            int chosen = -1;
            if (together) {
                const int lane = threadIdx.x % 32, own = lane < offsets ? window[lane] : -2;
                const unsigned there = __ballot_sync(0xffffffffu, own >= 0);
                const unsigned inactive = __ballot_sync(0xffffffffu, !skip && own == -1);
                for (unsigned left = there | (inactive & (0u - inactive)); left != 0; left &= left - 1) {
                    const int k = __ffs(static_cast<int>(left)) - 1;
                    const long long n = __shfl_sync(0xffffffffu, own, k);
                    consider(n < 0 ? below : static_cast<WIDE>(features[n * channels + c]), k, best, chosen);
                }
            } else {
                for (int k = 0; k < offsets; ++k) {
                    const long long n = window[k];
                    if (n < 0 && (skip || n < -1)) continue;
                    skip = skip || n < 0;
                    consider(n < 0 ? below : static_cast<WIDE>(features[n * channels + c]), k, best, chosen);
                }
            }
            out[first * channels + t] = relative ? best - below : best;
            argmax[first * channels + t] = static_cast<short>(chosen < 0 ? 0 : chosen);
        }
    }
}

// result[n, c] = sum of gradient[m, c] over the windows m that chose n.  A larger offset leads to an
// earlier output, so offsets run downwards: the sum is taken in row order, as on a CPU.
extern "C" __global__ void max_pool_backward(const SCALAR* __restrict__ gradient, const short* __restrict__ argmax,
                                             const int* __restrict__ transposed, long long rows, int offsets,
                                             int channels, int tile, SCALAR* __restrict__ result) {
    const long long step = static_cast<long long>(gridDim.x) * tile;
    for (long long first = static_cast<long long>(blockIdx.x) * tile; first < rows; first += step) {
        const int here = rows - first < tile ? static_cast<int>(rows - first) : tile;
        for (int t = threadIdx.x; t < here * channels; t += blockDim.x) {
            const int row = t / channels, c = t - row * channels;
            const int* windows = transposed + (first + row) * offsets;
            WIDE sum = 0;
            for (int k = offsets - 1; k >= 0; --k) {
                const long long m = windows[k];
                if (m >= 0 && argmax[m * channels + c] == k) sum += gradient[m * channels + c];
            }
            result[first * channels + t] = sum;
        }
    }
}

// partial (slots, C): sums of the gradients of windows that the background won; see runs.cuh.
// splits: null if all rows count as one sample.
extern "C" __global__ void max_pool_background(const SCALAR* __restrict__ gradient, const short* __restrict__ argmax,
                                           const int* __restrict__ neighbours,
                                           OPTIONAL const long long* __restrict__ splits, int samples, long long rows,
                                           int offsets, int channels, int run, WIDE* __restrict__ partial) {
    sum_runs(splits, samples, rows, channels, run, partial, [=](long long m, long long c) {
        const bool won = neighbours[m * offsets + argmax[m * channels + c]] < 0;
        return won ? static_cast<WIDE>(gradient[m * channels + c]) : WIDE(0);
    });
}
