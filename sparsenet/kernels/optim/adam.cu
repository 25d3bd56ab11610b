// One step of Adam for up to 16 parameters in one launch:
//
//     g = gradient * unscale + penalty * parameter
//     m = kept1 * m + added1 * g
//     v = kept2 * v + added2 * g^2
//     parameter -= decay * parameter + rate * m / (sqrt(v) * whole + eps)
//
// with rate = lr / (1 - beta1^t) and whole = 1 / sqrt(1 - beta2^t).  Of penalty = weight_decay and decay = lr *
// weight_decay one is 0.  If maxima x are given, the largest v so far takes the place of v in the last line.
//
//     blockIdx.y     0            1         2 ...                a parameter each, its arrays of n numbers
//     blockIdx.x     | | | | |    | |       | | |                grid-stride within it
//
// Masters w (null for none) are those of sgd.cu: copies of the parameters in WIDE, which a parameter rounds to SCALAR.
//
// Limited by memory: four reads and three writes per element.
//
// Variants: SCALAR float, double or Half; the arithmetic is in WIDE.
#include "common.cuh"

#define TENSOR(i)                                                                           \
    case i:                                                                                 \
        parameter = p##i, gradient = g##i, mean = m##i, square = v##i, maximum = x##i;      \
        master = w##i, size = n##i;                                                         \
        break;

