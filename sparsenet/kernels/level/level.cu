// A level of a network (convolution, leaky ReLU, max-pooling) apart from its convolutions: the arithmetic of its
// background, which is one row, and the gradient from the pooled sites back to the output of the convolution.
//
// Variants: SCALAR float, double or Half.  Computed in WIDE, sums over rows in double.
#include "arrival.cuh"

constexpr int LANES = 32, GROUPS = 8;  // blockDim is (LANES, GROUPS): a group is a warp

__device__ inline WIDE leaky(WIDE value, WIDE slope) { return value > 0 ? value : value * slope; }

// The sum over a warp, in an order that depends on the lanes alone.
__device__ inline double warp_sum(double value) {
    for (int step = LANES / 2; step > 0; step /= 2) value += __shfl_xor_sync(0xffffffffu, value, step);
    return value;
}

// The output for a grid full of background, and the weights for the backward pass.  A warp takes one column o:
//
//     total[c, o]    = sum over k of weights[k, c, o]
//     constant[o]    = sum over c of background[c] * total[c, o] + bias[o]       (no background: zeros, no bias: 0)
//     activated[o]   = leaky(constant[o])
//     transposed_weights[k, o, c] = weights[k, c, o]                 (reversed: of offset offsets - 1 - k)
extern "C" __global__ void level_background(OPTIONAL const SCALAR* __restrict__ background,
                                            const SCALAR* __restrict__ weights,
                                            OPTIONAL const SCALAR* __restrict__ bias, const WIDE slope,
                                            const bool reversed, const int offsets, const int c_in,
                                            const int c_out, SCALAR* __restrict__ constant,
                                            SCALAR* __restrict__ activated, OPTIONAL SCALAR* __restrict__ total,
                                            OPTIONAL SCALAR* __restrict__ transposed_weights) {
    for (int o = blockIdx.x * GROUPS + threadIdx.y; o < c_out; o += gridDim.x * GROUPS) {
        double sum = 0;
        for (int c = threadIdx.x; c < c_in; c += LANES) {
            WIDE through = 0;
            for (int k = 0; k < offsets; ++k) {
                const SCALAR weight = weights[(static_cast<long long>(k) * c_in + c) * c_out + o];
                const long long place = reversed ? offsets - 1 - k : k;
                if (transposed_weights != nullptr) transposed_weights[(place * c_out + o) * c_in + c] = weight;
                through += weight;
            }
            if (total != nullptr) total[static_cast<long long>(c) * c_out + o] = through;
            if (background != nullptr) sum += static_cast<double>(background[c]) * through;
        }
        sum = warp_sum(sum);
        if (threadIdx.x == 0) {
            const SCALAR rounded = static_cast<WIDE>(sum + (bias == nullptr ? WIDE(0) : static_cast<WIDE>(bias[o])));
            constant[o] = rounded;
            activated[o] = leaky(rounded, slope);
        }
    }
}

// The gradient of pooled row m in channel c goes to the input that argmax names: the sum over the windows that chose
// row n.  A larger offset leads to an earlier output, so offsets run downwards: the sum is taken in row order, as on
// a CPU.  Each lane reads one offset, so that the warp visits only those that have a window.
__device__ inline WIDE collected(const SCALAR* gradient, const short* argmax, const int* windows, int offsets,
                                 int channels, int channel) {
    WIDE sum = 0;
    for (int base = (offsets - 1) / LANES * LANES; base >= 0; base -= LANES) {
        const int k = base + threadIdx.x;
        const int own = k < offsets ? windows[k] : -1;
        for (unsigned there = __ballot_sync(0xffffffffu, own >= 0); there != 0;) {
            const int lane = 31 - __clz(static_cast<int>(there));
            there &= ~(1u << lane);
            const long long m = __shfl_sync(0xffffffffu, own, lane);
            if (channel < channels && argmax[m * channels + channel] == base + lane)
                sum += gradient[m * channels + channel];
        }
    }
    return sum;
}

