// Sparse convolution, forward (and, over the transposed table, the input gradient), on tensor
// cores: operands rounded to TF32, FP16 or BF16, products summed in float32.  The constant and the result are
// stored as SCALAR: float, or Half, whose operands are FP16 as they are.
//
// As forward.cu, with rows of 32-bit *words* in place of rows of floats: a word is one TF32
// number or two neighbouring 16-bit ones (words.cu makes them).  Rows have a multiple
// of 8 words, zeros at the end, so that each copy has 16 bytes and each instruction lies within
// one offset.  Weights are turned, (K, C_out, words), so that both operands are read alike:
//
//     features (N, words)      A [TILE_ROWS][TILE_DEPTH + 4]      A row, B row: 8 words = one mma
//     weights  (K, C_out, words)   B [TILE_COLUMNS][TILE_DEPTH + 4]   (16 x 8 outputs, 8 words deep)
//
// A warp owns WARP_ROWS x WARP_COLUMNS of the block's tile.  Each sum runs over k, then the groups
// of 8 words, upwards; an offset that a row does not have adds zeros: the bits depend neither on
// the tile sizes nor on the order of the rows.

#include "common.cuh"
#include "precision.cuh"
#include "tile.cuh"

constexpr int WARPS_X = TILE_COLUMNS / WARP_COLUMNS, WARPS_Y = TILE_ROWS / WARP_ROWS;
constexpr int THREADS = 32 * WARPS_X * WARPS_Y;
constexpr int STRIDE = TILE_DEPTH + 4;  // + 4: the 8 rows of a matrix load lie in different banks
constexpr int A_SIZE = TILE_ROWS * STRIDE, B_SIZE = TILE_COLUMNS * STRIDE;
constexpr int M_TILES = WARP_ROWS / 16, N_TILES = WARP_COLUMNS / 8;
static_assert(TILE_DEPTH % 8 == 0 && WARP_ROWS % 16 == 0 && WARP_COLUMNS % 16 == 0, "whole mma tiles");

struct alignas(2 * sizeof(SCALAR)) Pair {
    SCALAR at[2];
};

struct Shared {
    alignas(16) unsigned a[STAGES * A_SIZE];
    alignas(16) unsigned b[STAGES * B_SIZE];
    int index[GROUP * (TILE_ROWS + 1)];
    int active[GROUP];
    unsigned filled;
};
static_assert(sizeof(Shared) == SHARED_BYTES, "the launcher asks for another amount of shared memory");

__device__ inline void load_step(Shared& shared, int stage, Depth start, int slots, int first_offset,
                                 const unsigned* features, const unsigned* weights, int words, int c_out,
                                 int first_column) {
    constexpr int CHUNKS = TILE_DEPTH / 4;  // copies of 16 bytes to a row
    static_assert(THREADS % CHUNKS == 0, "a thread copies the same depth of each of its rows");
    const int own = threadIdx.x % CHUNKS * 4;
    const Depth at = further(start, own, words);
    const bool filled = at.slot < slots;
    const int offset = filled ? shared.active[at.slot] : 0;
    const int* const index = &shared.index[offset * (TILE_ROWS + 1)];
#pragma unroll
    for (int row = threadIdx.x / CHUNKS; row < TILE_ROWS; row += THREADS / CHUNKS) {
        const int n = filled ? index[row] : -1;
        copy_async<16>(&shared.a[stage * A_SIZE + row * STRIDE + own],
                       n < 0 ? features : features + static_cast<long long>(n) * words + at.column, n >= 0);
    }
    const unsigned* const matrix = weights + static_cast<long long>(first_offset + offset) * c_out * words + at.column;
#pragma unroll
    for (int column = threadIdx.x / CHUNKS; column < TILE_COLUMNS; column += THREADS / CHUNKS) {
        const bool valid = filled && first_column + column < c_out;
        copy_async<16>(&shared.b[stage * B_SIZE + column * STRIDE + own],
                       valid ? matrix + static_cast<long long>(first_column + column) * words : weights, valid);
    }
}

