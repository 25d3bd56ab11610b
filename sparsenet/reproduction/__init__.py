"""The tables and figures of the paper that sparsenet continues, measured anew beside the published numbers.

Notchenko, Kapushev and Burnaev, "Sparse 3D Convolutional Neural Networks for Large-Scale Shape Retrieval", 2016.
"""

from sparsenet.reproduction.parts import PARTS, Sources, reproduce

__all__ = ["PARTS", "Sources", "reproduce"]
