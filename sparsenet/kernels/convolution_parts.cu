// The second pass of the weight gradient: partial (parts, size) -> out (size,), each element's parts
// added in their order by one thread, and rounded once.  Bound by memory.

#include "common.cuh"

extern "C" __global__ void add_parts(const WIDE* __restrict__ partial, long long size, int parts,
                                     SCALAR* __restrict__ out) {
    for (long long i = global_index(); i < size; i += global_stride()) {
        WIDE total = partial[i];
        for (int part = 1; part < parts; ++part) total += partial[part * size + i];
        out[i] = total;
    }
}
