// Convolution in narrow groups, depthwise among them (one input channel a group).
//
//     out[m, o] = sum over the offsets k, upwards, and the J input channels i of o's group, of
//                 x[neighbours[m, k], J group(o) + i] weights[k, i, o]        + constant[o]
//
//     neighbours (M, K)    -1 where there is no site
//     forward              a thread for each number of the result; a warp has one row and adjacent channels, so it reads
//                          rows of x and of the weights side by side, and an entry of the neighbours once
//     input gradient       the same over the transposed neighbours, and over the output channels of the group
//     weight gradient      a block takes 32 output channels of a chunk of rows under one offset and input channel, row
//                          group y its rows y, y + 8, ...; the last block to finish joins the chunks in order
//
// Limited by memory: each row of x is read under each offset that meets it, most often from the second cache.
// Variants: SCALAR float, double or Half; CHUNK, rows.  Computed in WIDE, the weight gradient in double.
#include "arrival.cuh"

constexpr int ROW_GROUPS = 8;  // blockDim of the weight gradient is (32, ROW_GROUPS)

// inputs, outputs: the channels of a group.
extern "C" __global__ void narrow_forward(const SCALAR* __restrict__ x, const SCALAR* __restrict__ weights,
                                          const int* __restrict__ neighbours,
                                          OPTIONAL const SCALAR* __restrict__ constant, const long long rows,
                                          const int offsets, const int groups, const int inputs, const int outputs,
                                          SCALAR* __restrict__ out) {
    const int channels = groups * outputs, all_inputs = groups * inputs;
    for (long long i = global_index(); i < rows * channels; i += global_stride()) {
        const long long m = i / channels;
        const int o = static_cast<int>(i - m * channels), first = o / outputs * inputs;
        WIDE total = 0;
        for (int k = 0; k < offsets; ++k) {
            const long long n = neighbours[m * offsets + k];
            if (n < 0) continue;
            for (int c = 0; c < inputs; ++c)
                total += static_cast<WIDE>(x[n * all_inputs + first + c])
                         * static_cast<WIDE>(weights[(static_cast<long long>(k) * inputs + c) * channels + o]);
        }
        out[i] = constant == nullptr ? total : total + static_cast<WIDE>(constant[o]);
    }
}

// neighbours (N, K): the output row under offset k of input n, or under the opposite offset if `reversed`.
extern "C" __global__ void narrow_input_gradient(const SCALAR* __restrict__ gradient,
                                                 const SCALAR* __restrict__ weights, const int* __restrict__ neighbours,
                                                 const bool reversed, const long long rows, const int offsets,
                                                 const int groups, const int inputs, const int outputs,
                                                 SCALAR* __restrict__ out) {
    const int channels = groups * outputs, all_inputs = groups * inputs;
    for (long long i = global_index(); i < rows * all_inputs; i += global_stride()) {
        const long long n = i / all_inputs;
        const int channel = static_cast<int>(i - n * all_inputs), first = channel / inputs * outputs;
        WIDE total = 0;
        for (int k = 0; k < offsets; ++k) {
            const long long m = neighbours[n * offsets + (reversed ? offsets - 1 - k : k)];
            if (m < 0) continue;
            const SCALAR* own = weights + (static_cast<long long>(k) * inputs + channel % inputs) * channels;
            for (int o = first; o < first + outputs; ++o)
                total += static_cast<WIDE>(gradient[m * channels + o]) * static_cast<WIDE>(own[o]);
        }
        out[i] = total;
    }
}

// The sum over the row groups of a block, in order; valid in row group 0.
__device__ inline double sum_row_groups(double sum, double (&sums)[ROW_GROUPS][32]) {
    __syncthreads();  // the block may still read the values of the last call
    sums[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    for (int group = 1; group < ROW_GROUPS; ++group) sum += sums[group][threadIdx.x];
    return sum;
}

// partial (chunks, K J, C_out), arrived (K J, gridDim.y): null if there is one chunk.  blockIdx.z goes over the rows
// of the weights, K J: input channel c of a group under offset k is row k J + c.
extern "C" __global__ void narrow_weight_gradient(const SCALAR* __restrict__ x, const SCALAR* __restrict__ gradient,
                                                  const int* __restrict__ neighbours, const long long rows,
                                                  const int offsets, const int groups, const int inputs,
                                                  const int outputs, const long long chunks, OPTIONAL double* partial,
                                                  OPTIONAL unsigned* __restrict__ arrived, SCALAR* __restrict__ out) {
    __shared__ double sums[ROW_GROUPS][32];
    __shared__ bool last;
    const int channels = groups * outputs, channel = blockIdx.y * 32 + threadIdx.x;
    const bool here = channel < channels;
    const long long lines = static_cast<long long>(offsets) * inputs, all = lines * channels;
    for (long long line = blockIdx.z; line < lines; line += gridDim.z)
        for (long long chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
            const long long first = chunk * CHUNK, end = min(first + CHUNK, rows), k = line / inputs;
            const long long own = static_cast<long long>(channel / outputs) * inputs + line % inputs;
            double sum = 0;
            if (here)
                for (long long row = first + threadIdx.y; row < end; row += ROW_GROUPS) {
                    const long long n = neighbours[row * offsets + k];
                    if (n >= 0)
                        sum += static_cast<double>(static_cast<WIDE>(x[n * (groups * inputs) + own]))
                               * static_cast<double>(static_cast<WIDE>(gradient[row * channels + channel]));
                }
            sum = sum_row_groups(sum, sums);
            const long long place = line * channels + channel;
            if (chunks > 1) {
                if (threadIdx.y == 0 && here) partial[chunk * all + place] = sum;
                if (!comes_last(arrived + line * gridDim.y + blockIdx.y, chunks, last)) continue;
                const volatile double* parts = partial;
                sum = 0;
                if (here)
                    for (long long part = threadIdx.y; part < chunks; part += ROW_GROUPS)
                        sum += parts[part * all + place];
                sum = sum_row_groups(sum, sums);
            }
            if (threadIdx.y == 0 && here) out[place] = static_cast<WIDE>(sum);
        }
}