__device__ inline void multiply_step(const unsigned* a, const unsigned* b, float (&sum)[M_TILES][N_TILES][4]) {
    const int lane = threadIdx.x % 32;
    // Where this lane's row of the four 8 x 4 matrices of a load begins (see load_matrix_x4).
    const unsigned* const a_row = a + lane % 16 * STRIDE + lane / 16 * 4;
    const unsigned* const b_row = b + (lane / 16 * 8 + lane % 8) * STRIDE + lane / 8 % 2 * 4;
#pragma unroll
    for (int depth = 0; depth < TILE_DEPTH; depth += 8) {
        unsigned left[M_TILES][4], right[N_TILES][2];
#pragma unroll
        for (int i = 0; i < M_TILES; ++i) {
            load_matrix_x4(left[i], a_row + i * 16 * STRIDE + depth);
            if (PRECISION == TF32)
#pragma unroll
                for (int e = 0; e < 4; ++e) left[i][e] = rounded(left[i][e]);
        }
#pragma unroll
        for (int j = 0; j < N_TILES; j += 2) {
            unsigned two[4];
            load_matrix_x4(two, b_row + j * 8 * STRIDE + depth);
            right[j][0] = two[0], right[j][1] = two[1];
            right[j + 1][0] = two[2], right[j + 1][1] = two[3];
        }
#pragma unroll
        for (int i = 0; i < M_TILES; ++i)
#pragma unroll
            for (int j = 0; j < N_TILES; ++j) mma(sum[i][j], left[i], right[j]);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
convolution_forward_mma(const unsigned* __restrict__ features, const unsigned* __restrict__ weights,
                        const int* __restrict__ neighbours, OPTIONAL const int* __restrict__ order,
                        OPTIONAL const SCALAR* __restrict__ constant, const float slope, long long rows, int offsets,
                        int words, int c_out, SCALAR* __restrict__ out) {
    DYNAMIC_SHARED(unsigned char, memory);
    Shared& shared = *reinterpret_cast<Shared*>(memory);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int warp_row = warp / WARPS_X * WARP_ROWS, warp_column = warp % WARPS_X * WARP_COLUMNS;
    const int column_tiles = (c_out + TILE_COLUMNS - 1) / TILE_COLUMNS;
    const long long tiles = (rows + TILE_ROWS - 1) / TILE_ROWS * column_tiles;
    for (long long tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
        const long long first_row = tile / column_tiles * TILE_ROWS;
        const int first_column = static_cast<int>(tile % column_tiles) * TILE_COLUMNS;
        float sum[M_TILES][N_TILES][4] = {};
        for (int first = 0; first < offsets; first += GROUP) {
            const int slots = stage_offsets<TILE_ROWS, THREADS>(neighbours, order, first_row, rows, offsets, first,
                                                                shared.index, shared.active, &shared.filled);
            const int steps = static_cast<int>((static_cast<long long>(slots) * words + TILE_DEPTH - 1) / TILE_DEPTH);
            Depth next = {0, 0};
            for (int step = 0; step < steps + STAGES - 1; ++step) {  // STAGES - 1 steps are under way at any time
                const int now = step - (STAGES - 1);
                if (now >= 0) {
                    copy_async_wait<STAGES - 2>();
                    __syncthreads();  // this step's data is there for all; all have read the stage filled next
                }
                if (step < steps)
                    load_step(shared, step % STAGES, next, slots, first, features, weights, words, c_out, first_column);
                copy_async_commit();
                next = further(next, TILE_DEPTH, words);
                if (now >= 0)
                    multiply_step(&shared.a[now % STAGES * A_SIZE + warp_row * STRIDE],
                                  &shared.b[now % STAGES * B_SIZE + warp_column * STRIDE], sum);
            }
        }
        // An mma leaves 2 x 2 numbers with a lane: rows g and g + 8, columns 2t and 2t + 1.
        const int g = lane / 4, t = lane % 4;
#pragma unroll
        for (int i = 0; i < M_TILES; ++i)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const long long row = first_row + warp_row + i * 16 + half * 8 + g;
                if (row >= rows) continue;
                SCALAR* const target = out + (order ? order[row] : row) * static_cast<long long>(c_out);
#pragma unroll
                for (int j = 0; j < N_TILES; ++j) {
                    const int column = first_column + warp_column + j * 8 + t * 2;
                    Pair values;
#pragma unroll
                    for (int v = 0; v < 2; ++v) {
                        float value = sum[i][j][half * 2 + v];
                        if (constant && column + v < c_out) value += constant[column + v];
                        values.at[v] = value > 0 ? value : value * slope;
                    }
                    if (c_out % 2 == 0) {  // then every row begins at a pair
                        if (column < c_out) *reinterpret_cast<Pair*>(target + column) = values;
                    } else {
#pragma unroll
                        for (int v = 0; v < 2; ++v)
                            if (column + v < c_out) target[column + v] = values.at[v];
                    }
                }
            }
    }
}
