// Cells as bits to lists of cells, and the inside of a closed surface.
//
//     bits (S, box_x, box_y, words)     cell (x, y, z) of the box: bit z % 32 of word z / 32 of row (x, y)
//
// Box s begins at the cell origins[s] of the grid; it may stick out of the grid.  Lists are made in two passes:
// each thread counts what it will write, the counts are summed up (`ends`), each thread writes to its own place.

#include "common.cuh"

constexpr int GROUP = 8;  // words that one thread counts and lists

struct Box {
    int x, y, words;
};

struct Grid {
    int x, y, z;
};

// Which cells of a word lie in the grid: bits [first, last] of the row, none if the row lies outside.
__device__ inline unsigned inside_of(const long long* origin, Grid grid, int x, int y, int word) {
    if (x + origin[0] < 0 || x + origin[0] >= grid.x || y + origin[1] < 0 || y + origin[1] >= grid.y) return 0;
    const long long first = -origin[2] - 32LL * word, last = grid.z - 1 - origin[2] - 32LL * word;
    if (first > 31 || last < 0) return 0;
    return (first > 0 ? ~0u << first : ~0u) & (last < 31 ? ~0u >> (31 - last) : ~0u);
}

struct Place {
    long long s;
    int x, y, word;
};

__device__ inline Place place_of(long long index, Box box) {
    const long long row = index / box.words, line = row / box.y, s = line / box.x;
    return {s, static_cast<int>(line - s * box.x), static_cast<int>(row - line * box.y),
            static_cast<int>(index - row * box.words)};
}

// counts[t] of the cells in the grid in words [GROUP * t, GROUP * (t + 1)); dropped[s] of those outside it.
extern "C" __global__ void count_cells(const unsigned* __restrict__ bits, long long size, int box_x, int box_y,
                                       int words, const long long* __restrict__ origins, int grid_x, int grid_y,
                                       int grid_z, int* __restrict__ counts, long long* __restrict__ dropped) {
    const long long groups = (size + GROUP - 1) / GROUP;
    for (long long t = global_index(); t < groups; t += global_stride()) {
        int count = 0;
        for (long long w = t * GROUP; w < (t + 1) * GROUP && w < size; ++w) {
            if (!bits[w]) continue;
            const Place p = place_of(w, Box{box_x, box_y, words});
            const unsigned inside = inside_of(origins + 3 * p.s, Grid{grid_x, grid_y, grid_z}, p.x, p.y, p.word);
            const int outside = __popc(bits[w] & ~inside);
            count += __popc(bits[w] & inside);
            if (outside) atomicAdd(reinterpret_cast<unsigned long long*>(dropped + p.s),
                                   static_cast<unsigned long long>(outside));
        }
        counts[t] = count;
    }
}

// Keys (row-major index of (mesh, x, y, z)) or coordinates (n, 3), whichever is given; ends is the running sum of
// counts.  Bits lie in the order of the keys.
extern "C" __global__ void list_cells(const unsigned* __restrict__ bits, long long size, int box_x, int box_y,
                                      int words, const long long* __restrict__ origins, int grid_x, int grid_y,
                                      int grid_z, const int* __restrict__ counts, const long long* __restrict__ ends,
                                      OPTIONAL long long* __restrict__ keys,
                                      OPTIONAL int* __restrict__ coordinates) {
    const long long groups = (size + GROUP - 1) / GROUP;
    for (long long t = global_index(); t < groups; t += global_stride()) {
        if (!counts[t]) continue;
        long long row = ends[t] - counts[t];
        for (long long w = t * GROUP; w < (t + 1) * GROUP && w < size; ++w) {
            if (!bits[w]) continue;
            const Place p = place_of(w, Box{box_x, box_y, words});
            const long long* origin = origins + 3 * p.s;
            const long long x = p.x + origin[0], y = p.y + origin[1], z = 32LL * p.word + origin[2];
            unsigned rest = bits[w] & inside_of(origin, Grid{grid_x, grid_y, grid_z}, p.x, p.y, p.word);
            for (; rest; rest &= rest - 1, ++row) {
                const long long at = z + __ffs(rest) - 1;
                if (keys) keys[row] = ((p.s * grid_x + x) * grid_y + y) * grid_z + at;
                if (coordinates) {
                    coordinates[3 * row] = static_cast<int>(x);
                    coordinates[3 * row + 1] = static_cast<int>(y);
                    coordinates[3 * row + 2] = static_cast<int>(at);
                }
            }
        }
    }
}

