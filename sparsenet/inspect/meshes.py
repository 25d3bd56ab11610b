"""A mesh beside its voxels at several render sizes (the paper's Figure 1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sparsenet.inspect.style import new_figure
from sparsenet.inspect.voxels import draw_voxels

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mpl_toolkits.mplot3d import Axes3D

    from sparsenet.shapes import Mesh

_LIGHT = np.array([0.25, -0.45, 0.86])
_ELEVATION, _AZIMUTH = 22.0, -55.0  # degrees, the viewpoint


def render_sizes(mesh: Any, sizes: Sequence[int] = (10, 20, 40, 80), fill: bool = False,
                 colour: str = "#6f93b8") -> Figure:
    """The mesh, followed by its voxels at each render size.

    mesh : a Mesh, a file, or anything else that `Off3DPicture` accepts
    sizes : cells along the longest side;  fill : solids instead of surfaces

    Raises
    ------
    ValueError : sizes is empty, or the mesh cannot be used (`MeshError`).
    """
    from sparsenet.shapes import Off3DPicture

    if not sizes:
        raise ValueError("render_sizes: sizes is empty, expected at least one number")
    figure = new_figure(2.7 * (len(sizes) + 1), 3.1)
    panels = [figure.add_subplot(1, len(sizes) + 1, number + 1, projection="3d") for number in range(len(sizes) + 1)]
    picture = Off3DPicture(mesh, sizes[0])
    _draw_mesh(panels[0], picture.mesh, colour)
    panels[0].set_title(f"mesh\n{len(picture.mesh.faces):,} triangles", fontsize=9)
    for axes, size in zip(panels[1:], sizes, strict=True):
        cells, _ = Off3DPicture(picture.mesh, size).voxelize(size, fill=fill)
        draw_voxels(axes, cells, colour, _ELEVATION, _AZIMUTH)
        share = 100 * len(cells) / size**3
        axes.set_title(f"render size {size}\n{len(cells):,} voxels, {share:.1f}% of {size}³", fontsize=9)
    return figure


def _draw_mesh(axes: Axes3D, mesh: Mesh, colour: str) -> None:
    """Draw shaded triangles, lit from both sides because the winding of downloaded meshes is unreliable."""
    from matplotlib.colors import to_rgb
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection

    corners = mesh.vertices[mesh.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    normals = np.divide(normals, lengths, out=np.zeros_like(normals), where=lengths > 0)
    faces = np.clip((0.55 + 0.5 * np.abs(normals @ _LIGHT))[:, None] * np.array(to_rgb(colour)), 0, 1)
    axes.add_collection3d(Poly3DCollection(corners, facecolors=faces, edgecolors=0.85 * faces, linewidths=0.2))
    used = corners.reshape(-1, 3)
    centre, half = (used.min(axis=0) + used.max(axis=0)) / 2, max(np.ptp(used, axis=0).max() / 2, 1e-12)
    axes.set(xlim=(centre[0] - half, centre[0] + half), ylim=(centre[1] - half, centre[1] + half),
             zlim=(centre[2] - half, centre[2] + half))
    axes.set_axis_off()
    axes.view_init(elev=_ELEVATION, azim=_AZIMUTH)
    axes.set_box_aspect((1, 1, 1), zoom=1.25)
