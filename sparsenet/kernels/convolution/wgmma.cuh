// What the convolutions on Hopper's tensor cores share: a block of two kinds of warpgroups, and lists of what a tile
// of TILE_ROWS output rows needs (lists.cu).
//
//     producers   128 threads   gather rows of 128 bytes into stages of shared memory
//     consumers   128 each      multiply them by wgmma
//
// A stage goes round: `empty` (its operands have been read), the copies of the producers, `full`, the products.
// The lists come ahead of it in LISTS places: each warp of producers fetches the part of its own rows, so that no
// warp waits for another one.  A plain load would wait for all gathers that were begun before it.

constexpr int PRODUCERS = 128, PRODUCER_WARPS = PRODUCERS / 32;
constexpr int PIECES = 8;  // copies of 16 bytes to a row: a thread copies the same piece of each of its rows
constexpr int WARP_ROWS = TILE_ROWS / PRODUCER_WARPS;

// Dynamic shared memory from the first multiple of 1024 bytes on, as the operands of wgmma must lie.
template <class Shared>
__device__ inline Shared& aligned(unsigned char* memory) {
    static_assert(sizeof(Shared) + 1024 == SHARED_BYTES, "the launcher asks for another amount of shared memory");
    return *reinterpret_cast<Shared*>(memory + (1024 - (shared_address(memory) & 1023)) % 1024);
}

// The barriers of a block; every thread calls it.
template <class Shared>
__device__ inline void init_barriers(Shared& shared, int full, int consumers) {
    if (threadIdx.x == 0) {
        for (int slot = 0; slot < STAGES; ++slot) {
            mbarrier_init(&shared.full[slot], full);
            mbarrier_init(&shared.empty[slot], 4 * consumers);  // one for each warp
        }
        for (int slot = 0; slot < LISTS; ++slot)
            for (int warp = 0; warp < PRODUCER_WARPS; ++warp) mbarrier_init(&shared.listed[slot][warp], 1);
        mbarrier_init_fence();
    }
    __syncthreads();
}

// Tells the producers that the operands of a group of products have been read: `held` is its slot, or -1.
template <int PENDING, class Shared>
__device__ inline void release(Shared& shared, int held) {
    wgmma_wait_group<PENDING>();
    if (held >= 0 && threadIdx.x % 32 == 0) mbarrier_arrive(&shared.empty[held]);
}

__device__ inline int entry(const int4& four, int i) {
    return i == 0 ? four.x : i == 1 ? four.y : i == 2 ? four.z : four.w;
}

// Where a row begins, in bytes: one multiplication; of no use where `row` is -1.
__device__ inline unsigned long long row_start(int row, unsigned row_bytes) {
    return static_cast<unsigned long long>(static_cast<unsigned>(row)) * row_bytes;
}

// sum (64 x N, over a warpgroup) += a (64 x 8 words) * b (8 words x N), begun
template <int REGISTERS>
__device__ inline void wgmma(float (&sum)[REGISTERS], Operand a, Operand b) {
    if constexpr (PRECISION == TF32)
        wgmma_tf32(sum, a, b);
    else if constexpr (PRECISION == FP16)
        wgmma_half(sum, a, b);
    else
        wgmma_bfloat(sum, a, b);
}

template <int REGISTERS>
__device__ inline void wgmma_mn_major(float (&sum)[REGISTERS], Operand a, Operand b) {
    if constexpr (PRECISION == FP16)
        wgmma_half_mn_major(sum, a, b);
    else
        wgmma_bfloat_mn_major(sum, a, b);
}
