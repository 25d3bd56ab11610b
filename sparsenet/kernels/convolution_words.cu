// Operands of the tensor cores, and the order of the rows.
//
//     rows (N, C) SCALAR    ->   (N, words) 32-bit words; word w holds channels
//         TF32        [ w ]                     one number, rounded, in a float's bits
//         FP16, BF16  [ 2w | 2w + 1 ]           two numbers, the first in the low half
//     words is a multiple of 8; channels past C are zeros.
//
// Each thread writes one word: bound by memory.  float16 rows (SCALAR Half, FP16 alone) keep their bits.

#include "common.cuh"
#include "convolution_precision.cuh"

// The word of channels c, c + 1 of a row whose neighbouring channels lie `step` floats apart.
__device__ inline unsigned word_at(const SCALAR* row, int c, int channels, long long step) {
    float low = 0, high = 0;
    if (c < channels) low = row[c * step];
    if (PER_WORD == 2 && c + 1 < channels) high = row[(c + 1) * step];
    return word_of(low, high);
}

extern "C" __global__ void pack_rows(const SCALAR* __restrict__ rows, long long count, int channels, int words,
                                     unsigned* __restrict__ out) {
    for (long long i = global_index(); i < count * words; i += global_stride())
        out[i] = word_at(rows + i / words * channels, static_cast<int>(i % words) * PER_WORD, channels, 1);
}

// weights (K, C_in, C_out) -> (K, C_out, words of C_in).  Neighbouring threads read neighbouring columns.
extern "C" __global__ void pack_weights(const SCALAR* __restrict__ weights, int offsets, int c_in, int c_out, int words,
                                        unsigned* __restrict__ out) {
    const long long count = static_cast<long long>(offsets) * words * c_out;
    for (long long i = global_index(); i < count; i += global_stride()) {
        const long long k = i / c_out / words;
        const int w = static_cast<int>(i / c_out % words), n = static_cast<int>(i % c_out);
        out[(k * c_out + n) * words + w] = word_at(weights + k * c_in * c_out + n, w * PER_WORD, c_in, c_out);
    }
}
