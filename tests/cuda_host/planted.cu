// Kernels with one fault each, and right ones beside them: the tests of the host's header.
#include "common.cuh"

constexpr unsigned ALL = 0xffffffffu;

extern "C" __global__ void write_beyond(int* out, int size) {
    const int i = threadIdx.x;
    if (i <= size) out[i] = i;  // < is right
}

extern "C" __global__ void read_before(const int* x, int* out) { out[threadIdx.x] = x[static_cast<int>(threadIdx.x) - 1]; }

extern "C" __global__ void write_beyond_shared(int* out) {
    __shared__ int line[64];
    line[threadIdx.x + 1] = 1;
    __syncthreads();
    out[threadIdx.x] = line[threadIdx.x];
}

extern "C" __global__ void write_beyond_dynamic_shared(int* out) {
    DYNAMIC_SHARED(int, line);
    line[threadIdx.x] = 1;
    __syncthreads();
    out[threadIdx.x] = line[threadIdx.x];
}

extern "C" __global__ void read_shared_unwritten(int* out) {
    __shared__ int line[64];
    if (threadIdx.x < 63) line[threadIdx.x] = 1;
    __syncthreads();
    out[threadIdx.x] = line[threadIdx.x];
}

extern "C" __global__ void race_in_block(int* out) { out[0] = threadIdx.x; }
extern "C" __global__ void race_between_blocks(int* out) { out[0] = blockIdx.x; }
extern "C" __global__ void race_permitted(UNORDERED int* out) { out[0] = threadIdx.x; }
extern "C" __global__ void sum_without_atomics(int* out) {
    const int seen = out[0];
    __syncwarp();
    out[0] = seen + threadIdx.x;
}

extern "C" __global__ void rotate(const int* x, int* out, bool wait) {
    __shared__ int line[64];
    line[threadIdx.x] = x[threadIdx.x];
    if (wait) __syncthreads();
    out[threadIdx.x] = line[(threadIdx.x + 1) % 64];
}

extern "C" __global__ void rotate_in_warp(const int* x, int* out, bool wait) {
    __shared__ int line[64];
    line[threadIdx.x] = x[threadIdx.x];
    if (wait) __syncwarp();
    out[threadIdx.x] = line[threadIdx.x ^ 1];
}

extern "C" __global__ void barrier_for_half(int* out) {
    if (threadIdx.x < 32) __syncthreads();
    out[threadIdx.x] = 1;
}

extern "C" __global__ void barriers_apart(int* out) {
    if (threadIdx.x < 32)
        __syncthreads();
    else
        __syncthreads();
    out[threadIdx.x] = 1;
}

extern "C" __global__ void vote_without_all(int* out) {
    if (threadIdx.x % 32 != 7) out[threadIdx.x] = __any_sync(ALL, 1);
}

extern "C" __global__ void shuffle_from_outside(int* out) {
    if (threadIdx.x < 16) out[threadIdx.x] = __shfl_sync(0xffffu, out[threadIdx.x], 20);
}

extern "C" __global__ void load_misaligned(const float* x, float* out) {
    out[threadIdx.x] = reinterpret_cast<const float4*>(x + 1)[threadIdx.x].y;
}

extern "C" __global__ void overflow(int* out, int value) { out[threadIdx.x] = value + static_cast<int>(threadIdx.x); }

extern "C" __global__ void copy_in_background(const float* x, int size, float* out, bool wait) {
    __shared__ float line[64];
    copy_async<4>(&line[threadIdx.x], x + threadIdx.x, static_cast<int>(threadIdx.x) < size);
    copy_async_commit();
    if (wait) copy_async_wait<0>();
    __syncthreads();
    out[threadIdx.x] = line[63 - threadIdx.x];
}

extern "C" __global__ void copy_in_two_groups(const float* x, float* out) {
    __shared__ float line[2][64];
    const float zero = 0;
    copy_async<4>(&line[0][threadIdx.x], x + threadIdx.x, true);
    copy_async_commit();
    copy_async<4>(&line[1][threadIdx.x], &zero, true);
    copy_async_commit();
    copy_async_wait<1>();  // the second group may still be under way
    out[threadIdx.x] = line[0][threadIdx.x];
    out[threadIdx.x + 64] = line[1][threadIdx.x];
    copy_async_wait<0>();
}

extern "C" __global__ void write_half_of_it(int* out, int size) {
    if (static_cast<int>(threadIdx.x) < size / 2) out[threadIdx.x] = 1;
}

// Right ones.

extern "C" __global__ void count_up(unsigned long long* total, unsigned* largest) {
    atomicAdd(total, global_index());
    atomicMax(largest, static_cast<unsigned>(global_index()));
}

extern "C" __global__ void sum_of_block(const int* __restrict__ x, int* __restrict__ out) {
    __shared__ int line[256];
    line[threadIdx.x] = x[global_index()];
    for (int width = 128; width > 0; width /= 2) {
        __syncthreads();
        if (threadIdx.x < width) line[threadIdx.x] += line[threadIdx.x + width];
    }
    if (threadIdx.x == 0) out[blockIdx.x] = line[0];
}

