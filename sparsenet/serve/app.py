"""The search page as a WSGI application.

    GET  /                    the page; /page.css and /page.js beside it
    GET  /api/gallery         all shapes: names, classes
    GET  /api/voxels/ROW      the voxels of one
    GET  /api/shape/ROW       its voxels and its mesh
    GET  /api/similar/ROW     all shapes by their distance from it
    POST /api/search?up=AXIS  the same for the mesh in the body, with its class, voxels and mesh
    GET  /inspect/ROW         the inspector page of a shape
    GET  /inspect/sent/KEY    that of a mesh that was searched for lately

A row is a number; a key is a random one, which the answer to a search holds.  No name or path that a client sends is
used: what a body holds is told by its content.
"""

from __future__ import annotations

import json
import re
import sys
import traceback
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

from sparsenet.serve.desk import Place
from sparsenet.serve.gallery import Gallery
from sparsenet.serve.guard import HEADERS, INSPECTOR_POLICY, PAGE_POLICY, refusal
from sparsenet.serve.limits import Limits
from sparsenet.serve.page import page_script, page_style, served_page
from sparsenet.serve.pool import Busy, Pool, TimeLimit
from sparsenet.serve.sent import Sent
from sparsenet.shapes import MeshError
from sparsenet.wording import counted
from sparsenet.worker_processes import WorkerDied

STATUS = {200: "OK", 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
          411: "Length Required", 413: "Content Too Large", 415: "Unsupported Media Type",
          422: "Unprocessable Content", 500: "Internal Server Error", 503: "Service Unavailable",
          504: "Gateway Timeout"}
UPLOAD_TYPE = "application/octet-stream"  # not one that a form of another page could send
AXES = ("auto", "y", "z")
_QUERY = re.compile(rf"(?:up=(?P<up>{'|'.join(AXES)}|))?")
_ROW = re.compile(r"/(?P<kind>api/voxels|api/shape|api/similar|inspect)/(?P<row>[0-9]{1,9})")
_SENT = re.compile(r"/inspect/sent/(?P<key>[A-Za-z0-9_-]{22})")
_KEPT_PICTURES = 4096  # voxels of shapes, a few kB each


class Refused(Exception):
    """An answer that says no.  status : a key of STATUS;  headers : more of them"""

    def __init__(self, status: int, message: str, *headers: tuple[str, str]):
        super().__init__(message)
        self.status, self.headers = status, headers


