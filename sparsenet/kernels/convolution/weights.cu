// Weight gradient of a sparse convolution, multiply-adds in SCALAR.
//
//     out[k, c, n] = sum over m of  features[neighbours[m, k], c] * gradient[m, n]
//
//                   TILE_OUTPUTS of C_out              A  features of the pairs  [TILE_DEPTH][TILE_INPUTS]
//                   +-----------+  TILE_DEPTH pairs    B  gradient of the pairs  [TILE_DEPTH][TILE_OUTPUTS]
//                   |     B     |  of offset k         both STAGES times: the next steps load while
//                   +-----------+                      this one is multiplied
//     TILE_INPUTS +-+ +-----------+
//     of C_in     |A| | W[k] tile |  one block; a thread owns THREAD_INPUTS x THREAD_OUTPUTS of it
//                 +-+ +-----------+
//
// The rows of the table are cut into parts of `part_rows`; each part has a gradient of its own,
// partial (parts, K, C_in, C_out), and the last block of a tile adds them up in their order (write_tile).  Only pairs
// that exist are read, by row upwards: no float atomics, and the bits depend on part_rows alone.

#include "common.cuh"
#include "pairs.cuh"

constexpr int VECTOR = 16 / sizeof(SCALAR);
constexpr int THREADS_X = TILE_OUTPUTS / THREAD_OUTPUTS, THREADS_Y = TILE_INPUTS / THREAD_INPUTS;
constexpr int THREADS = THREADS_X * THREADS_Y;
constexpr int A_SIZE = TILE_DEPTH * TILE_INPUTS, B_SIZE = TILE_DEPTH * TILE_OUTPUTS;

struct alignas(16) Vector {
    SCALAR at[VECTOR];
};

struct Shared {
    alignas(16) SCALAR a[STAGES * A_SIZE];
    alignas(16) SCALAR b[STAGES * B_SIZE];
    int from[WINDOW], to[WINDOW];
    int totals[THREADS / 32];
    bool last;
};
static_assert(sizeof(Shared) == SHARED_BYTES, "the launcher asks for another amount of shared memory");
static_assert(THREAD_OUTPUTS % VECTOR == 0 && THREAD_INPUTS % VECTOR == 0, "a thread reads whole vectors");

// Starts the copies of TILE_DEPTH rows of one operand, `WIDTH` channels from `first` on.
template <int WIDTH, int COPY>
__device__ inline void load_rows(SCALAR* tile, const int* list, const SCALAR* rows, int channels, int first) {
    constexpr int CHUNKS = WIDTH / COPY;
    for (int e = threadIdx.x; e < TILE_DEPTH * CHUNKS; e += THREADS) {
        const int depth = e / CHUNKS, column = e % CHUNKS * COPY;
        const int row = list[depth];
        const bool valid = row >= 0 && first + column < channels;
        copy_async<COPY * sizeof(SCALAR)>(
            &tile[depth * WIDTH + column],
            valid ? rows + static_cast<long long>(row) * channels + first + column : rows, valid);
    }
}

__device__ inline void multiply_step(const SCALAR* a, const SCALAR* b, int x, int y,
                                     SCALAR (&sum)[THREAD_INPUTS][THREAD_OUTPUTS]) {
#pragma unroll
    for (int depth = 0; depth < TILE_DEPTH; ++depth) {
        Vector left[THREAD_INPUTS / VECTOR], right[THREAD_OUTPUTS / VECTOR];
#pragma unroll
        for (int i = 0; i < THREAD_INPUTS / VECTOR; ++i)
            left[i] = *reinterpret_cast<const Vector*>(&a[depth * TILE_INPUTS + (y + i * THREADS_Y) * VECTOR]);
#pragma unroll
        for (int j = 0; j < THREAD_OUTPUTS / VECTOR; ++j)
            right[j] = *reinterpret_cast<const Vector*>(&b[depth * TILE_OUTPUTS + (x + j * THREADS_X) * VECTOR]);
#pragma unroll
        for (int i = 0; i < THREAD_INPUTS; ++i)
#pragma unroll
            for (int j = 0; j < THREAD_OUTPUTS; ++j)
                sum[i][j] = fma(left[i / VECTOR].at[i % VECTOR], right[j / VECTOR].at[j % VECTOR], sum[i][j]);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
convolution_weight_gradient(const SCALAR* __restrict__ features, const SCALAR* __restrict__ gradient,
                            const int* __restrict__ neighbours, long long rows, long long part_rows, int parts,
                            int offsets, int c_in, int c_out, OPTIONAL const SCALAR* __restrict__ background,
                            OPTIONAL const SCALAR* __restrict__ constant, OPTIONAL SCALAR* partial,
                            OPTIONAL unsigned* __restrict__ tickets, SCALAR* __restrict__ out) {
    DYNAMIC_SHARED(unsigned char, memory);
    Shared& shared = *reinterpret_cast<Shared*>(memory);
    const int x = threadIdx.x % THREADS_X, y = threadIdx.x / THREADS_X;
    const int input_tiles = (c_in + TILE_INPUTS - 1) / TILE_INPUTS;
    const int output_tiles = (c_out + TILE_OUTPUTS - 1) / TILE_OUTPUTS;
    const long long blocks = static_cast<long long>(parts) * offsets * input_tiles * output_tiles;
    for (long long block = blockIdx.x; block < blocks; block += gridDim.x) {
        const Product product = product_of(block, rows, part_rows, offsets, input_tiles, output_tiles, TILE_INPUTS,
                                           TILE_OUTPUTS);
        SCALAR sum[THREAD_INPUTS][THREAD_OUTPUTS] = {};
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
                    load_rows<TILE_INPUTS, A_VECTOR>(&shared.a[step % STAGES * A_SIZE],
                                                     &shared.from[step * TILE_DEPTH], features, c_in,
                                                     product.first_input);
                    load_rows<TILE_OUTPUTS, B_VECTOR>(&shared.b[step % STAGES * B_SIZE],
                                                      &shared.to[step * TILE_DEPTH], gradient, c_out,
                                                      product.first_output);
                }
                copy_async_commit();
                if (now >= 0)
                    multiply_step(&shared.a[now % STAGES * A_SIZE], &shared.b[now % STAGES * B_SIZE], x, y, sum);
            }
        }
        const auto each = [&](const auto& visit) {
#pragma unroll
            for (int i = 0; i < THREAD_INPUTS; ++i) {
                const int c = product.first_input + (y + i / VECTOR * THREADS_Y) * VECTOR + i % VECTOR;
                if (c >= c_in) continue;
#pragma unroll
                for (int j = 0; j < THREAD_OUTPUTS; ++j) {
                    const int n = product.first_output + (x + j / VECTOR * THREADS_X) * VECTOR + j % VECTOR;
                    if (n < c_out) visit(c, n, sum[i][j]);
                }
            }
        };
        write_tile<THREAD_INPUTS * THREAD_OUTPUTS>(each, product, parts, offsets, c_in, c_out, partial, tickets,
                                                   background, constant, out, shared.last);
    }
}
