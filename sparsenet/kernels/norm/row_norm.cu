// Layer norm: y = (x - mean) / sqrt(variance + eps) * weight + bias, with the mean and variance of each row, or of each
// of the groups of neighbouring channels that a row is cut into.
//
//     x (N, C)         | row 0: group 0 | group 1 | ... | row 1: ...        a team of LANES threads, a power of two up
//                      to 32, takes a group: lane t its channels t, t + LANES, ...
//     moments          (2, groups, N): the mean and 1 / sqrt(variance + eps) of each group
//     sums (2, C)      over rows: a block takes 32 channels of a chunk of rows, row group y its rows y, y + 8, ...; the
//                      last block to finish joins groups, then chunks, in order
//
// Sums are in double, of distances from the group's first number, so that nothing cancels.  A lane reads its numbers
// once for the sums and, out of the cache, once for the result.
//
// Limited by memory: forward reads x and writes the result and, if they are wanted, the moments; backward reads x, the
// gradient and the moments, and writes; the sums read these three.
// Variants: SCALAR float, double or Half; CHUNK, rows.
#include "pairs.cuh"

__device__ inline double number(SCALAR value) { return static_cast<double>(static_cast<WIDE>(value)); }

struct Team {
    int lane, lanes;
};

// A team goes from group to group of all rows, `all` of them; `act` is called with each, and with `all` or more, which
// do not exist, if other teams of the warp still have one.
template <class Act>
__device__ inline void for_each_group(long long all, int lanes, Act act) {
    const Team team{static_cast<int>(threadIdx.x) % lanes, lanes};
    const long long teams = 32 / lanes, own = threadIdx.x % 32 / lanes;
    for (long long first = global_index() / 32 * teams; first < all; first += global_stride() / 32 * teams)
        act(first + own, team);
}

// Of group i of all rows, the place of its mean in the moments.
__device__ inline long long place_of(long long i, long long rows, int groups) { return i % groups * rows + i / groups; }

// The mean of x[0], ..., x[width - 1] and 1 / sqrt(variance + eps); of nothing if not `there`.
__device__ inline void moments_of(const SCALAR* x, int width, Team team, bool there, double eps, double& mean,
                                  double& inverse) {
    const double shift = there ? number(x[0]) : 0;
    double total = 0, squares = 0;
    if (there)
        for (int c = team.lane; c < width; c += team.lanes) {
            const double distance = number(x[c]) - shift;
            total += distance;
            squares += distance * distance;
        }
    const double distance = sum_lanes(total, team.lanes) / width;
    const double variance = sum_lanes(squares, team.lanes) / width - distance * distance;
    mean = shift + distance;
    inverse = 1 / sqrt((variance < 0 ? 0 : variance) + eps);
}

extern "C" __global__ void row_norm_forward(const SCALAR* __restrict__ x, const long long rows, const int channels,
                                            const int groups, const SCALAR* __restrict__ weight,
                                            const SCALAR* __restrict__ bias, const double eps, const int lanes,
                                            SCALAR* __restrict__ out, OPTIONAL double* __restrict__ moments) {
    const int width = channels / groups;
    for_each_group(rows * groups, lanes, [&](long long i, Team team) {
        const bool there = i < rows * groups;
        double mean, inverse;
        moments_of(x + i * width, width, team, there, eps, mean, inverse);
        if (!there) return;
        if (moments && team.lane == 0) {
            moments[place_of(i, rows, groups)] = mean;
            moments[rows * groups + place_of(i, rows, groups)] = inverse;
        }
        const WIDE centre = static_cast<WIDE>(mean), scale = static_cast<WIDE>(inverse);
        const int first = static_cast<int>(i % groups) * width;
        for (int c = team.lane; c < width; c += team.lanes)
            out[i * width + c] = (static_cast<WIDE>(x[i * width + c]) - centre) * scale
                                     * static_cast<WIDE>(weight[first + c])
                                 + static_cast<WIDE>(bias[first + c]);
    });
}

// With x' the normalised x and g' = g weight: out = (g' - mean of g' - x' mean of g' x') / sqrt(variance + eps).
extern "C" __global__ void row_norm_backward(const SCALAR* __restrict__ x, const SCALAR* __restrict__ gradient,
                                             const long long rows, const int channels, const int groups,
                                             const double* __restrict__ moments, const SCALAR* __restrict__ weight,
                                             const int lanes, SCALAR* __restrict__ out) {
    const int width = channels / groups;
    const long long all = rows * groups;
    for_each_group(all, lanes, [&](long long i, Team team) {
        const bool there = i < all;
        const double mean = there ? moments[place_of(i, rows, groups)] : 0;
        const double inverse = there ? moments[all + place_of(i, rows, groups)] : 0;
        double total = 0, product = 0;
        const int first = static_cast<int>(i % groups) * width;
        if (there)
            for (int c = team.lane; c < width; c += team.lanes) {
                const double slope = number(gradient[i * width + c]) * number(weight[first + c]);
                total += slope;
                product += slope * ((number(x[i * width + c]) - mean) * inverse);
            }
        const double share = sum_lanes(total, team.lanes) / width * inverse;
        const double steep = sum_lanes(product, team.lanes) / width * inverse * inverse;
        if (!there) return;
        const WIDE centre = static_cast<WIDE>(mean), scale = static_cast<WIDE>(inverse);
        const WIDE flat = static_cast<WIDE>(share), slope = static_cast<WIDE>(steep);
        for (int c = team.lane; c < width; c += team.lanes)
            out[i * width + c] = static_cast<WIDE>(gradient[i * width + c]) * static_cast<WIDE>(weight[first + c]) * scale
                                 - flat - (static_cast<WIDE>(x[i * width + c]) - centre) * slope;
    });
}

// sums (2, C): of the gradient over all rows, and of the gradient times the normalised value.
extern "C" __global__ void row_norm_sums(const SCALAR* __restrict__ x, const SCALAR* __restrict__ gradient,
                                         const long long rows, const int channels, const int of_groups,
                                         const double* __restrict__ moments, const long long chunks,
                                         OPTIONAL double* partial, OPTIONAL unsigned* __restrict__ arrived,
                                         double* __restrict__ sums) {
    __shared__ double groups[2][GROUPS][32];
    __shared__ bool last;
    const int channel = blockIdx.y * 32 + threadIdx.x;
    const bool here = channel < channels;
    const int group = channel / (channels / of_groups);
    for (long long chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
        const long long first = chunk * CHUNK, end = min(first + CHUNK, rows);
        double pair[2] = {0, 0};
        if (here)
            for (long long row = first + threadIdx.y; row < end; row += GROUPS) {
                const long long i = row * channels + channel, own = group * rows + row;
                const double slope = number(gradient[i]);
                pair[0] += slope;
                pair[1] += slope * ((number(x[i]) - moments[own]) * moments[of_groups * rows + own]);
            }
        if (!sum_chunks(pair, groups, chunk, chunks, channels, channel, partial, arrived, last)) continue;
        if (threadIdx.y != 0 || !here) continue;
        for (int i = 0; i < 2; ++i) sums[i * channels + channel] = pair[i];
    }
}
