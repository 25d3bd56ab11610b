// ELU, GELU, SiLU, tanh, sigmoid, element by element: out = f(x), and gradient * f'(x) from x or from y = f(x).
//
//     kind       f(x)                                   f'(x)                                   from
//     ELU        x if x > 0, else alpha (e^x - 1)       1 if y > 0, else y + alpha              y
//     GELU       x P(X <= x) = max(x, 0) - t q(t)       q(t) - t b(t), less than 1 if x > 0     x
//     SILU       x s,  s = 1 / (1 + e^-x)               s + s (1 - s) x                         x
//     TANH                                              (1 - y) (1 + y)                         y
//     SIGMOID    s                                      y (1 - y)                               y
//
//     t = |x|     X standard normal, b its density, q(t) = P(X > t)
//
// x (N, C) row-major is size = N * C numbers in a row; thread t takes t, t + stride, t + 2 stride, ...  background:
// `extra` more numbers elsewhere, handled likewise after x; null: none.  The kind is the same for all threads: they
// branch once, into a loop of their own.  Limited by memory, as leaky ReLU is, if the GPU is fast at exponentials.
//
// Variants: SCALAR float, double or Half.
#include "common.cuh"

enum { ELU, GELU, SILU, TANH, SIGMOID };  // the order of contract.py

constexpr int UNROLL = sizeof(SCALAR) == 2 ? 8 : 4;  // smaller numbers: more loads in flight per thread
constexpr WIDE FAR = 800;  // e^-t is 0 beyond, and so that its product with t is 0 too, t may not be infinite

__device__ inline float exponential(float x) { return expf(x); }
__device__ inline double exponential(double x) { return exp(x); }
__device__ inline float minus_one(float x) { return expm1f(x); }
__device__ inline double minus_one(double x) { return expm1(x); }
__device__ inline float tangent(float x) { return tanhf(x); }
__device__ inline double tangent(double x) { return tanh(x); }

// e^(-t^2 / 2): the square is large, and its rounding would be many units in the last place of a float.
__device__ inline float bell(float t) {
    const float square = __fmul_rn(t, t), rounded = fmaf(t, t, -square), e = expf(-0.5f * square);
    return fmaf(e, -0.5f * rounded, e);
}

// q(t) / e^(-t^2 / 2): a quotient of polynomials with positive coefficients, whose relative error on 0 <= t <= 14 is at
// most 1.3e-8 (a minimax fit; exponentials.py has the same one).
__device__ inline float tail_over_bell(float t) {
    const float p = fmaf(fmaf(fmaf(fmaf(0.00403698627f, t, 0.040098004f), t, 0.181645691f), t, 0.4361462f), t, 0.5f);
    const float high = fmaf(fmaf(fmaf(0.0101190852f, t, 0.100517996f), t, 0.4652749f), t, 1.19589579f);
    return p / fmaf(fmaf(high, t, 1.67017734f), t, 1.f);
}

// t q(t), and q(t) - t b(t)
__device__ inline float tail_times(float t) { return t * tail_over_bell(t) * bell(t); }
__device__ inline double tail_times(double t) { return t * (0.5 * erfc(t * 0.70710678118654752)); }
__device__ inline float tail_less_density(float t) { return bell(t) * (tail_over_bell(t) - t * 0.39894228f); }
__device__ inline double tail_less_density(double t) {
    return 0.5 * erfc(t * 0.70710678118654752) - t * 0.3989422804014327 * exp(-0.5 * t * t);
}

__device__ inline WIDE limited_size(WIDE x) {  // NaN stays
    const WIDE t = x < 0 ? -x : x;
    return t > FAR ? FAR : t;
}

template <int KIND>
__device__ inline WIDE value_of(WIDE x, WIDE alpha) {
    if constexpr (KIND == ELU) {
        return x > 0 ? x : alpha * minus_one(x);
    } else if constexpr (KIND == TANH) {
        return tangent(x);
    } else {
        const WIDE t = limited_size(x);
        if constexpr (KIND == GELU) {
            return (x < 0 ? 0 : x) - tail_times(t);
        } else {
            const WIDE e = exponential(-t), top = KIND == SILU ? (x < 0 ? -t * e : x) : (x < 0 ? e : 1);
            return top / (1 + e);
        }
    }
}

// f', from x for GELU and SiLU, else from y.
template <int KIND>
__device__ inline WIDE slope_of(WIDE kept, WIDE alpha) {
    if constexpr (KIND == ELU) {
        return kept > 0 ? 1 : kept + alpha;
    } else if constexpr (KIND == TANH) {
        return (1 - kept) * (1 + kept);
    } else if constexpr (KIND == SIGMOID) {
        return kept * (1 - kept);
    } else {
        const WIDE t = limited_size(kept);
        if constexpr (KIND == GELU) {
            const WIDE below = tail_less_density(t);
            return kept > 0 ? 1 - below : below;
        } else {
            const WIDE e = exponential(-t), one = 1 / (1 + e), other = e * one;  // s and 1 - s, in either order
            return kept < 0 ? other - one * other * t : one + one * other * t;
        }
    }
}

template <int KIND>
__device__ inline void forward(const SCALAR* x, WIDE alpha, long long size, SCALAR* out) {
#pragma unroll UNROLL
    for (long long i = global_index(); i < size; i += global_stride()) out[i] = value_of<KIND>(x[i], alpha);
}

template <int KIND>
__device__ inline void backward(const SCALAR* kept, const SCALAR* gradient, WIDE alpha, long long size, SCALAR* out) {
#pragma unroll UNROLL
    for (long long i = global_index(); i < size; i += global_stride())
        out[i] = static_cast<WIDE>(gradient[i]) * slope_of<KIND>(kept[i], alpha);
}

extern "C" __global__ void activation_forward(const SCALAR* __restrict__ x, const int kind, const WIDE alpha,
                                              const long long size, SCALAR* __restrict__ out,
                                              OPTIONAL const SCALAR* __restrict__ background, const long long extra,
                                              OPTIONAL SCALAR* __restrict__ background_out) {
#define CASE(KIND) \
    case KIND: \
        forward<KIND>(x, alpha, size, out); \
        forward<KIND>(background, alpha, extra, background_out); \
        break;
    switch (kind) { CASE(ELU) CASE(GELU) CASE(SILU) CASE(TANH) CASE(SIGMOID) }
#undef CASE
}

// kept: x for GELU and SiLU, else y; of the background likewise.
extern "C" __global__ void activation_backward(const SCALAR* __restrict__ kept, const SCALAR* __restrict__ gradient,
                                               const int kind, const WIDE alpha, const long long size,
                                               SCALAR* __restrict__ out,
                                               OPTIONAL const SCALAR* __restrict__ background,
                                               OPTIONAL const SCALAR* __restrict__ background_gradient,
                                               const long long extra, OPTIONAL SCALAR* __restrict__ background_out) {
#define CASE(KIND) \
    case KIND: \
        backward<KIND>(kept, gradient, alpha, size, out); \
        backward<KIND>(background, background_gradient, alpha, extra, background_out); \
        break;
    switch (kind) { CASE(ELU) CASE(GELU) CASE(SILU) CASE(TANH) CASE(SIGMOID) }
#undef CASE
}
