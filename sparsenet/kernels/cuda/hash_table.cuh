// The hash table of site keys, which several kernels read; its layout is drawn in hash_table/cpu.py.

// A key's home: the eight cells of a run along the last axis share one line of 64 bytes.
__device__ inline long long home_of(long long key, long long mask) {
    const unsigned long long bits = static_cast<unsigned long long>(key);
    const unsigned long long mixed = ((bits >> 3) * 0x9E3779B97F4A7C15ull) >> 32;  // 2^64 / golden ratio
    return static_cast<long long>(((mixed << 3) | (bits & 7)) & static_cast<unsigned long long>(mask));
}

// The row of a key, -1 if it is not in the table.  No more probes than slots.
__device__ inline int find_row(const long long* table_keys, const int* table_rows, long long mask, long long key) {
    long long slot = home_of(key, mask);
    for (long long probe = 0; probe <= mask; ++probe) {
        const long long found = table_keys[slot];
        if (found == key) return table_rows[slot];
        if (found < 0) return -1;  // an empty slot ends the search
        slot = (slot + 1) & mask;
    }
    return -1;
}
