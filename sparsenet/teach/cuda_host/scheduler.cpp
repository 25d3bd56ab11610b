// Runs the blocks of a launch one after another, and the threads of a block as fibers.
//
// A fiber runs until its thread ends, when it goes on with a thread that has not begun, or until its thread must
// wait; it then hands over to another fiber.  Which one comes next is the order's choice: forward, reverse or random.
// When none can go on, what runs asynchronously (hopper.cpp) gets on by one step; when there is nothing of that either
// although threads are left, they wait for each other in vain: that is reported.
#include "scheduler.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "fiber.h"
#include "run.h"
#include "watch.h"

namespace sparsenet_host {

Dim threadIdx, blockIdx, blockDim, gridDim;
unsigned char* dynamic_shared;

void fail(const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "block (%u, %u, %u) of (%u, %u, %u): ", blockIdx.x, blockIdx.y, blockIdx.z, gridDim.x, gridDim.y,
            gridDim.z);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    fflush(stderr);
    _exit(3);
}

unsigned long long state_of_random;
Order order;

unsigned random_below(unsigned bound) {
    state_of_random = state_of_random * 6364136223846793005ull + 1442695040888963407ull;
    return static_cast<unsigned>((state_of_random >> 33) % bound);
}

namespace {

struct Copy {
    void* target;
    const void* source;
    int bytes, group, number;  // group: by close_copies; number: by mark_copies
    bool valid;
};

enum class State { unstarted, running, ready, at_barrier, at_collective, waiting, polling, done };

struct Thread {
    State state;
    Context* fiber;
    Collective* part;
    int barrier_line, value;
    const char* barrier_name;
    std::vector<Copy> copies;
    int group, number;
    Reason reason;  // of waiting or polling
};

constexpr int kPolls = 1000;  // rounds in which all that poll have had their turn, and nothing has come of it

Context main_context;
std::vector<Context*> idle;  // fibers without a thread
std::vector<Thread> threads;
std::vector<int> unstarted, ready;  // threads; the next to run is the last
std::vector<int> polling;
int idle_rounds, current, count, waiting, ended, barrier_sum;

// The numbers 0 ... size-1, in the order in which they are to be taken from the back.
std::vector<int> arranged(int size) {
    std::vector<int> list(size);
    for (int i = 0; i < size; ++i) list[i] = order == Order::reverse ? i : size - 1 - i;
    if (order == Order::random)
        for (int i = size - 1; i > 0; --i) std::swap(list[i], list[random_below(i + 1)]);
    return list;
}

void enter(int thread) {
    current = thread;
    thread_goes_on(thread);
    threads[thread].state = State::running;
    const unsigned x = blockDim.x, y = blockDim.y, number = static_cast<unsigned>(thread);
    threadIdx = {number % x, number / x % y, number / x / y};
}

int take(std::vector<int>& list) {
    const int thread = list.back();
    list.pop_back();
    return thread;
}

void release(const std::vector<int>& woken) {
    std::vector<int> sorted = woken;
    std::sort(sorted.begin(), sorted.end());
    for (const int place : arranged(static_cast<int>(sorted.size()))) {
        threads[sorted[place]].state = State::ready;
        ready.push_back(sorted[place]);
    }
}

// The fiber that goes on, its thread entered; the main context when no thread can.
Context& next_fiber() {
    if (order == Order::random && random_below(4) == 0) step_asynchronously(false);
    while (ready.empty() && unstarted.empty()) {
        if (ended == count) return main_context;
        if (step_asynchronously(true))
            idle_rounds = 0;
        else if (polling.empty() || ++idle_rounds > kPolls)
            return main_context;
        release(std::exchange(polling, {}));
    }
    const bool begin = ready.empty() || (order == Order::random && !unstarted.empty() && random_below(4) == 0);
    enter(take(begin ? unstarted : ready));
    Thread& thread = threads[current];
    if (begin) {
        if (idle.empty()) idle.push_back(new_fiber());
        thread.fiber = idle.back();
        idle.pop_back();
    }
    return *thread.fiber;
}

void give_way() {
    Context& own = *threads[current].fiber;
    Context& next = next_fiber();
    if (&next != &own) switch_to(own, next);
}

Call launched;

void fiber_main() {
#ifdef SPARSENET_SANITIZE
    const void* bottom;
    size_t size;
    __sanitizer_finish_switch_fiber(nullptr, &bottom, &size);
    if (!main_stack) main_stack = bottom, main_stack_size = size;  // the first fiber comes from there
#endif
    for (;;) {
        sparsenet_kernel(launched.kernel, launched.arguments);
        end_of_thread();
        Thread& thread = threads[current];
        thread.state = State::done;
        ++ended;
        Context& own = *thread.fiber;
        if (ready.empty() && !unstarted.empty()) {  // go on with a thread that has not begun: no switch
            enter(take(unstarted));
            threads[current].fiber = &own;
            continue;
        }
        idle.push_back(&own);
        Context& next = next_fiber();
        if (&next != &own) switch_to(own, next);
    }
}

std::string place_of(const Thread& thread) {
    switch (thread.state) {
        case State::done: return "have returned";
        case State::at_barrier:
            return "wait at " + std::string(thread.barrier_name) + ", line " + std::to_string(thread.barrier_line);
        case State::at_collective: {
            char text[160];
            snprintf(text, sizeof text, "wait at %s, line %d, mask %#x", thread.part->name, thread.part->line,
                     thread.part->mask);
            return text;
        }
        case State::waiting:
        case State::polling:
            return std::string(thread.state == State::waiting ? "wait" : "ask again and again") + " at " +
                   thread.reason.name + ", line " + std::to_string(thread.reason.line) + ", " +
                   thread.reason.state(thread.reason.object, thread.reason.detail);
        default: return "are able to run";
    }
}

[[noreturn]] void report_divergence() {
    std::map<std::string, std::pair<int, std::string>> places;
    for (int i = 0; i < count; ++i) {
        auto& [number, list] = places[place_of(threads[i])];
        if (number < 8) list += (number ? ", " : "") + std::to_string(i);
        if (number++ == 8) list += ", ...";
    }
    std::string message = "divergence: threads wait for each other in vain:";
    for (const auto& [place, who] : places)
        message += "\n    " + std::to_string(who.first) + " threads (" + who.second + ") " + place;
    fail("%s", message.c_str());
}

void do_copies(Thread& thread, int before_group, int before_number) {
    std::vector<Copy> later;
    for (const Copy& copy : thread.copies) {
        if (copy.group >= before_group && copy.number >= before_number) {
            later.push_back(copy);
            continue;
        }
        if (copy.valid)
            memcpy(copy.target, copy.source, copy.bytes);
        else
            memset(copy.target, 0, copy.bytes);
        written_by_threads(copy.target, copy.bytes);
        watch_copied(copy.target, copy.bytes);
    }
    thread.copies.swap(later);
}

}  // namespace

