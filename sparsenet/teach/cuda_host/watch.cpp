// What an executable reports whose accesses are watched (watch.h): the first fault, as one line of JSON, which
// watched.py puts into words.
//
//     beyond      an access outside an array, or to shared memory outside it
//     unwritten   a read of shared memory or of an output that no thread has written
//     missing     elements of an output that no thread has written at the end
//     race        two accesses of different threads to one byte, at least one of which writes, and no barrier between
//     misaligned, endless, division, crash
//
// Races are found by vector clocks: each thread counts its own synchronisations and knows, of each other thread of its
// block, which of that one's it has heard of through barriers and warp operations.  An access of another thread is
// before the present one if it has been heard of; one of another block of the launch never is.  It matters not in which
// order the threads happen to run.  Atomics do not race with each other.
#ifdef SPARSENET_WATCH
#include "watch.h"

#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <string>

#include "fiber.h"
#include "run.h"

extern char __executable_start, _end;

namespace sparsenet_host {

volatile int atomic_line;  // of the atomic that runs, or 0 (cuda_host.h)

namespace {

constexpr size_t kGuardOfShared = 4096;  // before (cuda_host.h) and behind static shared memory
__attribute__((section("sparsenet_shared"), used, aligned(1))) unsigned char guard[kGuardOfShared];

using Address = uintptr_t;

struct Accessed {
    int block = -1, thread = 0;  // numbers in the launch and in the block; block -1: none
    unsigned clock = 0;
    int line = 0;  // of an atomic; others are known by their place in the code
    Address code = 0;
    bool write = false;
};

struct Cell {  // a byte
    bool written = false;
    Accessed write;
    std::vector<Accessed> reads;  // since that write; one of each thread
};

enum Kind { argument_memory, dynamic_memory, static_memory };

struct Region {
    Kind kind;
    int argument;
    Address begin;
    size_t bytes, margin;
    bool written, begins_empty;
    std::vector<Cell> cells;
    long long counts[2] = {};
};

std::vector<Region> regions;
std::vector<Region> counted;  // of the run before
std::vector<std::vector<unsigned>> clocks;  // by thread: what it knows of each other
bool in_kernel;
Address latest;  // place in the code of the access before

Address address(const void* place) { return reinterpret_cast<Address>(place); }

int block_number() { return static_cast<int>(blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z)); }

std::string told(const Accessed& one) {
    const unsigned thread = static_cast<unsigned>(one.thread), block = static_cast<unsigned>(one.block);
    char text[400];
    snprintf(text, sizeof text,
             "{\"thread\": [%u, %u, %u], \"block\": [%u, %u, %u], \"code\": %llu, \"line\": %d, \"write\": %s}",
             thread % blockDim.x, thread / blockDim.x % blockDim.y, thread / blockDim.x / blockDim.y, block % gridDim.x,
             block / gridDim.x % gridDim.y, block / gridDim.x / gridDim.y, static_cast<unsigned long long>(one.code),
             one.line, one.write ? "true" : "false");
    return text;
}

// A read of what no thread has written so far.  It is reported if no thread writes there before the next barrier: that
// would be a race; or before what comes of it, such as an index beyond an array.
struct Deferred {
    bool is = false;
    Region region;
    Address place = 0;
    size_t size = 0;
    Accessed here;
} deferred;

[[noreturn]] void report(const char* fault, const Region* region, Address place, size_t size, const Accessed* here,
                         const Accessed* there = nullptr) {
    if (deferred.is && strcmp(fault, "race") != 0)
        fault = "unwritten", region = &deferred.region, place = deferred.place, size = deferred.size,
        here = &deferred.here, there = nullptr;
    fprintf(stderr, "watch: {\"fault\": \"%s\", \"size\": %zu, \"grid\": [%u, %u, %u], \"threads\": [%u, %u, %u]", fault,
            size, gridDim.x, gridDim.y, gridDim.z, blockDim.x, blockDim.y, blockDim.z);
    if (region)
        fprintf(stderr, ", \"memory\": %d, \"argument\": %d, \"offset\": %lld, \"bytes\": %zu", region->kind,
                region->argument, static_cast<long long>(place - region->begin), region->bytes);
    if (here) fprintf(stderr, ", \"here\": %s", told(*here).c_str());
    if (there) fprintf(stderr, ", \"there\": %s", told(*there).c_str());
    fprintf(stderr, "}\n");
    fflush(stderr);
    _exit(3);
}

Accessed present(bool write, Address code) {
    const int thread = this_thread();
    return {block_number(), thread, clocks[thread][thread], atomic_line, code - 1, write};
}

// The region of an address; beyond all margins the nearest array.  None: it is not memory of the kernel's arguments.
Region* region_of(Address place) {
    for (Region& region : regions)
        if (place + region.margin >= region.begin && place < region.begin + region.bytes + region.margin)
            return &region;
    for (const unsigned char* stack : stacks)
        if (place >= address(stack) - kGuard && place < address(stack) + kStack) return nullptr;  // a local variable
    if (place >= address(&__executable_start) && place < address(&_end)) return nullptr;  // threadIdx, constants
    Region* nearest = nullptr;
    Address least = ~Address(0);
    for (Region& region : regions) {
        const Address distance = place < region.begin ? region.begin - place : place - region.begin;
        if (distance < least) least = distance, nearest = &region;
    }
    return nearest;
}

bool is_before(const Accessed& earlier, const Accessed& now) {
    return earlier.block == now.block && clocks[now.thread][earlier.thread] >= earlier.clock;
}

bool collide(const Accessed& earlier, const Accessed& now) {
    const bool same = earlier.block == now.block && earlier.thread == now.thread;
    return earlier.block >= 0 && !same && !(earlier.line && now.line) && !is_before(earlier, now);
}

void access(const void* pointer, size_t size, bool write, const void* code, bool aligned = true) {
    if (!in_kernel) return;
    latest = address(code);
    const Address place = address(pointer);
    Region* const region = region_of(place);
    if (!region) return;
    const Accessed now = present(write, latest);
    if (place < region->begin || place + size > region->begin + region->bytes)
        report("beyond", region, place, size, &now);
    if (aligned && place % size) report("misaligned", region, place, size, &now);
    region->counts[write] += static_cast<long long>(size);
    if (!region->written) return;
    for (Address byte = place - region->begin; byte < place - region->begin + size; ++byte) {
        Cell& cell = region->cells[byte];
        if (!write && !cell.written && region->begins_empty && !deferred.is)
            deferred = {true, {region->kind, region->argument, region->begin, region->bytes, 0, true, true, {}},
                        place, size, now};
        if (collide(cell.write, now)) report("race", region, place, size, &now, &cell.write);
        if (write) {
            for (const Accessed& read : cell.reads)
                if (collide(read, now)) report("race", region, place, size, &now, &read);
            cell.reads.clear();
            cell.write = now;
            cell.written = true;
        } else {
            const auto own = std::find_if(cell.reads.begin(), cell.reads.end(), [&](const Accessed& read) {
                return read.block == now.block && read.thread == now.thread;
            });
            if (own == cell.reads.end())
                cell.reads.push_back(now);
            else
                *own = now;
        }
    }
}

void interrupted(int signal, siginfo_t*, void* machine) {
    Address code = latest - 1;
#if defined(__x86_64__)
    code = static_cast<Address>(static_cast<ucontext_t*>(machine)->uc_mcontext.gregs[REG_RIP]);
#elif defined(__aarch64__)
    code = static_cast<ucontext_t*>(machine)->uc_mcontext.pc;
#endif
    Accessed now{block_number(), this_thread(), 0, 0, code, false}, before = now;
    before.code = latest - 1;
    report(signal == SIGVTALRM ? "endless" : signal == SIGFPE ? "division" : "crash", nullptr, 0, 0, &now, &before);
}

}  // namespace

