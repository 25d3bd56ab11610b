// PReLU: y = x if x > 0, else slope * x, with a slope for each channel, or one for all.
//
//     dx = gradient if x > 0, else slope * gradient
//     dslope = sum of x * gradient where x <= 0, over rows and background, in double
//
// forward     thread t keeps to one slope: slot t % (R C) of a sheet of R rows, sheet after sheet; one slope: C is 1
// backward    reads x and gradient once for both gradients:
//
//     x (N, C)      | chunk 0: CHUNK rows | chunk 1 | ...      a block takes 32 columns of a chunk, row group y its
//     background    | chunks after those of x | ...            rows y, y + 8, ...; the last block to finish joins the
//     partial       | a number a column | ...                  groups, then the chunks, in order
//
// With one slope the numbers of x are laid in rows of 32 columns, whatever C is, and the sums of the columns are added
// up at the end.  Limited by memory.  Variants: SCALAR float, double or Half; CHUNK, rows.
#include "arrival.cuh"

constexpr int GROUPS = 8;  // blockDim of the backward pass is (32, GROUPS)

__device__ inline void forward(const SCALAR* x, const SCALAR* slope, int slopes, long long size, SCALAR* out) {
    const long long sheet = max(1ll, global_stride() / slopes) * slopes;
    for (long long slot = global_index(); slot < sheet; slot += global_stride()) {
        const WIDE by = slope[slot % slopes];
#pragma unroll 4
        for (long long i = slot; i < size; i += sheet) {
            const WIDE value = x[i];
            out[i] = value > 0 ? value : value * by;
        }
    }
}

extern "C" __global__ void prelu_forward(const SCALAR* __restrict__ x, const SCALAR* __restrict__ slope,
                                         const int slopes, const long long size, SCALAR* __restrict__ out,
                                         OPTIONAL const SCALAR* __restrict__ background, const long long extra,
                                         OPTIONAL SCALAR* __restrict__ background_out) {
    forward(x, slope, slopes, size, out);
    forward(background, slope, slopes, extra, background_out);
}

// The sum over the row groups of a block, in order; valid in group 0.
__device__ inline double sum_groups(double sum, double (&groups)[GROUPS][32]) {
    __syncthreads();  // the block may still read the values of the last call
    groups[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    for (int group = 1; group < GROUPS; ++group) sum += groups[group][threadIdx.x];
    return sum;
}

// columns: C, or 32 if there is one slope;  size, extra: numbers of x and of the background
// chunks: of both, the first `of_x` of x
extern "C" __global__ void prelu_backward(
    const SCALAR* __restrict__ x, const SCALAR* __restrict__ gradient, const long long size,
    OPTIONAL const SCALAR* __restrict__ background, OPTIONAL const SCALAR* __restrict__ background_gradient,
    const long long extra, const SCALAR* __restrict__ slope, const int slopes, const int columns,
    SCALAR* __restrict__ out, OPTIONAL SCALAR* __restrict__ background_out, SCALAR* __restrict__ slope_gradient,
    const long long chunks, const long long of_x, OPTIONAL double* partial, OPTIONAL unsigned* __restrict__ arrived) {
    __shared__ double groups[GROUPS][32];
    __shared__ bool last;
    const int column = blockIdx.y * 32 + threadIdx.x;
    const bool here = column < columns;
    const WIDE by = here ? static_cast<WIDE>(slope[slopes == 1 ? 0 : column]) : 0;
    for (long long chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
        const bool below = chunk >= of_x;
        const SCALAR* values = below ? background : x;
        const SCALAR* given = below ? background_gradient : gradient;
        SCALAR* target = below ? background_out : out;
        const long long numbers = below ? extra : size, first = (below ? chunk - of_x : chunk) * CHUNK;
        double sum = 0;
        if (here)
            for (long long row = first + threadIdx.y; row < first + CHUNK; row += GROUPS) {
                const long long i = row * columns + column;
                if (i >= numbers) break;
                const WIDE value = values[i], slant = given[i];
                target[i] = value > 0 ? slant : slant * by;
                if (!(value > 0)) sum += static_cast<double>(value) * static_cast<double>(slant);
            }
        sum = sum_groups(sum, groups);
        if (chunks > 1) {
            if (threadIdx.y == 0 && here) partial[chunk * columns + column] = sum;
            if (!comes_last(arrived + blockIdx.y, chunks, last)) continue;
            const volatile double* parts = partial;
            sum = 0;
            if (here)
                for (long long part = threadIdx.y; part < chunks; part += GROUPS) sum += parts[part * columns + column];
            sum = sum_groups(sum, groups);
        }
        if (slopes == 1) {  // a single block in y: the sums of its 32 columns, in order
            __syncthreads();
            if (threadIdx.y == 0) groups[0][threadIdx.x] = sum;
            __syncthreads();
            if (threadIdx.y == 0 && threadIdx.x == 0) {
                for (int other = 1; other < 32; ++other) sum += groups[0][other];
                slope_gradient[0] = static_cast<WIDE>(sum);
            }
        } else if (threadIdx.y == 0 && here) {
            slope_gradient[column] = static_cast<WIDE>(sum);
        }
    }
}
