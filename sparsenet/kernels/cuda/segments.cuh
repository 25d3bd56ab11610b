// Runs of consecutive rows (segments), cut into chunks of at most CHUNK rows of one segment, from its beginning on.
//
//     rows            | a0 a1 a2 a3 a4 | b0 |  | d0 d1 ...      segments: some are empty
//     slots           | a0-a3 | a4 | b0 | - | d...               a place for each chunk
//
// Segment s owns the slots splits[s] / CHUNK + s and on: room for all its chunks, so that the number of slots,
// N / CHUNK + S, is known without reading `splits` back; some stay unused.  Variants: CHUNK, rows.
#include "common.cuh"

// The segment that owns partial row `slot`: the last one whose first partial row is not beyond it.
__device__ inline int owner(const long long* splits, int segments, long long slot) {
    int low = 0, high = segments - 1;
    while (low < high) {
        const int middle = (low + high + 1) / 2;
        if (splits[middle] / CHUNK + middle <= slot) low = middle;
        else high = middle - 1;
    }
    return low;
}

struct Range {
    long long first, end;
};

// The rows of a segment; null: all rows are one.
__device__ inline Range segment_rows(const long long* splits, int segment, long long rows) {
    if (splits == nullptr) return {0, rows};
    return {splits[segment], min(splits[segment + 1], rows)};
}

// The rows of values summed in partial row `slot`; none if it is unused.
__device__ inline Range rows_of(const long long* splits, int segment, long long slot, long long rows) {
    const auto [start, end] = segment_rows(splits, segment, rows);
    const long long first = start + (slot - start / CHUNK - segment) * CHUNK;
    return {first, min(first + CHUNK, end)};
}

// The partial rows that segment `segment` uses.
__device__ inline Range slots_of(const long long* splits, int segment, long long rows) {
    const auto [start, end] = segment_rows(splits, segment, rows);
    const long long first = start / CHUNK + segment;
    return {first, first + (end - start + CHUNK - 1) / CHUNK};
}
