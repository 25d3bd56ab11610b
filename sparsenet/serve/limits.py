"""How much a query may ask of the machine."""

from __future__ import annotations

from dataclasses import dataclass

from sparsenet.shapes import Mesh, MeshError


@dataclass(frozen=True)
class Limits:
    """The limits of a query and of the server.

    upload : bytes of a file, as it is sent
    unpacked : bytes of a file that was compressed (.gz)
    faces : triangles of a mesh
    seconds : of the reading, voxelization and passing of a mesh through the network; what takes longer is ended
    memory : bytes that a worker process may take beyond what it needs for itself (on Linux)
    waiting : queries that may wait for a worker process; further ones are refused at once
    patience : seconds that they wait at most
    upload_seconds : in which a request must have arrived
    kept : bytes of the meshes that users sent and that are kept in memory, so that their inspector pages can be made;
        the oldest give way

    Raises ValueError for a number that is not positive.
    """

    upload: int = 32 * 2**20
    unpacked: int = 64 * 2**20
    faces: int = 500_000
    seconds: float = 20.0
    memory: int = 4 * 2**30
    waiting: int = 32
    patience: float = 60.0
    upload_seconds: float = 60.0
    kept: int = 64 * 2**20

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ValueError(f"Limits: {name} is {value}, expected a number above 0")

    def check_mesh(self, mesh: Mesh) -> None:
        """Raise MeshError if a mesh has too many triangles."""
        if len(mesh.faces) > self.faces:
            raise MeshError(f"it has {len(mesh.faces):,} triangles, the limit is {self.faces:,}")
