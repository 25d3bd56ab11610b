// Triangles to cells.  A batch of meshes lies in two arrays, cut at splits:
//
//     vertices (V, 3)   mesh 0 ... | mesh 1 ... |      faces (F, 3)   mesh 0 ... | mesh 1 ... |  rows within their mesh
//
// Cells are bits.  Each mesh has a box of box_x * box_y rows of `words` words, which begins at its own cell
// `origins[s]` of the grid and holds every cell that the mesh can meet, outside the grid too:
//
//     bits (S, box_x, box_y, words)     cell (x, y, z) of the box: bit z % 32 of word z / 32 of row (x, y)
//
// The overlap of triangle and cell is decided in integers, see cpu.py.  Bits are set with an atomic or:
// the order does not matter.

#include "common.cuh"

constexpr long long STEPS = 2048, HALF = STEPS / 2;  // of the lattice to a cell
enum Problem { NO_PROBLEM = 0, NOT_FINITE = 1, TOO_FAR = 2, TOO_LARGE = 4, NO_SUCH_VERTEX = 8 };

// The last segment that begins at or before `row`: which mesh a face belongs to.
__device__ inline int segment_of(const long long* splits, int segments, long long row) {
    int low = 0, high = segments - 1;
    while (low < high) {
        const int middle = (low + high + 1) / 2;
        if (splits[middle] <= row) low = middle; else high = middle - 1;
    }
    return low;
}

__device__ inline long long floor_divide(long long number, long long by) {  // by > 0
    const long long quotient = number / by;
    return quotient - (number - quotient * by < 0);
}

struct Triangle {
    long long at[3][3];  // corner c's coordinate along an axis is at[axis][c], from the first cell's corner on
    long long first[3];  // that cell
    int cells[3];        // how many the triangle spans
};

__device__ inline Triangle triangle_at(const int* face, const long long* lattice) {
    Triangle t;
#pragma unroll
    for (int axis = 0; axis < 3; ++axis) {
        long long low = lattice[3LL * face[0] + axis], high = low;
#pragma unroll
        for (int corner = 0; corner < 3; ++corner) {
            const long long value = lattice[3LL * face[corner] + axis];
            t.at[axis][corner] = value;
            low = value < low ? value : low;
            high = value > high ? value : high;
        }
        t.first[axis] = floor_divide(low, STEPS);
        t.cells[axis] = static_cast<int>(floor_divide(high, STEPS) - t.first[axis] + 1);
#pragma unroll
        for (int corner = 0; corner < 3; ++corner) t.at[axis][corner] -= t.first[axis] * STEPS;
    }
    return t;
}

// counts[f]: columns (x, y) of cells in the box of face f; 0 for a mesh that has a problem.
extern "C" __global__ void count_columns(const int* __restrict__ faces, const long long* __restrict__ face_splits,
                                         const long long* __restrict__ lattice,
                                         const long long* __restrict__ vertex_splits, int samples, long long count,
                                         int* __restrict__ problems, int* __restrict__ counts) {
    for (long long f = global_index(); f < count; f += global_stride()) {
        const int s = segment_of(face_splits, samples, f);
        const int* face = faces + 3 * f;
        const long long vertices = vertex_splits[s + 1] - vertex_splits[s];
        counts[f] = 0;
        if (face[0] < 0 || face[1] < 0 || face[2] < 0 || face[0] >= vertices || face[1] >= vertices
            || face[2] >= vertices) {
            atomicOr(problems + s, NO_SUCH_VERTEX);
        } else if (!(problems[s] & (NOT_FINITE | TOO_FAR | TOO_LARGE))) {  // bits of an earlier kernel
            const Triangle t = triangle_at(face, lattice + 3 * vertex_splits[s]);
            counts[f] = t.cells[0] * t.cells[1];
        }
    }
}

struct Interval {
    long long low, high;
};

// In row i of cells along axis a: the cells along axis b that the triangle's shadow on the plane (a, b) meets.
// An edge (da, db), da > 0, has the normal (-db, da); a cell stays if its shadow on it meets the triangle's.
__device__ inline Interval met_in_row(const long long (&a)[3], const long long (&b)[3], long long i, Interval met) {
#pragma unroll
    for (int edge = 0; edge < 3; ++edge) {
        const int end = (edge + 1) % 3, other = (edge + 2) % 3;
        long long da = a[end] - a[edge], db = b[end] - b[edge];
        if (da == 0) continue;  // the normal is the axis a, on which every row meets the triangle
        if (da < 0) da = -da, db = -db;
        const long long on_edge = da * b[edge] - db * a[edge], opposite = da * b[other] - db * a[other];
        const long long extent = HALF * (da + (db < 0 ? -db : db)), at = db * (STEPS * i + HALF);
        const long long lowest = (on_edge < opposite ? on_edge : opposite) - extent - da * HALF;
        const long long highest = (on_edge < opposite ? opposite : on_edge) + extent - da * HALF;
        const long long low = -floor_divide(-lowest - at, STEPS * da), high = floor_divide(highest + at, STEPS * da);
        met.low = low > met.low ? low : met.low;
        met.high = high < met.high ? high : met.high;
    }
    return met;
}