// Bits of `free` that hang together with a bit of `from`, a part of `free`: runs of ones, by doubling.
__device__ inline unsigned spread(unsigned from, unsigned free) {
    unsigned up = from, down = from, path_up = free, path_down = free;
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
        up |= path_up & (up << step);
        down |= path_down & (down >> step);
        path_up &= path_up << step;
        path_down &= path_down >> step;
    }
    return up | down;
}

// Outside words i, i + stride, ... take over from their neighbours, forwards and then backwards; along z
// (ALONG_WORDS) the highest bit of a word touches the lowest of the next.  Returns whether one grew.
template <bool ALONG_WORDS>
__device__ inline bool sweep(const unsigned* free, unsigned* outside, int count, long long stride) {
    bool grew = false;
    for (int direction = 1; direction >= -1; direction -= 2) {
        unsigned before = 0;
        for (int step = 0; step < count; ++step) {
            const long long i = (direction > 0 ? step : count - 1 - step) * stride;
            const unsigned carried = !ALONG_WORDS ? before : direction > 0 ? before >> 31 : before << 31;
            const unsigned old = outside[i], now = spread(old | (carried & free[i]), free[i]);
            if (now != old) outside[i] = now;
            grew = grew || now != old;
            before = now;
        }
    }
    return grew;
}

// Adds to each sample's cells the cells of the grid that they enclose; what lies outside the grid is removed.
// One block a sample: sweeps along z, y and x until the outside grows no more.  What is found does not depend on
// the order.  free and outside are scratch of the size of bits.
extern "C" __global__ void fill_cells(unsigned* __restrict__ bits, int samples, int box_x, int box_y, int words,
                                      const long long* __restrict__ origins, int grid_x, int grid_y, int grid_z,
                                      unsigned* __restrict__ free, unsigned* __restrict__ outside) {
    const long long line = words, plane = static_cast<long long>(box_y) * words, all = box_x * plane;
    const Grid grid{grid_x, grid_y, grid_z};
    for (int s = blockIdx.x; s < samples; s += gridDim.x) {
        unsigned *own = bits + s * all, *path = free + s * all, *reached = outside + s * all;
        const long long* origin = origins + 3 * s;
        for (long long i = threadIdx.x; i < all; i += blockDim.x) {
            const Place p = place_of(i, Box{box_x, box_y, words});
            path[i] = inside_of(origin, grid, p.x, p.y, p.word) & ~own[i];
            // the border of what the box and the grid have in common: a cell of the grid with a neighbour elsewhere
            const bool rim = p.x == 0 || p.x == box_x - 1 || p.y == 0 || p.y == box_y - 1
                             || p.x + origin[0] == 0 || p.x + origin[0] == grid_x - 1
                             || p.y + origin[1] == 0 || p.y + origin[1] == grid_y - 1;
            const long long first = -origin[2] - 32LL * p.word, last = first + grid_z - 1;
            unsigned ends = (p.word == 0 ? 1u : 0u) | (p.word == words - 1 ? 1u << 31 : 0u);
            if (first >= 0 && first < 32) ends |= 1u << first;
            if (last >= 0 && last < 32) ends |= 1u << last;
            reached[i] = path[i] & (rim ? ~0u : ends);
        }
        __syncthreads();
        bool grew = true;
        while (grew) {
            grew = false;
            for (long long i = threadIdx.x; i < box_x * static_cast<long long>(box_y); i += blockDim.x)
                grew |= sweep<true>(path + i * line, reached + i * line, words, 1);
            __syncthreads();
            for (long long i = threadIdx.x; i < box_x * line; i += blockDim.x)
                grew |= sweep<false>(path + i / line * plane + i % line, reached + i / line * plane + i % line, box_y,
                                     line);
            __syncthreads();
            for (long long i = threadIdx.x; i < plane; i += blockDim.x)
                grew |= sweep<false>(path + i, reached + i, box_x, plane);
            grew = __syncthreads_or(grew);
        }
        for (long long i = threadIdx.x; i < all; i += blockDim.x) {
            const Place p = place_of(i, Box{box_x, box_y, words});
            own[i] = inside_of(origin, grid, p.x, p.y, p.word) & ~reached[i];
        }
    }
}
