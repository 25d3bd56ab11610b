extern "C" __global__ void mirror(const int* x, int* y) {
    __shared__ int line[64];
    // ---- your code: put a number into line, then take another
    const int t = threadIdx.x, first = 64 * blockIdx.x;
    line[t] = x[first + t];
    __syncthreads();
    y[first + t] = line[63 - t];
    // ---- end
}
