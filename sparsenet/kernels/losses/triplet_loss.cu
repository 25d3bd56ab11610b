// Triplet loss and its gradients: mean over the rows of max(0, margin + d(a, p) - d(a, n)).
//
//     anchor, positive, negative (T, C) row-major      a warp takes a row: lane l the channels l, l + 32, ...
//     gradient (3, T, C)                               of the three, one after the other; none if it is null
//     loss, figures, sums                              losses.cuh; terms above 0 are counted
//
//     SQUARED_L2   d = |a - b|^2       d/da = 2 (a - b)                            d/db the negative
//     L2           d = |a - b|         d/da = (a - b) / d, 0 if d is 0             d/db the negative
//     COSINE       d = |u - v|^2 / 2   d/da = (u - v - d u) / |a|                  d/db = (v - u - d v) / |b|
//                  u = a / |a|, v = b / |b|: half the chord squared is 1 - cosine, accurate if it is small, and
//                  (u - v) u = d; d is 1, its gradient 0, if a or b is 0
//
// Everything is computed in double and rounded at the end: that costs nothing in a kernel limited by memory and launch
// time.  For COSINE, rows are divided by their largest number first, so that no square over- or underflows.
//
// Variants: SCALAR float or double.
#include "losses.cuh"

enum Distance { COSINE, L2, SQUARED_L2 };

// The length of a row is largest * scaled; for a row of zeros both are 1 and `zero` is set.
struct Length {
    double largest, scaled;
    bool zero;

    __device__ double unit(double value) const { return value / largest / scaled; }
    __device__ double inverse() const { return 1 / (largest * scaled); }
};

__device__ inline Length length_of(const SCALAR* x, int channels, int lane) {
    double largest = 0, squares = 0;
    for (int c = lane; c < channels; c += 32) {
        const double size = fabs(static_cast<double>(x[c]));
        largest = size > largest || size != size ? size : largest;
    }
    largest = warp_max(largest);
    if (largest == 0) return {1, 1, true};
    for (int c = lane; c < channels; c += 32) {
        const double scaled = x[c] / largest;
        squares += scaled * scaled;
    }
    return {largest, sqrt(warp_sum(squares)), false};
}

extern "C" __global__ void __launch_bounds__(512, 1)
triplet_loss(const SCALAR* __restrict__ anchor, const SCALAR* __restrict__ positive,
             const SCALAR* __restrict__ negative, const long long rows, const int channels, const double margin,
             const int distance, OPTIONAL SCALAR* __restrict__ gradient, OPTIONAL PER_BLOCK double* __restrict__ sums,
             OPTIONAL SCALAR* __restrict__ loss, OPTIONAL double* __restrict__ figures) {
    const int lane = threadIdx.x % 32;
    const bool cosine = distance == COSINE;
    double terms = 0;
    int active = 0;
    for (long long row = global_index() / 32; row < rows; row += global_stride() / 32) {
        const long long start = row * channels;
        const SCALAR *a = anchor + start, *p = positive + start, *n = negative + start;
        Length of_a{1, 1, false}, of_p = of_a, of_n = of_a;
        if (cosine) {
            of_a = length_of(a, channels, lane);
            of_p = length_of(p, channels, lane);
            of_n = length_of(n, channels, lane);
        }
        double near = 0, far = 0;
        for (int c = lane; c < channels; c += 32) {
            const double u = of_a.unit(a[c]), to_p = u - of_p.unit(p[c]), to_n = u - of_n.unit(n[c]);
            near += to_p * to_p;
            far += to_n * to_n;
        }
        near = warp_sum(near);
        far = warp_sum(far);
        const bool near_known = !(of_a.zero || of_p.zero), far_known = !(of_a.zero || of_n.zero);
        if (cosine) {
            near = near_known ? near / 2 : 1;
            far = far_known ? far / 2 : 1;
        } else if (distance == L2) {
            near = sqrt(near);
            far = sqrt(far);
        }
        const double term = margin + near - far;
        const bool counts = !(term <= 0);  // NaN counts
        if (counts) terms += term;
        active += term > 0;
        if (!gradient) continue;
        SCALAR* out = gradient + start;
        const long long next = rows * channels;  // from one of the three gradients to the next
        double by_p = counts ? 1.0 / rows : 0, by_n = by_p, along_p = 0, along_n = 0;
        if (cosine) {
            by_p = near_known ? by_p : 0;
            by_n = far_known ? by_n : 0;
            along_p = near;
            along_n = far;
        } else if (distance == L2) {
            by_p = near == 0 ? 0 : by_p / near;
            by_n = far == 0 ? 0 : by_n / far;
        } else {
            by_p *= 2;
            by_n *= 2;
        }
        for (int c = lane; c < channels; c += 32) {
            const double u = of_a.unit(a[c]), v = of_p.unit(p[c]), w = of_n.unit(n[c]);
            const double from_p = by_p == 0 ? 0 : by_p * (u - v - along_p * u);
            const double from_n = by_n == 0 ? 0 : by_n * (u - w - along_n * u);
            out[c] = by_p == 0 && by_n == 0 ? 0 : static_cast<SCALAR>((from_p - from_n) * of_a.inverse());
            out[c + next] = by_p == 0 ? 0 : static_cast<SCALAR>(by_p * (v - u - along_p * v) * of_p.inverse());
            out[c + 2 * next] = by_n == 0 ? 0 : static_cast<SCALAR>(by_n * (u - w + along_n * w) * of_n.inverse());
        }
    }
    finish(terms, active, rows, sums, loss, figures);
}
