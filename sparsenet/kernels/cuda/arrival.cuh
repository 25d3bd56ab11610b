// Reductions in one launch: whichever block of a group comes last joins what the others left.
#include "common.cuh"

// Whether this block is the last of `parts` to come; it leaves `arrived` at 0 for the next launch.  What the others wrote
// before they came is seen then; read it as volatile, past the first cache.
__device__ inline bool comes_last(unsigned* arrived, long long parts, bool& last) {  // last: in shared memory
    __threadfence();  // what this thread wrote lies before what the atomic tells
    __syncthreads();
    if (threadIdx.x == 0 && threadIdx.y == 0) {
        last = atomicAdd(arrived, 1u) + 1 == parts;
        if (last) *arrived = 0;  // for the next launch
    }
    __syncthreads();
    __threadfence();
    return last;
}
