// Instance and group norm: y = (x - mean) / sqrt(variance + eps) * weight + bias, with the mean and variance of a group
// of neighbouring channels in one sample.
//
//     x (N, C)          samples cut into chunks, see segments.cuh; a block takes 32 channels of a chunk, row group y its
//                       rows y, y + 8, ...; the last block to finish a sample joins groups, then chunks, in order
//     sums (B, 2, C)    of each sample and channel; then a warp joins the channels of a group, and the background
//     forward, backward    a block keeps to the rows of one chunk, a thread to one of its channels: slot t % (R C) of
//                          a sheet of R rows, sheet after sheet
//
// Sums are in double.  Distances are taken from the first row of the sample, those from channel to channel and from
// the background are joined by the rule of Chan, Golub and LeVeque (1979): nothing cancels.  The background, (G, C), G
// = 1 or B, counts once for each inactive cell; if `cells`, of a grid, is 0, in samples without a site alone.
//
// Limited by memory: distances read x once, forward reads and writes once; slopes and backward read x and the gradient.
// Variants: SCALAR float, double or Half; CHUNK, rows.
#include "pairs.cuh"
#include "segments.cuh"

// What a sample's statistics are taken over: its sites, and how many times the background counts.
struct Counts {
    double active, inactive;
    __device__ double all() const { return active + inactive; }
};

__device__ inline Counts counts_of(const long long* splits, int sample, const SCALAR* background, long long cells) {
    const long long active = splits[sample + 1] - splits[sample];
    const long long all = max(max(cells, active), 1ll);
    return {static_cast<double>(active), background == nullptr ? 0.0 : static_cast<double>(all - active)};
}

__device__ inline double number(SCALAR value) { return static_cast<double>(static_cast<WIDE>(value)); }

// The place of the background of a sample in one of its channels.
__device__ inline long long place_below(int sample, int background_rows, int channels, int channel) {
    return static_cast<long long>(background_rows > 1 ? sample : 0) * channels + channel;
}

// Adds the pair of a chunk to the others of its sample; whether it is now that of the whole sample, valid in group 0.
__device__ inline bool sum_sample(double (&pair)[2], double (&groups)[2][GROUPS][32], Range slots, long long slot,
                                  int sample, int channels, int channel, double* partial, unsigned* arrived,
                                  bool& last) {
    sum_groups(pair, groups);
    if (slots.end - slots.first <= 1) return true;
    if (threadIdx.y == 0 && channel < channels)
        for (int i = 0; i < 2; ++i) partial[(2 * slot + i) * channels + channel] = pair[i];
    unsigned* ticket = arrived + static_cast<long long>(sample) * gridDim.y + blockIdx.y;
    if (!comes_last(ticket, slots.end - slots.first, last)) return false;
    sum_parts(pair, groups, partial, slots.first, slots.end, channels, channel);
    return true;
}

// sums (B, 2, C): the mean of a sample's sites, and the sum of the squared distances from it; 0 without a site.
extern "C" __global__ void sample_norm_distances(const SCALAR* __restrict__ x, const long long* __restrict__ splits,
                                                 const long long rows, const int samples, const int channels,
                                                 const long long slots, OPTIONAL double* partial,
                                                 OPTIONAL unsigned* __restrict__ arrived, double* __restrict__ sums) {
    __shared__ double groups[2][GROUPS][32];
    __shared__ bool last;
    const int channel = blockIdx.y * 32 + threadIdx.x;
    const bool here = channel < channels;
    for (long long slot = blockIdx.x; slot < slots; slot += gridDim.x) {
        const int sample = owner(splits, samples, slot);
        const Range used = slots_of(splits, sample, rows), all = segment_rows(splits, sample, rows);
        if (slot > used.first && slot >= used.end) continue;  // a sample without a site uses its first one, too: zeros
        const Range own = rows_of(splits, sample, slot, rows);
        const double shift = here && all.first < all.end ? number(x[all.first * channels + channel]) : 0;
        double pair[2] = {0, 0};
        if (here)
            for (long long row = own.first + threadIdx.y; row < own.end; row += GROUPS) {
                const double distance = number(x[row * channels + channel]) - shift;
                pair[0] += distance;
                pair[1] += distance * distance;
            }
        if (!sum_sample(pair, groups, used, slot, sample, channels, channel, partial, arrived, last)) continue;
        if (threadIdx.y != 0 || !here) continue;
        const double count = static_cast<double>(max(all.end - all.first, 1ll)), mean = pair[0] / count;
        const double squares = pair[1] - count * mean * mean;
        sums[2ll * sample * channels + channel] = shift + mean;
        sums[(2ll * sample + 1) * channels + channel] = squares < 0 ? 0 : squares;
    }
}