// gradient of the level's output, pooled: (M, C) of values relative to the background, argmax and transposed (N, K)
// its pooling; not pooled (argmax null): (N, C).  activated (N, C): the output of the leaky ReLU.
//
//     result[n, c]            = arriving[n, c], times slope if activated[n, c] is not positive
//     constant_gradient[c]    = sum over n of result[n, c]
//                               + leaky'(constant[c]) * (output_background_gradient[c] - sum over n of arriving[n, c],
//                                                      if pooled)
//     background_gradient[d]  = sum over c of total[d, c] * constant_gradient[c]
//
// Pooled values are relative to the background, so the gradients that arrive at sites are subtracted from that of the
// background.  A block takes `chunk` rows of 32 channels at a time, row group y the rows y, y + 8, ...  The last block
// to finish a chunk of these channels joins the sums of all chunks in order; the last of those blocks multiplies by
// `total`.  partial: (chunks, 2, C), and a row (C,) for constant_gradient before it is rounded.
// tickets: gridDim.y + 1 zeros, zeros again afterwards.
extern "C" __global__ void level_gradient(const SCALAR* __restrict__ gradient,
                                          OPTIONAL const short* __restrict__ argmax,
                                          OPTIONAL const int* __restrict__ transposed,
                                          const SCALAR* __restrict__ activated, const SCALAR* __restrict__ constant,
                                          OPTIONAL const SCALAR* __restrict__ output_background_gradient,
                                          const WIDE slope, OPTIONAL const SCALAR* __restrict__ total,
                                          const long long rows, const int offsets, const int channels,
                                          const int c_in, const int chunk,
                                          SCALAR* __restrict__ result, double* partial, unsigned* __restrict__ tickets,
                                          SCALAR* __restrict__ constant_gradient,
                                          OPTIONAL SCALAR* __restrict__ background_gradient) {
    __shared__ double groups[2][GROUPS][LANES];
    __shared__ bool last;
    const int channel = blockIdx.y * LANES + threadIdx.x;
    const int chunks = static_cast<int>((rows + chunk - 1) / chunk);
    for (int slot = blockIdx.x; slot < chunks; slot += gridDim.x) {
        double arriving = 0, leaving = 0;
        const long long first = static_cast<long long>(slot) * chunk, end = min(first + chunk, rows);
        for (long long row = first + threadIdx.y; row < end; row += GROUPS) {
            WIDE value = 0;
            if (argmax != nullptr)
                value = collected(gradient, argmax, transposed + row * offsets, offsets, channels, channel);
            else if (channel < channels)
                value = gradient[row * channels + channel];
            if (channel >= channels) continue;
            const WIDE passed = static_cast<WIDE>(activated[row * channels + channel]) > 0 ? value : value * slope;
            result[row * channels + channel] = passed;
            arriving += value;
            leaving += passed;
        }
        __syncthreads();  // the block may still read the sums that it joined last
        groups[0][threadIdx.y][threadIdx.x] = arriving;
        groups[1][threadIdx.y][threadIdx.x] = leaving;
        __syncthreads();
        if (threadIdx.y < 2 && channel < channels) {  // group 0 sums `arriving`, group 1 `leaving`
            double sum = 0;
            for (int group = 0; group < GROUPS; ++group) sum += groups[threadIdx.y][group][threadIdx.x];
            partial[(static_cast<long long>(slot) * 2 + threadIdx.y) * channels + channel] = sum;
        }
        if (!comes_last(&tickets[blockIdx.y], chunks, last)) continue;
        arriving = leaving = 0;
        if (channel < channels)
            for (int other = threadIdx.y; other < chunks; other += GROUPS) {
                const volatile double* sums = partial + static_cast<long long>(other) * 2 * channels + channel;
                arriving += sums[0];
                leaving += sums[channels];
            }
        groups[0][threadIdx.y][threadIdx.x] = arriving;
        groups[1][threadIdx.y][threadIdx.x] = leaving;
        __syncthreads();
        double* const joined = partial + static_cast<long long>(chunks) * 2 * channels;
        if (threadIdx.y == 0 && channel < channels) {
            for (int group = 1; group < GROUPS; ++group) {
                arriving += groups[0][group][threadIdx.x];
                leaving += groups[1][group][threadIdx.x];
            }
            double own = 0;
            if (output_background_gradient != nullptr) own = static_cast<WIDE>(output_background_gradient[channel]);
            if (argmax != nullptr) own -= arriving;
            if (!(static_cast<WIDE>(constant[channel]) > 0)) own *= slope;
            joined[channel] = leaving + own;
            constant_gradient[channel] = static_cast<WIDE>(leaving + own);
        }
        if (background_gradient == nullptr || !comes_last(&tickets[gridDim.y], gridDim.y, last)) continue;
        for (int d = threadIdx.y; d < c_in; d += GROUPS) {
            double sum = 0;
            for (int c = threadIdx.x; c < channels; c += LANES)
                sum += static_cast<const volatile double*>(joined)[c] *
                       static_cast<WIDE>(total[static_cast<long long>(d) * channels + c]);
            sum = warp_sum(sum);
            if (threadIdx.x == 0) background_gradient[d] = static_cast<WIDE>(sum);
        }
    }
}
