// Sums or means over all cells of the grid of each sample, and back.
//
//     n = splits[b + 1] - splits[b] sites      divisor = 1, or for a mean: cells; without a background max(n, 1)
//     out[b, c] = (sum over the sites of x[:, c] + (cells - n) * background[c]) / divisor
//
// background: `background_rows` rows, 1 or one for each sample; null: inactive cells do not count.
// Variants: SCALAR float, double or Half; CHUNK, rows.  Computed in WIDE, sums over sites in double.
#include "segment_sums.cuh"

__device__ inline WIDE divisor_of(bool mean, bool with_background, long long cells, long long sites) {
    if (!mean) return 1;
    return static_cast<WIDE>(with_background ? cells : (sites > 1 ? sites : 1));
}

extern "C" __global__ void cell_sums(const SCALAR* __restrict__ x, const long long* __restrict__ splits,
                                     const long long rows, const int samples, const int channels,
                                     const long long slots, OPTIONAL double* partial,
                                     OPTIONAL unsigned* __restrict__ arrived,
                                     OPTIONAL const SCALAR* __restrict__ background, const int background_rows,
                                     const long long cells, const bool mean, SCALAR* __restrict__ out) {
    sum_segments(x, splits, rows, samples, channels, slots, partial, arrived, [=](int b, int c, WIDE sum) {
        const long long sites = splits[b + 1] - splits[b];
        if (background != nullptr) {
            const long long row = background_rows > 1 ? b : 0;
            sum += static_cast<WIDE>(cells - sites) * static_cast<WIDE>(background[row * channels + c]);
        }
        out[static_cast<long long>(b) * channels + c] = sum / divisor_of(mean, background != nullptr, cells, sites);
    });
}

// to_sites (N, C): the gradient of each sample, divided, at its sites.  to_background (background_rows, C), null if
// there is none: times the inactive cells; a single row that all share is the sum over the samples, in order.
extern "C" __global__ void cell_sums_backward(const SCALAR* __restrict__ gradient, const long long* __restrict__ splits,
                                              const int* __restrict__ coordinates, const int width,
                                              const int background_rows, const long long cells, const bool mean,
                                              const long long rows,
                                              const int samples, const int channels, SCALAR* __restrict__ to_sites,
                                              OPTIONAL SCALAR* __restrict__ to_background) {
    const bool with_background = background_rows > 0;
    for (long long i = global_index(); i < rows * channels; i += global_stride()) {
        const long long n = i / channels, c = i - n * channels, b = coordinates[n * width];
        to_sites[i] = gradient[b * channels + c] / divisor_of(mean, with_background, cells, splits[b + 1] - splits[b]);
    }
    if (to_background == nullptr) return;
    for (long long i = global_index(); i < static_cast<long long>(background_rows) * channels; i += global_stride()) {
        const long long own = i / channels, c = i - own * channels;
        const long long first = background_rows > 1 ? own : 0, end = background_rows > 1 ? own + 1 : samples;
        WIDE total = 0;
        for (long long b = first; b < end; ++b) {
            const long long sites = splits[b + 1] - splits[b];
            const WIDE share = gradient[b * channels + c] / divisor_of(mean, with_background, cells, sites);
            total += share * static_cast<WIDE>(cells - sites);
        }
        to_background[i] = total;
    }
}