class SearchPage:
    """The application.

    gallery : the shapes;  pool : of workers with a `Desk`;  hosts : see `guard.host_names`
    inspector : whether inspector pages can be made
    """

    def __init__(self, gallery: Gallery, pool: Pool, limits: Limits, hosts: frozenset[str], inspector: bool):
        self.gallery, self.pool, self.limits, self.hosts = gallery, pool, limits, hosts
        self.inspects_sent = inspector
        self.inspector = inspector and bool(gallery.places)
        self.sent = Sent(limits.kept)
        facts = gallery.facts() | {
            "inspector": self.inspector, "upload": limits.upload}
        self._fixed = {"/": (served_page().encode(), "text/html"), "/page.css": (page_style().encode(), "text/css"),
                       "/page.js": (page_script().encode(), "text/javascript"),
                       "/api/gallery": (_json(facts), "application/json")}
        self._voxels = lru_cache(_KEPT_PICTURES)(lambda place: _json(pool.call("voxels", place)))

    def __call__(self, request: dict[str, Any], start_response: Callable) -> Iterable[bytes]:
        status, headers, policy = 200, [], PAGE_POLICY
        try:
            if reason := refusal(request, self.hosts):
                raise Refused(403, reason)
            body, kind, policy = self._answer(request)
        except Refused as refused:
            status, headers = refused.status, [*refused.headers]
            body, kind = _json({"error": str(refused)}), "application/json"
        except Exception:  # a bug: it is told here, not to the client
            traceback.print_exc(file=sys.stderr)
            status, body, kind = 500, _json({"error": "something went wrong: see the server's console"}), (
                "application/json")
        headers += [("Content-Type", f"{kind}; charset=utf-8"), ("Content-Length", str(len(body))), *HEADERS,
                    ("Content-Security-Policy", policy)]
        start_response(f"{status} {STATUS[status]}", headers)
        return [] if request["REQUEST_METHOD"] == "HEAD" else [body]

    def _answer(self, request: dict[str, Any]) -> tuple[bytes, str, str]:
        """The body of an answer, its type, and its policy for content."""
        path, method = request["PATH_INFO"], request["REQUEST_METHOD"]
        allowed = ("POST",) if path == "/api/search" else ("GET", "HEAD")
        found, sent = _ROW.fullmatch(path), _SENT.fullmatch(path)
        if path != "/api/search" and path not in self._fixed and not found and not sent:
            raise Refused(404, "there is nothing of that name")
        if method not in allowed:
            raise Refused(405, f"{method} is not answered here", ("Allow", ", ".join(allowed)))
        if path in self._fixed:
            return *self._fixed[path], PAGE_POLICY
        if sent:
            return self._inspector_of_sent(sent["key"]), "text/html", INSPECTOR_POLICY
        if not found:
            return self._search(request), "application/json", PAGE_POLICY
        row = int(found["row"])
        if row >= len(self.gallery):
            raise Refused(404, f"there is no shape {row}: there are {counted(len(self.gallery), 'shape')}")
        if found["kind"] == "api/similar":
            return _json(self.gallery.ranked(self.gallery.vectors[row])), "application/json", PAGE_POLICY
        if not self.gallery.places or (found["kind"] == "inspect" and not self.inspector):
            raise Refused(404, self.gallery.without_pictures or "the inspector needs pip install 'sparsenet[inspect]'")
        place = self.gallery.places[row]
        if found["kind"] == "inspect":
            title = f"{self.gallery.names[row]}, seen by {self.gallery.model}"
            return self._asked("inspector", place, title).encode(), "text/html", INSPECTOR_POLICY
        if found["kind"] == "api/voxels":
            return self._told(lambda: self._voxels(place)), "application/json", PAGE_POLICY
        return _json(self._asked("shape", place)), "application/json", PAGE_POLICY

    def _search(self, request: dict[str, Any]) -> bytes:
        if request.get("CONTENT_TYPE", "").partition(";")[0].strip().lower() != UPLOAD_TYPE:
            raise Refused(415, f"a mesh is sent as {UPLOAD_TYPE}")
        length = request.get("CONTENT_LENGTH", "")
        if not (length.isascii() and length.isdigit()):
            raise Refused(411, "the length of the body is missing")
        if len(length) > 12 or int(length) > self.limits.upload:
            raise Refused(413, f"the file has more than {self.limits.upload:,} bytes, the limit")
        asked = _QUERY.fullmatch(request.get("QUERY_STRING", ""))
        if not asked:
            raise Refused(400, f"up is one of {', '.join(AXES)}")

        sent: list[bytes] = []

        def body() -> bytes:
            data = request["wsgi.input"].read(int(length))
            if len(data) != int(length):
                raise Refused(400, "the body ends early")
            sent[:] = [data]
            return data

        up_axis = asked["up"] or None
        found = self._asked("search", body, up_axis)
        vector = found.pop("vector")
        key = self.sent.keep(sent[0], up_axis) if self.inspects_sent else None
        return _json(found | self.gallery.ranked(vector) | {"inspect": key and f"/inspect/sent/{key}"})

    def _inspector_of_sent(self, key: str) -> bytes:
        held = self.sent.get(key)
        if held is None:
            raise Refused(404, "the mesh is no longer kept: search with it again")
        data, up_axis = held
        return self._asked("inspector_of_sent", data, up_axis, f"your mesh, seen by {self.gallery.model}").encode()

    def _asked(self, task: str, *arguments: str | bytes | Place | Callable[[], bytes] | None) -> Any:
        return self._told(lambda: self.pool.call(task, *arguments))

    def _told(self, task: Callable[[], Any]) -> Any:
        """The result of a task of the workers; its errors as answers."""
        try:
            return task()
        except Busy as error:
            raise Refused(503, str(error), ("Retry-After", "5")) from None
        except TimeLimit as error:
            raise Refused(504, f"the mesh takes too much: {error}") from None
        except WorkerDied:
            raise Refused(422, "the mesh takes too much: the process that worked at it has ended") from None
        except MeshError as error:
            raise Refused(422, " ".join(str(error).split())) from None
        except OSError as error:
            raise Refused(404, f"the shape is no longer there: {error.strerror or 'it cannot be read'}") from None
        except (MemoryError, ValueError) as error:
            raise Refused(422, " ".join(str(error).split()) or "there is not enough memory for it") from None


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
