// Operands of the tensor cores, and the order of the rows.
//
//     rows (N, C) SCALAR    ->   (N, words) 32-bit words; word w holds channels
//         TF32        [ w ]                     one number, rounded, in a float's bits
//         FP16, BF16  [ 2w | 2w + 1 ]           two numbers, the first in the low half
//     words is a multiple of 8; channels past C are zeros.
//
// Each thread writes one word, or those of four channels (pack_pieces): bound by memory.  float16 rows (SCALAR Half,
// FP16 alone) keep their bits.

#include "common.cuh"
#include "precision.cuh"

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

// The same where words are C exactly, or C / 2: `count` pieces of 4 floats.
extern "C" __global__ void pack_pieces(const float* __restrict__ rows, long long count, unsigned* __restrict__ out) {
    for (long long i = global_index(); i < count; i += global_stride()) {
        const float4 piece = reinterpret_cast<const float4*>(rows)[i];
        if (PER_WORD == 1)
            reinterpret_cast<uint4*>(out)[i] = make_uint4(to_tf32(piece.x), to_tf32(piece.y), to_tf32(piece.z),
                                                          to_tf32(piece.w));
        else
            reinterpret_cast<uint2*>(out)[i] = make_uint2(word_of(piece.x, piece.y), word_of(piece.z, piece.w));
    }
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

// weights (K, C_in, C_out) -> (K, chunks, columns, 32) words, as wgmma reads them: chunks of 32 words of C_in, zeros
// past C_in and C_out, the 16-byte pieces of a row swizzled.
extern "C" __global__ void pack_weights_swizzled(const SCALAR* __restrict__ weights, int offsets, int c_in, int c_out,
                                                 int chunks, int columns, unsigned* __restrict__ out) {
    const long long count = static_cast<long long>(offsets) * chunks * 32 * columns;
    for (long long i = global_index(); i < count; i += global_stride()) {
        const int n = static_cast<int>(i % columns), w = static_cast<int>(i / columns % 32);
        const long long chunk = i / columns / 32;  // of all offsets
        const int c = (static_cast<int>(chunk % chunks) * 32 + w) * PER_WORD;
        const SCALAR* const matrix = weights + chunk / chunks * c_in * c_out;
        out[(chunk * columns + n) * 32 + (w / 4 ^ n % 8) * 4 + w % 4] =
            n < c_out ? word_at(matrix + n, c, c_in, c_out) : 0;
    }
}
