// The second pass of weights_wgmma.cu, whose products are so large that a launch costs nothing: partial (parts, size) ->
// out (size,), each element's parts added in their order by one thread, and rounded once.  Bound by memory.
//
// background (C_in,) and constant (C_out,), the gradient of the row that it gives: out[k, c, o] is added their product
// of c and o, which is what the weights get from a grid full of background.  Null: nothing.

#include "common.cuh"

extern "C" __global__ void add_parts(const WIDE* __restrict__ partial, long long size, int parts,
                                     OPTIONAL const SCALAR* __restrict__ background,
                                     OPTIONAL const SCALAR* __restrict__ constant, int c_in, int c_out,
                                     SCALAR* __restrict__ out) {
    for (long long i = global_index(); i < size; i += global_stride()) {
        WIDE total = partial[i];
        for (int part = 1; part < parts; ++part) total += partial[part * size + i];
        if (background != nullptr) {
            const long long row = i / c_out;  // of k and c
            total += static_cast<WIDE>(background[row % c_in]) * static_cast<WIDE>(constant[i - row * c_out]);
        }
        out[i] = total;
    }
}
