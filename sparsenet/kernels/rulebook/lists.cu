// Rulebooks: what does not depend on the axes.  Lists are made in two passes: each thread counts what it will
// write, the counts are summed up (`ends`), each thread writes to its own place.

#include "common.cuh"

constexpr int TILE = 64;   // rows that a block takes at a time: row and offset come from a 32-bit division
constexpr int GROUP = 8;   // words, or candidates, of a thread
constexpr int CHUNK = 64;  // rows of a thread that lists pairs

// counts[t] of the bits set in words [GROUP * t, GROUP * (t + 1)).
extern "C" __global__ void count_bits(const unsigned* __restrict__ bits, long long words, int* __restrict__ counts) {
    const long long groups = (words + GROUP - 1) / GROUP;
    for (long long t = global_index(); t < groups; t += global_stride()) {
        int count = 0;
        for (long long w = t * GROUP; w < (t + 1) * GROUP && w < words; ++w) count += __popc(bits[w]);
        counts[t] = count;
    }
}

// ends[t]: the sum of counts[0] to counts[t], where the keys of group t end.
extern "C" __global__ void list_bits(const unsigned* __restrict__ bits, long long words, const int* __restrict__ counts,
                                     const long long* __restrict__ ends, long long* __restrict__ keys) {
    const long long groups = (words + GROUP - 1) / GROUP;
    for (long long t = global_index(); t < groups; t += global_stride()) {
        if (!counts[t]) continue;
        long long row = ends[t] - counts[t];
        for (long long w = t * GROUP; w < (t + 1) * GROUP && w < words; ++w)
            for (unsigned rest = bits[w]; rest; rest &= rest - 1) keys[row++] = w * 32 + __ffs(rest) - 1;
    }
}

__device__ inline bool first_of_its_kind(const long long* sorted, long long i) {
    return sorted[i] >= 0 && (i == 0 || sorted[i - 1] != sorted[i]);
}

// counts[t] of the distinct keys that begin in sorted[GROUP * t ...].
extern "C" __global__ void count_distinct(const long long* __restrict__ sorted, long long size,
                                          int* __restrict__ counts) {
    const long long groups = (size + GROUP - 1) / GROUP;
    for (long long t = global_index(); t < groups; t += global_stride()) {
        int count = 0;
        for (long long i = t * GROUP; i < (t + 1) * GROUP && i < size; ++i) count += first_of_its_kind(sorted, i);
        counts[t] = count;
    }
}

extern "C" __global__ void list_distinct(const long long* __restrict__ sorted, long long size,
                                         const int* __restrict__ counts, const long long* __restrict__ ends,
                                         long long* __restrict__ keys) {
    const long long groups = (size + GROUP - 1) / GROUP;
    for (long long t = global_index(); t < groups; t += global_stride()) {
        if (!counts[t]) continue;
        long long row = ends[t] - counts[t];
        for (long long i = t * GROUP; i < (t + 1) * GROUP && i < size; ++i)
            if (first_of_its_kind(sorted, i)) keys[row++] = sorted[i];
    }
}

// table (N, K), filled with -1: one output at most writes to an entry.
extern "C" __global__ void transpose_neighbours(const int* __restrict__ neighbours, long long rows, int offsets,
                                                int* __restrict__ table) {
    const long long step = static_cast<long long>(gridDim.x) * TILE;
    for (long long first = static_cast<long long>(blockIdx.x) * TILE; first < rows; first += step) {
        const int here = rows - first < TILE ? static_cast<int>(rows - first) : TILE;
        for (int t = threadIdx.x; t < here * offsets; t += blockDim.x) {
            const long long n = neighbours[first * offsets + t];
            const int row = t / offsets;
            if (n >= 0) table[n * offsets + (t - row * offsets)] = static_cast<int>(first + row);
        }
    }
}

// counts (K, chunks): the pairs of offset k in CHUNK rows.  Neighbouring threads have neighbouring offsets.
extern "C" __global__ void count_pairs(const int* __restrict__ neighbours, long long rows, int offsets,
                                       int* __restrict__ counts) {
    const long long chunks = (rows + CHUNK - 1) / CHUNK;
    for (long long t = global_index(); t < chunks * offsets; t += global_stride()) {
        const long long chunk = t / offsets, k = t - chunk * offsets;
        int count = 0;
        for (long long m = chunk * CHUNK; m < (chunk + 1) * CHUNK && m < rows; ++m)
            count += neighbours[m * offsets + k] >= 0;
        counts[k * chunks + chunk] = count;
    }
}

// ends (K, chunks): the running sum of counts.
extern "C" __global__ void list_pairs(const int* __restrict__ neighbours, long long rows, int offsets,
                                      const int* __restrict__ counts, const long long* __restrict__ ends,
                                      int* __restrict__ pairs) {
    const long long chunks = (rows + CHUNK - 1) / CHUNK;
    for (long long t = global_index(); t < chunks * offsets; t += global_stride()) {
        const long long chunk = t / offsets, k = t - chunk * offsets;
        long long pair = ends[k * chunks + chunk] - counts[k * chunks + chunk];
        for (long long m = chunk * CHUNK; m < (chunk + 1) * CHUNK && m < rows; ++m) {
            const int n = neighbours[m * offsets + k];
            if (n < 0) continue;
            pairs[2 * pair] = n;
            pairs[2 * pair + 1] = static_cast<int>(m);
            ++pair;
        }
    }
}
