// Instructions that only Hopper has (compiled for sm_90a): barriers in shared memory, bulk copies, and matrix products by a
// warpgroup of 128 threads.  Names are those of PTX.  For the host, the tests replace the part between SPARSENET_HOST by
// plain C++, as in common.cuh.

#ifndef SPARSENET_HOST

// An address in shared memory.
typedef unsigned SharedAddress;

__device__ inline SharedAddress shared_address(const void* pointer) {
    return static_cast<SharedAddress>(__cvta_generic_to_shared(pointer));
}

// A phase of a barrier ends after all its arrivals and all announced bytes.  Phases are identified by parity: the first
// is 0; waiting for parity 1 at a new barrier ends at once.
typedef unsigned long long Barrier;

__device__ inline void mbarrier_init(Barrier* barrier, int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
}

// After the last mbarrier_init of a thread, before the synchronisation after which others use them.
__device__ inline void mbarrier_init_fence() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

__device__ inline void mbarrier_arrive(Barrier* barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}

// Arrives, and announces bytes that bulk copies will bring.
__device__ inline void mbarrier_arrive_expect_tx(Barrier* barrier, int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes)
                 : "memory");
}

// Arrives when all asynchronous copies of this thread so far are complete.
__device__ inline void copy_async_arrive(Barrier* barrier) {
    asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(shared_address(barrier)) : "memory");
}

// Whether the phase of that parity has ended.
__device__ inline bool mbarrier_test(Barrier* barrier, int parity) {
    int ended;
    asm volatile(
        "{\n"
        ".reg .pred ended;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 ended, [%1], %2, 0;\n"
        "selp.s32 %0, 1, 0, ended;\n"
        "}"
        : "=r"(ended) : "r"(shared_address(barrier)), "r"(parity) : "memory");
    return ended;
}

__device__ inline void mbarrier_wait(Barrier* barrier, int parity) {
    asm volatile(
        "{\n"
        ".reg .pred ended;\n"
        "again:\n"
        "mbarrier.try_wait.parity.shared::cta.b64 ended, [%0], %1;\n"
        "@!ended bra again;\n"
        "}" ::"r"(shared_address(barrier)), "r"(parity) : "memory");
}

// Copy 16 bytes from global to shared memory while the thread goes on; zeros if `absent`, `global` is not read then.
__device__ inline void copy_async_16(SharedAddress shared, const void* global, bool absent) {
    asm volatile(
        "{\n"
        ".reg .pred absent;\n"
        "setp.ne.s32 absent, %2, 0;\n"
        "cp.async.cg.shared.global [%0], [%1], 16, absent;\n"
        "}" ::"r"(shared), "l"(global), "r"(static_cast<int>(absent)) : "memory");
}

// Copy bytes (a multiple of 16, as are both addresses) from global to shared memory; the barrier counts their arrival.
__device__ inline void copy_bulk(void* shared, const void* global, int bytes, Barrier* barrier) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                     shared_address(shared)),
                 "l"(global), "r"(bytes), "r"(shared_address(barrier)) : "memory");
}

// From here on wgmma can read the writes to shared memory that are visible to this thread.
__device__ inline void fence_proxy_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// An operand of wgmma in shared memory: rows of 128 bytes, groups of 8 rows 1024 bytes apart (aligned to that), and the
// 16-byte pieces of a row swizzled: piece p of row r is at p ^ (r % 8).
//
//     k_major     a row is one of M (or N), and runs along the depth
//     mn_major    a row is one of the depth, and runs along M (or N), 64 of 16 bits; the next 64 are `leading` bytes on
typedef unsigned long long Operand;

__device__ inline Operand operand_at(const void* shared, int leading) {
    return (shared_address(shared) & 0x3FFFF) >> 4 | static_cast<Operand>(leading >> 4) << 16 |
           static_cast<Operand>(1024 >> 4) << 32 | 1ull << 62;
}
__device__ inline Operand k_major(const void* shared) { return operand_at(shared, 16); }
__device__ inline Operand mn_major(const void* shared, int leading) { return operand_at(shared, leading); }

