// What each tile of TILE_ROWS output rows needs of a table of at most 32 offsets, for the convolutions on Hopper:
//
//     rows of tile t            order[t * TILE_ROWS], ...         `outputs` (tiles * TILE_ROWS,), -1 past the last row
//     `lists` (tiles, K, TILE_ROWS)                               neighbours of those rows, -1 where there is none
//     `masks` (tiles,)                                            bit k: some row of the tile has offset k

#include "common.cuh"

extern "C" __global__ void tile_lists(const int* __restrict__ neighbours, OPTIONAL const int* __restrict__ order,
                                      long long rows, int offsets, int tiles, int* __restrict__ lists,
                                      unsigned* __restrict__ masks, int* __restrict__ outputs) {
    __shared__ int own[TILE_ROWS];
    __shared__ unsigned filled;
    for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
        const long long first = static_cast<long long>(tile) * TILE_ROWS;
        __syncthreads();  // the tile before has been read
        if (threadIdx.x == 0) filled = 0;
        for (int row = threadIdx.x; row < TILE_ROWS; row += blockDim.x) {
            const int output = first + row >= rows ? -1 : order ? order[first + row] : static_cast<int>(first + row);
            own[row] = outputs[first + row] = output;
        }
        __syncthreads();
        unsigned mine = 0;
        for (int e = threadIdx.x; e < TILE_ROWS * offsets; e += blockDim.x) {  // neighbours write side by side
            const int row = e % TILE_ROWS, k = e / TILE_ROWS;
            const int n = own[row] < 0 ? -1 : neighbours[static_cast<long long>(own[row]) * offsets + k];
            lists[first * offsets + e] = n;
            mine |= static_cast<unsigned>(n >= 0) << k;
        }
        if (mine) atomicOr(&filled, mine);  // bits: the order does not matter
        __syncthreads();
        if (threadIdx.x == 0) masks[tile] = filled;
    }
}
