// What the parts of the process need of each other: main.cpp, scheduler.cpp, hopper.cpp, wgmma.cpp and watch.cpp.
#pragma once

#include <string>
#include <vector>

#include "scheduler.h"

// Where the static shared memory is: its section of the executable, if it has one.
extern unsigned char __start_sparsenet_shared[] __attribute__((weak));
extern unsigned char __stop_sparsenet_shared[] __attribute__((weak));

namespace sparsenet_host {

enum class Order { forward, reverse, random };

// A kernel of the source, by number, and the addresses of its arguments.
struct Call {
    int kernel;
    void** arguments;
};

// Run all threads of one block, which begin and go on in that order.
void run_block(Dim block, Order order, unsigned long long seed, size_t shared_bytes, Call call);

// Of the block that runs.
extern Order order;
unsigned random_below(unsigned bound);
int this_thread();
int thread_count();

// Why a thread does not go on: `state` says how far the object is.
struct Reason {
    const char* name;
    int line;
    const void* object;
    int detail;
    std::string (*state)(const void* object, int detail);
};

void wait_for(const Reason& reason);           // until this thread is woken
void poll_again(const Reason& reason);         // when all others have had a turn
void wake(const std::vector<int>& waiters);    // threads that wait; empty: what others poll for may have changed

// Asynchronous copies of a thread: those up to the mark are done.
int mark_copies();
void finish_copies(int thread, int mark);

// What the scheduler tells hopper.cpp.
void begin_asynchronously(size_t shared_bytes);         // a block begins
bool step_asynchronously(bool late);                    // one step of what is under way; late: that is waited for
void thread_goes_on(int thread);
void end_of_thread();                                   // the kernel has returned in this thread
void end_asynchronously();                              // all threads have returned
void synchronized(const std::vector<int>& threads);     // they know of all that has happened
void written_by_threads(const void* target, int bytes); // an asynchronous copy of a thread has come

// Between hopper.cpp and wgmma.cpp.
void begin_products();              // a block begins
void end_products_of_thread();      // the kernel has returned in this thread
void begin_product(int warpgroup);  // its oldest one may end from now on,
void end_product(int warpgroup);    // which this does
bool product_is_awaited(int warpgroup);
bool in_shared(const unsigned char* piece);  // 16 bytes of dynamic shared memory
// Whether a product must not read these 16 bytes, and why; `covered`: covered_for_products() of the thread.
const char* unseen(const unsigned char* piece, long long covered);
long long covered_for_products();

}  // namespace sparsenet_host
