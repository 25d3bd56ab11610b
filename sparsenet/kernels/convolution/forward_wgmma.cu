// Sparse convolution, forward (and, over the transposed table, the input gradient), by wgmma: operands in TF32, FP16 or
// BF16, products summed in float32.  As forward_mma.cu, with the same rows of words, for GPUs of sm_90 alone.
//
//     features (N, words)                    A stage  [TILE_ROWS][32 words]      rows gathered by cp.async
//     weights  (K, chunks, columns, 32)      B stage  [TILE_COLUMNS][32 words]   one bulk copy, swizzled beforehand
//
// A chunk is 32 words of an offset, 128 bytes, zeros past `words`; `columns` is C_out rounded up to whole tiles.
// Each of two consumers owns half of the rows.  A block works on tiles blockIdx.x, + gridDim.x, ..., and its producers go on
// with the next one while the consumers write.
//
// Each sum runs over k, then the chunks, upwards; an offset that a row does not have adds zeros: the bits depend
// neither on the tiles nor on the order of the rows.

#include "common.cuh"
#include "hopper.cuh"
#include "precision.cuh"
#include "wgmma.cuh"

constexpr int CONSUMERS = 2, THREADS = 128 * CONSUMERS + PRODUCERS;
constexpr int CHUNK = 32;  // words
constexpr int M_TILES = TILE_ROWS / 64 / CONSUMERS;
constexpr int THREAD_ROWS = TILE_ROWS * PIECES / PRODUCERS;
constexpr int A_SIZE = TILE_ROWS * CHUNK, B_SIZE = TILE_COLUMNS * CHUNK;
static_assert(TILE_ROWS % (64 * CONSUMERS) == 0 && TILE_COLUMNS % 32 == 0, "whole products");

struct Shared {
    unsigned a[STAGES][A_SIZE];
    unsigned b[STAGES][B_SIZE];
    int list[LISTS][TILE_ROWS];
    Barrier full[STAGES], empty[STAGES], listed[LISTS][PRODUCER_WARPS];
};

struct alignas(2 * sizeof(SCALAR)) Pair {
    SCALAR at[2];
};

__device__ inline unsigned offsets_of(const unsigned* masks, int tile, int tiles, int column_tiles) {
    return tile < tiles ? __ldg(masks + tile / column_tiles) : 0u;
}

// How far a block has come: an offset of a tile.  The offsets of the next tile are known already.
struct Cursor {
    int tile, row_tile, column_tile;
    unsigned mask, upcoming;

    __device__ void begin(const unsigned* masks, int first, int tiles, int column_tiles) {
        tile = first, row_tile = tile / column_tiles, column_tile = tile % column_tiles;
        mask = offsets_of(masks, tile, tiles, column_tiles);
        upcoming = offsets_of(masks, tile + gridDim.x, tiles, column_tiles);
        find(masks, tiles, column_tiles);
    }
    __device__ void next(const unsigned* masks, int tiles, int column_tiles) {
        mask &= mask - 1;
        find(masks, tiles, column_tiles);
    }
    __device__ void find(const unsigned* masks, int tiles, int column_tiles) {  // a tile that has an offset
        while (!mask && tile < tiles) {
            tile += gridDim.x, row_tile = tile / column_tiles, column_tile = tile % column_tiles;
            mask = upcoming;
            upcoming = offsets_of(masks, tile + gridDim.x, tiles, column_tiles);
        }
    }
    __device__ int offset() const { return __ffs(static_cast<int>(mask)) - 1; }
};

__device__ inline void produce(Shared& shared, const unsigned* features, const unsigned* weights, const int* lists,
                               const unsigned* masks, int tiles, int column_tiles, int offsets, int words) {
    const int thread = threadIdx.x - 128 * CONSUMERS, warp = thread / 32, group = thread / PIECES;
    const int piece = thread % PIECES, chunks = (words + CHUNK - 1) / CHUNK;
    const unsigned row_bytes = words * 4;
    const char* const own = reinterpret_cast<const char*>(features + piece * 4);
    const SharedAddress target = shared_address(shared.a) + group * THREAD_ROWS * CHUNK * 4;
    unsigned swizzled[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) swizzled[i] = (piece ^ (group * THREAD_ROWS + i) % 8) * 16;

    Cursor now, ahead;
    now.begin(masks, blockIdx.x, tiles, column_tiles);
    ahead = now;
    const auto fetch = [&](int slot) {  // by one thread of the warp
        if (ahead.tile >= tiles) return;
        const long long list = static_cast<long long>(ahead.row_tile) * offsets + ahead.offset();
        mbarrier_arrive_expect_tx(&shared.listed[slot][warp], WARP_ROWS * 4);
        copy_bulk(&shared.list[slot][warp * WARP_ROWS], lists + list * TILE_ROWS + warp * WARP_ROWS, WARP_ROWS * 4,
                  &shared.listed[slot][warp]);
        ahead.next(masks, tiles, column_tiles);
    };
    const bool leads = thread % 32 == 0;
    if (leads)
        for (int slot = 0; slot < LISTS; ++slot) fetch(slot);
    Ring<STAGES> stage;
    Ring<LISTS> list;
    for (; now.tile < tiles; list.next()) {
        const unsigned* matrix =
            weights + (static_cast<long long>(now.offset()) * chunks * column_tiles + now.column_tile) * B_SIZE;
        now.next(masks, tiles, column_tiles);
        mbarrier_wait(&shared.listed[list.slot][warp], list.parity);
        int4 rows[THREAD_ROWS / 4];
#pragma unroll
        for (int i = 0; i < THREAD_ROWS / 4; ++i)
            rows[i] = *reinterpret_cast<const int4*>(&shared.list[list.slot][group * THREAD_ROWS + i * 4]);
        for (int chunk = 0; chunk < chunks; ++chunk, stage.next()) {
            mbarrier_wait(&shared.empty[stage.slot], stage.parity ^ 1);
            if (thread == 0) {
                mbarrier_arrive_expect_tx(&shared.full[stage.slot], B_SIZE * 4);
                copy_bulk(shared.b[stage.slot], matrix, B_SIZE * 4, &shared.full[stage.slot]);
            }
            matrix += static_cast<long long>(column_tiles) * B_SIZE;
            const bool outside = chunk * CHUNK + piece * 4 >= words;
#pragma unroll
            for (int i = 0; i < THREAD_ROWS; ++i) {
                const int row = entry(rows[i / 4], i % 4);
                copy_async_16(target + stage.slot * (A_SIZE * 4) + i * (CHUNK * 4) + swizzled[i % 8],
                              own + row_start(row, row_bytes) + chunk * (CHUNK * 4),
                              row < 0 || outside);
            }
            copy_async_arrive(&shared.full[stage.slot]);
        }
        __syncwarp();  // the copies knew their rows, so all lanes have read the list
        if (leads) fetch(list.slot);
    }
}

