// Barriers in shared memory, what arrives at them asynchronously, and what of shared memory the asynchronous proxy sees.
//
// What runs asynchronously is a list of events.  One of those that somebody waits for happens when no thread can go on,
// as late as the GPU may do it; in random order any may happen at any time, too.  The oldest comes first, in reverse
// order the latest, or a random one.
#include <limits.h>
#include <stdint.h>
#include <string.h>

#include <algorithm>
#include <map>
#include <utility>

#include "hopper_runtime.h"
#include "run.h"

namespace sparsenet_host {
namespace {

using Place = unsigned long long;

constexpr Place kMark = 0x5a17ba121e12ull;  // with the address: what a barrier holds in memory
constexpr int kMost = (1 << 20) - 1;        // arrivals, and bytes

struct Barrier {
    int arrivals, missing;
    long long bytes;  // announced and not come; less than 0: come and not announced
    unsigned phase;   // the one that goes on
    int line, thread;
    bool fenced;
    bool asked;  // somebody waits for the phase that goes on
    std::vector<int> waiters;
};

struct Event {
    enum { arrival, bulk, product } kind;
    Place* barrier;
    int line, who, mark;  // who: thread of an arrival, warpgroup of a product
    void* target;
    const void* source;
    int bytes;
};

std::map<const Place*, Barrier> barriers;
std::vector<Event> events;

Place mark_of(const Place* place) { return kMark ^ reinterpret_cast<uintptr_t>(place); }

Barrier& barrier_at(Place* place, const char* name, int line) {
    const auto found = barriers.find(place);
    if (found == barriers.end()) fail("%s, line %d: no barrier has been initialised here", name, line);
    if (*place != mark_of(place))
        fail("%s, line %d: the barrier of line %d has been overwritten", name, line, found->second.line);
    return found->second;
}

std::string barrier_state(const void* object, int parity) {
    const Barrier& barrier = *static_cast<const Barrier*>(object);
    return "for parity " + std::to_string(parity) + " of the barrier of line " + std::to_string(barrier.line) +
           ", whose phase " + std::to_string(barrier.phase) + " lacks " + std::to_string(barrier.missing) + " of " +
           std::to_string(barrier.arrivals) + " arrivals and " + std::to_string(barrier.bytes) + " bytes";
}

void settle(Barrier& barrier) {
    if (barrier.missing == 0 && barrier.bytes == 0) {
        ++barrier.phase;
        barrier.asked = false;
        barrier.missing = barrier.arrivals;
        wake(std::exchange(barrier.waiters, {}));
    } else {
        wake({});
    }
}

void announce(Barrier& barrier, long long bytes, const char* name, int line) {
    barrier.bytes += bytes;
    if (barrier.bytes > kMost || barrier.bytes < -kMost)
        fail("%s, line %d: %lld bytes are more than a barrier counts", name, line, barrier.bytes);
}

void arrive(Barrier& barrier, const char* name, int line) {
    if (barrier.missing == 0)
        fail("%s, line %d: the barrier of line %d has had its %d arrivals", name, line, barrier.line, barrier.arrivals);
    --barrier.missing;
    settle(barrier);
}

bool has_ended(const Barrier& barrier, int parity) { return static_cast<int>(barrier.phase & 1) != parity; }

// A thread may be slow at any time.
void dawdle(const Reason& reason) {
    if (order == Order::random && random_below(8) == 0) poll_again(reason);
}

// The proxies.  Numbers of time: each copy that comes has one of its own, and so has each fence.  A thread knows of what
// has come before it was last synchronised; a fence covers what the thread that executes it knows of; and a product
// may read what its own thread's fences have covered, or those that came before that thread was last synchronised.
struct Fence {
    long long time, covered;  // covered: by this or an earlier one
};
long long now;
std::vector<long long> known, covered;  // by thread
std::vector<Fence> fences;
std::vector<long long> come;  // for each 16 bytes of dynamic shared memory: when a thread's copy came there

// Plain stores leave no trace: `seen` is shared memory at the last fence, and a difference from it a fault.  All lanes of
// a warp execute a fence, one after another: `seen` is taken for the first, and for the last before another warp runs.
std::vector<unsigned char> seen;
int seen_by;  // the warp of that fence; -1 when another one has run
bool seen_is_due;

void see() {
    memcpy(seen.data(), dynamic_shared, seen.size());
    seen_is_due = false;
}

size_t shared_bytes;

}  // namespace

void begin_asynchronously(size_t bytes) {
    barriers.clear();
    events.clear();
    shared_bytes = bytes;
    now = 0;
    known.assign(thread_count(), 0);
    covered.assign(thread_count(), 0);
    fences.clear();
    come.assign(bytes / 16 + 1, 0);
    seen.assign(dynamic_shared, dynamic_shared + bytes);
    seen_by = -1;
    seen_is_due = false;
    begin_products();
}

void thread_goes_on(int thread) {
    if (seen_by == thread / 32) return;
    if (seen_is_due) see();
    seen_by = -1;
}

void end_of_thread() { end_products_of_thread(); }

void end_asynchronously() {
    for (const Event& event : events)
        if (event.kind == Event::bulk) fail("copy_bulk, line %d: still under way when the block ends", event.line);
}

void synchronized(const std::vector<int>& threads) {
    for (const int thread : threads) known[thread] = now;
}

void written_by_threads(const void* target, int bytes) {
    const auto offset = reinterpret_cast<uintptr_t>(target) - reinterpret_cast<uintptr_t>(dynamic_shared);
    if (offset < shared_bytes) std::fill(&come[offset / 16], &come[(offset + bytes + 15) / 16], ++now);
}

void fence_proxies() {
    const int self = this_thread();
    covered[self] = known[self];
    ++now;
    if (fences.empty() || fences.back().covered < known[self]) fences.push_back({now, known[self]});
    for (auto& [place, barrier] : barriers) barrier.fenced |= barrier.thread == self;
    if (seen_by == self / 32)
        seen_is_due = true;
    else
        see();
    seen_by = self / 32;
}

long long covered_for_products() {
    const int self = this_thread();
    const auto after = std::upper_bound(fences.begin(), fences.end(), known[self],
                                        [](long long time, const Fence& fence) { return time < fence.time; });
    return after == fences.begin() ? covered[self] : std::max(covered[self], (after - 1)->covered);
}

const char* unseen(const unsigned char* piece, long long covered_time) {
    const size_t offset = piece - dynamic_shared;
    if (seen_is_due) see();
    if (come[offset / 16] > covered_time)
        return "an asynchronous copy of a thread has come here, and no fence_proxy_async since that this thread knows of";
    if (memcmp(&seen[offset], piece, 16) != 0)
        return "a thread has written here, and there has been no fence_proxy_async since";
    return nullptr;
}

bool in_shared(const unsigned char* piece) {
    return piece >= dynamic_shared && piece + 16 <= dynamic_shared + shared_bytes;
}

void begin_product(int warpgroup) { events.push_back({Event::product, nullptr, 0, warpgroup, 0, nullptr, nullptr, 0}); }

bool step_asynchronously(bool late) {
    std::vector<size_t> able;
    for (size_t i = 0; i < events.size(); ++i)
        if (!late || (events[i].kind == Event::product ? product_is_awaited(events[i].who)
                                                       : barriers.at(events[i].barrier).asked))
            able.push_back(i);
    if (able.empty()) return false;
    size_t which = able[order == Order::forward ? 0 : order == Order::reverse ? able.size() - 1 : random_below(able.size())];
    if (events[which].kind == Event::product)  // those of a warpgroup keep their order
        for (size_t i = which; i-- > 0;)
            if (events[i].kind == Event::product && events[i].who == events[which].who) which = i;
    const Event event = events[which];
    events.erase(events.begin() + which);
    if (event.kind == Event::product) {
        end_product(event.who);
        return true;
    }
    const char* const name = event.kind == Event::bulk ? "copy_bulk" : "copy_async_arrive";
    Barrier& barrier = barrier_at(event.barrier, name, event.line);
    if (event.kind == Event::arrival) {
        finish_copies(event.who, event.mark);
        arrive(barrier, name, event.line);
        return true;
    }
    memcpy(event.target, event.source, event.bytes);
    const auto offset = reinterpret_cast<uintptr_t>(event.target) - reinterpret_cast<uintptr_t>(dynamic_shared);
    if (offset < shared_bytes) {
        memcpy(&seen[offset], event.target, event.bytes);
        std::fill_n(&come[offset / 16], event.bytes / 16, 0);
    }
    announce(barrier, -event.bytes, name, event.line);
    settle(barrier);
    return true;
}

void barrier_init(Place* place, int arrivals, int line) {
    if (reinterpret_cast<uintptr_t>(place) % 8) fail("mbarrier_init, line %d: not aligned to 8 bytes", line);
    if (arrivals < 1 || arrivals > kMost) fail("mbarrier_init, line %d: %d arrivals", line, arrivals);
    *place = mark_of(place);
    barriers[place] = {arrivals, arrivals, 0, 0, line, this_thread(), false, false, {}};
}

void barrier_init_fence() {
    for (auto& [place, barrier] : barriers) barrier.fenced |= barrier.thread == this_thread();
}

void barrier_arrive(Place* place, int bytes, const char* name, int line) {
    Barrier& barrier = barrier_at(place, name, line);
    dawdle({name, line, &barrier, 0, barrier_state});
    announce(barrier, bytes, name, line);
    arrive(barrier, name, line);
}

void barrier_arrive_after_copies(Place* place, int line) {
    barrier_at(place, "copy_async_arrive", line);
    events.push_back({Event::arrival, place, line, this_thread(), mark_copies(), nullptr, nullptr, 0});
}

bool barrier_test(Place* place, int parity, int line) {
    Barrier& barrier = barrier_at(place, "mbarrier_test", line);
    if (has_ended(barrier, parity) && (order != Order::random || random_below(4))) {
        synchronized({this_thread()});
        return true;
    }
    barrier.asked = true;
    poll_again({"mbarrier_test", line, &barrier, parity, barrier_state});
    return false;
}

void barrier_wait(Place* place, int parity, int line) {
    Barrier& barrier = barrier_at(place, "mbarrier_wait", line);
    if (parity != 0 && parity != 1) fail("mbarrier_wait, line %d: parity %d is not 0 or 1", line, parity);
    dawdle({"mbarrier_wait", line, &barrier, parity, barrier_state});
    while (!has_ended(barrier, parity)) {
        barrier.asked = true;
        barrier.waiters.push_back(this_thread());
        wait_for({"mbarrier_wait", line, &barrier, parity, barrier_state});
    }
    synchronized({this_thread()});
}

void bulk_copy(void* shared, const void* global, int bytes, Place* place, int line) {
    const Barrier& barrier = barrier_at(place, "copy_bulk", line);
    if (reinterpret_cast<uintptr_t>(shared) % 16 || reinterpret_cast<uintptr_t>(global) % 16)
        fail("copy_bulk, line %d: an address is not aligned to 16 bytes", line);
    if (bytes <= 0 || bytes % 16) fail("copy_bulk, line %d: %d bytes are not a multiple of 16", line, bytes);
    if (!barrier.fenced)
        fail("copy_bulk, line %d: no mbarrier_init_fence since the barrier of line %d was initialised", line, barrier.line);
    memcpy(shared, global, bytes);  // both ends, so that a bad address is reported here
    memset(shared, order == Order::reverse ? 0xFF : 0x7F, bytes);
    events.push_back({Event::bulk, place, line, this_thread(), 0, shared, global, bytes});
}

}  // namespace sparsenet_host
