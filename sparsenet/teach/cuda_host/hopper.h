// The first half of hopper.cuh in plain C++: barriers in shared memory, bulk copies, and products of a warpgroup.
#pragma once

#include "hopper_runtime.h"

using sparsenet_host::Operand;
typedef uintptr_t SharedAddress;
typedef unsigned long long Barrier;

inline SharedAddress shared_address(const void* pointer) { return reinterpret_cast<SharedAddress>(pointer); }

inline void mbarrier_init(Barrier* barrier, int arrivals, int line = __builtin_LINE()) {
    *barrier = 0;  // so that AddressSanitizer sees the place
    sparsenet_host::barrier_init(barrier, arrivals, line);
}
inline void mbarrier_init_fence() { sparsenet_host::barrier_init_fence(); }
inline void mbarrier_arrive(Barrier* barrier, int line = __builtin_LINE()) {
    sparsenet_host::barrier_arrive(barrier, 0, "mbarrier_arrive", line);
}
inline void mbarrier_arrive_expect_tx(Barrier* barrier, int bytes, int line = __builtin_LINE()) {
    sparsenet_host::barrier_arrive(barrier, bytes, "mbarrier_arrive_expect_tx", line);
}
inline void copy_async_arrive(Barrier* barrier, int line = __builtin_LINE()) {
    sparsenet_host::barrier_arrive_after_copies(barrier, line);
}
inline bool mbarrier_test(Barrier* barrier, int parity, int line = __builtin_LINE()) {
    return sparsenet_host::barrier_test(barrier, parity, line);
}
inline void mbarrier_wait(Barrier* barrier, int parity, int line = __builtin_LINE()) {
    sparsenet_host::barrier_wait(barrier, parity, line);
}

inline void copy_async_16(SharedAddress shared, const void* global, bool absent, int line = __builtin_LINE()) {
    if (shared % 16 || (!absent && reinterpret_cast<uintptr_t>(global) % 16))
        sparsenet_host::fail("copy_async_16, line %d: an address is not aligned to 16 bytes", line);
    sparsenet_host::copy_later(reinterpret_cast<void*>(shared), global, 16, !absent);
}
inline void copy_bulk(void* shared, const void* global, int bytes, Barrier* barrier, int line = __builtin_LINE()) {
    sparsenet_host::bulk_copy(shared, global, bytes, barrier, line);
}
inline void fence_proxy_async() { sparsenet_host::fence_proxies(); }

inline Operand operand_at(const void* shared, int leading, bool mn_major) {
    const auto* const start = static_cast<const unsigned char*>(shared);
    return {start, start, leading, mn_major};
}
inline Operand k_major(const void* shared) { return operand_at(shared, 16, false); }
inline Operand mn_major(const void* shared, int leading) { return operand_at(shared, leading, true); }
inline Operand further(Operand operand, int bytes) {
    operand.start += bytes;
    return operand;
}

inline void wgmma_fence() { sparsenet_host::fence_products(); }
inline void wgmma_commit_group() { sparsenet_host::commit_products(); }
template <int PENDING>
void wgmma_wait_group(int line = __builtin_LINE()) {
    static_assert(PENDING >= 0 && PENDING < 8, "wgmma_wait_group: the number of groups is 0 to 7");
    sparsenet_host::wait_for_products(PENDING, line);
}

namespace sparsenet_host {
template <class Kind>
double number_of(unsigned bits) { return Kind::get(bits, 0); }
}  // namespace sparsenet_host

#define SPARSENET_WGMMA(name, Kind, bytes, mn_major)                                                          \
    template <int REGISTERS>                                                                                  \
    void name(float (&d)[REGISTERS], Operand a, Operand b, int line = __builtin_LINE()) {                     \
        static_assert(REGISTERS % 16 == 0 && REGISTERS <= 64, #name ": 16, 32, 48 or 64 sums of a thread");   \
        sparsenet_host::product({#name, bytes, mn_major, sparsenet_host::number_of<sparsenet_host::Kind>}, d, \
                                2 * REGISTERS, a, b, line);                                                   \
    }
SPARSENET_WGMMA(wgmma_tf32, Tf32, 4, false)
SPARSENET_WGMMA(wgmma_half, Half, 2, false)
SPARSENET_WGMMA(wgmma_bfloat, Bfloat, 2, false)
SPARSENET_WGMMA(wgmma_half_mn_major, Half, 2, true)
SPARSENET_WGMMA(wgmma_bfloat_mn_major, Bfloat, 2, true)
#undef SPARSENET_WGMMA
