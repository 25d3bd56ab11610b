// Meshes onto the lattice: rotation, centre and scale, affine and shift, snapping.  See placement.py.
//
//     vertices, lattice (V, 3)   mesh 0 ... | mesh 1 ... |     cut at splits (S + 1,)
//     placements (S, 21)         rotation row by row | affine row by row | shift
//
// One block a mesh, twice over its vertices: for the box of the turned mesh, then for their places.  Every
// operation of float64 is rounded by itself (no fused multiply-add), in the order of the CPU: the same bits.

#include "common.cuh"

constexpr int THREADS = 256;
constexpr int NUMBERS = 21;  // of a placement
constexpr double FARTHEST = 1073741824.0;  // 2^30 cells from the centre
constexpr long long LATTICE = 2048, MAX_EXTENT = 700;
enum Problem { NOT_FINITE = 1, TOO_FAR = 2, TOO_LARGE = 4 };

// Row `axis` of matrix times (x, y, z): (a x + b y) + c z
__device__ inline double turned(const double* matrix, int axis, const double* vertex) {
    const double* row = matrix + 3 * axis;
    return __dadd_rn(__dadd_rn(__dmul_rn(row[0], vertex[0]), __dmul_rn(row[1], vertex[1])),
                     __dmul_rn(row[2], vertex[2]));
}

// The smallest of all threads' values, for every thread; `shared` has THREADS places.
template <typename T>
__device__ inline T block_minimum(T value, T* shared) {
    shared[threadIdx.x] = value;
    __syncthreads();
    for (int half = THREADS / 2; half > 0; half /= 2) {
        if (threadIdx.x < half && shared[threadIdx.x + half] < shared[threadIdx.x])
            shared[threadIdx.x] = shared[threadIdx.x + half];
        __syncthreads();
    }
    const T result = shared[0];
    __syncthreads();
    return result;
}

// centre: of the grid's cube of `cells` cells, on the lattice.  problems[s]: bits of Problem.
extern "C" __global__ void __launch_bounds__(256)
place_meshes(const double* __restrict__ vertices, const long long* __restrict__ splits,
             const double* __restrict__ placements, int samples, double cells, long long centre_x, long long centre_y,
             long long centre_z, long long* __restrict__ lattice, int* __restrict__ problems) {
    __shared__ double doubles[THREADS];
    __shared__ long long integers[THREADS];
    const double half = cells / 2;
    const long long centre[3] = {centre_x, centre_y, centre_z};
    for (int s = blockIdx.x; s < samples; s += gridDim.x) {
        const double *rotation = placements + static_cast<long long>(s) * NUMBERS, *affine = rotation + 9,
                     *shift = rotation + 18;
        const double infinity = __longlong_as_double(0x7ff0000000000000ll);
        double low[3] = {infinity, infinity, infinity}, high[3] = {infinity, infinity, infinity};  // high: negated
        int finite = 1;
        for (long long v = splits[s] + threadIdx.x; v < splits[s + 1]; v += THREADS) {
#pragma unroll
            for (int axis = 0; axis < 3; ++axis) {
                const double at = turned(rotation, axis, vertices + 3 * v);
                if (!isfinite(at)) finite = 0;
                low[axis] = at < low[axis] ? at : low[axis];
                high[axis] = -at < high[axis] ? -at : high[axis];
            }
        }
        double longest = 0, middle[3];
#pragma unroll
        for (int axis = 0; axis < 3; ++axis) {
            low[axis] = block_minimum(low[axis], doubles);
            high[axis] = -block_minimum(high[axis], doubles);
            const double extent = __dsub_rn(high[axis], low[axis]);
            if (splits[s] < splits[s + 1] && !isfinite(extent)) finite = 0;
            longest = extent > longest ? extent : longest;
            middle[axis] = __dadd_rn(low[axis] / 2, high[axis] / 2);
        }
        int problem = __syncthreads_and(finite) ? 0 : NOT_FINITE;
        const long long largest = 0x7fffffffffffffffll;
        long long first[3] = {largest, largest, largest}, last[3] = {largest, largest, largest};  // last: negated
        int near = 1;
        for (long long v = splits[s] + threadIdx.x; v < splits[s + 1]; v += THREADS) {
            double at[3];
#pragma unroll
            for (int axis = 0; axis < 3; ++axis) {
                const double from_middle = __dsub_rn(turned(rotation, axis, vertices + 3 * v), middle[axis]);
                const double scaled = longest > 0 ? __dmul_rn(__ddiv_rn(from_middle, longest), cells) : 0.0;
                at[axis] = scaled < -half ? -half : scaled > half ? half : scaled;
            }
#pragma unroll
            for (int axis = 0; axis < 3; ++axis) {
                const double turned_at = turned(affine, axis, at), shifted = __dadd_rn(turned_at, shift[axis]);
                long long place = 1;
                if (shifted < FARTHEST && -shifted < FARTHEST) {  // false for NaN
                    const double pairs = shifted * (LATTICE / 2);  // a power of two: exact
                    const double snapped = turned_at > 0 ? 2 * ceil(pairs) - 1 : 2 * floor(pairs) + 1;
                    place = static_cast<long long>(snapped) + centre[axis];
                } else {
                    near = 0;
                }
                lattice[3 * v + axis] = place;
                first[axis] = place < first[axis] ? place : first[axis];
                last[axis] = -place < last[axis] ? -place : last[axis];
            }
        }
        if (!__syncthreads_and(near) && !problem) problem = TOO_FAR;
#pragma unroll
        for (int axis = 0; axis < 3; ++axis) {
            first[axis] = block_minimum(first[axis], integers);
            last[axis] = -block_minimum(last[axis], integers);
            if (splits[s] < splits[s + 1] && !problem && last[axis] - first[axis] > MAX_EXTENT * LATTICE)
                problem = TOO_LARGE;
        }
        if (threadIdx.x == 0) problems[s] = problem;
    }
}
