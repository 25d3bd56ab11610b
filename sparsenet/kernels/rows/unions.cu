// Rows of two sets of sites on their union, side by side, added, subtracted or multiplied; and the way back.
//
//     sites of the union   0   1   2   3   4         samples (M, stride)  the sample of each, in its first column
//     x (2, C)             a       b                 x_rows  0 2          null: x has all sites
//     y (4, E)             p   q       r   s         y_rows  0 1 3 4
//     out (M, C + E)       ap  uq  bv  ur  us        u, v : the backgrounds of x and y in the site's sample; null: 0
//
// A block is (lanes, rows): a row of threads takes a site, and its lanes channels side by side, so that a warp reads
// and writes lines of memory; lanes are as many as channels, at most 32.  The row of a side at a site is found by
// binary search in its rows, which ascend; all lanes read the same ones.
//
// Limited by memory.  Variants: SCALAR float, double or Half.
#include "common.cuh"

enum { ADD, SUBTRACT, MULTIPLY };  // the order of unions.py

struct Side {
    const SCALAR* values;
    const long long* rows;
    long long count;  // of rows
    const SCALAR* background;
    bool several;  // whether each sample has a background of its own
    int channels;
};

// The row of a side that stands at a site; -1: none.  rows null: it has all sites.
__device__ inline long long row_at(const long long* rows, long long count, long long site) {
    if (rows == nullptr) return site;
    long long first = 0, last = count;
    while (first < last) {
        const long long middle = (first + last) / 2;
        if (rows[middle] < site)
            first = middle + 1;
        else
            last = middle;
    }
    return first < count && rows[first] == site ? first : -1;
}

// Where a side's channels at a site stand; null: they are zeros.
__device__ inline const SCALAR* at_site(const Side& side, const int* samples, int stride, long long site) {
    const long long row = row_at(side.rows, side.count, site);
    if (row >= 0) return side.values + row * side.channels;
    if (side.background == nullptr) return nullptr;
    const long long sample = side.several ? samples[site * stride] : 0;
    return side.background + sample * side.channels;
}

__device__ inline long long first_row() { return static_cast<long long>(blockIdx.x) * blockDim.y + threadIdx.y; }
__device__ inline long long next_row() { return static_cast<long long>(gridDim.x) * blockDim.y; }

extern "C" __global__ void concatenate_rows(
    const SCALAR* __restrict__ x, OPTIONAL const long long* __restrict__ x_rows, const long long x_count,
    OPTIONAL const SCALAR* __restrict__ x_background, const bool x_several, const int x_channels,
    const SCALAR* __restrict__ y, OPTIONAL const long long* __restrict__ y_rows, const long long y_count,
    OPTIONAL const SCALAR* __restrict__ y_background, const bool y_several, const int y_channels,
    OPTIONAL const int* __restrict__ samples, const int stride, const long long sites, SCALAR* __restrict__ out) {
    const Side sides[2] = {{x, x_rows, x_count, x_background, x_several, x_channels},
                           {y, y_rows, y_count, y_background, y_several, y_channels}};
    for (long long site = first_row(); site < sites; site += next_row()) {
        SCALAR* into = out + site * (x_channels + y_channels);
#pragma unroll
        for (int s = 0; s < 2; ++s) {
            const SCALAR* from = at_site(sides[s], samples, stride, site);
            for (int channel = threadIdx.x; channel < sides[s].channels; channel += blockDim.x)
                into[channel] = from == nullptr ? SCALAR(0) : from[channel];
            into += sides[s].channels;
        }
    }
}

// operation : the same for all threads, which thus take the same branch
extern "C" __global__ void combine_rows(
    const SCALAR* __restrict__ x, OPTIONAL const long long* __restrict__ x_rows, const long long x_count,
    OPTIONAL const SCALAR* __restrict__ x_background, const bool x_several, const SCALAR* __restrict__ y,
    OPTIONAL const long long* __restrict__ y_rows, const long long y_count,
    OPTIONAL const SCALAR* __restrict__ y_background, const bool y_several, const int channels, const int operation,
    OPTIONAL const int* __restrict__ samples, const int stride, const long long sites, SCALAR* __restrict__ out) {
    const Side left{x, x_rows, x_count, x_background, x_several, channels};
    const Side right{y, y_rows, y_count, y_background, y_several, channels};
    for (long long site = first_row(); site < sites; site += next_row()) {
        const SCALAR* a = at_site(left, samples, stride, site);
        const SCALAR* b = at_site(right, samples, stride, site);
        for (int channel = threadIdx.x; channel < channels; channel += blockDim.x) {
            const WIDE one = a == nullptr ? WIDE(0) : static_cast<WIDE>(a[channel]);
            const WIDE two = b == nullptr ? WIDE(0) : static_cast<WIDE>(b[channel]);
            out[site * channels + channel] = operation == ADD        ? one + two
                                             : operation == SUBTRACT ? one - two
                                                                     : one * two;
        }
    }
}

extern "C" __global__ void split_rows(const SCALAR* __restrict__ values, OPTIONAL const long long* __restrict__ x_rows,
                                      const long long x_count, const int x_channels,
                                      OPTIONAL const long long* __restrict__ y_rows, const long long y_count,
                                      const int y_channels, const long long sites, SCALAR* __restrict__ x,
                                      SCALAR* __restrict__ y) {
    for (long long site = first_row(); site < sites; site += next_row()) {
        const SCALAR* from = values + site * (x_channels + y_channels);
        const long long x_row = row_at(x_rows, x_count, site), y_row = row_at(y_rows, y_count, site);
        if (x_row >= 0)
            for (int channel = threadIdx.x; channel < x_channels; channel += blockDim.x)
                x[x_row * x_channels + channel] = from[channel];
        if (y_row >= 0)
            for (int channel = threadIdx.x; channel < y_channels; channel += blockDim.x)
                y[y_row * y_channels + channel] = from[x_channels + channel];
    }
}
