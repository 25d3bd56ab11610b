// CUDA C++ on the host: what the kernels of sparsenet use of it, in plain C++, put in front of their text.
//
// The threads of a block are fibers on one system thread (scheduler.h).  They run one at a time, and change only
// where CUDA's would have to wait: at a barrier, or a warp's shuffle, vote, match or matrix product.
#pragma once

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmath>
#include <type_traits>
#include <utility>

#include "scheduler.h"

#define SPARSENET_HOST 1
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __constant__ static
#define __align__(bytes) __attribute__((aligned(bytes)))
// In a section of its own, so that all of it can be poisoned before each block; it begins with a guard if it is watched.
#ifdef SPARSENET_WATCH
asm(".pushsection sparsenet_shared,\"aw\",%progbits\n.zero 4096\n.popsection");
#endif
#define __shared__ static __attribute__((section("sparsenet_shared")))
#define DYNAMIC_SHARED(type, name) type* const name = reinterpret_cast<type*>(sparsenet_host::dynamic_shared)

using sparsenet_host::blockDim;
using sparsenet_host::blockIdx;
using sparsenet_host::gridDim;
using sparsenet_host::threadIdx;

constexpr int warpSize = 32;

// Vectors, with CUDA's alignment: UndefinedBehaviorSanitizer reports a misaligned access, as the GPU would.
#define SPARSENET_VECTOR2(type, name, bytes) \
    struct alignas(bytes) name { type x, y; }; \
    inline name make_##name(type x, type y) { return {x, y}; }
#define SPARSENET_VECTOR3(type, name) \
    struct name { type x, y, z; }; \
    inline name make_##name(type x, type y, type z) { return {x, y, z}; }
#define SPARSENET_VECTOR4(type, name, bytes) \
    struct alignas(bytes) name { type x, y, z, w; }; \
    inline name make_##name(type x, type y, type z, type w) { return {x, y, z, w}; }
SPARSENET_VECTOR2(int, int2, 8)
SPARSENET_VECTOR2(unsigned, uint2, 8)
SPARSENET_VECTOR2(float, float2, 8)
SPARSENET_VECTOR2(double, double2, 16)
SPARSENET_VECTOR2(long long, longlong2, 16)
SPARSENET_VECTOR3(int, int3)
SPARSENET_VECTOR3(float, float3)
SPARSENET_VECTOR3(double, double3)
SPARSENET_VECTOR4(int, int4, 16)
SPARSENET_VECTOR4(unsigned, uint4, 16)
SPARSENET_VECTOR4(float, float4, 16)

// Numbers.  Nothing is contracted to a fused multiply-add (-ffp-contract=off) but what says so.
template <class A, class B>
constexpr std::common_type_t<A, B> min(A a, B b) { return b < a ? b : a; }
template <class A, class B>
constexpr std::common_type_t<A, B> max(A a, B b) { return a < b ? b : a; }
using std::abs;
using std::isfinite;
using std::isinf;
using std::isnan;
inline float rsqrtf(float x) { return 1 / sqrtf(x); }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
inline long long __double2ll_rn(double x) { return llrint(x); }
inline int __float2int_rn(float x) { return static_cast<int>(lrintf(x)); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline int __clz(int x) { return x ? __builtin_clz(static_cast<unsigned>(x)) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll(static_cast<unsigned long long>(x)) : 64; }
inline unsigned __brev(unsigned x) {
    unsigned reversed = 0;
    for (int bit = 0; bit < 32; ++bit) reversed |= (x >> bit & 1u) << (31 - bit);
    return reversed;
}
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return static_cast<unsigned long long>(static_cast<unsigned __int128>(a) * b >> 64);
}

namespace sparsenet_host {
template <class To, class From>
To bits_of(From value) {
    static_assert(sizeof(To) == sizeof(From), "both have one size");
    To result;
    memcpy(&result, &value, sizeof(To));
    return result;
}
}  // namespace sparsenet_host
inline int __float_as_int(float x) { return sparsenet_host::bits_of<int>(x); }
inline unsigned __float_as_uint(float x) { return sparsenet_host::bits_of<unsigned>(x); }
inline float __int_as_float(int x) { return sparsenet_host::bits_of<float>(x); }
inline float __uint_as_float(unsigned x) { return sparsenet_host::bits_of<float>(x); }
inline long long __double_as_longlong(double x) { return sparsenet_host::bits_of<long long>(x); }
inline double __longlong_as_double(long long x) { return sparsenet_host::bits_of<double>(x); }
template <class T>
T __ldg(const T* place) { return *place; }

// Atomics, on integers alone: a float sum would depend on the order of the threads.  Fibers do not interrupt each
// other, so plain reads and writes are atomic; who watches them (watch.cpp) is told that they are.
#ifdef SPARSENET_WATCH
namespace sparsenet_host {
extern volatile int atomic_line;
struct Atomic {
    explicit Atomic(int line) { atomic_line = line; }
    ~Atomic() { atomic_line = 0; }
};
}  // namespace sparsenet_host
#define SPARSENET_IS_ATOMIC(line) const sparsenet_host::Atomic atomic(line)
#else
#define SPARSENET_IS_ATOMIC(line)
#endif

#ifdef SPARSENET_WATCH
// Once a launch, in the first of its runs; standard output belongs to the driver.
namespace sparsenet_host {
void print(const char* format, ...) __attribute__((format(printf, 1, 2)));
}
#define printf(...) sparsenet_host::print(__VA_ARGS__)
#endif
#define SPARSENET_ATOMIC(name, expression) \
    template <class T, class V> \
    T name(T* place, V given, int line = __builtin_LINE()) { \
        static_assert(std::is_integral_v<T>, #name " is for integers: a sum of floats depends on the order"); \
        SPARSENET_IS_ATOMIC(line); \
        (void)line; \
        const T value = static_cast<T>(given), old = *place; \
        *place = static_cast<T>(expression); \
        return old; \
    }
SPARSENET_ATOMIC(atomicSub, std::make_unsigned_t<T>(old) - std::make_unsigned_t<T>(value))
SPARSENET_ATOMIC(atomicAdd, std::make_unsigned_t<T>(old) + std::make_unsigned_t<T>(value))
SPARSENET_ATOMIC(atomicExch, value)
SPARSENET_ATOMIC(atomicMin, min(old, value))
SPARSENET_ATOMIC(atomicMax, max(old, value))
SPARSENET_ATOMIC(atomicAnd, old & value)
SPARSENET_ATOMIC(atomicOr, old | value)
SPARSENET_ATOMIC(atomicXor, old ^ value)
template <class T, class A, class B>
T atomicCAS(T* place, A expected, B value, int line = __builtin_LINE()) {
    SPARSENET_IS_ATOMIC(line);
    (void)line;
    const T old = *place;
    if (old == static_cast<T>(expected)) *place = static_cast<T>(value);
    return old;
}
inline void __threadfence() {}
inline void __threadfence_block() {}

#include "warp.h"
#include "hopper.h"
