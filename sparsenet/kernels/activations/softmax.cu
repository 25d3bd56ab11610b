// Softmax over the channels of each row, and its gradient.
//
//     y[j] = e^(x[j] - max) / sum of e^(x - max)
//     dx[j] = y[j] (gradient[j] - sum of y * gradient)
//
//     x (N, C), background (G, C) row-major   `lanes` lanes take a row: lane l the channels l, l + lanes, ...
//     lanes                                   the smallest power of two that is not below C, at most 32
//
// A row is read three times (twice backward), but from memory once: then it is in L1.  Limited by memory.
//
// Variants: SCALAR float, double or Half.
#include "warps.cuh"

__device__ inline float exponential(float x) { return expf(x); }
__device__ inline double exponential(double x) { return exp(x); }

// For each row of these lanes, one after another: all lanes of a warp call `row(first number of the row, whether there
// is one)` together.
template <class Row>
__device__ inline void each_row(long long rows, int channels, int lanes, Row row) {
    const int groups = 32 / lanes;  // of a warp
    const long long warps = global_stride() / 32;
    for (long long first = global_index() / 32 * groups; first < rows; first += warps * groups) {
        const long long number = first + threadIdx.x % 32 / lanes;
        row(number * channels, number < rows);
    }
}

__device__ inline void forward(const SCALAR* x, long long rows, int channels, int lanes, SCALAR* out) {
    const int lane = threadIdx.x % lanes;
    each_row(rows, channels, lanes, [=](long long start, bool here) {
        const int end = here ? channels : 0;
        WIDE top = here ? static_cast<WIDE>(x[start]) : 0, total = 0;
        for (int j = lane; j < end; j += lanes) {
            const WIDE value = x[start + j];
            top = value > top || value != value ? value : top;
        }
        top = warp_max(top, lanes);
        for (int j = lane; j < end; j += lanes) total += exponential(static_cast<WIDE>(x[start + j]) - top);
        const WIDE scale = 1 / warp_sum(total, lanes);
        for (int j = lane; j < end; j += lanes)
            out[start + j] = exponential(static_cast<WIDE>(x[start + j]) - top) * scale;
    });
}

__device__ inline void backward(const SCALAR* y, const SCALAR* gradient, long long rows, int channels, int lanes,
                                SCALAR* out) {
    const int lane = threadIdx.x % lanes;
    each_row(rows, channels, lanes, [=](long long start, bool here) {
        const int end = here ? channels : 0;
        WIDE sum = 0;
        for (int j = lane; j < end; j += lanes)
            sum += static_cast<WIDE>(y[start + j]) * static_cast<WIDE>(gradient[start + j]);
        sum = warp_sum(sum, lanes);
        for (int j = lane; j < end; j += lanes)
            out[start + j] = static_cast<WIDE>(y[start + j]) * (static_cast<WIDE>(gradient[start + j]) - sum);
    });
}

extern "C" __global__ void softmax_forward(const SCALAR* __restrict__ x, const int channels, const int lanes,
                                           const long long rows, SCALAR* __restrict__ out,
                                           OPTIONAL const SCALAR* __restrict__ background,
                                           const long long background_rows,
                                           OPTIONAL SCALAR* __restrict__ background_out) {
    forward(x, rows, channels, lanes, out);
    forward(background, background_rows, channels, lanes, background_out);
}

// y: the softmax; of the background likewise.
extern "C" __global__ void softmax_backward(const SCALAR* __restrict__ y, const SCALAR* __restrict__ gradient,
                                            const int channels, const int lanes, const long long rows,
                                            SCALAR* __restrict__ out, OPTIONAL const SCALAR* __restrict__ background,
                                            OPTIONAL const SCALAR* __restrict__ background_gradient,
                                            const long long background_rows,
                                            OPTIONAL SCALAR* __restrict__ background_out) {
    backward(y, gradient, rows, channels, lanes, out);
    backward(background, background_gradient, background_rows, channels, lanes, background_out);
}
