// What the lanes of a warp do together: barriers, shuffles, votes, matches, and the tensor cores' products.
#pragma once

inline void __syncthreads(int line = __builtin_LINE()) { sparsenet_host::barrier(0, "__syncthreads", line); }
inline int __syncthreads_count(int value, int line = __builtin_LINE()) {
    return sparsenet_host::barrier(value != 0, "__syncthreads_count", line);
}
inline int __syncthreads_or(int value, int line = __builtin_LINE()) {
    return sparsenet_host::barrier(value != 0, "__syncthreads_or", line) != 0;
}
inline int __syncthreads_and(int value, int line = __builtin_LINE()) {
    return sparsenet_host::barrier(value == 0, "__syncthreads_and", line) == 0;
}

namespace sparsenet_host {

using Lanes = Collective* const*;

template <class T>
struct Shuffled {
    T value;
    int source;  // lane to read from
};

template <class T>
void compute_shuffle(Lanes lanes, unsigned mask) {
    for (int i = 0; i < 32; ++i) {
        if (!(mask >> i & 1)) continue;
        const int source = static_cast<const Shuffled<T>*>(lanes[i]->input)->source;
        if (!(mask >> source & 1))
            fail("%s, line %d: lane %d reads lane %d, which is not in the mask %#x", lanes[i]->name, lanes[i]->line, i,
                 source, mask);
        *static_cast<T*>(lanes[i]->output) = static_cast<const Shuffled<T>*>(lanes[source]->input)->value;
    }
}

template <class T>
T shuffle(const char* name, unsigned mask, T value, int source, int line) {
    const Shuffled<T> input{value, source};
    T output{};
    Collective part{name, line, mask, &input, &output};
    collective(part, compute_shuffle<T>);
    return output;
}

inline void compute_ballot(Lanes lanes, unsigned mask) {
    unsigned votes = 0;
    for (int i = 0; i < 32; ++i)
        if (mask >> i & 1 && *static_cast<const bool*>(lanes[i]->input)) votes |= 1u << i;
    for (int i = 0; i < 32; ++i)
        if (mask >> i & 1) *static_cast<unsigned*>(lanes[i]->output) = votes;
}

inline unsigned ballot(const char* name, unsigned mask, bool vote, int line) {
    unsigned votes = 0;
    Collective part{name, line, mask, &vote, &votes};
    collective(part, compute_ballot);
    return votes;
}

template <class T>
void compute_match(Lanes lanes, unsigned mask) {
    for (int i = 0; i < 32; ++i) {
        if (!(mask >> i & 1)) continue;
        unsigned same = 0;
        for (int j = 0; j < 32; ++j)
            if (mask >> j & 1 && memcmp(lanes[i]->input, lanes[j]->input, sizeof(T)) == 0) same |= 1u << j;
        *static_cast<unsigned*>(lanes[i]->output) = same;
    }
}

}  // namespace sparsenet_host

inline void __syncwarp(unsigned mask = 0xffffffffu, int line = __builtin_LINE()) {
    sparsenet_host::ballot("__syncwarp", mask, false, line);
}
template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, int line = __builtin_LINE()) {
    const int self = sparsenet_host::lane();
    return sparsenet_host::shuffle("__shfl_sync", mask, value, (self & -width) | (source & (width - 1)), line);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int other, int width = 32, int line = __builtin_LINE()) {
    const int self = sparsenet_host::lane(), source = self ^ other;
    return sparsenet_host::shuffle("__shfl_xor_sync", mask, value, source < (self & -width) + width ? source : self,
                                   line);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, int line = __builtin_LINE()) {
    const int self = sparsenet_host::lane(), source = self - static_cast<int>(delta);
    return sparsenet_host::shuffle("__shfl_up_sync", mask, value, source >= (self & -width) ? source : self, line);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, int line = __builtin_LINE()) {
    const int self = sparsenet_host::lane(), source = self + static_cast<int>(delta);
    return sparsenet_host::shuffle("__shfl_down_sync", mask, value, source < (self & -width) + width ? source : self,
                                   line);
}
inline unsigned __ballot_sync(unsigned mask, int vote, int line = __builtin_LINE()) {
    return sparsenet_host::ballot("__ballot_sync", mask, vote != 0, line);
}
inline int __any_sync(unsigned mask, int vote, int line = __builtin_LINE()) {
    return sparsenet_host::ballot("__any_sync", mask, vote != 0, line) != 0;
}
inline int __all_sync(unsigned mask, int vote, int line = __builtin_LINE()) {
    return sparsenet_host::ballot("__all_sync", mask, vote == 0, line) == 0;
}
template <class T>
unsigned __match_any_sync(unsigned mask, T value, int line = __builtin_LINE()) {
    unsigned same = 0;
    sparsenet_host::Collective part{"__match_any_sync", line, mask, &value, &same};
    sparsenet_host::collective(part, sparsenet_host::compute_match<T>);
    return same;
}