// moments (2, B, G): mean and variance of each group; 0 and 1 if there are no values.  A warp takes a group.
extern "C" __global__ void sample_norm_moments(const double* __restrict__ sums, const long long* __restrict__ splits,
                                               const int samples, const int channels, const int groups,
                                               OPTIONAL const SCALAR* __restrict__ background,
                                               const int background_rows, const long long cells,
                                               double* __restrict__ moments) {
    const int width = channels / groups, lane = threadIdx.x % 32;
    const long long all_groups = static_cast<long long>(samples) * groups;
    for (long long i = global_index() / 32; i < all_groups; i += global_stride() / 32) {
        const int sample = static_cast<int>(i / groups), first = static_cast<int>(i % groups) * width;
        const Counts counts = counts_of(splits, sample, background, cells);
        const double count = counts.all();
        // The mean of a channel, and of its squared distances from it, background included.
        const auto of_channel = [&](int channel, double& mean, double& square) {
            mean = sums[2ll * sample * channels + channel];
            square = sums[(2ll * sample + 1) * channels + channel] / count;
            if (counts.inactive > 0) {
                const double apart = number(background[place_below(sample, background_rows, channels, channel)]) - mean;
                mean += apart * (counts.inactive / count);
                square += apart * apart * (counts.active / count * (counts.inactive / count));
            }
        };
        double mean = 0, square = 0, total = 0;
        for (int c = first + lane; c < first + width; c += 32) {
            of_channel(c, mean, square);
            total += mean;
        }
        const double centre = sum_lanes(total) / width;
        total = 0;
        for (int c = first + lane; c < first + width; c += 32) {
            of_channel(c, mean, square);
            total += square + (mean - centre) * (mean - centre);
        }
        const double variance = sum_lanes(total) / width;
        if (lane == 0) {
            moments[i] = count > 0 ? centre : 0;
            moments[all_groups + i] = count > 0 ? variance : 1;
        }
    }
}

// The rows of a chunk that block y of gridDim.y takes.
__device__ inline Range part_of(Range rows) {
    const long long length = (CHUNK + gridDim.y - 1) / gridDim.y, first = rows.first + blockIdx.y * length;
    return {first, min(first + length, rows.end)};
}

// The rows of a sheet: as many as there are threads for, at least one.
__device__ inline int sheet_rows(int channels) { return max(1, static_cast<int>(blockDim.x) / channels); }

extern "C" __global__ void sample_norm_forward(
    const SCALAR* __restrict__ x, const long long* __restrict__ splits, const long long rows, const int samples,
    const int channels, const long long slots, OPTIONAL const SCALAR* __restrict__ background,
    const int background_rows, const double* __restrict__ moments, const int groups,
    const SCALAR* __restrict__ weight, const SCALAR* __restrict__ bias, const double eps, SCALAR* __restrict__ out,
    OPTIONAL SCALAR* __restrict__ background_out) {
    const int width = channels / groups;
    const auto constants = [&](int sample, int channel, WIDE& mean, WIDE& scale) {
        const long long group = static_cast<long long>(sample) * groups + channel / width;
        mean = static_cast<WIDE>(moments[group]);
        const double variance = moments[static_cast<long long>(samples) * groups + group];
        scale = static_cast<WIDE>(number(weight[channel]) / sqrt(variance + eps));
    };
    const long long sheet = static_cast<long long>(sheet_rows(channels)) * channels;
    WIDE mean, scale;
    for (long long slot = blockIdx.x; slot < slots; slot += gridDim.x) {
        const int sample = owner(splits, samples, slot);
        const Range own = part_of(rows_of(splits, sample, slot, rows));
        for (long long start = threadIdx.x; start < sheet && own.first < own.end; start += blockDim.x) {
            const int channel = static_cast<int>(start % channels);
            constants(sample, channel, mean, scale);
            const WIDE constant = bias[channel];
#pragma unroll 4
            for (long long i = own.first * channels + start; i < own.end * channels; i += sheet)
                out[i] = (static_cast<WIDE>(x[i]) - mean) * scale + constant;
        }
    }
    if (background == nullptr || blockIdx.y > 0) return;
    for (long long i = global_index(); i < static_cast<long long>(samples) * channels; i += global_stride()) {
        const int sample = static_cast<int>(i / channels), channel = static_cast<int>(i % channels);
        constants(sample, channel, mean, scale);
        const WIDE value = background[place_below(sample, background_rows, channels, channel)];
        background_out[i] = (value - mean) * scale + static_cast<WIDE>(bias[channel]);
    }
}

