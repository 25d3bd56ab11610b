// Every access of a kernel to memory, watched: who reads and writes what, and what is between.
//
// A source compiled with -fsanitize=thread calls a function before each access; watch.cpp provides these functions in
// the place of ThreadSanitizer's library, which knows nothing of fibers, blocks and barriers.  Without SPARSENET_WATCH
// the functions below do nothing.
#pragma once

#include <stddef.h>

#include <vector>

namespace sparsenet_host {

#ifdef SPARSENET_WATCH
constexpr size_t kMargin = 4 << 20;  // bytes before and behind an array in which an access still counts as one to it

void watch_from_now_on();  // a process begins
void watch_time();         // a launch begins: from now on its time is limited
// An array of a launch: all of it is to be written if it is an `output`; nobody writes to one that is not `written`.
void watch_array(int argument, const unsigned char* data, size_t bytes, bool written, bool output);
void watch_block(const unsigned char* shared, size_t shared_bytes);  // a block begins
void watch_synchronized(const std::vector<int>& threads);
void watch_copied(const void* target, int bytes);  // an asynchronous copy has come
void watch_end_of_run();                           // all blocks have run: what has not been written?
// Bytes read and written of an argument in this run.
void watch_counts(int argument, long long counts[2]);
#else
constexpr size_t kMargin = 0;

inline void watch_from_now_on() {}
inline void watch_time() {}
inline void watch_array(int, const unsigned char*, size_t, bool, bool) {}
inline void watch_block(const unsigned char*, size_t) {}
inline void watch_synchronized(const std::vector<int>&) {}
inline void watch_copied(const void*, int) {}
inline void watch_end_of_run() {}
inline void watch_counts(int, long long[2]) {}
#endif

}  // namespace sparsenet_host
