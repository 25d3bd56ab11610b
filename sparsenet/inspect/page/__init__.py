"""The inspector page: one HTML file that shows a network and its activations for one shape."""

from sparsenet.inspect.page.document import check_page, inspector_page, write_page

__all__ = ["check_page", "inspector_page", "write_page"]