// sums (B, 2, C): of the gradient at a sample's sites, and of the gradient times the distance from the mean.
extern "C" __global__ void sample_norm_slopes(const SCALAR* __restrict__ x, const SCALAR* __restrict__ gradient,
                                              const long long* __restrict__ splits, const long long rows,
                                              const int samples, const int channels,
                                              const double* __restrict__ moments, const int of_groups,
                                              const long long slots, OPTIONAL double* partial,
                                              OPTIONAL unsigned* __restrict__ arrived, double* __restrict__ sums) {
    __shared__ double groups[2][GROUPS][32];
    __shared__ bool last;
    const int channel = blockIdx.y * 32 + threadIdx.x;
    const bool here = channel < channels;
    for (long long slot = blockIdx.x; slot < slots; slot += gridDim.x) {
        const int sample = owner(splits, samples, slot);
        const Range used = slots_of(splits, sample, rows);
        if (slot > used.first && slot >= used.end) continue;
        const Range own = rows_of(splits, sample, slot, rows);
        double pair[2] = {0, 0};
        if (here) {
            const int group = channel / (channels / of_groups);
            const double mean = moments[static_cast<long long>(sample) * of_groups + group];
            for (long long row = own.first + threadIdx.y; row < own.end; row += GROUPS) {
                const long long i = row * channels + channel;
                const double slope = number(gradient[i]);
                pair[0] += slope;
                pair[1] += slope * (number(x[i]) - mean);
            }
        }
        if (!sum_sample(pair, groups, used, slot, sample, channels, channel, partial, arrived, last)) continue;
        if (threadIdx.y != 0 || !here) continue;
        for (int i = 0; i < 2; ++i) sums[(2ll * sample + i) * channels + channel] = pair[i];
    }
}

// The sums of a sample's channel, background included, the second with the normalised value instead of the distance.
__device__ inline void whole_sums(const double* sums, const SCALAR* background, const SCALAR* background_gradient,
                                  int background_rows, int sample, int channels, int channel, double mean,
                                  double inverse, double (&pair)[2]) {
    for (int i = 0; i < 2; ++i) pair[i] = sums[(2ll * sample + i) * channels + channel];
    if (background != nullptr) {
        const double slope = number(background_gradient[static_cast<long long>(sample) * channels + channel]);
        pair[0] += slope;
        pair[1] += slope * (number(background[place_below(sample, background_rows, channels, channel)]) - mean);
    }
    pair[1] *= inverse;
}