// The second half of common.cuh.

inline float half_to_float(unsigned short bits) {
    const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
    const float sign = bits & 0x8000 ? -1.0f : 1.0f;
    if (exponent == 31) return mantissa ? NAN : sign * INFINITY;
    return sign * (exponent ? ldexpf(1024 + mantissa, exponent - 25) : ldexpf(mantissa, -24));
}

inline unsigned short float_to_half(float value) {
    const unsigned short sign = signbit(value) ? 0x8000 : 0;
    const float size = fabsf(value);
    if (isnan(value)) return 0x7fff;
    if (size == 0) return sign;
    if (size >= 65520.0f) return sign | 0x7c00;  // half way from the largest number to the next power of two
    int exponent;
    frexpf(size, &exponent);
    exponent = max(exponent, -13);  // below 2^-14 the spacing stays 2^-24
    const int steps = static_cast<int>(rintf(ldexpf(size, 11 - exponent)));  // of 11 bits, ties to even
    return sign | static_cast<unsigned short>(((exponent + 13) << 10) + steps);  // a carry moves the exponent on
}

inline unsigned to_tf32(float value) {
    return isnan(value) ? 0x7fffffffu : (__float_as_uint(value) + 0x1000u) & ~0x1fffu;
}

inline unsigned pack_half(float low, float high) {
    return static_cast<unsigned>(float_to_half(high)) << 16 | float_to_half(low);
}

