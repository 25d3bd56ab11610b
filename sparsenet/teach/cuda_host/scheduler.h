// The threads of a block as fibers, and the places where they wait for each other.
#pragma once

#include <stddef.h>

#include <type_traits>
#include <utility>

namespace sparsenet_host {

struct Dim {
    unsigned x, y, z;
};
extern Dim threadIdx, blockIdx, blockDim, gridDim;
extern unsigned char* dynamic_shared;  // shared_bytes of this launch, to the byte

// One lane's part of a warp-collective operation: `input` and `output` lie on its own stack and stay until all
// lanes of the mask have come; the last one computes the results of all.
struct Collective {
    const char* name;
    int line;
    unsigned mask;
    const void* input;
    void* output;
};
// `compute` gets the 32 lanes' parts; those outside the mask are null.
using Compute = void (*)(Collective* const* lanes, unsigned mask);

void collective(Collective& part, Compute compute);
int lane();  // of this thread in its warp

// All threads of the block: adds up what they bring.
int barrier(int value, const char* name, int line);

// Ends the process; the driver shows the message.
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

// Asynchronous copies of the present thread: done at the wait, as late as the GPU may do them.
void copy_later(void* target, const void* source, int bytes, bool valid);
void close_copies();
void await_copies(int pending);

// Calls kernel(arguments...), each argument given by its address; only the kernel's own accesses are watched.
template <class... Parameters, size_t... index>
__attribute__((no_sanitize("thread"))) void call(void (*kernel)(Parameters...), void** arguments,
                                                 std::index_sequence<index...>) {
    kernel(*static_cast<std::remove_cv_t<Parameters>*>(arguments[index])...);
}
template <class... Parameters>
void call(void (*kernel)(Parameters...), void** arguments) {
    call(kernel, arguments, std::index_sequence_for<Parameters...>{});
}

}  // namespace sparsenet_host

extern "C" void sparsenet_kernel(int kernel, void** arguments);  // what the driver puts after the source
