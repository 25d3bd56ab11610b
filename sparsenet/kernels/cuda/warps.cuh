// Reductions over the lanes of a warp, or over each group of `lanes` of them, a power of two.  Each lane gets the same
// bits, since a + b is b + a.
#include "common.cuh"

constexpr unsigned ALL_LANES = 0xffffffffu;

template <class T>
__device__ inline T warp_sum(T value, int lanes = 32) {
    for (int far = lanes / 2; far; far /= 2) value += __shfl_xor_sync(ALL_LANES, value, far);
    return value;
}

// The maximum; NaN if a lane has it.
template <class T>
__device__ inline T warp_max(T value, int lanes = 32) {
    for (int far = lanes / 2; far; far /= 2) {
        const T other = __shfl_xor_sync(ALL_LANES, value, far);
        value = other > value || other != other ? other : value;
    }
    return value;
}
