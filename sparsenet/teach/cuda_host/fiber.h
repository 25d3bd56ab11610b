// Stacks of their own, and the switch from one to another: a thread of CUDA runs on each (scheduler.cpp).
#pragma once

#include <stddef.h>
#include <sys/mman.h>

#include <vector>

#include "scheduler.h"

#ifdef SPARSENET_SANITIZE
#include <sanitizer/common_interface_defs.h>
#endif
#ifndef __x86_64__
#include <ucontext.h>
#endif

namespace sparsenet_host {
namespace {

constexpr size_t kStack = 256 * 1024, kGuard = 4096;

// A stack and the place in it where it stopped.
struct Context {
#ifdef __x86_64__
    void* top = nullptr;
#else
    ucontext_t machine;
#endif
    unsigned char* stack = nullptr;
    void* fake_stack = nullptr;  // AddressSanitizer's
};

#ifdef __x86_64__
extern "C" void sparsenet_switch(void** save, void* load);
asm(R"(
    .text
    .globl sparsenet_switch
    .type sparsenet_switch, @function
sparsenet_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size sparsenet_switch, .-sparsenet_switch
    .section .note.GNU-stack,"",@progbits
    .text
)");
#endif

std::vector<const unsigned char*> stacks;  // of all fibers
const void* main_stack;
size_t main_stack_size;

void switch_to(Context& from, Context& to) {
#ifdef SPARSENET_SANITIZE
    __sanitizer_start_switch_fiber(&from.fake_stack, to.stack ? to.stack : main_stack, to.stack ? kStack : main_stack_size);
#endif
#ifdef __x86_64__
    sparsenet_switch(&from.top, to.top);
#else
    swapcontext(&from.machine, &to.machine);
#endif
#ifdef SPARSENET_SANITIZE
    __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
}

void fiber_main();

Context* new_fiber() {
    auto* fiber = new Context;
    auto* memory = static_cast<unsigned char*>(
        mmap(nullptr, kStack + kGuard, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (memory == MAP_FAILED) fail("no memory for the stack of a thread");
    mprotect(memory, kGuard, PROT_NONE);
    fiber->stack = memory + kGuard;
    stacks.push_back(fiber->stack);
#ifdef __x86_64__
    auto** top = reinterpret_cast<void**>(fiber->stack + kStack) - 2;  // aligned as after a call
    *top = reinterpret_cast<void*>(fiber_main);
    for (int registers = 0; registers < 6; ++registers) *--top = nullptr;
    fiber->top = top;
#else
    getcontext(&fiber->machine);
    fiber->machine.uc_stack.ss_sp = fiber->stack;
    fiber->machine.uc_stack.ss_size = kStack;
    makecontext(&fiber->machine, fiber_main, 0);
#endif
    return fiber;
}

}  // namespace
}  // namespace sparsenet_host
