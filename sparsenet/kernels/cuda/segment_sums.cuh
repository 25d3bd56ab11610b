// Sums of runs of consecutive rows in one launch; segments.cuh draws their chunks.  Variants: CHUNK, rows.
#include "arrival.cuh"
#include "segments.cuh"

constexpr int GROUPS = 8;  // blockDim is (32, GROUPS)

// Sum of rows `range` in one channel; valid in row group 0.
template <class T>
__device__ inline double sum_rows(const T* values, Range range, int channels, int channel,
                                  double (&groups)[GROUPS][32]) {
    double sum = 0;
    if (channel < channels)
        for (long long row = range.first + threadIdx.y; row < range.end; row += GROUPS)
            sum += values[row * channels + channel];
    __syncthreads();  // the block may still read the values of the last call
    groups[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    for (int group = 1; group < GROUPS; ++group) sum += groups[group][threadIdx.x];  // valid in group 0
    return sum;
}

// Calls write(segment, channel, sum) once for each sum, also that of an empty segment; sums are taken in double.
//
// partial: (slots, C).  arrived: (S, gridDim.y) zeros, zeros again afterwards.  Null, both, if there is one slot.
template <class WRITE>
__device__ inline void sum_segments(const SCALAR* values, const long long* splits, long long rows, int segments,
                                    int channels, long long slots, double* partial, unsigned* arrived,
                                    const WRITE& write) {
    __shared__ double groups[GROUPS][32];
    __shared__ bool last;
    const int channel = blockIdx.y * 32 + threadIdx.x;
    const bool writes = threadIdx.y == 0 && channel < channels;
    for (long long slot = blockIdx.x; slot < slots; slot += gridDim.x) {
        const int segment = splits == nullptr ? 0 : owner(splits, segments, slot);
        const Range used = slots_of(splits, segment, rows);
        if (slot > used.first && slot >= used.end) continue;  // an empty segment uses its first one, too: zeros
        double sum = sum_rows(values, rows_of(splits, segment, slot, rows), channels, channel, groups);
        if (used.end - used.first > 1) {
            if (writes) partial[slot * channels + channel] = sum;
            unsigned* ticket = arrived + static_cast<long long>(segment) * gridDim.y + blockIdx.y;
            if (!comes_last(ticket, used.end - used.first, last)) continue;
            sum = sum_rows(static_cast<const volatile double*>(partial), used, channels, channel, groups);
        }
        if (writes) write(segment, channel, static_cast<WIDE>(sum));
    }
}
