// Device code for all kernels, and a function for each instruction that C++ cannot express.
// The tests compile the same kernels for the host (SPARSENET_HOST), where sparsenet/teach/cuda_host replaces the second
// half of this file, from DYNAMIC_SHARED up to Half, by plain C++.
//
// Features have two macros: SCALAR (float, double, Half), as they are stored, and WIDE (float, double, float), in which
// kernels compute and sum.

#define OPTIONAL   // before a pointer parameter: None is passed as a null pointer
#define UNORDERED  // before a pointer parameter: the contents may depend on the order of the threads
#define PER_BLOCK  // before a pointer parameter: an entry for each block, so the contents depend on their number

// Number of this thread in a one-dimensional grid, and how far a grid-stride loop steps.
__device__ inline long long global_index() { return static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ inline long long global_stride() { return static_cast<long long>(gridDim.x) * blockDim.x; }

#ifndef SPARSENET_HOST

// Shared memory of the size given at the launch (shared_bytes), as an array of `type` called `name`.
#define DYNAMIC_SHARED(type, name) extern __shared__ __align__(16) type name[]

// Between a float and the 16 bits of an IEEE 754 binary16, rounded to nearest (ties to even).
__device__ inline float half_to_float(unsigned short bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}

__device__ inline unsigned short float_to_half(float value) {
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}

// Operands of the tensor cores, rounded to nearest: TF32 (10 bits of mantissa, ties away from zero), and two
// FP16 or BF16 numbers in one register, `low` the one of the lower column (ties to even).  TF32 and BF16 need
// sm_80, FP16 sm_75.
__device__ inline unsigned to_tf32(float value) {
    unsigned bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
    return bits;
}

__device__ inline unsigned pack_half(float low, float high) {
#if __CUDA_ARCH__ >= 800
    unsigned bits;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
    return bits;
#else
    return static_cast<unsigned>(float_to_half(high)) << 16 | float_to_half(low);
#endif
}

__device__ inline unsigned pack_bfloat(float low, float high) {
    unsigned bits;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
    return bits;
}

// d += a x b by one warp, accumulated in float.  g = lane / 4, t = lane % 4; a register of a half kind holds
// the columns c and c + 1 of a (rows of b), the lower one in its lower half.
//
//     d (16, 8)   d[0] d[1]: row g,     columns 2t, 2t + 1      d[2] d[3]: row g + 8
//     TF32        a (16, 8)    a[0] (g, t)   a[1] (g + 8, t)   a[2] (g, t + 4)   a[3] (g + 8, t + 4)
//                 b (8, 8)     b[0] (t, g)   b[1] (t + 4, g)
//     half kinds  a (16, 16)   a[0] (g, 2t)  a[1] (g + 8, 2t)  a[2] (g, 2t + 8)  a[3] (g + 8, 2t + 8)
//                 b (16, 8)    b[0] (2t, g)  b[1] (2t + 8, g)
__device__ inline void mma_tf32_16x8x8(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ inline void mma_half_16x8x16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#if __CUDA_ARCH__ >= 800
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else  // sm_75 sums over 8 at a time: the halves of the depth one after the other
#pragma unroll
    for (int half = 0; half < 2; ++half)
        asm volatile(
            "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
            : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
            : "r"(a[2 * half]), "r"(a[2 * half + 1]), "r"(b[half]));
#endif
}

__device__ inline void mma_bfloat_16x8x16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Four 8 x 8 matrices of 16-bit elements out of shared memory by one warp: lane 8i + r gives the address of row r
// (16 bytes, aligned) of matrix i; each lane gets in out[i] the elements (lane / 4, 2 (lane % 4)) and the next.
// A matrix of 32-bit elements is read likewise as 8 x 4.
__device__ inline void load_matrix_x4(unsigned (&out)[4], const void* row) {
    const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3]) : "r"(address) : "memory");
}

// The same with each matrix transposed: elements (2 (lane % 4), lane / 4) and the one in the row below.
__device__ inline void load_matrix_x4_transposed(unsigned (&out)[4], const void* row) {
    const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3]) : "r"(address) : "memory");
}

// Copy BYTES (4, 8 or 16, both addresses aligned to them) from global to shared memory while the thread goes on;
// zeros if not `valid`, `global` is not read then.  A thread sees its copies after copy_async_wait, other
// threads after a barrier behind it.  Before sm_80 it is a plain copy.
template <int BYTES>
__device__ inline void copy_async(void* shared, const void* global, bool valid) {
    static_assert(BYTES == 4 || BYTES == 8 || BYTES == 16, "copy_async copies 4, 8 or 16 bytes");
#if __CUDA_ARCH__ >= 800
    const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(shared));
    const int bytes = valid ? BYTES : 0;
    if constexpr (BYTES == 16)  // past L1: a row is gathered for its block alone
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(global), "r"(bytes) : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;"
                     ::"r"(address), "l"(global), "n"(BYTES), "r"(bytes) : "memory");
#else
    if constexpr (BYTES == 16)
        *static_cast<int4*>(shared) = valid ? *static_cast<const int4*>(global) : make_int4(0, 0, 0, 0);
    else if constexpr (BYTES == 8)
        *static_cast<int2*>(shared) = valid ? *static_cast<const int2*>(global) : make_int2(0, 0);
    else
        *static_cast<int*>(shared) = valid ? *static_cast<const int*>(global) : 0;
#endif
}

// Close a group of copies; wait until all but the latest PENDING groups have arrived.
__device__ inline void copy_async_commit() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

template <int PENDING>
__device__ inline void copy_async_wait() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
#endif
}

#endif  // SPARSENET_HOST

// A float16 number as it is stored.  Kernels compute with floats: reading it widens, writing to it rounds.
struct Half {
    unsigned short bits;

    Half() = default;
    __device__ Half(float value) : bits(float_to_half(value)) {}
    __device__ operator float() const { return half_to_float(bits); }
};
