// Weight gradient of a sparse convolution by wgmma: operands in FP16 or BF16, products summed in float32.  As
// weights_mma.cu, for GPUs of sm_90 alone.
//
// The depth of a product runs over the rows of the tiles (lists.cu) that have its offset, 64 to a stage; a
// row without the offset gives zeros.  So both operands lie as they are stored, a row of the depth along M (or N):
//
//     A  features   [TILE_INPUTS / 64][64 rows][128 bytes]      one consumer for each 64 inputs
//     B  gradient   [TILE_OUTPUTS / 64][64 rows][128 bytes]
//
// The products of a block are blockIdx.x, + gridDim.x, ...; neighbouring blocks have the same rows, from the L2 cache.
// The order of each sum follows from the lists and the parts alone.

#include "common.cuh"
#include "hopper.cuh"
#include "precision.cuh"
#include "wgmma.cuh"

constexpr int CONSUMERS = TILE_INPUTS / 64, THREADS = 128 * CONSUMERS + PRODUCERS;
constexpr int DEPTH = 64, STEPS = TILE_ROWS / DEPTH;
constexpr int BLOCK = DEPTH * 32;  // words of 64 channels
constexpr int A_BLOCKS = TILE_INPUTS / 64, B_BLOCKS = TILE_OUTPUTS / 64;
constexpr int THREAD_ROWS = DEPTH * PIECES / PRODUCERS;
constexpr int STEP_ROWS = DEPTH / PRODUCER_WARPS;  // of a warp
static_assert(THREAD_ROWS == 4 && TILE_INPUTS % 64 == 0 && TILE_OUTPUTS % 64 == 0, "four rows, whole blocks");

struct Shared {
    unsigned a[STAGES][A_BLOCKS * BLOCK];
    unsigned b[STAGES][B_BLOCKS * BLOCK];
    int inputs[LISTS][TILE_ROWS], outputs[LISTS][TILE_ROWS];
    Barrier full[STAGES], empty[STAGES], listed[LISTS][PRODUCER_WARPS];
};

// What a product is of: an offset, the first channel on each side, the tiles [begin, end) of a part.
struct Product {
    int offset, input, output, part, begin, end;
};

__device__ inline Product product_of(int number, int tiles, int part_tiles, int offsets, int c_in, int c_out) {
    const int input_tiles = (c_in + TILE_INPUTS - 1) / TILE_INPUTS;
    const int output_tiles = (c_out + TILE_OUTPUTS - 1) / TILE_OUTPUTS;
    Product product;
    product.output = number % output_tiles * TILE_OUTPUTS;
    number /= output_tiles;
    product.input = number % input_tiles * TILE_INPUTS;
    number /= input_tiles;
    product.offset = number % offsets;
    product.part = number / offsets;
    product.begin = product.part * part_tiles;
    product.end = min(product.begin + part_tiles, tiles);
    return product;
}

// Which of the 32 tiles from `first` on have the offset, a bit each; all lanes of a warp call it.
__device__ inline unsigned tiles_with(const unsigned* masks, int offset, int first, int end) {
    const int tile = first + threadIdx.x % 32;
    return __ballot_sync(~0u, tile < end && __ldg(masks + tile) >> offset & 1);
}

// One operand's rows of a stage; `target` and `own` are those of this thread's first row, and of its piece.
template <int BLOCKS>
__device__ inline void gather(SharedAddress target, const unsigned (&swizzled)[THREAD_ROWS], const char* own,
                              const int4& rows, const int4& inputs, unsigned row_bytes, int word, int words) {
#pragma unroll
    for (int i = 0; i < THREAD_ROWS; ++i) {
        const char* const row = own + row_start(entry(rows, i), row_bytes);
#pragma unroll
        for (int block = 0; block < BLOCKS; ++block)
            copy_async_16(target + block * (BLOCK * 4) + i * 128 + swizzled[i], row + block * 128,
                          entry(inputs, i) < 0 || word + block * 32 >= words);
    }
}

