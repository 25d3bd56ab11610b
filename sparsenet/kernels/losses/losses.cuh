// The mean of a loss's terms over rows: a warp takes a row, a block joins its warps, join_losses the blocks.
//
//     warp w of the grid    rows w, w + warps, w + 2 warps, ...     in this order
//     sums (blocks, 2)      double: the terms of a block's warps, the count of its rows
//     loss ()               SCALAR: the mean of the terms         figures (2,) double: the loss, the count
//
// A grid of one block writes loss and figures itself and needs no sums.
#include "warps.cuh"

// The sum over the warps of the block; all lanes of a warp hold the same value.
__device__ inline double block_sum(double of_warp) {
    __shared__ double warps[32];
    __syncthreads();  // the values of an earlier call may still be read
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = of_warp;
    __syncthreads();
    double sum = 0;
    for (int warp = 0; warp < static_cast<int>(blockDim.x / 32); ++warp) sum += warps[warp];
    return sum;
}

// Write the sums of a block, or the mean if `sums` is null; called by all threads of the block.
__device__ inline void finish(double terms, double counted, long long rows, double* sums, SCALAR* loss,
                              double* figures) {
    terms = block_sum(terms);
    counted = block_sum(counted);
    if (threadIdx.x != 0) return;
    if (sums) {
        sums[2 * blockIdx.x] = terms;
        sums[2 * blockIdx.x + 1] = counted;
    } else {
        loss[0] = static_cast<SCALAR>(terms / rows);
        figures[0] = loss[0];
        figures[1] = counted;
    }
}
