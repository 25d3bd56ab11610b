// What the process needs of the scheduler.
#pragma once

#include "scheduler.h"

namespace sparsenet_host {

enum class Order { forward, reverse, random };

// A kernel of the source, by number, and the addresses of its arguments.
struct Call {
    int kernel;
    void** arguments;
};

// Run all threads of one block, which begin and go on in that order.
void run_block(Dim block, Order order, unsigned long long seed, Call call);

}  // namespace sparsenet_host
