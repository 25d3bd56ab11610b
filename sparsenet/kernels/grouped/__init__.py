"""Grouped convolution: each group of output channels sees its own input channels.

    slices.py      wide groups: the dense kernels on slices of the channels
    narrow.py      narrow groups, depthwise among them, on a CPU
    cpu.py, cuda.py   which of the two; narrow.cu
"""
