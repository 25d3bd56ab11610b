extern "C" __global__ void stride_loop(const float* x, float slope, int size, float* y) {
    // ---- your code: a loop
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < size; i += gridDim.x * blockDim.x)
        y[i] = x[i] > 0 ? x[i] : slope * x[i];
    // ---- end
}