// The operand that begins `bytes` further on, a multiple of 16.
__device__ inline Operand further(Operand operand, int bytes) { return operand + (bytes >> 4); }

// Before the first product of a group; after the last; wait until all but the latest PENDING groups are done.  Until then
// the sums of a group must not be accessed.
__device__ inline void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void wgmma_commit_group() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int PENDING>
__device__ inline void wgmma_wait_group() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}

// sum (64 x 2 REGISTERS, over a warpgroup) += a (64 x 8 words) b (8 words x 2 REGISTERS), started.  Lane l of warp w
// has, in sum[4 n + r], row 16 w + l / 4 + 8 (r / 2), column 8 n + 2 (l % 4) + r % 2.
#define SUM_8(n) "+f"(d[n]), "+f"(d[n + 1]), "+f"(d[n + 2]), "+f"(d[n + 3]), "+f"(d[n + 4]), "+f"(d[n + 5]), \
                 "+f"(d[n + 6]), "+f"(d[n + 7])
#define SUM_16(n) SUM_8(n), SUM_8(n + 8)
#define NAMES_16 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15"
#define NAMES_32 NAMES_16 ",%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define NAMES_48 NAMES_32 ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47"
#define NAMES_64 NAMES_48 ",%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define WGMMA_OF(name, kinds, flags)                                                                                 \
    __device__ inline void name(float (&d)[16], Operand a, Operand b) {                                              \
        asm volatile("wgmma.mma_async.sync.aligned.m64n32" kinds " {" NAMES_16 "}, %16, %17, 1, 1, 1" flags ";"      \
                     : SUM_16(0) : "l"(a), "l"(b));                                                                  \
    }                                                                                                                \
    __device__ inline void name(float (&d)[32], Operand a, Operand b) {                                              \
        asm volatile("wgmma.mma_async.sync.aligned.m64n64" kinds " {" NAMES_32 "}, %32, %33, 1, 1, 1" flags ";"      \
                     : SUM_16(0), SUM_16(16) : "l"(a), "l"(b));                                                      \
    }                                                                                                                \
    __device__ inline void name(float (&d)[48], Operand a, Operand b) {                                              \
        asm volatile("wgmma.mma_async.sync.aligned.m64n96" kinds " {" NAMES_48 "}, %48, %49, 1, 1, 1" flags ";"      \
                     : SUM_16(0), SUM_16(16), SUM_16(32) : "l"(a), "l"(b));                                          \
    }                                                                                                                \
    __device__ inline void name(float (&d)[64], Operand a, Operand b) {                                              \
        asm volatile("wgmma.mma_async.sync.aligned.m64n128" kinds " {" NAMES_64 "}, %64, %65, 1, 1, 1" flags ";"     \
                     : SUM_16(0), SUM_16(16), SUM_16(32), SUM_16(48) : "l"(a), "l"(b));                              \
    }
WGMMA_OF(wgmma_tf32, "k8.f32.tf32.tf32", "")                     // both k_major; the low 13 bits of a word are ignored
WGMMA_OF(wgmma_half, "k16.f32.f16.f16", ", 0, 0")                // both k_major
WGMMA_OF(wgmma_bfloat, "k16.f32.bf16.bf16", ", 0, 0")            // both k_major
WGMMA_OF(wgmma_half_mn_major, "k16.f32.f16.f16", ", 1, 1")       // both mn_major
WGMMA_OF(wgmma_bfloat_mn_major, "k16.f32.bf16.bf16", ", 1, 1")   // both mn_major

#endif  // SPARSENET_HOST

// The next of COUNT places in shared memory, and the parity of its barriers.
template <int COUNT>
struct Ring {
    int slot = 0, parity = 0;

    __device__ void next() {
        if (++slot == COUNT) slot = 0, parity ^= 1;
    }
};
