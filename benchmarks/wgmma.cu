// The rate of wgmma out of shared memory, and whether descriptors are understood: D (128 x 128) = A B by a block of two
// warpgroups, each m64n128k16 over a depth of 64, `rounds` times on the same operands.
//
//     A (128, 64) half, row-major        B (64, 128) half, given as its transpose (128, 64), row-major
//
// Both lie in shared memory as wgmma reads them without a swizzle: core matrices of 8 rows x 16 bytes, contiguous
// (128 bytes).  Core matrix (i, j) covers rows 8 i .. 8 i + 7 and halves 8 j .. 8 j + 7:
//
//     at (i * 8 + j) * 128 bytes      next along the depth (LBO): 128 bytes      next along the rows (SBO): 1024 bytes
//
// D leaves the registers as wgmma holds it: lane l of warp w of a warpgroup has, in d[4 n + r], row
// 16 w + l / 4 + 8 (r / 2), column 8 n + 2 (l % 4) + r % 2.

typedef unsigned long long Descriptor;

__device__ inline Descriptor describe(const void* shared) {
    const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(shared));
    const Descriptor leading = 128 >> 4, stride = 1024 >> 4;  // in units of 16 bytes; no swizzle: bits 62, 63 are zero
    return (address & 0x3FFFF) >> 4 | leading << 16 | stride << 32;
}

#define D4(n) "+f"(d[4 * n]), "+f"(d[4 * n + 1]), "+f"(d[4 * n + 2]), "+f"(d[4 * n + 3])

// d (64 x 128 of a warpgroup) += a (64 x 16) b (16 x 128), started; both from shared memory, K-major.
__device__ inline void multiply(float (&d)[64], Descriptor a, Descriptor b) {
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 "
        "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,"
        "%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,"
        "%56,%57,%58,%59,%60,%61,%62,%63}, %64, %65, 1, 1, 1, 0, 0;"
        : D4(0), D4(1), D4(2), D4(3), D4(4), D4(5), D4(6), D4(7), D4(8), D4(9), D4(10), D4(11), D4(12), D4(13), D4(14),
          D4(15)
        : "l"(a), "l"(b));
}

extern "C" __global__ void __launch_bounds__(256, 1)
wgmma_rate(const unsigned short* a, const unsigned short* b, int rounds, float* out) {
    __shared__ alignas(128) unsigned short left[128 * 64], right[128 * 64];
    for (int e = threadIdx.x; e < 128 * 64; e += 256) {
        const int row = e / 64, depth = e % 64;
        const int place = (row / 8 * 8 + depth / 8) * 64 + row % 8 * 8 + depth % 8;
        left[place] = a[e];
        right[place] = b[e];
    }
    asm volatile("fence.proxy.async;" ::: "memory");  // written by threads, read by the tensor cores
    __syncthreads();
    const int group = threadIdx.x / 128;
    float d[64];
#pragma unroll
    for (int i = 0; i < 64; ++i) d[i] = 0;
    for (int round = 0; round < rounds; ++round) {
        asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
        for (int step = 0; step < 4; ++step)  // 16 of the depth are two core matrices
            multiply(d, describe(&left[group * 64 * 64 + step * 2 * 64]), describe(&right[step * 2 * 64]));
        asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
        asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
    }
    const int warp = threadIdx.x % 128 / 32, lane = threadIdx.x % 32;
    float* const target = out + static_cast<long long>(blockIdx.x) * 128 * 128;
#pragma unroll
    for (int n = 0; n < 16; ++n)
#pragma unroll
        for (int r = 0; r < 4; ++r)
            target[(group * 64 + warp * 16 + lane / 4 + 8 * (r / 2)) * 128 + 8 * n + 2 * (lane % 4) + r % 2] =
                d[4 * n + r];
}
