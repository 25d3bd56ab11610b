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

constexpr int COLUMNS = 16, LEVELS = 8;  // of level_backgrounds: its blockDim is (LANES, COLUMNS)

struct Level {
    const SCALAR *weights, *bias;
    SCALAR *transposed_weights, *total, *constant, *activated;
    WIDE slope;
    bool reversed;
    int offsets, outputs;
};

#define LEVEL(i) levels[i] = {w##i, b##i, t##i, s##i, c##i, a##i, f##i, r##i, k##i, o##i};

// The outputs of up to 8 levels in a row for a grid full of background, and their weights for the backward pass.  Of
// one level:
//
//     total[c, o]    = sum over k of weights[k, c, o]
//     constant[o]    = sum over c of background[c] * total[c, o] + bias[o]       (no background: zeros, no bias: 0)
//     activated[o]   = leaky(constant[o]), the background of the next level
//     transposed_weights[k, o, c] = weights[k, c, o]                 (reversed: of offset offsets - 1 - k)
//
//     blockIdx.y     0            1         2 ...              a level each
//     blockIdx.x     | | | | |    | |       | | |              16 columns at a time; a warp one, lanes the channels c
//
// The last block to finish then takes the background through all levels.  ticket: 0, and 0 again afterwards.
extern "C" __global__ void level_backgrounds(
    OPTIONAL const SCALAR* background, const int inputs, unsigned* __restrict__ ticket,
    OPTIONAL const SCALAR* w0, OPTIONAL const SCALAR* b0, OPTIONAL SCALAR* t0, OPTIONAL SCALAR* s0,
    OPTIONAL SCALAR* c0, OPTIONAL SCALAR* a0, const WIDE f0, const bool r0, const int k0, const int o0,
    OPTIONAL const SCALAR* w1, OPTIONAL const SCALAR* b1, OPTIONAL SCALAR* t1, OPTIONAL SCALAR* s1,
    OPTIONAL SCALAR* c1, OPTIONAL SCALAR* a1, const WIDE f1, const bool r1, const int k1, const int o1,
    OPTIONAL const SCALAR* w2, OPTIONAL const SCALAR* b2, OPTIONAL SCALAR* t2, OPTIONAL SCALAR* s2,
    OPTIONAL SCALAR* c2, OPTIONAL SCALAR* a2, const WIDE f2, const bool r2, const int k2, const int o2,
    OPTIONAL const SCALAR* w3, OPTIONAL const SCALAR* b3, OPTIONAL SCALAR* t3, OPTIONAL SCALAR* s3,
    OPTIONAL SCALAR* c3, OPTIONAL SCALAR* a3, const WIDE f3, const bool r3, const int k3, const int o3,
    OPTIONAL const SCALAR* w4, OPTIONAL const SCALAR* b4, OPTIONAL SCALAR* t4, OPTIONAL SCALAR* s4,
    OPTIONAL SCALAR* c4, OPTIONAL SCALAR* a4, const WIDE f4, const bool r4, const int k4, const int o4,
    OPTIONAL const SCALAR* w5, OPTIONAL const SCALAR* b5, OPTIONAL SCALAR* t5, OPTIONAL SCALAR* s5,
    OPTIONAL SCALAR* c5, OPTIONAL SCALAR* a5, const WIDE f5, const bool r5, const int k5, const int o5,
    OPTIONAL const SCALAR* w6, OPTIONAL const SCALAR* b6, OPTIONAL SCALAR* t6, OPTIONAL SCALAR* s6,
    OPTIONAL SCALAR* c6, OPTIONAL SCALAR* a6, const WIDE f6, const bool r6, const int k6, const int o6,
    OPTIONAL const SCALAR* w7, OPTIONAL const SCALAR* b7, OPTIONAL SCALAR* t7, OPTIONAL SCALAR* s7,
    OPTIONAL SCALAR* c7, OPTIONAL SCALAR* a7, const WIDE f7, const bool r7, const int k7, const int o7) {
    __shared__ Level levels[LEVELS];
    __shared__ bool last;
    if (threadIdx.x == 0 && threadIdx.y == 0) {
        LEVEL(0) LEVEL(1) LEVEL(2) LEVEL(3) LEVEL(4) LEVEL(5) LEVEL(6) LEVEL(7)
    }
    __syncthreads();
    const Level& own = levels[blockIdx.y];
    const int c_in = blockIdx.y == 0 ? inputs : levels[blockIdx.y - 1].outputs;
    for (int o = blockIdx.x * COLUMNS + threadIdx.y; o < own.outputs; o += gridDim.x * COLUMNS)
        for (int c = threadIdx.x; c < c_in; c += LANES) {
            WIDE through = 0;
            for (int k = 0; k < own.offsets; ++k) {
                const SCALAR weight = own.weights[(static_cast<long long>(k) * c_in + c) * own.outputs + o];
                const long long place = own.reversed ? own.offsets - 1 - k : k;
                if (own.transposed_weights != nullptr)
                    own.transposed_weights[(place * own.outputs + o) * c_in + c] = weight;
                through += weight;
            }
            own.total[static_cast<long long>(c) * own.outputs + o] = through;
        }
    if (!comes_last(ticket, static_cast<long long>(gridDim.x) * gridDim.y, last)) return;
    int channels = inputs;
    for (int i = 0; i < static_cast<int>(gridDim.y); ++i) {
        const Level& level = levels[i];
        for (int o = threadIdx.y; o < level.outputs; o += COLUMNS) {
            double sum = 0;
            if (background != nullptr)
                for (int c = threadIdx.x; c < channels; c += LANES)
                    sum += static_cast<double>(static_cast<WIDE>(background[c])) *
                           static_cast<WIDE>(level.total[static_cast<long long>(c) * level.outputs + o]);
            sum = warp_sum(sum);
            if (threadIdx.x == 0) {
                const WIDE bias = level.bias == nullptr ? WIDE(0) : static_cast<WIDE>(level.bias[o]);
                const SCALAR rounded = static_cast<WIDE>(sum + bias);
                level.constant[o] = rounded;
                level.activated[o] = leaky(rounded, level.slope);
            }
        }
        __syncthreads();  // the next level reads what all warps wrote
        background = level.activated;
        channels = level.outputs;
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
