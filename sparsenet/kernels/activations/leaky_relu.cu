// Leaky ReLU, element by element: y = x if x > 0, else slope * x.  Limited by memory: one read (two
// backward) and one write per element, no reuse.
//
//     x (N, C) row-major is size = N * C numbers in a row; thread t takes t, t + stride, t + 2 stride, ...
//     background: `extra` more numbers elsewhere, handled likewise after x; null: none
//
// Variants: SCALAR float, double or Half.
#include "common.cuh"

constexpr int UNROLL = sizeof(SCALAR) == 2 ? 8 : 4;  // smaller numbers: more loads in flight per thread

__device__ inline void forward(const SCALAR* x, WIDE slope, long long size, SCALAR* out) {
#pragma unroll UNROLL
    for (long long i = global_index(); i < size; i += global_stride()) {
        const WIDE value = x[i];
        out[i] = value > 0 ? value : value * slope;
    }
}

extern "C" __global__ void leaky_relu_forward(const SCALAR* __restrict__ x, const WIDE slope, const long long size,
                                              SCALAR* __restrict__ out, OPTIONAL const SCALAR* __restrict__ background,
                                              const long long extra, OPTIONAL SCALAR* __restrict__ background_out) {
    forward(x, slope, size, out);
    forward(background, slope, extra, background_out);
}

// The gradient, times slope where `reference` (the input, or for slope >= 0 the output) is not positive.
__device__ inline void backward(const SCALAR* reference, const SCALAR* gradient, WIDE slope, long long size,
                                SCALAR* out) {
#pragma unroll UNROLL
    for (long long i = global_index(); i < size; i += global_stride()) {
        const WIDE value = gradient[i];
        out[i] = static_cast<WIDE>(reference[i]) > 0 ? value : value * slope;
    }
}

extern "C" __global__ void leaky_relu_backward(const SCALAR* __restrict__ reference,
                                               const SCALAR* __restrict__ gradient, const WIDE slope,
                                               const long long size, SCALAR* __restrict__ out,
                                               OPTIONAL const SCALAR* __restrict__ background,
                                               OPTIONAL const SCALAR* __restrict__ background_gradient,
                                               const long long extra,
                                               OPTIONAL SCALAR* __restrict__ background_out) {
    backward(reference, gradient, slope, size, out);
    backward(background, background_gradient, slope, extra, background_out);
}