extern "C" __global__ void adam_step(
    const WIDE unscale, const WIDE penalty, const WIDE kept1, const WIDE added1, const WIDE kept2, const WIDE added2,
    const WIDE whole, const WIDE eps, const WIDE rate, const WIDE decay,
    OPTIONAL SCALAR* __restrict__ p0, OPTIONAL const SCALAR* __restrict__ g0,
    OPTIONAL WIDE* __restrict__ m0, OPTIONAL WIDE* __restrict__ v0, OPTIONAL WIDE* __restrict__ x0,
    OPTIONAL WIDE* __restrict__ w0, const long long n0,
    OPTIONAL SCALAR* __restrict__ p1, OPTIONAL const SCALAR* __restrict__ g1,
    OPTIONAL WIDE* __restrict__ m1, OPTIONAL WIDE* __restrict__ v1, OPTIONAL WIDE* __restrict__ x1,
    OPTIONAL WIDE* __restrict__ w1, const long long n1,
    OPTIONAL SCALAR* __restrict__ p2, OPTIONAL const SCALAR* __restrict__ g2,
    OPTIONAL WIDE* __restrict__ m2, OPTIONAL WIDE* __restrict__ v2, OPTIONAL WIDE* __restrict__ x2,
    OPTIONAL WIDE* __restrict__ w2, const long long n2,
    OPTIONAL SCALAR* __restrict__ p3, OPTIONAL const SCALAR* __restrict__ g3,
    OPTIONAL WIDE* __restrict__ m3, OPTIONAL WIDE* __restrict__ v3, OPTIONAL WIDE* __restrict__ x3,
    OPTIONAL WIDE* __restrict__ w3, const long long n3,
    OPTIONAL SCALAR* __restrict__ p4, OPTIONAL const SCALAR* __restrict__ g4,
    OPTIONAL WIDE* __restrict__ m4, OPTIONAL WIDE* __restrict__ v4, OPTIONAL WIDE* __restrict__ x4,
    OPTIONAL WIDE* __restrict__ w4, const long long n4,
    OPTIONAL SCALAR* __restrict__ p5, OPTIONAL const SCALAR* __restrict__ g5,
    OPTIONAL WIDE* __restrict__ m5, OPTIONAL WIDE* __restrict__ v5, OPTIONAL WIDE* __restrict__ x5,
    OPTIONAL WIDE* __restrict__ w5, const long long n5,
    OPTIONAL SCALAR* __restrict__ p6, OPTIONAL const SCALAR* __restrict__ g6,
    OPTIONAL WIDE* __restrict__ m6, OPTIONAL WIDE* __restrict__ v6, OPTIONAL WIDE* __restrict__ x6,
    OPTIONAL WIDE* __restrict__ w6, const long long n6,
    OPTIONAL SCALAR* __restrict__ p7, OPTIONAL const SCALAR* __restrict__ g7,
    OPTIONAL WIDE* __restrict__ m7, OPTIONAL WIDE* __restrict__ v7, OPTIONAL WIDE* __restrict__ x7,
    OPTIONAL WIDE* __restrict__ w7, const long long n7,
    OPTIONAL SCALAR* __restrict__ p8, OPTIONAL const SCALAR* __restrict__ g8,
    OPTIONAL WIDE* __restrict__ m8, OPTIONAL WIDE* __restrict__ v8, OPTIONAL WIDE* __restrict__ x8,
    OPTIONAL WIDE* __restrict__ w8, const long long n8,
    OPTIONAL SCALAR* __restrict__ p9, OPTIONAL const SCALAR* __restrict__ g9,
    OPTIONAL WIDE* __restrict__ m9, OPTIONAL WIDE* __restrict__ v9, OPTIONAL WIDE* __restrict__ x9,
    OPTIONAL WIDE* __restrict__ w9, const long long n9,
    OPTIONAL SCALAR* __restrict__ p10, OPTIONAL const SCALAR* __restrict__ g10,
    OPTIONAL WIDE* __restrict__ m10, OPTIONAL WIDE* __restrict__ v10, OPTIONAL WIDE* __restrict__ x10,
    OPTIONAL WIDE* __restrict__ w10, const long long n10,
    OPTIONAL SCALAR* __restrict__ p11, OPTIONAL const SCALAR* __restrict__ g11,
    OPTIONAL WIDE* __restrict__ m11, OPTIONAL WIDE* __restrict__ v11, OPTIONAL WIDE* __restrict__ x11,
    OPTIONAL WIDE* __restrict__ w11, const long long n11,
    OPTIONAL SCALAR* __restrict__ p12, OPTIONAL const SCALAR* __restrict__ g12,
    OPTIONAL WIDE* __restrict__ m12, OPTIONAL WIDE* __restrict__ v12, OPTIONAL WIDE* __restrict__ x12,
    OPTIONAL WIDE* __restrict__ w12, const long long n12,
    OPTIONAL SCALAR* __restrict__ p13, OPTIONAL const SCALAR* __restrict__ g13,
    OPTIONAL WIDE* __restrict__ m13, OPTIONAL WIDE* __restrict__ v13, OPTIONAL WIDE* __restrict__ x13,
    OPTIONAL WIDE* __restrict__ w13, const long long n13,
    OPTIONAL SCALAR* __restrict__ p14, OPTIONAL const SCALAR* __restrict__ g14,
    OPTIONAL WIDE* __restrict__ m14, OPTIONAL WIDE* __restrict__ v14, OPTIONAL WIDE* __restrict__ x14,
    OPTIONAL WIDE* __restrict__ w14, const long long n14,
    OPTIONAL SCALAR* __restrict__ p15, OPTIONAL const SCALAR* __restrict__ g15,
    OPTIONAL WIDE* __restrict__ m15, OPTIONAL WIDE* __restrict__ v15, OPTIONAL WIDE* __restrict__ x15,
    OPTIONAL WIDE* __restrict__ w15, const long long n15) {
    SCALAR* parameter;
    const SCALAR* gradient;
    WIDE *mean, *square, *maximum, *master;
    long long size;
    switch (blockIdx.y) {
        TENSOR(0)
        TENSOR(1)
        TENSOR(2)
        TENSOR(3)
        TENSOR(4)
        TENSOR(5)
        TENSOR(6)
        TENSOR(7)
        TENSOR(8)
        TENSOR(9)
        TENSOR(10)
        TENSOR(11)
        TENSOR(12)
        TENSOR(13)
        TENSOR(14)
        TENSOR(15)
        default: return;
    }
#pragma unroll 4  // as in sgd.cu
    for (long long i = global_index(); i < size; i += global_stride()) {
        WIDE old = parameter[i];
        if (master != nullptr) {
            const WIDE exact = master[i];
            if (static_cast<WIDE>(static_cast<SCALAR>(exact)) == old) old = exact;
        }
        const WIDE g = gradient[i] * unscale + penalty * old;
        const WIDE m = kept1 * mean[i] + added1 * g;
        WIDE v = kept2 * square[i] + added2 * (g * g);
        mean[i] = m;
        square[i] = v;
        if (maximum != nullptr) {
            if (maximum[i] > v) v = maximum[i];
            maximum[i] = v;
        }
        const WIDE now = old - decay * old - rate * m / (sqrt(v) * whole + eps);
        parameter[i] = now;
        if (master != nullptr) master[i] = now;
    }
}
