// Batch norm: y = (x - mean) / sqrt(variance + eps) * weight + bias, channel by channel.
//
//     x (N, C)      | chunk 0: CHUNK rows | chunk 1 | ...        reductions: a block takes 32 channels of a chunk, row
//     partial       | 2 numbers a channel | ...                  group y its rows y, y + 8, ...; the last block to
//     background    after the chunks: (G, C), G = 1 or B         finish joins groups, then chunks, in order
//
//     forward, backward    thread t keeps to one channel: slot t % (R C) of a sheet of R rows, sheet after sheet, so
//                          its constants stay in registers and a warp reads numbers that lie side by side
//
// Sums are in double, of distances from one row, the background or the first row of x: no square is larger than the
// number of rows times the sum of squared distances from the mean, so nothing cancels.  The background counts once for
// each inactive cell: one row for all samples for those of all grids, a row of a sample for those of its grid; not at
// all if `cells`, of a grid, is 0.
//
// Limited by memory: statistics read x once; forward reads and writes once; sums and backward read x and the gradient.
// Variants: SCALAR float, double or Half; CHUNK, rows.
#include "pairs.cuh"

// The number of cells that hold row `sample` of the background.
__device__ inline double inactive_cells(const long long* splits, int sample, int background_rows, int samples,
                                        long long rows, long long cells) {
    if (cells == 0) return 0;
    if (background_rows == 1) return static_cast<double>(samples) * cells - rows;
    return static_cast<double>(cells - (splits[sample + 1] - splits[sample]));
}

// moments (2, C): mean and variance; running statistics, if given, are updated by `momentum`.
extern "C" __global__ void batch_norm_statistics(
    const SCALAR* __restrict__ x, const long long rows, OPTIONAL const SCALAR* __restrict__ background,
    const int background_rows, const int channels, OPTIONAL const long long* __restrict__ splits, const int samples,
    const long long cells, const double momentum, OPTIONAL SCALAR* __restrict__ running_mean,
    OPTIONAL SCALAR* __restrict__ running_variance, double* __restrict__ moments, const long long chunks,
    OPTIONAL double* partial, OPTIONAL unsigned* __restrict__ arrived) {
    __shared__ double groups[2][GROUPS][32];
    __shared__ bool last;
    const int channel = blockIdx.y * 32 + threadIdx.x;
    const bool here = channel < channels;
    double shift = 0;
    if (here && cells > 0) shift = static_cast<WIDE>(background[channel]);
    else if (here && rows > 0) shift = static_cast<WIDE>(x[channel]);
    for (long long chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
        const long long first = chunk * CHUNK, end = min(first + CHUNK, rows);
        double pair[2] = {0, 0};
        if (here)
            for (long long row = first + threadIdx.y; row < end; row += GROUPS) {
                const double distance = static_cast<double>(static_cast<WIDE>(x[row * channels + channel])) - shift;
                pair[0] += distance;
                pair[1] += distance * distance;
            }
        if (!sum_chunks(pair, groups, chunk, chunks, channels, channel, partial, arrived, last)) continue;
        if (threadIdx.y != 0 || !here) continue;
        double count = static_cast<double>(rows);
        if (cells > 0)
            for (int sample = 0; sample < background_rows; ++sample) {
                const WIDE value = background[static_cast<long long>(sample) * channels + channel];
                const double times = inactive_cells(splits, sample, background_rows, samples, rows, cells);
                const double distance = static_cast<double>(value) - shift;
                count += times;
                pair[0] += times * distance;
                pair[1] += times * distance * distance;
            }
        const double distance = pair[0] / count;  // 0 / 0 is NaN if there are no values
        const double variance = pair[1] / count - distance * distance, mean = shift + distance;
        const double spread = variance < 0 ? 0 : variance;
        moments[channel] = mean;
        moments[channels + channel] = spread;
        if (running_mean != nullptr) {
            const double mean_before = static_cast<WIDE>(running_mean[channel]);
            const double before = static_cast<WIDE>(running_variance[channel]);
            running_mean[channel] = static_cast<WIDE>((1 - momentum) * mean_before + momentum * mean);
            running_variance[channel] =
                static_cast<WIDE>((1 - momentum) * before + momentum * (spread * (count / (count - 1))));
        }
    }
}

