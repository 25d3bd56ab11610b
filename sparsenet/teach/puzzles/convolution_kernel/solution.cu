extern "C" __global__ void convolution_kernel(const float* features, const float* weights, const int* neighbours,
                                              int outputs, int offsets, int c_in, int c_out, float* result) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < outputs * c_out; i += gridDim.x * blockDim.x) {
        // ---- your code: result[i]
        const int m = i / c_out, o = i % c_out;
        float sum = 0;
        for (int k = 0; k < offsets; ++k) {
            const int n = neighbours[m * offsets + k];
            if (n < 0) continue;
            for (int c = 0; c < c_in; ++c) sum += features[n * c_in + c] * weights[(k * c_in + c) * c_out + o];
        }
        result[i] = sum;
        // ---- end
    }
}