// The cells of column (i, j) of a triangle's box that the triangle meets: what is common to row i of plane xz,
// row j of plane yz and the normal's interval, nothing where row i of plane xy has no cell j.
__device__ inline Interval met_in_column(const Triangle& t, int i, int j) {
    Interval met{0, t.cells[2] - 1};
    if ((t.cells[0] > 1) + (t.cells[1] > 1) + (t.cells[2] > 1) < 2) return met;  // one row of cells: it meets each
    const Interval none{0, -1};
    const Interval row = met_in_row(t.at[0], t.at[1], i, Interval{0, t.cells[1] - 1});
    if (j < row.low || j > row.high) return none;
    met = met_in_row(t.at[1], t.at[2], j, met_in_row(t.at[0], t.at[2], i, met));
    const long long(&x)[3] = t.at[0], (&y)[3] = t.at[1], (&z)[3] = t.at[2];
    long long normal_x = (y[1] - y[0]) * (z[2] - z[0]) - (z[1] - z[0]) * (y[2] - y[0]);
    long long normal_y = (z[1] - z[0]) * (x[2] - x[0]) - (x[1] - x[0]) * (z[2] - z[0]);
    long long normal_z = (x[1] - x[0]) * (y[2] - y[0]) - (y[1] - y[0]) * (x[2] - x[0]);
    if (normal_z < 0) normal_x = -normal_x, normal_y = -normal_y, normal_z = -normal_z;
    const long long extent = HALF * ((normal_x < 0 ? -normal_x : normal_x) + (normal_y < 0 ? -normal_y : normal_y)
                                    + normal_z);
    const long long at_bottom = normal_x * (STEPS * i + HALF - x[0]) + normal_y * (STEPS * j + HALF - y[0])
                                + normal_z * (HALF - z[0]);
    if (normal_z > 0) {
        const long long low = -floor_divide(extent + at_bottom, STEPS * normal_z);
        const long long high = floor_divide(extent - at_bottom, STEPS * normal_z);
        met.low = low > met.low ? low : met.low;
        met.high = high < met.high ? high : met.high;
    } else if (at_bottom > extent || at_bottom < -extent) {
        return none;
    }
    return met;
}

// Sets the bits of the cells low to high of a row.
__device__ inline void mark(unsigned* row, long long low, long long high) {
    for (long long word = low / 32; low <= high && word <= high / 32; ++word) {
        const int first = word == low / 32 ? static_cast<int>(low % 32) : 0;
        const int last = word == high / 32 ? static_cast<int>(high % 32) : 31;
        const unsigned set = (~0u << first) & (~0u >> (31 - last));
        if ((row[word] & set) != set) atomicOr(row + word, set);  // what is there already costs a read alone
    }
}

// One thread a column of a triangle's box, found by a binary search in `ends`, the running sum of `counts`: the
// columns of a large triangle are spread over many threads.
extern "C" __global__ void mark_triangles(const int* __restrict__ faces, const long long* __restrict__ face_splits,
                                          const long long* __restrict__ lattice,
                                          const long long* __restrict__ vertex_splits, int samples, long long count,
                                          const int* __restrict__ counts, const long long* __restrict__ ends,
                                          const long long* __restrict__ origins, int box_x, int box_y, int words,
                                          unsigned* __restrict__ bits) {
    const long long total = ends[count - 1];
    for (long long c = global_index(); c < total; c += global_stride()) {
        long long low = 0, high = count - 1;  // the first face that ends after c
        while (low < high) {
            const long long middle = (low + high) / 2;
            if (ends[middle] > c) high = middle; else low = middle + 1;
        }
        const int s = segment_of(face_splits, samples, low);
        const Triangle t = triangle_at(faces + 3 * low, lattice + 3 * vertex_splits[s]);
        const int column = static_cast<int>(c - (ends[low] - counts[low]));
        const int i = column / t.cells[1], j = column - i * t.cells[1];
        const Interval met = met_in_column(t, i, j);
        const long long x = t.first[0] + i - origins[3 * s], y = t.first[1] + j - origins[3 * s + 1];
        const long long z = t.first[2] - origins[3 * s + 2];
        if (x < 0 || x >= box_x || y < 0 || y >= box_y) continue;  // never: the box holds the mesh
        const long long from = z + met.low < 0 ? 0 : z + met.low;
        const long long to = z + met.high >= 32LL * words ? 32LL * words - 1 : z + met.high;
        mark(bits + ((static_cast<long long>(s) * box_x + x) * box_y + y) * words, from, to);
    }
}

// Given cells (N, 3) of one grid, in a box that begins at origins[0].
extern "C" __global__ void mark_coordinates(const int* __restrict__ coordinates, long long count,
                                            const long long* __restrict__ origins, int box_y, int words,
                                            unsigned* __restrict__ bits) {
    for (long long i = global_index(); i < count; i += global_stride()) {
        const long long x = coordinates[3 * i] - origins[0], y = coordinates[3 * i + 1] - origins[1];
        const long long z = coordinates[3 * i + 2] - origins[2];
        mark(bits + (x * box_y + y) * words, z, z);
    }
}
