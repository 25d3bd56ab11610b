// What the convolution kernels share: which offsets a tile of rows needs, and where a depth lies.
//
//     neighbours (M, K)                      index [32][TILE_ROWS + 1]        active
//     rows of the tile  [ 4 -1 -1  7 ]   ->  offset 0:  4  2 ...              [0, 3]
//     through `order`   [ 2 -1 -1 -1 ]       offset 1: -1 -1 ...              offsets that a row
//                                            offset 3:  7 -1 ...              of the tile has
//
// The depth of a tile's product runs over the active offsets, each with its channels:
//
//     depth    0 .. width-1 | width .. 2 width-1 | ...      width: channels (or words) of a row
//     slot     0            | 1                  | ...      offset = active[slot]

constexpr int GROUP = 32;  // offsets looked at together: one bit each

// Where a depth lies: the active offset's slot, and the channel within it.
struct Depth {
    int slot, column;
};

__device__ inline Depth further(Depth depth, int steps, int width) {
    depth.column += steps;
    if (depth.column >= width) {  // rarely taken where rows are wide: no division per step
        depth.slot += depth.column / width;
        depth.column %= width;
    }
    return depth;
}

// Fills `index` and `active` for the offsets [first, first + GROUP) and returns how many are
// active.  `filled` is one word of shared memory.  Every thread of the block must call it; the first
// barrier comes before `index` is written, so what was read from it and from the stages is read by then.
template <int ROWS, int BLOCK>
__device__ int stage_offsets(const int* neighbours, const int* order, long long first_row, long long rows,
                             int offsets, int first, int* index, int* active, unsigned* filled) {
    const int count = offsets - first < GROUP ? offsets - first : GROUP;
    if (threadIdx.x == 0) *filled = 0;
    __syncthreads();
    unsigned mine = 0;
    for (int e = threadIdx.x; e < ROWS * count; e += BLOCK) {  // neighbouring threads, neighbouring entries
        const int row = e / count, k = e % count;
        int n = -1;
        if (first_row + row < rows) {
            const long long m = order ? order[first_row + row] : first_row + row;
            n = neighbours[m * offsets + first + k];
        }
        index[k * (ROWS + 1) + row] = n;  // + 1: the threads of a warp write to different banks
        mine |= static_cast<unsigned>(n >= 0) << k;
    }
    if (mine) atomicOr(filled, mine);  // bits: the order does not matter
    __syncthreads();
    const unsigned bits = *filled;
    if (threadIdx.x < GROUP && (bits >> threadIdx.x & 1))
        active[__popc(bits & ((1u << threadIdx.x) - 1))] = threadIdx.x;
    __syncthreads();
    return __popc(bits);
}