void print(const char* format, ...) {
    if (order != Order::forward) return;
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
}

void watch_from_now_on() {
    static unsigned char stack[1 << 16];
    stack_t own{};
    own.ss_sp = stack;
    own.ss_size = sizeof stack;
    sigaltstack(&own, nullptr);
    struct sigaction action{};
    action.sa_sigaction = interrupted;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    for (const int signal : {SIGVTALRM, SIGFPE, SIGSEGV, SIGBUS}) sigaction(signal, &action, nullptr);
}

void watch_time() {
    itimerval limit{};
    limit.it_value.tv_sec = atol(getenv("SPARSENET_WATCH_SECONDS"));
    setitimer(ITIMER_VIRTUAL, &limit, nullptr);
}

void watch_array(int argument, const unsigned char* data, size_t bytes, bool written, bool output) {
    regions.push_back({argument_memory, argument, address(data), bytes, kMargin, written, output,
                       std::vector<Cell>(written ? bytes : 0)});
}

void watch_block(const unsigned char* shared, size_t shared_bytes) {
    if (deferred.is) report("unwritten", nullptr, 0, 0, nullptr);
    while (!regions.empty() && regions.back().kind != argument_memory) regions.pop_back();
    const Address begin = address(__start_sparsenet_shared) + kGuardOfShared;
    const size_t fixed = address(guard) - begin;
    if (fixed)
        regions.push_back({static_memory, -1, begin, fixed, kGuardOfShared, true, true, std::vector<Cell>(fixed)});
    if (shared_bytes)
        regions.push_back({dynamic_memory, -1, address(shared), shared_bytes, kMargin, true, true,
                           std::vector<Cell>(shared_bytes)});
    clocks.assign(thread_count(), std::vector<unsigned>(thread_count(), 0));
    for (int thread = 0; thread < thread_count(); ++thread) clocks[thread][thread] = 1;
    in_kernel = true;
}

