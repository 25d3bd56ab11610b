// Hash table from site keys to rows: open addressing, linear probing, load at most one half.
//
//     slot           0     1     2     3            mask
//     table_keys  | -1  | 817 | -1  | 42  | ... |        int64, -1 where empty
//     table_rows  |     |  5  |     |  0  | ... |        int32, never read beside an empty key
//
// One thread a key.  A slot is taken by one compare-and-swap, so which key lies where depends on who
// comes first; which row a key finds does not.

#include "common.cuh"
#include "hash_table.cuh"

// problems[0] counts the keys that found no slot of their own: negative, twice there, or no slot free.
extern "C" __global__ void hash_insert(const long long* __restrict__ keys, long long count, long long mask,
                                       UNORDERED long long* __restrict__ table_keys,
                                       UNORDERED int* __restrict__ table_rows, long long* __restrict__ problems) {
    for (long long row = global_index(); row < count; row += global_stride()) {
        const long long key = keys[row];
        bool placed = false;
        long long slot = home_of(key, mask);
        for (long long probe = 0; key >= 0 && probe <= mask; ++probe) {
            const long long found = static_cast<long long>(
                atomicCAS(reinterpret_cast<unsigned long long*>(table_keys + slot), ~0ull,
                          static_cast<unsigned long long>(key)));
            placed = found == -1;
            if (placed) table_rows[slot] = static_cast<int>(row);
            if (placed || found == key) break;
            slot = (slot + 1) & mask;
        }
        if (!placed) atomicAdd(reinterpret_cast<unsigned long long*>(problems), 1ull);
    }
}

extern "C" __global__ void hash_lookup(const long long* __restrict__ table_keys, const int* __restrict__ table_rows,
                                       long long mask, const long long* __restrict__ queries, long long count,
                                       int* __restrict__ rows) {
    for (long long i = global_index(); i < count; i += global_stride())
        rows[i] = queries[i] < 0 ? -1 : find_row(table_keys, table_rows, mask, queries[i]);
}
