// Sparse convolution, forward (and, over the transposed table, the input gradient), multiply-adds
// in SCALAR.  An implicit matrix product: the gathered matrix is never written out.
//
//     out[m, n] = leaky(sum over k, c of  features[neighbours[m, k], c] * weights[k, c, n]  +  constant[n])
//
// where leaky(x) = x if x > 0, else slope * x; slope 1: as it is.
//
//                      TILE_COLUMNS of C_out                A  gathered   [TILE_ROWS][TILE_DEPTH + VECTOR]
//                      +-----------+  TILE_DEPTH of         B  weights    [TILE_DEPTH][TILE_COLUMNS]
//                      |     B     |  (active offset, c)    both STAGES times: the next steps load
//                      +-----------+                        while this one is multiplied
//        TILE_ROWS +-+ +-----------+
//        of M      |A| |    out    |   one block; a thread owns THREAD_ROWS x THREAD_COLUMNS of it
//                  +-+ +-----------+
//
// Each sum runs over k, then c, upwards, one multiply-add after the other, whatever the tile sizes
// and the order of the rows: the bits depend on neither.

#include "common.cuh"
#include "tile.cuh"

constexpr int VECTOR = 16 / sizeof(SCALAR);
constexpr int THREADS_X = TILE_COLUMNS / THREAD_COLUMNS, THREADS_Y = TILE_ROWS / THREAD_ROWS;
constexpr int THREADS = THREADS_X * THREADS_Y;
constexpr int A_STRIDE = TILE_DEPTH + VECTOR;  // + VECTOR: rows that are read together lie in different banks
constexpr int A_SIZE = TILE_ROWS * A_STRIDE, B_SIZE = TILE_DEPTH * TILE_COLUMNS;

struct alignas(16) Vector {
    SCALAR at[VECTOR];
};

struct Shared {
    alignas(16) SCALAR a[STAGES * A_SIZE];
    alignas(16) SCALAR b[STAGES * B_SIZE];
    int index[GROUP * (TILE_ROWS + 1)];
    int active[GROUP];
    unsigned filled;
};
static_assert(sizeof(Shared) == SHARED_BYTES, "the launcher asks for another amount of shared memory");
static_assert(THREAD_COLUMNS % VECTOR == 0 && TILE_DEPTH % VECTOR == 0, "a thread reads whole vectors");

// Starts the copies of one step: rows gathered into A, weights into B, zeros where there are none.
__device__ inline void load_step(Shared& shared, int stage, Depth start, int slots, int first_offset,
                                 const SCALAR* features, const SCALAR* weights, int c_in, int c_out, int first_column) {
    constexpr int A_CHUNKS = TILE_DEPTH / A_VECTOR, B_CHUNKS = TILE_COLUMNS / B_VECTOR;
    static_assert(THREADS % A_CHUNKS == 0, "a thread copies the same depth of each of its rows");
    const int own = threadIdx.x % A_CHUNKS * A_VECTOR;
    const Depth at = further(start, own, c_in);
    const int* const index = at.slot < slots ? &shared.index[shared.active[at.slot] * (TILE_ROWS + 1)] : nullptr;
#pragma unroll
    for (int row = threadIdx.x / A_CHUNKS; row < TILE_ROWS; row += THREADS / A_CHUNKS) {
        const int n = index ? index[row] : -1;
        copy_async<A_VECTOR * sizeof(SCALAR)>(&shared.a[stage * A_SIZE + row * A_STRIDE + own],
                                              features + (n < 0 ? 0 : static_cast<long long>(n) * c_in + at.column),
                                              n >= 0);
    }
#pragma unroll 1  // unrolled, its addresses take registers that the sums need: CUDA 13 spills at 128 columns
    for (int e = threadIdx.x; e < TILE_DEPTH * B_CHUNKS; e += THREADS) {
        const int depth = e / B_CHUNKS, column = e % B_CHUNKS * B_VECTOR;
        const Depth d = further(start, depth, c_in);
        const bool valid = d.slot < slots && first_column + column < c_out;
        const long long k = valid ? first_offset + shared.active[d.slot] : 0;
        copy_async<B_VECTOR * sizeof(SCALAR)>(&shared.b[stage * B_SIZE + depth * TILE_COLUMNS + column],
                                              weights + (valid ? (k * c_in + d.column) * c_out + first_column + column : 0),
                                              valid);
    }
}

