// A matrix product by a ring of slots in shared memory, right or with one fault: the tests of hopper.h.
#include "hopper.cuh"
#include "common.cuh"

// PRODUCT: one of hopper.cuh's; MN_MAJOR: 1 for its mn_major ones; COLUMNS, SLOTS.
constexpr int WARPGROUP = 128, ROW = 128, BLOCK = 64 * ROW;  // bytes: a row of an operand, 64 of them
constexpr int B_BYTES = MN_MAJOR ? (COLUMNS + 63) / 64 * BLOCK : COLUMNS * ROW;

enum Fault {
    NONE,
    NO_PROXY_FENCE,
    PROXY_FENCE_TOO_EARLY,  // by the threads that copy, as soon as the copies are begun
    PLAIN_STORE_UNFENCED,
    RELEASED_TOO_EARLY,
    SUMS_READ_TOO_EARLY,
    SUMS_WRITTEN_TOO_EARLY,
    NO_FENCE,
    FENCE_BEFORE_SUMS,
    NO_WAIT,
    ARRIVAL_MISSING,
    ARRIVAL_TOO_MANY,
    BYTES_MISSING,
    BULK_MISALIGNED,
    BULK_ODD,
    BULK_UNWAITED,
    NO_INIT_FENCE,
    NO_INIT,
    OVERWRITTEN_BARRIER,
    WRONG_SWIZZLE,
    THREE_WARPS,
    TWO_LINES,
    OTHER_OPERANDS,
    MISALIGNED_OPERAND,
    WRONG_MAJOR,
    BEYOND_SHARED,
};