__device__ inline void consume(Shared& shared, const unsigned* masks, const int* outputs, const SCALAR* constant,
                               float slope, int tiles, int column_tiles, int words, int c_out, SCALAR* out) {
    const int consumer = threadIdx.x / 128, warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32;
    const int chunks = (words + CHUNK - 1) / CHUNK;
    Ring<STAGES> stage;
    unsigned mask, upcoming = offsets_of(masks, blockIdx.x, tiles, column_tiles);
    for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
        mask = upcoming;
        upcoming = offsets_of(masks, tile + gridDim.x, tiles, column_tiles);
        const long long first_row = static_cast<long long>(tile / column_tiles) * TILE_ROWS + consumer * M_TILES * 64;
        int rows[M_TILES][2];
        float sum[M_TILES][TILE_COLUMNS / 2];
#pragma unroll
        for (int i = 0; i < M_TILES; ++i) {
#pragma unroll
            for (int half = 0; half < 2; ++half)
                rows[i][half] = __ldg(outputs + first_row + i * 64 + warp * 16 + half * 8 + lane / 4);
#pragma unroll
            for (int j = 0; j < TILE_COLUMNS / 2; ++j) sum[i][j] = 0;
        }
        int held = -1;  // the slot whose products are under way
        for (int left = __popc(mask) * chunks; left > 0; --left) {
            mbarrier_wait(&shared.full[stage.slot], stage.parity);
            fence_proxy_async();
            const Operand a = k_major(&shared.a[stage.slot][consumer * M_TILES * 64 * CHUNK]);
            const Operand b = k_major(shared.b[stage.slot]);
            wgmma_fence();
#pragma unroll
            for (int part = 0; part < CHUNK / 8; ++part)
#pragma unroll
                for (int i = 0; i < M_TILES; ++i)
                    wgmma(sum[i], further(a, i * 64 * CHUNK * 4 + part * 32), further(b, part * 32));
            wgmma_commit_group();
            release<1>(shared, held);
            held = stage.slot;
            stage.next();
            if (left > 1 && !mbarrier_test(&shared.full[stage.slot], stage.parity)) {  // nothing to overlap with
                release<0>(shared, held);
                held = -1;
            }
        }
        release<0>(shared, held);
        const int first_column = tile % column_tiles * TILE_COLUMNS + lane % 4 * 2;
#pragma unroll
        for (int i = 0; i < M_TILES; ++i)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                if (rows[i][half] < 0) continue;
                SCALAR* const target = out + static_cast<long long>(rows[i][half]) * c_out;
#pragma unroll
                for (int j = 0; j < TILE_COLUMNS / 8; ++j) {
                    const int column = first_column + j * 8;
                    Pair values;
#pragma unroll
                    for (int v = 0; v < 2; ++v) {
                        float value = sum[i][j * 4 + half * 2 + v];
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

extern "C" __global__ void __launch_bounds__(THREADS, 1)
convolution_forward_wgmma(const unsigned* __restrict__ features, const unsigned* __restrict__ weights,
                          const int* __restrict__ lists, const unsigned* __restrict__ masks,
                          const int* __restrict__ outputs, OPTIONAL const SCALAR* __restrict__ constant,
                          const float slope, int tiles, int column_tiles, int offsets, int words, int c_out,
                          SCALAR* __restrict__ out) {
    DYNAMIC_SHARED(unsigned char, memory);
    Shared& shared = aligned<Shared>(memory);
    init_barriers(shared, PRODUCERS + 1, CONSUMERS);
    if (threadIdx.x >= 128 * CONSUMERS)
        produce(shared, features, weights, lists, masks, tiles, column_tiles, offsets, words);
    else
        consume(shared, masks, outputs, constant, slope, tiles, column_tiles, words, c_out, out);
}
