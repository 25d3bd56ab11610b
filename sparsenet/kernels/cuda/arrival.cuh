// Reductions in one launch: the last block of a group to finish joins the results of all.
#include "common.cuh"

// Whether this block is the last of `parts` to arrive; it then resets `arrived` to 0 for the next launch.  The last block
// sees all that the others wrote before they arrived; read it as volatile, past the first cache.
__device__ inline bool comes_last(unsigned* arrived, long long parts, bool& last) {  // last: in shared memory
    __threadfence();  // the writes of this thread come before the atomic
    __syncthreads();
    if (threadIdx.x == 0 && threadIdx.y == 0) {
        last = atomicAdd(arrived, 1u) + 1 == parts;
        if (last) *arrived = 0;  // for the next launch
    }
    __syncthreads();
    __threadfence();
    return last;
}
