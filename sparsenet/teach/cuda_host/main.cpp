// The process that holds one kernel: reads launches from its standard input, answers with the arrays written.
//
//     request   int64 kernel grid[3] block[3] shared_bytes seed few first count, then for each argument:
//               kind bytes offset flags before, then what the scalars (8 bytes each) and arrays hold
//     answer    the bytes of each written array, of a watched executable int64 bytes read and written of each argument,
//               then one '.'
//
// A launch runs three times from the same memory: forward, in reverse, in random order, with shared memory poisoned
// differently; and, if the grid has more blocks than `few` along x (0: never), a fourth time with that many, so
// that grid-stride loops go round again.  What differs in a written array is a race, was never written, or depends on
// the number of blocks: the process ends and says so, as it does at the first report of a sanitizer.
//
// Of a launch that is too large to run, the last blocks run alone, from number `first` on, over the last rows of its
// arrays: a pointer begins `before` bytes ahead of the memory there is.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <vector>

#include "run.h"
#include "watch.h"


namespace {

using namespace sparsenet_host;

enum Kind : long long { scalar, array, null, same };  // `same`: the memory of the argument numbered `offset`
enum Flag : long long { written = 1, ordered = 2, output = 4 };  // output: watched, all of it is to be written

struct Argument {
    long long kind, bytes, offset, flags, before;
};

struct Run {
    Order order;
    bool few;
    const char* words;
};

constexpr Run RUNS[] = {{Order::forward, false, "forward order of threads and blocks"},
                        {Order::reverse, false, "reverse order of threads and blocks"},
                        {Order::random, false, "random order of threads and blocks"},
                        {Order::random, true, "random order on a few blocks, whose grid-stride loops go round again"}};

bool receive(void* target, size_t bytes) { return fread(target, 1, bytes, stdin) == bytes; }

// Memory that ends where the array ends, to the byte, and begins at the same offset from 16 as on the caller's side,
// so that AddressSanitizer sees a step beyond it and UndefinedBehaviorSanitizer a vector load that is not aligned.
struct Buffer {
    unsigned char* memory;
    unsigned char* data;
    Buffer(size_t bytes, size_t offset, size_t alignment = 16) {
        void* place = nullptr;
        if (posix_memalign(&place, alignment, 2 * kMargin + bytes + offset + !(bytes + offset)))
            fail("no memory for an array");
        memory = static_cast<unsigned char*>(place);
        data = memory + kMargin + offset;
    }
    Buffer(const Buffer&) = delete;
    ~Buffer() { free(memory); }
};

__attribute__((no_sanitize("address"))) void poison_static_shared(unsigned char value) {
    for (unsigned char volatile* byte = __start_sparsenet_shared; byte < __stop_sparsenet_shared; ++byte) *byte = value;
}

void run_grid(Order order, long long first, long long seed, size_t shared_bytes, Call call) {
    const unsigned char poison = order == Order::forward ? 0x7F : order == Order::reverse ? 0xFF : 0xA5;
    const long long last = static_cast<long long>(gridDim.x) * gridDim.y * gridDim.z - 1, blocks = last + 1 - first;
    std::vector<long long> list(blocks);
    for (long long i = 0; i < blocks; ++i) list[i] = order == Order::reverse ? last - i : first + i;
    unsigned long long random = seed;
    if (order == Order::random)
        for (long long i = blocks - 1; i > 0; --i) {
            random = random * 6364136223846793005ull + 1442695040888963407ull;
            std::swap(list[i], list[(random >> 20) % (i + 1)]);
        }
    for (const long long i : list) {
        poison_static_shared(poison);
        // Where the GPU has it: at a multiple of 1024, behind the static part.
        Buffer shared(shared_bytes, (__stop_sparsenet_shared - __start_sparsenet_shared + 15) / 16 * 16 % 1024, 1024);
        if (shared_bytes) memset(shared.data, poison, shared_bytes);
        dynamic_shared = shared.data;
        const Dim block{static_cast<unsigned>(i % gridDim.x), static_cast<unsigned>(i / gridDim.x % gridDim.y),
                        static_cast<unsigned>(i / gridDim.x / gridDim.y)};
        run_block(block, order, seed + i, shared_bytes, call);
    }
}

bool serve() {
    long long head[12];
    if (!receive(head, sizeof head)) return false;
    gridDim = {unsigned(head[1]), unsigned(head[2]), unsigned(head[3])};
    blockDim = {unsigned(head[4]), unsigned(head[5]), unsigned(head[6])};
    const size_t count = head[11];
    std::vector<Argument> arguments(count);
    if (!receive(arguments.data(), count * sizeof(Argument))) return false;
    std::vector<std::vector<unsigned char>> given(count), first(count), result(count);
    for (size_t i = 0; i < count; ++i) {
        if (arguments[i].kind == scalar || arguments[i].kind == array) given[i].resize(arguments[i].bytes);
        if (!receive(given[i].data(), given[i].size())) return false;
    }
    watch_time();
    for (const Run& run : RUNS) {
        if (run.few && (!head[9] || head[1] <= head[9])) continue;
        gridDim.x = unsigned(run.few ? head[9] : head[1]);
        std::vector<Buffer*> buffers(count, nullptr);
        std::vector<void*> pointers(count, nullptr), addresses(count);
        for (size_t i = 0; i < count; ++i) {
            if (arguments[i].kind == array) {
                buffers[i] = new Buffer(given[i].size(), arguments[i].offset);
                memcpy(buffers[i]->data, given[i].data(), given[i].size());
                watch_array(static_cast<int>(i), buffers[i]->data, given[i].size(), arguments[i].flags & written,
                            arguments[i].flags & output);
                pointers[i] = reinterpret_cast<void*>(reinterpret_cast<intptr_t>(buffers[i]->data) - arguments[i].before);
            } else if (arguments[i].kind == same) {
                pointers[i] = pointers[arguments[i].offset];
            }
            addresses[i] = arguments[i].kind == scalar ? static_cast<void*>(given[i].data()) : &pointers[i];
        }
        run_grid(run.order, head[10], head[8], head[7], {static_cast<int>(head[0]), addresses.data()});
        watch_end_of_run();
        for (size_t i = 0; i < count; ++i) {
            if (buffers[i]) {
                result[i].assign(buffers[i]->data, buffers[i]->data + given[i].size());
                if (run.order == Order::forward) first[i] = result[i];
                if (arguments[i].flags & ordered && result[i] != first[i]) {
                    const size_t byte =
                        std::mismatch(result[i].begin(), result[i].end(), first[i].begin()).first - result[i].begin();
                    fprintf(stderr, "order: argument #%zu differs at byte %zu between runs in forward and in %s: a race, "
                            "a missing barrier, or shared memory read before it is written\n", i, byte, run.words);
                    exit(3);
                }
            }
            delete buffers[i];
        }
    }
    for (size_t i = 0; i < count; ++i)
        if (arguments[i].flags & written) {
            const auto& answer = result[arguments[i].kind == same ? arguments[i].offset : i];
            fwrite(answer.data(), 1, answer.size(), stdout);
        }
#ifdef SPARSENET_WATCH
    for (size_t i = 0; i < count; ++i) {
        long long counts[2] = {};
        watch_counts(static_cast<int>(i), counts);
        fwrite(counts, sizeof counts, 1, stdout);
    }
#endif
    fputc('.', stdout);
    return fflush(stdout) == 0;
}

}  // namespace

int main() {
    watch_from_now_on();
    while (serve()) {
    }
}
