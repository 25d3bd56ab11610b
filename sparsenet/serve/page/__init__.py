"""The files of the search page, put together for a server or as one file."""

from sparsenet.serve.page.document import page_script, page_style, served_page, static_page

__all__ = ["page_script", "page_style", "served_page", "static_page"]
