#include "common.cuh"

extern "C" __global__ void hash_insert(const int* keys, int size, int slots, UNORDERED int* table_keys,
                                       UNORDERED int* table_rows) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < size; i += gridDim.x * blockDim.x) {
        // ---- your code: find a free slot for keys[i], take it, write the row
        int slot = keys[i] % slots;
        while (atomicCAS(&table_keys[slot], -1, keys[i]) != -1) slot = (slot + 1) % slots;
        table_rows[slot] = i;
        // ---- end
    }
}
