constexpr int SIDE = 8;

extern "C" __global__ void tiled_convolution(const float* features, const float* weights, const int* neighbours,
                                             int outputs, int offsets, float* result) {
    __shared__ float rows[SIDE][SIDE], matrix[SIDE][SIDE];
    const int x = threadIdx.x, y = threadIdx.y, m = SIDE * blockIdx.x + y;
    float sum = 0;
    for (int k = 0; k < offsets; ++k) {
        // ---- your code: load the tiles of this offset, and add their product to sum
        const int n = m < outputs ? neighbours[m * offsets + k] : -1;
        rows[y][x] = n >= 0 ? features[n * SIDE + x] : 0;
        matrix[y][x] = weights[(k * SIDE + y) * SIDE + x];
        __syncthreads();
        for (int c = 0; c < SIDE; ++c) sum += rows[y][c] * matrix[c][x];
        __syncthreads();
        // ---- end
    }
    // ---- your code: write the result
    if (m < outputs) result[m * SIDE + x] = sum;
    // ---- end
}