int lane() { return current % 32; }
int this_thread() { return current; }
int thread_count() { return count; }

void wait_for(const Reason& reason) {
    threads[current].state = State::waiting;
    threads[current].reason = reason;
    give_way();
}

void poll_again(const Reason& reason) {
    threads[current].state = State::polling;
    threads[current].reason = reason;
    polling.push_back(current);
    give_way();
}

void wake(const std::vector<int>& waiters) {
    idle_rounds = 0;
    release(waiters);
}

void collective(Collective& part, Compute compute) {
    const int self = current, first = current / 32 * 32;
    if (!(part.mask >> (self - first) & 1))
        fail("%s, line %d: lane %d is not in its own mask %#x", part.name, part.line, self - first, part.mask);
    if (count - first < 32 && part.mask >> (count - first))
        fail("%s, line %d: mask %#x names lanes beyond the %d of the block", part.name, part.line, part.mask, count);
    threads[self].part = &part;
    threads[self].state = State::at_collective;
    Collective* lanes[32] = {};
    std::vector<int> woken;
    for (int i = 0; i < 32; ++i) {
        if (!(part.mask >> i & 1)) continue;
        const Thread& other = threads[first + i];
        if (other.state != State::at_collective || other.part->mask != part.mask || other.part->line != part.line ||
            strcmp(other.part->name, part.name) != 0)
            return give_way();  // not all are here: the last one computes
        lanes[i] = other.part;
        woken.push_back(first + i);
    }
    compute(lanes, part.mask);
    synchronized(woken);
    watch_synchronized(woken);
    release(woken);
    give_way();
}

int barrier(int value, const char* name, int line) {
    Thread& self = threads[current];
    self.state = State::at_barrier;
    self.barrier_name = name;
    self.barrier_line = line;
    self.value = value;
    if (++waiting == count) {
        waiting = barrier_sum = 0;
        std::vector<int> all(count);
        for (int i = 0; i < count; ++i) {
            if (threads[i].barrier_line != line) report_divergence();
            barrier_sum += threads[i].value;
            all[i] = i;
        }
        for (Thread& thread : threads) thread.value = barrier_sum;
        synchronized(all);
        watch_synchronized(all);
        release(all);
    }
    give_way();
    return self.value;
}

void copy_later(void* target, const void* source, int bytes, bool valid) {
    Thread& thread = threads[current];
    // Read both ends now, so that a bad address is reported here.
    if (valid) memcpy(target, source, bytes);
    memset(target, order == Order::reverse ? 0xFF : 0x7F, bytes);
    thread.copies.push_back({target, source, bytes, thread.group, thread.number, valid});
}

void close_copies() { ++threads[current].group; }

void await_copies(int pending) {
    Thread& thread = threads[current];
    do_copies(thread, thread.group - pending, 0);
    synchronized({current});
}

int mark_copies() { return ++threads[current].number; }

void finish_copies(int thread, int mark) { do_copies(threads[thread], 0, mark); }

void run_block(Dim block, Order chosen, unsigned long long seed, size_t shared_bytes, Call call) {
    blockIdx = block;
    order = chosen;
    state_of_random = seed;
    launched = call;
    count = static_cast<int>(blockDim.x * blockDim.y * blockDim.z);
    threads.assign(count, Thread{State::unstarted, nullptr, nullptr, 0, 0, nullptr, {}, 0, 0, {}});
    unstarted = arranged(count);
    ready.clear();
    polling.clear();
    waiting = ended = idle_rounds = 0;
    begin_asynchronously(shared_bytes);
    watch_block(dynamic_shared, shared_bytes);
    switch_to(main_context, next_fiber());
    if (ended != count) report_divergence();
    end_asynchronously();
}

}  // namespace sparsenet_host
