"""The search page: drop a mesh, see it with its voxels and class, and the shapes most similar to it.

A server for one user on one machine (`serve`), or the page as one file (`export_page`).
"""

from sparsenet.serve.app import SearchPage
from sparsenet.serve.gallery import Gallery
from sparsenet.serve.limits import Limits
from sparsenet.serve.running import export_page, open_gallery, serve

__all__ = ["Gallery", "Limits", "SearchPage", "export_page", "open_gallery", "serve"]
