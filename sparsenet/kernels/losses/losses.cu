// Kernels of all losses: the second pass of their sum, and scaling the gradient in place.
//
// Variants: SCALAR float or double.
#include "losses.cuh"

// One block: thread t adds the sums of the blocks t, t + 256, ... of the first pass.
extern "C" __global__ void join_losses(const double* __restrict__ sums, const int blocks, const long long rows,
                                       SCALAR* __restrict__ loss, double* __restrict__ figures) {
    double terms = 0, counted = 0;
    for (int block = threadIdx.x; block < blocks; block += blockDim.x) {
        terms += sums[2 * block];
        counted += sums[2 * block + 1];
    }
    finish(warp_sum(terms), warp_sum(counted), rows, nullptr, loss, figures);
}

// If the factor is 1, as it is unless the loss was scaled, this reads one number and ends: the host need not know it.
extern "C" __global__ void scale_gradient(const SCALAR* __restrict__ factor, const long long size,
                                          SCALAR* __restrict__ gradient) {
    const SCALAR by = factor[0];
    if (by == 1) return;
    for (long long i = global_index(); i < size; i += global_stride()) gradient[i] *= by;
}