// shares (2, B, G): the gradients through mean and variance of a group, by a warp.
// to_parameters (2, C): the gradients of bias and weight, the sums over all samples, in order.
extern "C" __global__ void sample_norm_shares(
    const double* __restrict__ sums, const long long* __restrict__ splits, const int samples, const int channels,
    const int groups, OPTIONAL const SCALAR* __restrict__ background,
    OPTIONAL const SCALAR* __restrict__ background_gradient, const int background_rows, const long long cells,
    const double* __restrict__ moments, const SCALAR* __restrict__ weight, const double eps,
    double* __restrict__ shares, double* __restrict__ to_parameters) {
    const int width = channels / groups, lane = threadIdx.x % 32;
    const long long all_groups = static_cast<long long>(samples) * groups;
    double pair[2];
    for (long long i = global_index() / 32; i < all_groups; i += global_stride() / 32) {
        const int sample = static_cast<int>(i / groups), first = static_cast<int>(i % groups) * width;
        const double inverse = 1 / sqrt(moments[all_groups + i] + eps);
        double total[2] = {0, 0};
        for (int c = first + lane; c < first + width; c += 32) {
            whole_sums(sums, background, background_gradient, background_rows, sample, channels, c, moments[i], inverse,
                       pair);
            for (int k = 0; k < 2; ++k) total[k] += number(weight[c]) * pair[k];
        }
        const double values = max(counts_of(splits, sample, background, cells).all(), 1.0) * width;
        for (int k = 0; k < 2; ++k) {
            const double share = sum_lanes(total[k]) / values;
            if (lane == 0) shares[k * all_groups + i] = k == 0 ? share * inverse : share * inverse * inverse;
        }
    }
    for (long long c = global_index(); c < channels; c += global_stride()) {
        const int channel = static_cast<int>(c);
        double total[2] = {0, 0};
        for (int sample = 0; sample < samples; ++sample) {
            const long long group = static_cast<long long>(sample) * groups + channel / width;
            whole_sums(sums, background, background_gradient, background_rows, sample, channels, channel,
                       moments[group], 1 / sqrt(moments[all_groups + group] + eps), pair);
            for (int k = 0; k < 2; ++k) total[k] += pair[k];
        }
        for (int k = 0; k < 2; ++k) to_parameters[k * channels + channel] = total[k];
    }
}

// out = gradient scale - share - (x - mean) slope.  The background takes share and slope once for each cell that holds
// it; if all samples share it, its gradient is the sum over them, in order.
extern "C" __global__ void sample_norm_backward(
    const SCALAR* __restrict__ x, const SCALAR* __restrict__ gradient, const long long* __restrict__ splits,
    const long long rows, const int samples, const int channels, const long long slots,
    OPTIONAL const SCALAR* __restrict__ background, OPTIONAL const SCALAR* __restrict__ background_gradient,
    const int background_rows, const long long cells, const double* __restrict__ moments,
    const double* __restrict__ shares, const int groups, const SCALAR* __restrict__ weight, const double eps,
    SCALAR* __restrict__ out, OPTIONAL SCALAR* __restrict__ background_out) {
    const int width = channels / groups;
    const long long all_groups = static_cast<long long>(samples) * groups;
    const long long sheet = static_cast<long long>(sheet_rows(channels)) * channels;
    for (long long slot = blockIdx.x; slot < slots; slot += gridDim.x) {
        const int sample = owner(splits, samples, slot);
        const Range own = part_of(rows_of(splits, sample, slot, rows));
        for (long long start = threadIdx.x; start < sheet && own.first < own.end; start += blockDim.x) {
            const int channel = static_cast<int>(start % channels);
            const long long group = static_cast<long long>(sample) * groups + channel / width;
            const WIDE mean = static_cast<WIDE>(moments[group]), share = static_cast<WIDE>(shares[group]);
            const WIDE slope = static_cast<WIDE>(shares[all_groups + group]);
            const WIDE scale = static_cast<WIDE>(number(weight[channel]) / sqrt(moments[all_groups + group] + eps));
#pragma unroll 4
            for (long long i = own.first * channels + start; i < own.end * channels; i += sheet)
                out[i] = static_cast<WIDE>(gradient[i]) * scale - share - (static_cast<WIDE>(x[i]) - mean) * slope;
        }
    }
    if (background == nullptr || blockIdx.y > 0) return;
    for (long long i = global_index(); i < static_cast<long long>(background_rows) * channels; i += global_stride()) {
        const int row = static_cast<int>(i / channels), channel = static_cast<int>(i % channels);
        const int first = background_rows > 1 ? row : 0, end = background_rows > 1 ? row + 1 : samples;
        const double value = number(background[i]), factor = number(weight[channel]);
        double total = 0;
        for (int sample = first; sample < end; ++sample) {
            const long long group = static_cast<long long>(sample) * groups + channel / width;
            const double inactive = counts_of(splits, sample, background, cells).inactive;
            const double slope = number(background_gradient[static_cast<long long>(sample) * channels + channel]);
            total += slope * factor / sqrt(moments[all_groups + group] + eps)
                     - inactive * (shares[group] + (value - moments[group]) * shares[all_groups + group]);
        }
        background_out[i] = static_cast<WIDE>(total);
    }
}
