// Two sums at once, for each of 32 channels, over the rows of a block (32, GROUPS), and over parts of them.
#include "arrival.cuh"

constexpr int GROUPS = 8;  // blockDim of the reductions is (32, GROUPS)

// The sums of a pair of numbers over the row groups of a block, in order; valid in group 0.
__device__ inline void sum_groups(double (&pair)[2], double (&groups)[2][GROUPS][32]) {
    __syncthreads();  // the block may still read the values of the last call
    for (int i = 0; i < 2; ++i) groups[i][threadIdx.y][threadIdx.x] = pair[i];
    __syncthreads();
    for (int group = 1; group < GROUPS; ++group)
        for (int i = 0; i < 2; ++i) pair[i] += groups[i][group][threadIdx.x];
}

// The sum of parts `first` to `end` - 1 of `partial` (parts, 2, C), which other blocks wrote; valid in group 0.
__device__ inline void sum_parts(double (&pair)[2], double (&groups)[2][GROUPS][32], const volatile double* partial,
                                 long long first, long long end, int channels, int channel) {
    pair[0] = pair[1] = 0;
    if (channel < channels)
        for (long long part = first + threadIdx.y; part < end; part += GROUPS)
            for (int i = 0; i < 2; ++i) pair[i] += partial[(2 * part + i) * channels + channel];
    sum_groups(pair, groups);
}

// In the last block to finish, `pair`, of a chunk, becomes the sum over all chunks, valid in group 0; returns whether
// this is that block.
__device__ inline bool sum_chunks(double (&pair)[2], double (&groups)[2][GROUPS][32], long long chunk, long long chunks,
                                  int channels, int channel, double* partial, unsigned* arrived, bool& last) {
    sum_groups(pair, groups);
    if (chunks == 1) return true;
    if (threadIdx.y == 0 && channel < channels)
        for (int i = 0; i < 2; ++i) partial[(2 * chunk + i) * channels + channel] = pair[i];
    if (!comes_last(arrived + blockIdx.y, chunks, last)) return false;
    sum_parts(pair, groups, partial, 0, chunks, channels, channel);
    return true;
}

// The sum over `lanes` adjacent threads, a power of two up to 32, in the same order in each of them; all threads of a
// warp take part.
__device__ inline double sum_lanes(double value, int lanes = 32) {
    for (int far = lanes / 2; far; far /= 2) value += __shfl_xor_sync(0xffffffffu, value, far);
    return value;
}
