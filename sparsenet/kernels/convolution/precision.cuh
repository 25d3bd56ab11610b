// What the tensor cores multiply: PRECISION is one of TF32, FP16, BF16.  A 32-bit word holds one TF32
// number or two neighbouring 16-bit ones, and an mma takes 8 words of depth either way.

enum Precision { TF32, FP16, BF16 };
constexpr int PER_WORD = PRECISION == TF32 ? 1 : 2;

// The word of two neighbouring channels; TF32 takes the first alone.
__device__ inline unsigned word_of(float low, float high) {
    if (PRECISION == TF32) return to_tf32(low);
    return PRECISION == FP16 ? pack_half(low, high) : pack_bfloat(low, high);
}

// Words that may come as stored floats are rounded before use; rounding twice changes nothing.
__device__ inline unsigned rounded(unsigned word) { return to_tf32(__uint_as_float(word)); }

// sum (16 x 8, over a warp) += left (16 x 8 words) * right (8 words x 8)
__device__ inline void mma(float (&sum)[4], const unsigned (&left)[4], const unsigned (&right)[2]) {
    if (PRECISION == TF32)
        mma_tf32_16x8x8(sum, left, right);
    else if (PRECISION == FP16)
        mma_half_16x8x16(sum, left, right);
    else
        mma_bfloat_16x8x16(sum, left, right);
}
