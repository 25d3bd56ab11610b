extern "C" __global__ void histogram(const int* batch, int size, int* counts) {
    // ---- your code: a loop over the sites
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < size; i += gridDim.x * blockDim.x)
        atomicAdd(&counts[batch[i]], 1);
    // ---- end
}
