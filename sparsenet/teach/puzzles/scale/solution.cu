extern "C" __global__ void scale(const float* x, float a, int size, float* y) {
    // ---- your code: two lines
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < size) y[i] = a * x[i];
    // ---- end
}
