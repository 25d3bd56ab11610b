// Sums over the rows of each sample, run by run: what the backgrounds get from the gradients of windows.
//
//     rows        | run 0 | run 1 | run 2 | ...        of `run` rows
//     samples     | b = 0     | b = 1     |
//     partial     | 0 + 0 | 1 + 0 | 1 + 1 | 2 + 1 | ...
//
// Runs are cut at the borders of samples: the part of run i in sample b has slot i + b, which no other pair has,
// because from one part to the next i or b grows.  A slot without a row is 0.
#include "common.cuh"

// partial (slots, C) += term(m, c) over the rows m of each part.  splits: null if all rows count as one sample.
template <typename Term>
__device__ inline void sum_runs(const long long* splits, int samples, long long rows, int channels, int run,
                                WIDE* partial, Term term) {
    const long long runs = (rows + run - 1) / run;
    for (long long t = global_index(); t < runs * channels; t += global_stride()) {
        const long long i = t / channels, c = t - i * channels;
        int low = 0, high = samples - 1;  // the sample of the first row: the last that begins at or before it
        while (low < high) {
            const int middle = (low + high + 1) / 2;
            if (splits[middle] <= i * run) low = middle; else high = middle - 1;
        }
        long long end = splits == nullptr ? rows : splits[low + 1];
        WIDE sum = 0;
        for (long long m = i * run; m < (i + 1) * run && m < rows; ++m) {
            while (m >= end) {
                partial[(i + low) * channels + c] = sum;
                sum = 0;
                end = splits[++low + 1];
            }
            sum += term(m, c);
        }
        partial[(i + low) * channels + c] = sum;
    }
}
