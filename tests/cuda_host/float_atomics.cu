// Does not compile on the host: the sum depends on the order of the threads.
extern "C" __global__ void add_floats(float* total) {
    atomicAdd(total, 0.1f);
}
