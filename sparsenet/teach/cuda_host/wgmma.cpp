// Matrix products of a warpgroup, begun by its 128 threads and done asynchronously, in the order in which they were begun.
//
// While a product is under way, its operands must stay as they were when it was begun, and the sums of a thread are in a
// place of their own: those in the thread are poisoned until it has waited.
#include <stdint.h>
#include <string.h>

#include <algorithm>
#include <deque>
#include <list>

#include "hopper_runtime.h"
#include "run.h"

namespace sparsenet_host {
namespace {

constexpr int kThreads = 128, kRows = 64;

// Of one thread.
struct Sums {
    float* place;
    std::vector<float> values;
    long long last;  // product, by number
    int line;        // of it
};

// Sums that a thread has had, and what they were at its last wgmma_fence.
struct Former {
    float* place;
    std::vector<float> values;
};

struct Issuer {
    long long begun;
    std::vector<long long> groups;  // by commit: how many products were begun before
    bool fenced;
    std::list<Sums> sums;
    std::vector<Former> former;
};

struct Product {
    ProductKind kind;
    int line, columns, begun;
    Operand a, b;
    std::vector<const unsigned char*> pieces;  // of 16 bytes: those of a, then those of b
    std::vector<unsigned char> image;          // what they hold
    unsigned warps;                            // that have begun it
    Sums* sums[kThreads];
};

struct Waiter {
    int thread;
    long long products;
};

struct Warpgroup {
    std::deque<Product> products;  // that are not done
    long long done;
    std::vector<Waiter> waiters;
};

std::vector<Issuer> issuers;
std::vector<Warpgroup> warpgroups;

// A signalling NaN, so that any arithmetic changes it; another one in each order, so that a result of it differs.
unsigned poison() { return order == Order::forward ? 0x7f90bad1u : order == Order::reverse ? 0x7f90bad2u : 0x7f90bad3u; }

bool is_poisoned(const Sums& sums) {
    const unsigned expected = poison();
    for (size_t i = 0; i < sums.values.size(); ++i)
        if (memcmp(sums.place + i, &expected, 4) != 0) return false;
    return true;
}

// As memory is, dead variables included.
std::vector<float> contents(const float* place, size_t size) {
    std::vector<float> values(size);
    for (size_t i = 0; i < size; ++i) values[i] = static_cast<const volatile float*>(place)[i];
    return values;
}

const unsigned char* swizzled(const unsigned char* place) {
    const auto address = reinterpret_cast<uintptr_t>(place);
    return place + ((address ^ (address >> 7 & 7) << 4) - address);
}

// The 16-byte pieces of an operand of that many rows (of M or N) and 32 bytes of depth, or 16 numbers.
void add_pieces(std::vector<const unsigned char*>& pieces, const Operand& operand, int rows, const char* which,
                const ProductKind& kind, int line) {
    if (operand.mn_major != kind.mn_major)
        fail("%s, line %d: operand %s is %s", kind.name, line, which, operand.mn_major ? "mn_major" : "k_major");
    if (reinterpret_cast<uintptr_t>(operand.base) % 1024)
        fail("%s, line %d: operand %s does not begin at a multiple of 1024 bytes", kind.name, line, which);
    if (reinterpret_cast<uintptr_t>(operand.start) % 16 || operand.leading % 16)
        fail("%s, line %d: operand %s: not a multiple of 16 bytes", kind.name, line, which);
    const auto add = [&](const unsigned char* place) {
        if (!in_shared(swizzled(place)))
            fail("%s, line %d: operand %s goes beyond dynamic shared memory", kind.name, line, which);
        pieces.push_back(swizzled(place));
    };
    if (operand.mn_major) {
        for (int k = 0; k < 16; ++k)
            for (int row = 0; row < rows; row += 8)
                add(operand.start + k / 8 * 1024 + k % 8 * 128 + row / 64 * operand.leading + row % 64 * 2);
    } else {
        for (int row = 0; row < rows; ++row)
            for (int half = 0; half < 32; half += 16) add(operand.start + row / 8 * 1024 + row % 8 * 128 + half);
    }
}

// Its numbers as (rows, depth).
std::vector<double> numbers_of(const unsigned char* image, int rows, const ProductKind& kind) {
    const int depth = 32 / kind.bytes;
    std::vector<double> numbers(rows * depth);
    for (int row = 0; row < rows; ++row)
        for (int k = 0; k < depth; ++k) {
            unsigned bits = 0;
            memcpy(&bits, image + (kind.mn_major ? k * rows + row : row * depth + k) * kind.bytes, kind.bytes);
            numbers[row * depth + k] = kind.number(bits);
        }
    return numbers;
}

void check_operands(const Product& product, const char* when) {
    for (size_t i = 0; i < product.pieces.size(); ++i)
        if (memcmp(product.pieces[i], &product.image[16 * i], 16) != 0)
            fail("%s, line %d: operand %s has changed at byte %d of shared memory %s", product.kind.name, product.line,
                 i < product.image.size() / 16 * kRows / (kRows + product.columns) ? "a" : "b",
                 static_cast<int>(product.pieces[i] - dynamic_shared), when);
}

bool same(const Operand& a, const Operand& b) { return a.start == b.start && a.leading == b.leading; }

std::string product_state(const void*, int thread) {
    const Warpgroup& warpgroup = warpgroups[thread / kThreads];
    const Product& product = warpgroup.products.front();
    return std::string("for ") + product.kind.name + ", line " + std::to_string(product.line) + ", which " +
           std::to_string(product.begun) + " of the 128 threads of the warpgroup have begun";
}

// Where the sums of this thread go on: new ones are taken from the thread, and poisoned there.
Sums& sums_at(Issuer& self, float* place, int size, const char* name, int line) {
    for (Sums& sums : self.sums) {
        if (sums.place == place && static_cast<int>(sums.values.size()) == size) {
            if (!is_poisoned(sums))
                fail("%s, line %d: the sums have been written while the product of line %d is under way", name, line,
                     sums.line);
            return sums;
        }
        if (place < sums.place + sums.values.size() && sums.place < place + size)
            fail("%s, line %d: sums of another shape are under way since line %d", name, line, sums.line);
    }
    if (!self.fenced) fail("%s, line %d: no wgmma_fence since the sums were the thread's own", name, line);
    for (const Former& former : self.former)
        if (former.place == place && static_cast<int>(former.values.size()) == size &&
            memcmp(former.values.data(), place, size * sizeof(float)) != 0)
            fail("%s, line %d: no wgmma_fence since the sums were written", name, line);
    self.sums.push_back({place, std::vector<float>(place, place + size), 0, line});
    const unsigned value = poison();
    for (int i = 0; i < size; ++i) memcpy(place + i, &value, 4);
    return self.sums.back();
}

}  // namespace

void begin_products() {
    issuers.assign(thread_count(), Issuer{0, {}, false, {}, {}});
    warpgroups.assign((thread_count() + kThreads - 1) / kThreads, Warpgroup{{}, 0, {}});
}

void end_products_of_thread() {
    const Issuer& self = issuers[this_thread()];
    if (!self.sums.empty())
        fail("thread %d ends, and has not waited for its product of line %d (wgmma_wait_group)", this_thread(),
             self.sums.front().line);
}

void product(const ProductKind& kind, float* place, int columns, const Operand& a, const Operand& b, int line) {
    const int thread = this_thread();
    if (thread_count() % kThreads)
        fail("%s, line %d: %d threads are not whole warpgroups of 128", kind.name, line, thread_count());
    Issuer& self = issuers[thread];
    Warpgroup& warpgroup = warpgroups[thread / kThreads];
    const size_t which = static_cast<size_t>(self.begun - warpgroup.done);
    if (which == warpgroup.products.size()) {
        Product fresh{kind, line, columns, 0, a, b, {}, {}, 0, {}};
        add_pieces(fresh.pieces, a, kRows, "a", kind, line);
        add_pieces(fresh.pieces, b, columns, "b", kind, line);
        for (const unsigned char* piece : fresh.pieces) fresh.image.insert(fresh.image.end(), piece, piece + 16);
        warpgroup.products.push_back(std::move(fresh));
    }
    Product& own = warpgroup.products[which];
    if (own.line != line || strcmp(own.kind.name, kind.name) != 0 || own.columns != columns)
        fail("%s, line %d, by thread %d: other threads of its warpgroup are at %s, line %d", kind.name, line, thread,
             own.kind.name, own.line);
    if (!same(own.a, a) || !same(own.b, b))
        fail("%s, line %d, by thread %d: other threads of its warpgroup have other operands", kind.name, line, thread);
    if (!(own.warps >> thread % kThreads / 32 & 1)) {
        own.warps |= 1u << thread % kThreads / 32;
        check_operands(own, "between its warps");
        const long long covered = covered_for_products();
        for (const unsigned char* piece : own.pieces)
            if (const char* fault = unseen(piece, covered))
                fail("%s, line %d: byte %d of shared memory: %s", kind.name, line,
                     static_cast<int>(piece - dynamic_shared), fault);
    }
    Sums& sums = sums_at(self, place, columns / 2, kind.name, line);
    sums.last = self.begun++;
    sums.line = line;
    own.sums[thread % kThreads] = &sums;
    if (++own.begun == kThreads) begin_product(thread / kThreads);
}

bool product_is_awaited(int number) { return !warpgroups[number].waiters.empty(); }

void end_product(int number) {
    Warpgroup& warpgroup = warpgroups[number];
    const Product& product = warpgroup.products.front();
    check_operands(product, "while the product is under way");
    const int columns = product.columns, depth = 32 / product.kind.bytes;
    const std::vector<double> a = numbers_of(product.image.data(), kRows, product.kind),
                              b = numbers_of(product.image.data() + 32 * kRows, columns, product.kind);
    for (int thread = 0; thread < kThreads; ++thread)
        for (int i = 0; i < columns / 2; ++i) {
            const int row = thread / 32 * 16 + thread % 32 / 4 + 8 * (i / 2 % 2), column = i / 4 * 8 + 2 * (thread % 4) + i % 2;
            double sum = product.sums[thread]->values[i];
            for (int k = 0; k < depth; ++k) sum += a[row * depth + k] * b[column * depth + k];
            product.sums[thread]->values[i] = static_cast<float>(sum);
        }
    warpgroup.products.pop_front();
    ++warpgroup.done;
    std::vector<int> woken;
    auto& waiters = warpgroup.waiters;
    for (const Waiter& waiter : waiters)
        if (waiter.products <= warpgroup.done) woken.push_back(waiter.thread);
    waiters.erase(std::remove_if(waiters.begin(), waiters.end(),
                                 [&](const Waiter& waiter) { return waiter.products <= warpgroup.done; }),
                  waiters.end());
    wake(woken);
}

void fence_products() {
    Issuer& self = issuers[this_thread()];
    self.fenced = true;
    for (Former& former : self.former) former.values = contents(former.place, former.values.size());
}

void commit_products() {
    Issuer& self = issuers[this_thread()];
    self.groups.push_back(self.begun);
}

void wait_for_products(int pending, int line) {
    const int thread = this_thread();
    Issuer& self = issuers[thread];
    Warpgroup& warpgroup = warpgroups[thread / kThreads];
    const int before = static_cast<int>(self.groups.size()) - pending;
    if (before <= 0) return;
    const long long products = self.groups[before - 1];
    self.groups.erase(self.groups.begin(), self.groups.begin() + before);
    while (warpgroup.done < products) {
        warpgroup.waiters.push_back({thread, products});
        wait_for({"wgmma_wait_group", line, nullptr, thread, product_state});
    }
    for (auto sums = self.sums.begin(); sums != self.sums.end();) {
        if (sums->last >= products) {
            ++sums;
            continue;
        }
        if (!is_poisoned(*sums))
            fail("wgmma_wait_group, line %d: the sums have been written while the product of line %d is under way", line,
                 sums->line);
        memcpy(sums->place, sums->values.data(), sums->values.size() * sizeof(float));
        const auto known = std::find_if(self.former.begin(), self.former.end(), [&](const Former& former) {
            return former.place == sums->place && former.values.size() == sums->values.size();
        });
        if (known == self.former.end()) self.former.push_back({sums->place, sums->values});
        self.fenced = false;
        sums = self.sums.erase(sums);
    }
}

}  // namespace sparsenet_host
