// One step of gradient descent with momentum for up to 16 parameters in one launch:
//
//     g = gradient + decay * parameter
//     v = kept * v + added * g
//     parameter -= rate * v            or, with Nesterov's momentum, rate * (added * g + kept * v)
//
// without velocities (null): parameter -= rate * g.
//
//     blockIdx.y     0            1         2 ...                a parameter each, its arrays p, g, v of n numbers
//     blockIdx.x     | | | | |    | |       | | |                grid-stride within it
//
// A launch costs more than the small parameters' update: one for all of them.  The arrays come as arguments of their
// own, not as a table of addresses, which would have to be copied to the device first.  Bound by memory: three reads
// and two writes an element.
//
// Variants: SCALAR float or double.
#include "common.cuh"

#define TENSOR(i)                                       \
    case i:                                             \
        parameter = p##i, gradient = g##i, velocity = v##i, size = n##i; \
        break;

extern "C" __global__ void sgd_step(
    const SCALAR rate, const SCALAR decay, const SCALAR kept, const SCALAR added, const bool nesterov,
    OPTIONAL SCALAR* __restrict__ p0, OPTIONAL const SCALAR* __restrict__ g0, OPTIONAL SCALAR* __restrict__ v0, const long long n0,
    OPTIONAL SCALAR* __restrict__ p1, OPTIONAL const SCALAR* __restrict__ g1, OPTIONAL SCALAR* __restrict__ v1, const long long n1,
    OPTIONAL SCALAR* __restrict__ p2, OPTIONAL const SCALAR* __restrict__ g2, OPTIONAL SCALAR* __restrict__ v2, const long long n2,
    OPTIONAL SCALAR* __restrict__ p3, OPTIONAL const SCALAR* __restrict__ g3, OPTIONAL SCALAR* __restrict__ v3, const long long n3,
    OPTIONAL SCALAR* __restrict__ p4, OPTIONAL const SCALAR* __restrict__ g4, OPTIONAL SCALAR* __restrict__ v4, const long long n4,
    OPTIONAL SCALAR* __restrict__ p5, OPTIONAL const SCALAR* __restrict__ g5, OPTIONAL SCALAR* __restrict__ v5, const long long n5,
    OPTIONAL SCALAR* __restrict__ p6, OPTIONAL const SCALAR* __restrict__ g6, OPTIONAL SCALAR* __restrict__ v6, const long long n6,
    OPTIONAL SCALAR* __restrict__ p7, OPTIONAL const SCALAR* __restrict__ g7, OPTIONAL SCALAR* __restrict__ v7, const long long n7,
    OPTIONAL SCALAR* __restrict__ p8, OPTIONAL const SCALAR* __restrict__ g8, OPTIONAL SCALAR* __restrict__ v8, const long long n8,
    OPTIONAL SCALAR* __restrict__ p9, OPTIONAL const SCALAR* __restrict__ g9, OPTIONAL SCALAR* __restrict__ v9, const long long n9,
    OPTIONAL SCALAR* __restrict__ p10, OPTIONAL const SCALAR* __restrict__ g10, OPTIONAL SCALAR* __restrict__ v10, const long long n10,
    OPTIONAL SCALAR* __restrict__ p11, OPTIONAL const SCALAR* __restrict__ g11, OPTIONAL SCALAR* __restrict__ v11, const long long n11,
    OPTIONAL SCALAR* __restrict__ p12, OPTIONAL const SCALAR* __restrict__ g12, OPTIONAL SCALAR* __restrict__ v12, const long long n12,
    OPTIONAL SCALAR* __restrict__ p13, OPTIONAL const SCALAR* __restrict__ g13, OPTIONAL SCALAR* __restrict__ v13, const long long n13,
    OPTIONAL SCALAR* __restrict__ p14, OPTIONAL const SCALAR* __restrict__ g14, OPTIONAL SCALAR* __restrict__ v14, const long long n14,
    OPTIONAL SCALAR* __restrict__ p15, OPTIONAL const SCALAR* __restrict__ g15, OPTIONAL SCALAR* __restrict__ v15, const long long n15) {
    SCALAR *parameter, *velocity;
    const SCALAR* gradient;
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
    for (long long i = global_index(); i < size; i += global_stride()) {
        const SCALAR old = parameter[i], whole = gradient[i] + decay * old;
        if (velocity == nullptr) {
            parameter[i] = old - rate * whole;
        } else {
            const SCALAR part = added * whole, moved = kept * velocity[i] + part;
            velocity[i] = moved;
            parameter[i] = old - rate * (nesterov ? part + kept * moved : moved);
        }
    }
}
