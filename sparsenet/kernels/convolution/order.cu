// A key per output row: rows with equal keys have the same offsets.  Rows sorted by it fill tiles
// whose rows agree, and a tile skips the offsets that none of its rows has.
//
//     key = [ window of rows | bit k: neighbours[m, k] >= 0 ]      offsets past 32 share bits
//
// Within a window of `window` rows the gathered features stay in the L2 cache.

#include "common.cuh"

extern "C" __global__ void neighbour_keys(const int* __restrict__ neighbours, long long rows, int offsets,
                                          long long window, long long* __restrict__ keys) {
    for (long long m = global_index(); m < rows; m += global_stride()) {
        unsigned bits = 0;
        for (int k = 0; k < offsets; ++k)
            bits |= static_cast<unsigned>(neighbours[m * offsets + k] >= 0) << (offsets <= 32 ? k : k * 32LL / offsets);
        keys[m] = m / window << 32 | bits;
    }
}
