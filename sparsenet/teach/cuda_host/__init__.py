"""The host executor: CUDA kernels in plain C++ (cuda_host.h), and the driver that compiles and runs them."""
