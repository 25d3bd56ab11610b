// Weight gradient of a sparse convolution on tensor cores: operands rounded to TF32, FP16 or BF16,
// products summed in float32.
//
// As weights.cu, with rows of 32-bit words (see words.cu).  The product's depth
// is the list of pairs, so both operands lie the other way round than an mma wants them:
//
//     A  features of the pairs  [TILE_DEPTH][TILE_INPUTS / PER_WORD + pad]
//     B  gradient of the pairs  [TILE_DEPTH][TILE_OUTPUTS / PER_WORD + pad]
//
// TF32 reads single words, which needs no turning; the 16-bit types are turned by the matrix load.
// A warp owns WARP_INPUTS x WARP_OUTPUTS of the block's tile.

#include "common.cuh"
#include "precision.cuh"
#include "pairs.cuh"

constexpr int MMA_DEPTH = 8 * PER_WORD;  // pairs that one mma sums over
constexpr int WARPS_X = TILE_OUTPUTS / WARP_OUTPUTS, WARPS_Y = TILE_INPUTS / WARP_INPUTS;
constexpr int THREADS = 32 * WARPS_X * WARPS_Y;
constexpr int PAD = PER_WORD == 1 ? 8 : 4;  // so that the words a warp reads together lie in different banks
constexpr int A_STRIDE = TILE_INPUTS / PER_WORD + PAD, B_STRIDE = TILE_OUTPUTS / PER_WORD + PAD;
constexpr int A_SIZE = TILE_DEPTH * A_STRIDE, B_SIZE = TILE_DEPTH * B_STRIDE;
constexpr int M_TILES = WARP_INPUTS / 16, N_TILES = WARP_OUTPUTS / 8;
static_assert(TILE_DEPTH % 16 == 0 && WARP_INPUTS % 16 == 0 && WARP_OUTPUTS % 16 == 0, "whole mma tiles");

struct Shared {
    alignas(16) unsigned a[STAGES * A_SIZE];
    alignas(16) unsigned b[STAGES * B_SIZE];
    int from[WINDOW], to[WINDOW];
    int totals[THREADS / 32];
    bool last;
};
static_assert(sizeof(Shared) == SHARED_BYTES, "the launcher asks for another amount of shared memory");

// Starts the copies of TILE_DEPTH rows of one operand, `WIDTH` words from `first` on.
template <int WIDTH, int STRIDE>
__device__ inline void load_rows(unsigned* tile, const int* list, const unsigned* rows, int words, int first) {
    constexpr int CHUNKS = WIDTH / 4;
    for (int e = threadIdx.x; e < TILE_DEPTH * CHUNKS; e += THREADS) {
        const int depth = e / CHUNKS, column = e % CHUNKS * 4;
        const int row = list[depth];
        const bool valid = row >= 0 && first + column < words;
        copy_async<16>(&tile[depth * STRIDE + column],
                       valid ? rows + static_cast<long long>(row) * words + first + column : rows, valid);
    }
}

// The operands of one mma, 16 (or 8) channels by MMA_DEPTH pairs; `tile` points at their first element.
__device__ inline void load_left(unsigned (&left)[4], const unsigned* tile, int lane) {
    if (PRECISION == TF32) {
        const unsigned* const mine = tile + lane % 4 * A_STRIDE + lane / 4;
        left[0] = rounded(mine[0]), left[1] = rounded(mine[8]);
        left[2] = rounded(mine[4 * A_STRIDE]), left[3] = rounded(mine[4 * A_STRIDE + 8]);
    } else {
        load_matrix_x4_transposed(left, tile + (lane / 16 * 8 + lane % 8) * A_STRIDE + lane / 8 % 2 * 4);
    }
}

__device__ inline void load_right(unsigned (&right)[2][2], const unsigned* tile, int lane) {
    if (PRECISION == TF32) {
        const unsigned* const mine = tile + lane % 4 * B_STRIDE + lane / 4;
        right[0][0] = rounded(mine[0]), right[0][1] = rounded(mine[4 * B_STRIDE]);
        right[1][0] = rounded(mine[8]), right[1][1] = rounded(mine[4 * B_STRIDE + 8]);
    } else {
        unsigned four[4];
        load_matrix_x4_transposed(four, tile + lane % 16 * B_STRIDE + lane / 16 * 4);
        right[0][0] = four[0], right[0][1] = four[1], right[1][0] = four[2], right[1][1] = four[3];
    }
}

