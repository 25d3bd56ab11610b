// What hopper.h calls: barriers and copies (hopper.cpp), matrix products of a warpgroup (wgmma.cpp).
#pragma once

namespace sparsenet_host {

struct Operand {
    const unsigned char* start;
    const unsigned char* base;  // where `start` was before it was moved on
    int leading;
    bool mn_major;
};

// What one of the instructions multiplies: `number` gives the value of the bits of one number of `bytes`.
struct ProductKind {
    const char* name;
    int bytes;
    bool mn_major;
    double (*number)(unsigned bits);
};

void barrier_init(unsigned long long* barrier, int arrivals, int line);
void barrier_init_fence();
void barrier_arrive(unsigned long long* barrier, int bytes, const char* name, int line);
void barrier_arrive_after_copies(unsigned long long* barrier, int line);
bool barrier_test(unsigned long long* barrier, int parity, int line);
void barrier_wait(unsigned long long* barrier, int parity, int line);
void bulk_copy(void* shared, const void* global, int bytes, unsigned long long* barrier, int line);
void fence_proxies();

void product(const ProductKind& kind, float* sums, int columns, const Operand& a, const Operand& b, int line);
void fence_products();
void commit_products();
void wait_for_products(int pending, int line);

}  // namespace sparsenet_host