// sums (2, C): of the gradient, and of the gradient times the normalised value, background included.
extern "C" __global__ void batch_norm_sums(
    const SCALAR* __restrict__ x, const SCALAR* __restrict__ gradient, const long long rows,
    OPTIONAL const SCALAR* __restrict__ background, const int background_rows, const int channels,
    OPTIONAL const SCALAR* __restrict__ background_gradient, const double* __restrict__ moments, const double eps,
    double* __restrict__ sums, const long long chunks, OPTIONAL double* partial,
    OPTIONAL unsigned* __restrict__ arrived) {
    __shared__ double groups[2][GROUPS][32];
    __shared__ bool last;
    const int channel = blockIdx.y * 32 + threadIdx.x;
    const bool here = channel < channels;
    const double mean = here ? moments[channel] : 0;
    for (long long chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
        const long long first = chunk * CHUNK, end = min(first + CHUNK, rows);
        double pair[2] = {0, 0};
        if (here)
            for (long long row = first + threadIdx.y; row < end; row += GROUPS) {
                const long long i = row * channels + channel;
                const double slope = static_cast<WIDE>(gradient[i]);
                pair[0] += slope;
                pair[1] += slope * (static_cast<double>(static_cast<WIDE>(x[i])) - mean);
            }
        if (!sum_chunks(pair, groups, chunk, chunks, channels, channel, partial, arrived, last)) continue;
        if (threadIdx.y != 0 || !here) continue;
        for (int sample = 0; sample < background_rows; ++sample) {
            const long long i = static_cast<long long>(sample) * channels + channel;
            const double slope = static_cast<WIDE>(background_gradient[i]);
            pair[0] += slope;
            pair[1] += slope * (static_cast<double>(static_cast<WIDE>(background[i])) - mean);
        }
        sums[channel] = pair[0];
        sums[channels + channel] = pair[1] / sqrt(moments[channels + channel] + eps);
    }
}

// The rows of a sheet: as many as there are threads for, at least one.
__device__ inline long long sheet_rows(int channels) { return max(1ll, global_stride() / channels); }

extern "C" __global__ void batch_norm_forward(const SCALAR* __restrict__ x, const long long rows,
                                              OPTIONAL const SCALAR* __restrict__ background, const int background_rows,
                                              const int channels, const double* __restrict__ moments,
                                              const SCALAR* __restrict__ weight, const SCALAR* __restrict__ bias,
                                              const double eps, SCALAR* __restrict__ out,
                                              OPTIONAL SCALAR* __restrict__ background_out) {
    const long long sheet = sheet_rows(channels);
    for (long long slot = global_index(); slot < sheet * channels; slot += global_stride()) {
        const int channel = static_cast<int>(slot % channels);
        const WIDE mean = static_cast<WIDE>(moments[channel]), constant = bias[channel];
        const WIDE scale = static_cast<WIDE>(static_cast<double>(static_cast<WIDE>(weight[channel]))
                                             / sqrt(moments[channels + channel] + eps));
#pragma unroll 4
        for (long long i = slot; i < rows * channels; i += sheet * channels)
            out[i] = (static_cast<WIDE>(x[i]) - mean) * scale + constant;
        for (long long i = slot; i < static_cast<long long>(background_rows) * channels; i += sheet * channels)
            background_out[i] = (static_cast<WIDE>(background[i]) - mean) * scale + constant;
    }
}

// out = (gradient - share - (x - mean) slope) scale: share and slope are the gradients through mean and variance, if
// these are the batch's.  The background takes share and slope once for each cell that holds it.
extern "C" __global__ void batch_norm_backward(
    const SCALAR* __restrict__ x, const SCALAR* __restrict__ gradient, const long long rows,
    OPTIONAL const SCALAR* __restrict__ background, const int background_rows, const int channels,
    OPTIONAL const long long* __restrict__ splits, const int samples, const long long cells,
    OPTIONAL const SCALAR* __restrict__ background_gradient, const double* __restrict__ moments,
    const SCALAR* __restrict__ weight, const double eps, const double* __restrict__ sums, const bool of_batch,
    SCALAR* __restrict__ out, OPTIONAL SCALAR* __restrict__ background_out) {
    const long long sheet = sheet_rows(channels);
    const double count = cells == 0 ? static_cast<double>(rows) : static_cast<double>(samples) * cells;
    for (long long slot = global_index(); slot < sheet * channels; slot += global_stride()) {
        const int channel = static_cast<int>(slot % channels);
        const double centre = moments[channel], inverse = 1 / sqrt(moments[channels + channel] + eps);
        const double factor = static_cast<double>(static_cast<WIDE>(weight[channel])) * inverse;
        const double part = of_batch && count > 0 ? 1 / count : 0;
        const double share = sums[channel] * part, slope = sums[channels + channel] * inverse * part;
        const WIDE mean = static_cast<WIDE>(centre), scale = static_cast<WIDE>(factor);
        const WIDE flat = static_cast<WIDE>(share), steep = static_cast<WIDE>(slope);
#pragma unroll 4
        for (long long i = slot; i < rows * channels; i += sheet * channels)
            out[i] = (static_cast<WIDE>(gradient[i]) - flat - (static_cast<WIDE>(x[i]) - mean) * steep) * scale;
        for (long long i = slot; i < static_cast<long long>(background_rows) * channels; i += sheet * channels) {
            const int sample = static_cast<int>(i / channels);
            const double times = inactive_cells(splits, sample, background_rows, samples, rows, cells);
            const double distance = static_cast<double>(static_cast<WIDE>(background[i])) - centre;
            background_out[i] = static_cast<WIDE>((static_cast<double>(static_cast<WIDE>(background_gradient[i]))
                                                   - times * (share + distance * slope)) * factor);
        }
    }
}