// out (7, 32): sums by shuffles across, prefix sums by shuffles up, neighbours down, broadcasts, votes, matches, counts
extern "C" __global__ void warp_operations(const int* x, int* out) {
    const int lane = threadIdx.x % 32, value = x[lane];
    int sum = value, prefix = value;
    for (int width = 16; width > 0; width /= 2) sum += __shfl_xor_sync(ALL, sum, width);
    for (int step = 1; step < 32; step *= 2) {
        const int other = __shfl_up_sync(ALL, prefix, step);
        if (lane >= step) prefix += other;
    }
    out[lane] = sum;
    out[32 + lane] = prefix;
    out[64 + lane] = __shfl_down_sync(ALL, value, 1, 8);
    out[96 + lane] = __shfl_sync(ALL, value, 5);
    out[128 + lane] = static_cast<int>(__ballot_sync(ALL, value > 0));
    out[160 + lane] = static_cast<int>(__match_any_sync(ALL, value));
    out[192 + lane] = __syncthreads_count(value > 0);
}

extern "C" __global__ void round_numbers(const float* x, int size, unsigned* tf32, unsigned* half, unsigned* bfloat,
                                         float* back) {
    for (long long i = global_index(); i < size; i += global_stride()) {
        tf32[i] = to_tf32(x[i]);
        half[i] = pack_half(x[i], -x[i]);
        bfloat[i] = pack_bfloat(x[i], -x[i]);
        back[i] = half_to_float(static_cast<unsigned short>(half[i]));
    }
}

// out (3, 16, 8) += a (16, 16) x b (16, 8) in TF32, FP16, BF16: a by matrix loads of packed rows, b by hand.
extern "C" __global__ void products(const float* a, const float* b, float* out) {
    __shared__ __align__(16) unsigned rows[3][16][16];
    const int lane = threadIdx.x, g = lane / 4, t = lane % 4;
    for (int i = lane; i < 256; i += 32) rows[0][i / 16][i % 16] = to_tf32(a[i]);
    for (int i = lane; i < 128; i += 32) {
        rows[1][i / 8][i % 8] = pack_half(a[2 * i], a[2 * i + 1]);
        rows[2][i / 8][i % 8] = pack_bfloat(a[2 * i], a[2 * i + 1]);
    }
    __syncwarp();
    float sums[3][4];
    for (int kind = 0; kind < 3; ++kind)
        for (int i = 0; i < 4; ++i) sums[kind][i] = out[kind * 128 + (g + 8 * (i / 2)) * 8 + 2 * t + i % 2];
    const int row = lane % 8 + lane / 8 % 2 * 8, column = lane / 16 * 4;  // of the 8 x 4 words that this lane names
    unsigned words[4];
    for (int k = 0; k < 16; k += 8) {
        load_matrix_x4(words, &rows[0][row][k + column]);
        mma_tf32_16x8x8(sums[0], words, {to_tf32(b[(k + t) * 8 + g]), to_tf32(b[(k + t + 4) * 8 + g])});
    }
    const float* const own = b + 2 * t * 8 + g;
    load_matrix_x4(words, &rows[1][row][column]);
    mma_half_16x8x16(sums[1], words, {pack_half(own[0], own[8]), pack_half(own[64], own[72])});
    load_matrix_x4(words, &rows[2][row][column]);
    mma_bfloat_16x8x16(sums[2], words, {pack_bfloat(own[0], own[8]), pack_bfloat(own[64], own[72])});
    for (int kind = 0; kind < 3; ++kind)
        for (int i = 0; i < 4; ++i) out[kind * 128 + (g + 8 * (i / 2)) * 8 + 2 * t + i % 2] = sums[kind][i];
}

// out (8, 32) as four transposed 8 x 8 matrices of 16-bit numbers, side by side.
extern "C" __global__ void transpose(const short* x, short* out) {
    __shared__ __align__(16) short rows[32][8];
    for (int i = 0; i < 8; ++i) rows[threadIdx.x][i] = x[threadIdx.x * 8 + i];
    __syncwarp();
    unsigned words[4];
    load_matrix_x4_transposed(words, rows[threadIdx.x]);
    for (int matrix = 0; matrix < 4; ++matrix)
        for (int which = 0; which < 2; ++which)
            out[(threadIdx.x / 4) * 32 + matrix * 8 + threadIdx.x % 4 * 2 + which] =
                static_cast<short>(words[matrix] >> 16 * which);
}

// Grid-stride loops: `step` is gridDim.x * blockDim.x if it is right, and the results the same on any number of blocks.
extern "C" __global__ void count_on(int* out, int size, int step) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < size; i += gridDim.x * blockDim.x + step) out[i] = i;
}

extern "C" __global__ void sum_by_block(PER_BLOCK int* out, int size) {
    int sum = 0;
    for (int i = blockIdx.x; i < size; i += gridDim.x) sum += i;
    if (threadIdx.x == 0) out[blockIdx.x] = sum;
}

// Numbers the rows of (rows, channels), of which only the last may exist.
extern "C" __global__ void number_rows(int* out, long long rows, int channels, bool narrow) {
    for (long long i = global_index(); i < rows * channels; i += global_stride()) {
        const int row = static_cast<int>(i / channels), c = static_cast<int>(i % channels);
        out[narrow ? row * channels + c : static_cast<long long>(row) * channels + c] = row;
    }
}
