extern "C" __global__ void warp_sum(const float* x, int rows, float* sums) {
    const int lane = threadIdx.x % 32, row = (blockIdx.x * blockDim.x + threadIdx.x) / 32;
    if (row >= rows) return;  // all lanes of the warp
    // ---- your code: the rounds, and who writes the sum
    float value = x[32 * row + lane];
    for (int step = 16; step > 0; step /= 2) value += __shfl_down_sync(0xffffffff, value, step);
    if (lane == 0) sums[row] = value;
    // ---- end
}
