// One step of gradient descent with momentum for up to 16 parameters in one launch:
//
//     g = gradient / loss_scale + decay * parameter
//     v = kept * v + added * g
//     parameter -= rate * v            or, with Nesterov's momentum, rate * (added * g + kept * v)
//
// without velocities (null): parameter -= rate * g.
//
//     blockIdx.y     0            1         2 ...                a parameter each, its arrays p, g, v, m of n numbers
//     blockIdx.x     | | | | |    | |       | | |                grid-stride within it
//
// Masters m (null for none): copies of the parameters in WIDE, which a parameter rounds to SCALAR.  A step much smaller
// than a float16 parameter would be lost to rounding; in a master it accumulates.  A parameter that is not its rounded
// master was set from outside, and replaces it.
//
// A launch takes longer than the update of a small parameter, so many share one.  Each array is an argument of its own:
// a table of addresses would have to be copied to the device first.  Limited by memory: three reads and two writes per
// element, with masters four and three.
//
// Variants: SCALAR float, double or Half; the arithmetic is in WIDE.
#include "common.cuh"

#define TENSOR(i)                                       \
    case i:                                             \
        parameter = p##i, gradient = g##i, velocity = v##i, master = m##i, size = n##i; \
        break;

extern "C" __global__ void sgd_step(
    const WIDE rate, const WIDE decay, const WIDE kept, const WIDE added, const bool nesterov, const WIDE unscale,
    OPTIONAL SCALAR* __restrict__ p0, OPTIONAL const SCALAR* __restrict__ g0, OPTIONAL WIDE* __restrict__ v0,
    OPTIONAL WIDE* __restrict__ m0, const long long n0,
    OPTIONAL SCALAR* __restrict__ p1, OPTIONAL const SCALAR* __restrict__ g1, OPTIONAL WIDE* __restrict__ v1,
    OPTIONAL WIDE* __restrict__ m1, const long long n1,
    OPTIONAL SCALAR* __restrict__ p2, OPTIONAL const SCALAR* __restrict__ g2, OPTIONAL WIDE* __restrict__ v2,
    OPTIONAL WIDE* __restrict__ m2, const long long n2,
    OPTIONAL SCALAR* __restrict__ p3, OPTIONAL const SCALAR* __restrict__ g3, OPTIONAL WIDE* __restrict__ v3,
    OPTIONAL WIDE* __restrict__ m3, const long long n3,
    OPTIONAL SCALAR* __restrict__ p4, OPTIONAL const SCALAR* __restrict__ g4, OPTIONAL WIDE* __restrict__ v4,
    OPTIONAL WIDE* __restrict__ m4, const long long n4,
    OPTIONAL SCALAR* __restrict__ p5, OPTIONAL const SCALAR* __restrict__ g5, OPTIONAL WIDE* __restrict__ v5,
    OPTIONAL WIDE* __restrict__ m5, const long long n5,
    OPTIONAL SCALAR* __restrict__ p6, OPTIONAL const SCALAR* __restrict__ g6, OPTIONAL WIDE* __restrict__ v6,
    OPTIONAL WIDE* __restrict__ m6, const long long n6,
    OPTIONAL SCALAR* __restrict__ p7, OPTIONAL const SCALAR* __restrict__ g7, OPTIONAL WIDE* __restrict__ v7,
    OPTIONAL WIDE* __restrict__ m7, const long long n7,
    OPTIONAL SCALAR* __restrict__ p8, OPTIONAL const SCALAR* __restrict__ g8, OPTIONAL WIDE* __restrict__ v8,
    OPTIONAL WIDE* __restrict__ m8, const long long n8,
    OPTIONAL SCALAR* __restrict__ p9, OPTIONAL const SCALAR* __restrict__ g9, OPTIONAL WIDE* __restrict__ v9,
    OPTIONAL WIDE* __restrict__ m9, const long long n9,
    OPTIONAL SCALAR* __restrict__ p10, OPTIONAL const SCALAR* __restrict__ g10, OPTIONAL WIDE* __restrict__ v10,
    OPTIONAL WIDE* __restrict__ m10, const long long n10,
    OPTIONAL SCALAR* __restrict__ p11, OPTIONAL const SCALAR* __restrict__ g11, OPTIONAL WIDE* __restrict__ v11,
    OPTIONAL WIDE* __restrict__ m11, const long long n11,
    OPTIONAL SCALAR* __restrict__ p12, OPTIONAL const SCALAR* __restrict__ g12, OPTIONAL WIDE* __restrict__ v12,
    OPTIONAL WIDE* __restrict__ m12, const long long n12,
    OPTIONAL SCALAR* __restrict__ p13, OPTIONAL const SCALAR* __restrict__ g13, OPTIONAL WIDE* __restrict__ v13,
    OPTIONAL WIDE* __restrict__ m13, const long long n13,
    OPTIONAL SCALAR* __restrict__ p14, OPTIONAL const SCALAR* __restrict__ g14, OPTIONAL WIDE* __restrict__ v14,
    OPTIONAL WIDE* __restrict__ m14, const long long n14,
    OPTIONAL SCALAR* __restrict__ p15, OPTIONAL const SCALAR* __restrict__ g15, OPTIONAL WIDE* __restrict__ v15,
    OPTIONAL WIDE* __restrict__ m15, const long long n15) {
    SCALAR* parameter;
    const SCALAR* gradient;
    WIDE *velocity, *master;
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
#pragma unroll 4  // by itself the compiler does not unroll the conversions of float16
    for (long long i = global_index(); i < size; i += global_stride()) {
        WIDE old = parameter[i];
        if (master != nullptr) {
            const WIDE exact = master[i];
            if (static_cast<WIDE>(static_cast<SCALAR>(exact)) == old) old = exact;
        }
        const WIDE whole = gradient[i] * unscale + decay * old;
        WIDE moved = whole;
        if (velocity != nullptr) {
            const WIDE part = added * whole, next = kept * velocity[i] + part;
            velocity[i] = next;
            moved = nesterov ? part + kept * next : next;
        }
        const WIDE now = old - rate * moved;
        parameter[i] = now;
        if (master != nullptr) master[i] = now;
    }
}
