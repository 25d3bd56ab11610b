// Soft shrinkage, element by element.  Limited by memory: one read (two backward) and one write per number.
//
//     x (N, C) row-major is size = N * C numbers in a row; thread t takes t, t + stride, t + 2 stride, ...
//
// Variants: SCALAR, as features are stored, float, double or Half; WIDE, as they are computed with.
#include "common.cuh"

extern "C" __global__ void soft_shrink_forward(const SCALAR* __restrict__ x, const WIDE limit, const long long size,
                                               SCALAR* __restrict__ out) {
    for (long long i = global_index(); i < size; i += global_stride()) {
        const WIDE value = x[i];
        const WIDE within = value > limit ? limit : value < -limit ? -limit : value;
        out[i] = value - within;  // NaN stays NaN
    }
}

extern "C" __global__ void soft_shrink_backward(const SCALAR* __restrict__ x, const SCALAR* __restrict__ gradient,
                                                const WIDE limit, const long long size, SCALAR* __restrict__ out) {
    for (long long i = global_index(); i < size; i += global_stride()) {
        const WIDE value = x[i], upstream = gradient[i];
        out[i] = value > limit || value < -limit ? upstream : WIDE(0);
    }
}