__device__ inline void multiply_step(const unsigned* a, const unsigned* b, float (&sum)[M_TILES][N_TILES][4]) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int depth = 0; depth < TILE_DEPTH; depth += MMA_DEPTH) {
        unsigned left[M_TILES][4], right[N_TILES / 2][2][2];
#pragma unroll
        for (int i = 0; i < M_TILES; ++i) load_left(left[i], a + depth * A_STRIDE + i * 16 / PER_WORD, lane);
#pragma unroll
        for (int j = 0; j < N_TILES / 2; ++j) load_right(right[j], b + depth * B_STRIDE + j * 16 / PER_WORD, lane);
#pragma unroll
        for (int i = 0; i < M_TILES; ++i)
#pragma unroll
            for (int j = 0; j < N_TILES; ++j) mma(sum[i][j], left[i], right[j / 2][j % 2]);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
convolution_weight_gradient_mma(const unsigned* __restrict__ features, const unsigned* __restrict__ gradient,
                                const int* __restrict__ neighbours, long long rows, long long part_rows, int parts,
                                int offsets, int c_in, int c_out, int words_in, int words_out,
                                OPTIONAL const SCALAR* __restrict__ background,
                                OPTIONAL const SCALAR* __restrict__ constant, OPTIONAL float* partial,
                                OPTIONAL unsigned* __restrict__ tickets, SCALAR* __restrict__ out) {
    DYNAMIC_SHARED(unsigned char, memory);
    Shared& shared = *reinterpret_cast<Shared*>(memory);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int warp_input = warp / WARPS_X * WARP_INPUTS, warp_output = warp % WARPS_X * WARP_OUTPUTS;
    const int input_tiles = (c_in + TILE_INPUTS - 1) / TILE_INPUTS;
    const int output_tiles = (c_out + TILE_OUTPUTS - 1) / TILE_OUTPUTS;
    const long long blocks = static_cast<long long>(parts) * offsets * input_tiles * output_tiles;
    for (long long block = blockIdx.x; block < blocks; block += gridDim.x) {
        const Product product = product_of(block, rows, part_rows, offsets, input_tiles, output_tiles, TILE_INPUTS,
                                           TILE_OUTPUTS);
        float sum[M_TILES][N_TILES][4] = {};
        for (long long begin = product.begin; begin < product.end; begin += WINDOW) {
            const int count = list_pairs<WINDOW, TILE_DEPTH, THREADS>(neighbours, offsets, product.offset, begin,
                                                                      product.end, shared.from, shared.to,
                                                                      shared.totals);
            const int steps = (count + TILE_DEPTH - 1) / TILE_DEPTH;
            for (int step = 0; step < steps + STAGES - 1; ++step) {  // STAGES - 1 steps are under way at any time
                const int now = step - (STAGES - 1);
                if (now >= 0) {
                    copy_async_wait<STAGES - 2>();
                    __syncthreads();  // this step's data is there for all; all have read the stage filled next
                }
                if (step < steps) {
                    load_rows<TILE_INPUTS / PER_WORD, A_STRIDE>(
                        &shared.a[step % STAGES * A_SIZE], &shared.from[step * TILE_DEPTH], features, words_in,
                        product.first_input / PER_WORD);
                    load_rows<TILE_OUTPUTS / PER_WORD, B_STRIDE>(
                        &shared.b[step % STAGES * B_SIZE], &shared.to[step * TILE_DEPTH], gradient, words_out,
                        product.first_output / PER_WORD);
                }
                copy_async_commit();
                if (now >= 0)
                    multiply_step(&shared.a[now % STAGES * A_SIZE + warp_input / PER_WORD],
                                  &shared.b[now % STAGES * B_SIZE + warp_output / PER_WORD], sum);
            }
        }
        // An mma leaves 2 x 2 numbers with a lane: rows g and g + 8, columns 2t and 2t + 1.
        const int g = lane / 4, t = lane % 4;
        const auto each = [&](const auto& visit) {
#pragma unroll
            for (int i = 0; i < M_TILES; ++i)
#pragma unroll
                for (int half = 0; half < 2; ++half) {
                    const int c = product.first_input + warp_input + i * 16 + half * 8 + g;
                    if (c >= c_in) continue;
#pragma unroll
                    for (int j = 0; j < N_TILES; ++j)
#pragma unroll
                        for (int v = 0; v < 2; ++v) {
                            const int n = product.first_output + warp_output + j * 8 + t * 2 + v;
                            if (n < c_out) visit(c, n, sum[i][j][half * 2 + v]);
                        }
                }
        };
        write_tile<M_TILES * N_TILES * 4>(each, product, parts, offsets, c_in, c_out, partial, tickets, background,
                                          constant, out, shared.last);
    }
}