void watch_synchronized(const std::vector<int>& threads) {
    std::vector<unsigned> all(clocks.size(), 0);
    for (const int thread : threads)
        for (size_t i = 0; i < all.size(); ++i) all[i] = std::max(all[i], clocks[thread][i]);
    for (const int thread : threads) {
        clocks[thread] = all;
        ++clocks[thread][thread];
    }
}

void watch_copied(const void* target, int bytes) {
    for (Region& region : regions)
        for (Address place = address(target); place < address(target) + bytes; ++place)
            if (place - region.begin < region.cells.size()) region.cells[place - region.begin].written = true;
}

void watch_end_of_run() {
    in_kernel = false;
    if (deferred.is) report("unwritten", nullptr, 0, 0, nullptr);
    for (const Region& region : regions) {
        if (region.kind != argument_memory || !region.written || !region.begins_empty) continue;
        size_t missing = 0, first = 0;
        for (size_t byte = region.bytes; byte-- > 0;)
            if (!region.cells[byte].written) ++missing, first = byte;
        if (missing) report("missing", &region, region.begin + first, missing, nullptr);
    }
    counted.swap(regions);
    regions.clear();
}

void watch_counts(int argument, long long counts[2]) {
    for (const Region& region : counted)
        if (region.kind == argument_memory && region.argument == argument)
            counts[0] = region.counts[0], counts[1] = region.counts[1];
}

}  // namespace sparsenet_host

// What g++ calls.
#define SPARSENET_HOOKS(size)                                                                             \
    void __tsan_read##size(void* place) { ACCESS(place, size, false); }                                   \
    void __tsan_write##size(void* place) { ACCESS(place, size, true); }                                   \
    void __tsan_unaligned_read##size(void* place) { ACCESS(place, size, false); }                         \
    void __tsan_unaligned_write##size(void* place) { ACCESS(place, size, true); }
#define ACCESS(place, size, write) sparsenet_host::access(place, size, write, __builtin_return_address(0))
extern "C" {
SPARSENET_HOOKS(1)
SPARSENET_HOOKS(2)
SPARSENET_HOOKS(4)
SPARSENET_HOOKS(8)
SPARSENET_HOOKS(16)
void __tsan_read_range(void* place, size_t size) {
    sparsenet_host::access(place, size, false, __builtin_return_address(0), false);
}
void __tsan_write_range(void* place, size_t size) {
    sparsenet_host::access(place, size, true, __builtin_return_address(0), false);
}
void __tsan_vptr_update(void*, void*) {}
void __tsan_vptr_read(void*) {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_init() {}
}
#undef ACCESS
#undef SPARSENET_HOOKS
#endif  // SPARSENET_WATCH
