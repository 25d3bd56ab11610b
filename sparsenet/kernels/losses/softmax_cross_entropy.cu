// Softmax cross-entropy and its gradient: mean over the rows of log(sum of exp(logits)) - logits[label].
//
//     logits, gradient (B, C) row-major      a warp takes a row: lane l the classes l, l + 32, ...
//     labels (B,)                            loss, figures, sums: losses.cuh; correct rows are counted
//
//     top = max       total = sum of exp(x - top)      term = log(total) + top - x[label]
//     gradient[j] = (exp(x[j] - top) / total - (j == label)) / B                       (no gradient if it is null)
//
// A row is read three times, but from memory once: then it is in L1.  exp is computed again rather than stored and
// read back.  A label that is not a class makes the loss NaN.
//
// Variants: SCALAR float or double.
#include "losses.cuh"

__device__ inline float exponential(float value) { return expf(value); }
__device__ inline double exponential(double value) { return exp(value); }

extern "C" __global__ void __launch_bounds__(512, 1)
softmax_cross_entropy(const SCALAR* __restrict__ logits, const long long* __restrict__ labels, const long long batch,
                      const int classes, OPTIONAL SCALAR* __restrict__ gradient,
                      OPTIONAL PER_BLOCK double* __restrict__ sums, OPTIONAL SCALAR* __restrict__ loss,
                      OPTIONAL double* __restrict__ figures) {
    const int lane = threadIdx.x % 32;
    double terms = 0;
    int right = 0;
    for (long long row = global_index() / 32; row < batch; row += global_stride() / 32) {
        const SCALAR* x = logits + row * classes;
        SCALAR top = x[0];  // the largest, and the first class that has it
        int first = 0;
        for (int j = lane; j < classes; j += 32)
            if (x[j] > top) {
                top = x[j];
                first = j;
            }
        for (int far = 16; far; far /= 2) {
            const SCALAR other = __shfl_xor_sync(ALL_LANES, top, far);
            const int there = __shfl_xor_sync(ALL_LANES, first, far);
            if (other > top || (other == top && there < first)) {
                top = other;
                first = there;
            }
        }
        SCALAR total = 0;
        for (int j = lane; j < classes; j += 32) total += exponential(x[j] - top);
        total = warp_sum(total);
        const long long label = labels[row];
        const bool known = 0 <= label && label < classes;
        if (gradient) {
            const SCALAR share = static_cast<SCALAR>(1.0 / batch), scale = static_cast<SCALAR>(1.0 / batch / total);
            SCALAR* out = gradient + row * classes;
            for (int j = lane; j < classes; j += 32)
                out[j] = exponential(x[j] - top) * scale - (j == label ? share : static_cast<SCALAR>(0));
        }
        terms += known ? log(static_cast<double>(total)) + (static_cast<double>(top) - static_cast<double>(x[label]))
                       : __longlong_as_double(0x7ff8000000000000ll);
        right += known && first == label;
    }
    finish(terms, right, batch, sums, loss, figures);
}