inline unsigned float_to_bfloat(float value) {
    const unsigned bits = __float_as_uint(value);
    return isnan(value) ? 0x7fffu : (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
}
inline unsigned pack_bfloat(float low, float high) { return float_to_bfloat(high) << 16 | float_to_bfloat(low); }

namespace sparsenet_host {

struct Operands {
    unsigned a[4], b[2];
};

// The numbers that a register holds, by kind.
struct Tf32 {
    static constexpr int numbers = 1;
    static double get(unsigned bits, int) { return __uint_as_float(bits & ~0x1fffu); }  // what the GPU reads of it
};
struct Half {
    static constexpr int numbers = 2;
    static double get(unsigned bits, int which) {
        return half_to_float(static_cast<unsigned short>(which ? bits >> 16 : bits));
    }
};
struct Bfloat {
    static constexpr int numbers = 2;
    static double get(unsigned bits, int which) {
        return __uint_as_float(which ? bits & 0xffff0000u : bits << 16);
    }
};

// Exact products, summed in double and rounded to float once: the GPU's own order and rounding inside one product
// are not documented, so a comparison with it needs a tolerance.
template <class Kind>
void compute_mma(Lanes lanes, unsigned) {
    constexpr int depth = 8 * Kind::numbers;
    double a[16][depth], b[depth][8];
    for (int i = 0; i < 32; ++i) {
        const auto& given = *static_cast<const Operands*>(lanes[i]->input);
        const int g = i / 4, t = i % 4;
        for (int which = 0; which < Kind::numbers; ++which) {
            const int near = Kind::numbers * t + which, far = near + depth / 2;
            a[g][near] = Kind::get(given.a[0], which);
            a[g + 8][near] = Kind::get(given.a[1], which);
            a[g][far] = Kind::get(given.a[2], which);
            a[g + 8][far] = Kind::get(given.a[3], which);
            b[near][g] = Kind::get(given.b[0], which);
            b[far][g] = Kind::get(given.b[1], which);
        }
    }
    for (int i = 0; i < 32; ++i) {
        float* d = static_cast<float*>(lanes[i]->output);
        for (int register_ = 0; register_ < 4; ++register_) {
            const int row = i / 4 + 8 * (register_ / 2), column = 2 * (i % 4) + register_ % 2;
            double sum = d[register_];
            for (int k = 0; k < depth; ++k) sum += a[row][k] * b[k][column];
            d[register_] = static_cast<float>(sum);
        }
    }
}

template <class Kind>
void mma(const char* name, float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], int line) {
    const Operands input{{a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
    Collective part{name, line, 0xffffffffu, &input, d};
    collective(part, compute_mma<Kind>);
}

template <bool transposed>
void compute_load_matrix(Lanes lanes, unsigned) {
    for (int i = 0; i < 32; ++i)
        for (int matrix = 0; matrix < 4; ++matrix) {
            unsigned short pair[2];
            for (int which = 0; which < 2; ++which) {
                const int first = i / 4, second = 2 * (i % 4) + which;
                const int row = transposed ? second : first, column = transposed ? first : second;
                const void* start = *static_cast<void* const*>(lanes[8 * matrix + row]->input);
                pair[which] = static_cast<const unsigned short*>(start)[column];
            }
            static_cast<unsigned*>(lanes[i]->output)[matrix] = static_cast<unsigned>(pair[1]) << 16 | pair[0];
        }
}

template <bool transposed>
void load_matrix(const char* name, unsigned (&out)[4], const void* row, int line) {
    if (reinterpret_cast<uintptr_t>(row) % 16) fail("%s, line %d: a row is not aligned to 16 bytes", name, line);
    Collective part{name, line, 0xffffffffu, &row, out};
    collective(part, compute_load_matrix<transposed>);
}

}  // namespace sparsenet_host

inline void mma_tf32_16x8x8(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                            int line = __builtin_LINE()) {
    sparsenet_host::mma<sparsenet_host::Tf32>("mma_tf32_16x8x8", d, a, b, line);
}
inline void mma_half_16x8x16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                             int line = __builtin_LINE()) {
    sparsenet_host::mma<sparsenet_host::Half>("mma_half_16x8x16", d, a, b, line);
}
inline void mma_bfloat_16x8x16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                               int line = __builtin_LINE()) {
    sparsenet_host::mma<sparsenet_host::Bfloat>("mma_bfloat_16x8x16", d, a, b, line);
}
inline void load_matrix_x4(unsigned (&out)[4], const void* row, int line = __builtin_LINE()) {
    sparsenet_host::load_matrix<false>("load_matrix_x4", out, row, line);
}
inline void load_matrix_x4_transposed(unsigned (&out)[4], const void* row, int line = __builtin_LINE()) {
    sparsenet_host::load_matrix<true>("load_matrix_x4_transposed", out, row, line);
}
template <int BYTES>
void copy_async(void* shared, const void* global, bool valid, int line = __builtin_LINE()) {
    static_assert(BYTES == 4 || BYTES == 8 || BYTES == 16, "copy_async copies 4, 8 or 16 bytes");
    if (reinterpret_cast<uintptr_t>(shared) % BYTES || (valid && reinterpret_cast<uintptr_t>(global) % BYTES))
        sparsenet_host::fail("copy_async, line %d: an address is not aligned to %d bytes", line, BYTES);
    sparsenet_host::copy_later(shared, global, BYTES, valid);
}
inline void copy_async_commit() { sparsenet_host::close_copies(); }
template <int PENDING>
void copy_async_wait() { sparsenet_host::await_copies(PENDING); }