__device__ inline void produce(Shared& shared, const unsigned* features, const unsigned* gradient, const int* lists,
                               const unsigned* masks, const int* outputs, int products, int tiles, int part_tiles,
                               int offsets, int c_in, int c_out, int words_in, int words_out) {
    const int thread = threadIdx.x - 128 * CONSUMERS, warp = thread / 32, group = thread / PIECES;
    const int piece = thread % PIECES;
    const SharedAddress a = shared_address(shared.a) + group * THREAD_ROWS * 128;
    const SharedAddress b = shared_address(shared.b) + group * THREAD_ROWS * 128;
    unsigned swizzled[THREAD_ROWS];
#pragma unroll
    for (int i = 0; i < THREAD_ROWS; ++i) swizzled[i] = (piece ^ (group * THREAD_ROWS + i) % 8) * 16;
    const bool leads = thread % 32 == 0;
    Ring<STAGES> stage;
    Ring<LISTS> list;
    for (int number = blockIdx.x; number < products; number += gridDim.x) {
        const Product product = product_of(number, tiles, part_tiles, offsets, c_in, c_out);
        const int word_in = product.input / 2 + piece * 4, word_out = product.output / 2 + piece * 4;
        const char* const own_features = reinterpret_cast<const char*>(features + word_in);
        const char* const own_gradient = reinterpret_cast<const char*>(gradient + word_out);
        for (int first = product.begin; first < product.end; first += 32) {
            const unsigned there = tiles_with(masks, product.offset, first, product.end);
            unsigned ahead = there;
            const auto fetch = [&](int slot) {  // by one thread of the warp
                if (!ahead) return;
                const long long tile = first + __ffs(static_cast<int>(ahead)) - 1;
                ahead &= ahead - 1;
                mbarrier_arrive_expect_tx(&shared.listed[slot][warp], 2 * WARP_ROWS * 4);
                copy_bulk(&shared.inputs[slot][warp * WARP_ROWS],
                          lists + (tile * offsets + product.offset) * TILE_ROWS + warp * WARP_ROWS, WARP_ROWS * 4,
                          &shared.listed[slot][warp]);
                copy_bulk(&shared.outputs[slot][warp * WARP_ROWS], outputs + tile * TILE_ROWS + warp * WARP_ROWS,
                          WARP_ROWS * 4, &shared.listed[slot][warp]);
            };
            if (leads)
                for (int i = 0; i < LISTS; ++i) fetch((list.slot + i) % LISTS);
            for (int left = __popc(there); left > 0; --left, list.next()) {
                mbarrier_wait(&shared.listed[list.slot][warp], list.parity);
#pragma unroll 1
                for (int step = 0; step < STEPS; ++step, stage.next()) {
                    // Some rows of each warp's part: which of them meet in a stage does not matter.
                    const int at = warp * WARP_ROWS + step * STEP_ROWS + group % 4 * THREAD_ROWS;
                    const int4 from = *reinterpret_cast<const int4*>(&shared.inputs[list.slot][at]);
                    const int4 to = *reinterpret_cast<const int4*>(&shared.outputs[list.slot][at]);
                    mbarrier_wait(&shared.empty[stage.slot], stage.parity ^ 1);
                    gather<A_BLOCKS>(a + stage.slot * (A_BLOCKS * BLOCK * 4), swizzled, own_features, from, from,
                                     words_in * 4, word_in, words_in);
                    gather<B_BLOCKS>(b + stage.slot * (B_BLOCKS * BLOCK * 4), swizzled, own_gradient, to, from,
                                     words_out * 4, word_out, words_out);
                    copy_async_arrive(&shared.full[stage.slot]);
                }
                __syncwarp();  // the copies knew their rows, so all lanes have read the list
                if (leads) fetch(list.slot);
            }
        }
    }
}

__device__ inline void consume(Shared& shared, const unsigned* masks, int products, int tiles, int part_tiles,
                               int offsets, int c_in, int c_out, float* partial) {
    const int consumer = threadIdx.x / 128, warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32;
    Ring<STAGES> stage;
    for (int number = blockIdx.x; number < products; number += gridDim.x) {
        const Product product = product_of(number, tiles, part_tiles, offsets, c_in, c_out);
        float sum[TILE_OUTPUTS / 2];
#pragma unroll
        for (int j = 0; j < TILE_OUTPUTS / 2; ++j) sum[j] = 0;
        int held = -1;  // the slot whose products are under way
        for (int first = product.begin; first < product.end; first += 32) {
            int left = __popc(tiles_with(masks, product.offset, first, product.end)) * STEPS;
            for (; left > 0; --left) {
                mbarrier_wait(&shared.full[stage.slot], stage.parity);
                fence_proxy_async();
                const Operand a = mn_major(&shared.a[stage.slot][consumer * BLOCK], BLOCK * 4);
                const Operand b = mn_major(shared.b[stage.slot], BLOCK * 4);
                wgmma_fence();
#pragma unroll
                for (int part = 0; part < DEPTH / 16; ++part)  // 16 rows of 128 bytes
                    wgmma_mn_major(sum, further(a, part * 16 * 128), further(b, part * 16 * 128));
                wgmma_commit_group();
                release<1>(shared, held);
                held = stage.slot;
                stage.next();
                if (left > 1 && !mbarrier_test(&shared.full[stage.slot], stage.parity)) {  // nothing to overlap with
                    release<0>(shared, held);
                    held = -1;
                }
            }
        }
        release<0>(shared, held);
        const int first_input = product.input + consumer * 64 + warp * 16 + lane / 4;
        const int first_output = product.output + lane % 4 * 2;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int c = first_input + half * 8;
            if (c >= c_in) continue;
            const long long matrix = static_cast<long long>(product.part) * offsets + product.offset;
            float* const target = partial + (matrix * c_in + c) * c_out;
#pragma unroll
            for (int j = 0; j < TILE_OUTPUTS / 8; ++j)
#pragma unroll
                for (int v = 0; v < 2; ++v)
                    if (first_output + j * 8 + v < c_out) target[first_output + j * 8 + v] = sum[j * 4 + half * 2 + v];
        }
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
convolution_weight_gradient_wgmma(const unsigned* __restrict__ features, const unsigned* __restrict__ gradient,
                                  const int* __restrict__ lists, const unsigned* __restrict__ masks,
                                  const int* __restrict__ outputs, int products, int tiles, int part_tiles, int offsets,
                                  int c_in, int c_out, int words_in, int words_out, float* __restrict__ partial) {
    DYNAMIC_SHARED(unsigned char, memory);
    Shared& shared = aligned<Shared>(memory);
    init_barriers(shared, PRODUCERS, CONSUMERS);
    if (threadIdx.x >= 128 * CONSUMERS)
        produce(shared, features, gradient, lists, masks, outputs, products, tiles, part_tiles, offsets, c_in, c_out,
                words_in, words_out);
    else
        consume(shared, masks, products, tiles, part_tiles, offsets, c_in, c_out, partial);
}