// out (64 groups, COLUMNS) += a b^T over `chunks` times 128 bytes (32 or 64 numbers) of depth, by `groups` warpgroups;
// one more fills the slots.
//     a     (64 groups, depth) with rows of `row_bytes`; if MN_MAJOR, (depth, 64 groups)
//     b     (chunks, B_BYTES) as it lies in shared memory
extern "C" __global__ void ring_product(const unsigned char* a, const unsigned char* b, long long row_bytes, int chunks,
                                        bool polls, int fault, float* out) {
    DYNAMIC_SHARED(unsigned char, memory);
    const int groups = blockDim.x / WARPGROUP - 1, group = threadIdx.x / WARPGROUP, lane = threadIdx.x % 32;
    const int slot_bytes = groups * BLOCK + B_BYTES;
    unsigned char* const slots = memory + (1024 - shared_address(memory) % 1024) % 1024;
    Barrier* const full = reinterpret_cast<Barrier*>(slots + SLOTS * slot_bytes);
    Barrier* const empty = full + SLOTS;
    Barrier* const spare = empty + SLOTS;
    if (threadIdx.x == 0) {
        for (int stage = 0; stage < SLOTS; ++stage) {
            if (fault != NO_INIT) mbarrier_init(full + stage, WARPGROUP + 1);
            mbarrier_init(empty + stage, groups * 4);
        }
        mbarrier_init(spare, 1);
        if (fault != NO_INIT_FENCE) mbarrier_init_fence();
        if (fault == OVERWRITTEN_BARRIER) full[0] = 1;
    }
    __syncthreads();
    Ring<SLOTS> ring;
    if (group == groups) {
        const int own = threadIdx.x % WARPGROUP;
        for (int chunk = 0; chunk < chunks; ++chunk, ring.next()) {
            unsigned char* const slot = slots + ring.slot * slot_bytes;
            if (polls) {
                while (!mbarrier_test(empty + ring.slot, ring.parity ^ 1)) {
                }
            } else {
                mbarrier_wait(empty + ring.slot, ring.parity ^ 1);
            }
            if (own == 0) {
                const int wrong = fault == BULK_MISALIGNED ? 8 : 0, missing = fault == BULK_ODD ? 8 : 0;
                mbarrier_arrive_expect_tx(full + ring.slot, B_BYTES + (fault == BYTES_MISSING ? 16 : 0));
                copy_bulk(slot + groups * BLOCK, b + chunk * B_BYTES + wrong, B_BYTES - missing, full + ring.slot);
                if (fault == ARRIVAL_TOO_MANY)
                    for (int i = 0; i <= WARPGROUP; ++i) mbarrier_arrive(full + ring.slot);
            }
            for (int i = own; i < groups * 64 * 8; i += WARPGROUP) {
                const int row = i / 8, piece = i % 8, place = fault == WRONG_SWIZZLE ? piece : piece ^ row % 8;
                const long long first = MN_MAJOR ? (chunk * 64 + row % 64) * row_bytes + row / 64 * ROW
                                                 : row * row_bytes + chunk * ROW;
                unsigned char* const target = slot + row * ROW + place * 16;
                if (fault == PLAIN_STORE_UNFENCED)
                    *reinterpret_cast<uint4*>(target) = *reinterpret_cast<const uint4*>(a + first + piece * 16);
                else
                    copy_async_16(shared_address(target), a + first + piece * 16, false);
            }
            if (fault == PROXY_FENCE_TOO_EARLY) fence_proxy_async();
            if (fault != ARRIVAL_MISSING || own != 5) copy_async_arrive(full + ring.slot);
        }
        if (fault == BULK_UNWAITED && own == 0) {
            mbarrier_arrive_expect_tx(spare, 16);
            copy_bulk(spare + 2, b, 16, spare);
        }
        return;
    }
    const int row = group * 64 + threadIdx.x % WARPGROUP / 32 * 16 + lane / 4, column = lane % 4 * 2;
    float sums[COLUMNS / 2];
    if (fault == FENCE_BEFORE_SUMS) sums[0] = 0;
    for (int i = 0; i < COLUMNS / 2; ++i)
        sums[i] = out[(row + i / 2 % 2 * 8) * COLUMNS + i / 4 * 8 + column + i % 2];
    int before = -1;
    for (int chunk = 0; chunk < chunks; ++chunk, ring.next()) {
        unsigned char* const slot = slots + ring.slot * slot_bytes;
        if (polls) {
            while (!mbarrier_test(full + ring.slot, ring.parity)) {
            }
        } else {
            mbarrier_wait(full + ring.slot, ring.parity);
        }
        const bool fences = fault != NO_PROXY_FENCE && fault != PROXY_FENCE_TOO_EARLY && fault != PLAIN_STORE_UNFENCED;
        if (fences || (fault == PLAIN_STORE_UNFENCED && chunk == 0)) fence_proxy_async();
        unsigned char* const own = slot + group * BLOCK + (fault == MISALIGNED_OPERAND ? 128 : 0);
        const unsigned char* const shared_b = fault == BEYOND_SHARED ? slots + SLOTS * slot_bytes : slot + groups * BLOCK;
        Operand left = (MN_MAJOR != 0) != (fault == WRONG_MAJOR) ? mn_major(own, 0) : k_major(own);
        const Operand right = MN_MAJOR ? mn_major(shared_b, BLOCK) : k_major(shared_b);
        const int step = MN_MAJOR ? 16 * ROW : 32;
        if (fault == OTHER_OPERANDS && lane == 3) left = further(left, step);
        if (fault != NO_FENCE) wgmma_fence();
        if (fault == FENCE_BEFORE_SUMS && chunk == 1) sums[0] += 1;
        for (int i = 0; i < 4; ++i) {
            if (fault == THREE_WARPS && threadIdx.x / 32 == 3) continue;
            if (fault == TWO_LINES && threadIdx.x / 32 == 3)
                PRODUCT(sums, further(left, i * step), further(right, i * step));
            else
                PRODUCT(sums, further(left, i * step), further(right, i * step));
        }
        wgmma_commit_group();
        if (fault == FENCE_BEFORE_SUMS) wgmma_wait_group<0>();
        if (fault == SUMS_WRITTEN_TOO_EARLY) sums[2] += 1;
        if (fault == RELEASED_TOO_EARLY) {
            if (lane == 0) mbarrier_arrive(empty + ring.slot);
            wgmma_wait_group<0>();
        } else {
            wgmma_wait_group<1>();
            if (before >= 0 && lane == 0) mbarrier_arrive(empty + before);
        }
        before = ring.slot;
    }
    if (fault != SUMS_READ_TOO_EARLY && fault != NO_WAIT) wgmma_wait_group<0>();
    for (int i = 0; i < COLUMNS / 2; ++i)
        out[(row + i / 2 % 2 * 8) * COLUMNS + i / 4 * 8 + column + i % 2] = sums[i];
    if (fault == SUMS_READ_TOO_EARLY) wgmma_wait_group<0>();
}
