// What the weight gradients share: which product a block makes, its list of pairs, and the sum of its parts.
//
//     neighbours[:, k]  of WINDOW rows    4 -1 -1  7  2 -1 ...
//     from (input rows)                   4  7  2 | -1 -1 ...      rows without an input are left out,
//     to   (output rows)                  0  3  4 | ...            -1 fills up the last step

#include "arrival.cuh"

// What one block works on.  Blocks of one part are neighbours: they read the same rows, from the L2 cache.
struct Product {
    int offset, first_input, first_output;  // offset k; first channel of the tile on each side
    long long part, begin, end;             // rows [begin, end) of the table
    int tile;                               // the same number for all parts of a tile
};

__device__ inline Product product_of(long long block, long long rows, long long part_rows, int offsets,
                                     int input_tiles, int output_tiles, int tile_inputs, int tile_outputs) {
    Product product;
    product.tile = static_cast<int>(block % (static_cast<long long>(offsets) * input_tiles * output_tiles));
    product.first_output = static_cast<int>(block % output_tiles) * tile_outputs;
    block /= output_tiles;
    product.first_input = static_cast<int>(block % input_tiles) * tile_inputs;
    block /= input_tiles;
    product.offset = static_cast<int>(block % offsets);
    product.part = block / offsets;
    product.begin = product.part * part_rows;
    product.end = product.begin + part_rows < rows ? product.begin + part_rows : rows;
    return product;
}

// Lists the pairs of `offset` among the rows [begin, begin + ROWS) below `end`, in the order of the
// rows, and returns how many there are; up to the next multiple of `STEP` entries are -1.
// `totals` has one number per warp.  Every thread of the block must call it; the first barrier comes
// before the lists are written, so what was read from them and from the stages is read by then.
template <int ROWS, int STEP, int BLOCK>
__device__ int list_pairs(const int* neighbours, int offsets, int offset, long long begin, long long end, int* from,
                          int* to, int* totals) {
    static_assert(ROWS % BLOCK == 0 && ROWS % STEP == 0, "whole rounds, whole steps");
    constexpr int ROUNDS = ROWS / BLOCK, WARPS = BLOCK / 32;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int first = warp * ROUNDS * 32 + lane;  // a warp lists rows that lie together
    int n[ROUNDS], mine = 0;
    unsigned votes[ROUNDS];
#pragma unroll
    for (int round = 0; round < ROUNDS; ++round) {
        const long long m = begin + first + round * 32;
        n[round] = m < end ? neighbours[m * offsets + offset] : -1;
        votes[round] = __ballot_sync(~0u, n[round] >= 0);
        mine += __popc(votes[round]);
    }
    if (lane == 0) totals[warp] = mine;
    __syncthreads();
    int position = 0, count = 0;
#pragma unroll
    for (int w = 0; w < WARPS; ++w) {
        position += w < warp ? totals[w] : 0;
        count += totals[w];
    }
#pragma unroll
    for (int round = 0; round < ROUNDS; ++round) {
        if (n[round] >= 0) {
            const int at = position + __popc(votes[round] & ((1u << lane) - 1));
            from[at] = n[round];
            to[at] = static_cast<int>(begin) + first + round * 32;
        }
        position += __popc(votes[round]);
    }
    const int padded = (count + STEP - 1) / STEP * STEP;
    for (int e = count + threadIdx.x; e < padded; e += BLOCK) from[e] = to[e] = -1;
    __syncthreads();
    return count;
}

// Writes the block's tile.  If its rows are a part of several, the block keeps its sums in `partial` (parts, K, C_in,
// C_out), and the last block of the tile to come adds up all parts, in their order.
//
// each(visit): calls visit(c, n, sum) for the ELEMENTS of the tile that this thread owns.
// background (C_in,) and constant (C_out,), the gradient of the row that it gives: each W[k] is added their product,
// which is what it gets from a grid full of background.  Null: nothing.
// partial, tickets (a zero for each tile, and zero again afterwards): null if there is one part.
template <int ELEMENTS, class NUMBER, class EACH>
__device__ inline void write_tile(const EACH& each, const Product& product, int parts, int offsets, int c_in,
                                  int c_out, NUMBER* partial, unsigned* tickets, const SCALAR* background,
                                  const SCALAR* constant, SCALAR* out, bool& last) {
    constexpr int AT_ONCE = ELEMENTS < 64 ? 64 / ELEMENTS : 1;  // parts whose loads are under way together
    const long long size = static_cast<long long>(offsets) * c_in * c_out;
    const auto place = [=](int c, int n) { return (static_cast<long long>(product.offset) * c_in + c) * c_out + n; };
    if (parts > 1) {
        NUMBER* const own = partial + product.part * size;
        each([=](int c, int n, NUMBER& sum) { own[place(c, n)] = sum; });
        if (!comes_last(&tickets[product.tile], parts, last)) return;
        const volatile NUMBER* part = partial;
        each([=](int c, int n, NUMBER& sum) { sum = part[place(c, n)]; });
#pragma unroll AT_ONCE
        for (int others = parts - 1; others > 0; --others) {
            part += size;
            each([=](int c, int n, NUMBER& sum) { sum += part[place(c, n)]; });
        }
    }
    each([=](int c, int n, NUMBER& sum) {
        if (background != nullptr) sum += static_cast<NUMBER>(background[c]) * static_cast<NUMBER>(constant[n]);
        out[place(c, n)] = sum;
    });
}