__device__ inline void multiply_step(const SCALAR* a, const SCALAR* b, int x, int y,
                                     SCALAR (&sum)[THREAD_ROWS][THREAD_COLUMNS]) {
#pragma unroll
    for (int depth = 0; depth < TILE_DEPTH; depth += VECTOR) {
        Vector left[THREAD_ROWS];
#pragma unroll
        for (int i = 0; i < THREAD_ROWS; ++i)
            left[i] = *reinterpret_cast<const Vector*>(&a[(y + i * THREADS_Y) * A_STRIDE + depth]);
#pragma unroll
        for (int d = 0; d < VECTOR; ++d) {
#pragma unroll
            for (int j = 0; j < THREAD_COLUMNS; j += VECTOR) {
                const Vector right =
                    *reinterpret_cast<const Vector*>(&b[(depth + d) * TILE_COLUMNS + x * VECTOR + j * THREADS_X]);
#pragma unroll
                for (int i = 0; i < THREAD_ROWS; ++i)
#pragma unroll
                    for (int v = 0; v < VECTOR; ++v) sum[i][j + v] = fma(left[i].at[d], right.at[v], sum[i][j + v]);
            }
        }
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
convolution_forward(const SCALAR* __restrict__ features, const SCALAR* __restrict__ weights,
                    const int* __restrict__ neighbours, OPTIONAL const int* __restrict__ order,
                    OPTIONAL const SCALAR* __restrict__ constant, const SCALAR slope, long long rows, int offsets,
                    int c_in, int c_out, SCALAR* __restrict__ out) {
    DYNAMIC_SHARED(unsigned char, memory);
    Shared& shared = *reinterpret_cast<Shared*>(memory);
    const int x = threadIdx.x % THREADS_X, y = threadIdx.x / THREADS_X;
    const int column_tiles = (c_out + TILE_COLUMNS - 1) / TILE_COLUMNS;
    const long long tiles = (rows + TILE_ROWS - 1) / TILE_ROWS * column_tiles;
    for (long long tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
        const long long first_row = tile / column_tiles * TILE_ROWS;
        const int first_column = static_cast<int>(tile % column_tiles) * TILE_COLUMNS;
        SCALAR sum[THREAD_ROWS][THREAD_COLUMNS] = {};
        for (int first = 0; first < offsets; first += GROUP) {
            const int slots = stage_offsets<TILE_ROWS, THREADS>(neighbours, order, first_row, rows, offsets, first,
                                                                shared.index, shared.active, &shared.filled);
            const int steps = static_cast<int>((static_cast<long long>(slots) * c_in + TILE_DEPTH - 1) / TILE_DEPTH);
            Depth next = {0, 0};
            for (int step = 0; step < steps + STAGES - 1; ++step) {  // STAGES - 1 steps are under way at any time
                const int now = step - (STAGES - 1);
                if (now >= 0) {
                    copy_async_wait<STAGES - 2>();
                    __syncthreads();  // this step's data is there for all; all have read the stage filled next
                }
                if (step < steps)
                    load_step(shared, step % STAGES, next, slots, first, features, weights, c_in, c_out, first_column);
                copy_async_commit();
                next = further(next, TILE_DEPTH, c_in);
                if (now >= 0)
                    multiply_step(&shared.a[now % STAGES * A_SIZE], &shared.b[now % STAGES * B_SIZE], x, y, sum);
            }
        }
#pragma unroll
        for (int i = 0; i < THREAD_ROWS; ++i) {
            const long long row = first_row + y + i * THREADS_Y;
            if (row >= rows) continue;
            SCALAR* const target = out + (order ? order[row] : row) * static_cast<long long>(c_out);
#pragma unroll
            for (int j = 0; j < THREAD_COLUMNS; j += VECTOR) {
                const int column = first_column + x * VECTOR + j * THREADS_X;
                Vector values;
#pragma unroll
                for (int v = 0; v < VECTOR; ++v) {
                    const SCALAR value =
                        sum[i][j + v] + (constant && column + v < c_out ? constant[column + v] : SCALAR(0));
                    values.at[v] = value > 0 ? value : value * slope;
                }
                if (B_VECTOR == VECTOR && column < c_out) {  // c_out is a multiple of VECTOR then
                    *reinterpret_cast<Vector*>(target + column) = values;
                } else {
                    for (int v = 0; v < VECTOR && column + v < c_out; ++v) target[column + v] = values.at[v];
                }
            }
        }
    }
}
