"""The application without a server: every answer, its status and its headers."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest

import sparsenet.serve.page.document as document
from sparsenet.serve import Limits, SearchPage, app, export_page
from sparsenet.serve.guard import HEADERS
from sparsenet.serve.page import page_script, page_style, served_page, static_page
from sparsenet.serve.pool import Busy, TimeLimit
from sparsenet.shapes import MeshError
from sparsenet.worker_processes import WorkerDied

HOST = "127.0.0.1:8000"
FROM_THE_PAGE = {"HTTP_ORIGIN": f"http://{HOST}", "CONTENT_TYPE": "application/octet-stream"}


class InThisProcess:
    """A pool whose tasks are done here.  error : raised instead"""

    def __init__(self, desk):
        self.desk, self.error, self.calls = desk, None, []

    def call(self, task, *arguments):
        self.calls.append((task, arguments))
        if self.error is not None:
            raise self.error
        return getattr(self.desk, task)(*(value() if callable(value) else value for value in arguments))


@pytest.fixture
def pool(desk):
    return InThisProcess(desk)


@pytest.fixture
def page(gallery, pool):
    return SearchPage(gallery, pool, Limits(upload=100_000), frozenset([HOST]), inspector=False)


def ask(page, path, method="GET", body=b"", **more):
    """(status, headers, body) of a request."""
    path, _, query = path.partition("?")
    request = {"REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": query, "HTTP_HOST": HOST,
               "CONTENT_LENGTH": str(len(body)) if body else "", "wsgi.input": io.BytesIO(body), **more}
    told = []
    parts = page(request, lambda status, headers: told.append((int(status.split()[0]), headers)))
    ((status, headers),) = told
    assert len({name for name, _ in headers}) == len(headers)
    return status, dict(headers), b"".join(parts)


def send(page, body, path="/api/search", **more):
    status, headers, answer = ask(page, path, "POST", body, **{**FROM_THE_PAGE, **more})
    return status, json.loads(answer)


def test_the_page_and_its_files(page):
    for path, kind, text in (("/", "text/html", served_page()), ("/page.css", "text/css", page_style()),
                             ("/page.js", "text/javascript", page_script())):
        status, headers, body = ask(page, path)
        assert (status, headers["Content-Type"], body) == (200, f"{kind}; charset=utf-8", text.encode())
        assert ask(page, path, "HEAD")[2] == b"" and headers["Content-Length"] == str(len(body))


@pytest.mark.parametrize(("path", "method", "more", "status"), [
    ("/", "GET", {}, 200), ("/nothing", "GET", {}, 404), ("/", "GET", {"HTTP_HOST": "evil.example"}, 403),
    ("/", "PUT", FROM_THE_PAGE, 405), ("/api/search", "POST", FROM_THE_PAGE, 411)])
def test_every_answer_has_its_headers(page, path, method, more, status):
    found, headers, _ = ask(page, path, method, **more)
    assert found == status and headers.items() >= dict(HEADERS).items()
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    assert "http" not in policy and "*" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["Referrer-Policy"] == "no-referrer"


def test_the_gallery(page, gallery):
    facts = json.loads(ask(page, "/api/gallery")[2])
    assert facts["names"] == gallery.names and len(facts["names"]) == 12 and facts["left_out"] == 1
    assert [facts["classes"][label] for label in facts["labels"]][3:6] == ["chair"] * 3
    assert facts["upload"] == 100_000 and facts["pictures"] and not facts["inspector"]


def test_a_shape_of_the_gallery(page, gallery, desk, pool):
    for _ in range(2):
        assert json.loads(ask(page, "/api/voxels/4")[2]) == desk.voxels(gallery.places[4])
    assert len(pool.calls) == 1  # the second time it is known
    assert json.loads(ask(page, "/api/shape/4")[2])["mesh"]["vertices"]
    ranked = json.loads(ask(page, "/api/similar/4")[2])
    order = np.frombuffer(base64.b64decode(ranked["order"]), "<u4")
    assert order[0] == 4 and sorted(order) == list(range(12))


@pytest.mark.parametrize("path", [
    "/../etc/passwd", "/page.css/../../x", "//page.css", "/page.py", "/api/shape/../voxels/1", "/api/shape/x",
    "/api/shape/", "/api/shape/-1", "/api/shape/12", "/api/shape/999999999", "/api/shape/9999999999", "/api/shape/1/",
    "/api/voxels/1.0",
    "/api/shape/\u0661", "/inspect/0", "/api/voxels/%2e%2e", "/api", "/etc/passwd", "/api/shape/1\n"])
def test_no_path_leads_anywhere_else(page, pool, path, monkeypatch):
    monkeypatch.setattr(Path, "open", None)
    status, _, body = ask(page, path)
    assert status == 404 and json.loads(body)["error"] and not pool.calls


def test_a_mesh_is_searched_for(page, gallery, query):
    status, answer = send(page, query)
    assert status == 200 and "vector" not in answer and answer["classes"][0][0] == "chair"
    assert answer["inspect"] is None and not page.sent._held  # without the inspector nothing is kept
    order = np.frombuffer(base64.b64decode(answer["order"]), "<u4")
    assert gallery.names[order[0]].startswith("chairs/")
    assert send(page, query, "/api/search?up=z")[1] == answer != send(page, query, "/api/search?up=y")[1]


@pytest.mark.parametrize(("body", "path", "more", "status", "message"), [
    (b"x" * 100_001, "/api/search", {}, 413, "more than 100,000 bytes"),
    (b"x", "/api/search", {"CONTENT_LENGTH": "99999999999999999999"}, 413, "the limit"),
    (b"x", "/api/search", {"CONTENT_LENGTH": "-1"}, 411, "length"),
    (b"x", "/api/search", {"CONTENT_LENGTH": "\u0661"}, 411, "length"),
    (b"x", "/api/search", {"CONTENT_LENGTH": "5"}, 400, "ends early"),
    (b"x", "/api/search", {"CONTENT_TYPE": "text/plain"}, 415, "application/octet-stream"),
    (b"x", "/api/search", {"CONTENT_TYPE": ""}, 415, "application/octet-stream"),
    (b"x", "/api/search", {"CONTENT_LENGTH": "9" * 5000}, 413, "the limit"),
    (b"x", "/api/search?up=w", {}, 400, "up is one of auto, y, z"),
    (b"x", f"/api/search?{'up=z&' * 9}", {}, 400, "up is one of auto, y, z"),
    (b"x", "/api/search?up=z", {"HTTP_ORIGIN": "http://evil.example"}, 403, "other pages"),
    (b"x", "/api/search", {"HTTP_SEC_FETCH_SITE": "cross-site"}, 403, "other pages"),
    (b"a picture", "/api/search", {}, 422, "none of OFF"), (b"OFF\n3 1 0\n", "/api/search", {}, 422, "declares")])
def test_what_is_sent_is_checked(page, body, path, more, status, message):
    found, answer = send(page, body, path, **more)
    assert found == status and message in answer["error"]


@pytest.mark.parametrize(("error", "status", "message"), [
    (Busy("too many"), 503, "too many"), (TimeLimit("it took longer than 20 seconds"), 504, "longer than 20"),
    (WorkerDied("gone"), 422, "takes too much"), (MeshError("a\n b"), 422, "a b"),
    (MemoryError(), 422, "not enough memory"),
    (FileNotFoundError(2, "No such file", "/secret/path"), 404, "no longer there: No such file"),
    (ZeroDivisionError("a bug at /secret/path"), 500, "something went wrong")])
def test_errors_of_the_workers_are_answers(page, pool, query, error, status, message, capsys):
    pool.error = error
    found, answer = send(page, query)
    assert found == status and message in answer["error"] and "/secret" not in answer["error"]
    assert ("ZeroDivisionError" in capsys.readouterr().err) is (status == 500)
    status, headers, _ = ask(page, "/api/voxels/0")
    assert ("Retry-After" in headers) is (status == 503)
    pool.error = None
    assert ask(page, "/api/voxels/0")[0] == 200  # an error is not kept


# ---- the inspector page of a mesh that was sent ----

@pytest.mark.extra("inspect")
def test_the_inspector_page_of_the_mesh_that_was_sent(gallery, pool, query, desk):
    page = SearchPage(gallery, pool, Limits(upload=100_000), frozenset([HOST]), inspector=True)
    address = send(page, query, "/api/search?up=y")[1]["inspect"]
    assert re.fullmatch("/inspect/sent/[A-Za-z0-9_-]{22}", address)
    status, headers, body = ask(page, address)
    assert status == 200 and headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["Content-Security-Policy"].startswith("sandbox allow-scripts; default-src 'none';")
    assert b"<h1>your mesh, seen by modelnet40</h1>" in body
    assert pool.calls[-1] == ("inspector_of_sent", (query, "y", "your mesh, seen by modelnet40"))
    assert body.decode() != desk.inspector_of_sent(query, "z", "your mesh, seen by modelnet40")
    assert send(page, query)[1]["inspect"] != address  # each search has its own key
    assert ask(page, address, HTTP_HOST="evil.example")[0] == 403
    assert ask(page, address, HTTP_SEC_FETCH_SITE="cross-site")[0] == 403
    assert send(page, query, address)[0] == 405


def test_a_mesh_that_is_no_longer_kept(gallery, pool, query, monkeypatch):
    page = SearchPage(gallery, pool, Limits(kept=len(query) + 9), frozenset([HOST]), inspector=True)
    monkeypatch.setattr(pool.desk, "inspector_of_sent", lambda *_: "the page", raising=False)
    first, second = (send(page, query)[1]["inspect"] for _ in range(2))
    status, _, body = ask(page, first)
    assert status == 404 and "no longer kept: search with it again" in json.loads(body)["error"]
    assert ask(page, second)[2] == b"the page"
    assert ask(page, "/inspect/sent/" + "x" * 22)[0] == 404
    calls = len(pool.calls)
    for path in ("/inspect/sent/", "/inspect/sent/../0", f"{second}/", f"{second}x", second[:-1], "/inspect/sent/0"):
        assert ask(page, path)[0] == 404
    assert len(pool.calls) == calls
    pool.error = TimeLimit("it took longer than 20 seconds")
    assert ask(page, second)[0] == 504


def test_what_could_not_be_searched_for_is_not_kept(gallery, pool):
    page = SearchPage(gallery, pool, Limits(), frozenset([HOST]), inspector=True)
    assert send(page, b"a picture")[0] == 422 and not page.sent._held


# ---- the files of the page ----

def test_the_page_loads_nothing_from_elsewhere_and_has_nothing_inline():
    page = served_page()
    assert re.findall(r'(?:src|href)="([^"]*)"', page) == ["/page.css", "data:,", "#", "/page.js"]
    assert "<!-- " not in page and not re.search(r"\sstyle=|\son[a-z]+=|<style|javascript:", page)
    assert not re.search(r"https?://|@import|url\(", page_style())
    assert not re.search(r"https?://|innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function",
                         page_script())


def test_a_static_page_allows_its_own_script_alone():
    page = static_page({"title": "a </script><b>&", "names": []})
    policy = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', page)[1].replace("&#x27;", "'")
    assert "default-src 'none'" in policy and "unsafe" not in policy and "connect" not in policy
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    for text, kind in ((script, "script"), (style, "style")):
        assert f"{kind}-src {document._hash(text)};" in policy
    assert page.count("</script>") == 2 and "<b>&" not in page and page.index("Security-Policy") < page.index("<style")


def test_an_exported_page_holds_shapes_and_distances(gallery, desk, tmp_path):
    size = export_page(tmp_path / "page.html", gallery, progress=False)
    page = (tmp_path / "page.html").read_text("utf-8")
    assert size == len(page.encode())
    held = json.loads(re.search(r'id="held">(.*?)</script>', page, re.DOTALL)[1])
    assert held["names"] == gallery.names and held["voxels"][3] == desk.voxels(gallery.places[3])
    distances = np.frombuffer(base64.b64decode(held["distances"]), "<f4").reshape(12, 12)
    unit = gallery.vectors.astype(np.float64)
    np.testing.assert_allclose(distances, 1 - unit @ unit.T, atol=1e-6)
    assert str(Path(gallery.places[0].path).parent) not in page  # it tells nobody where the folder lay


def test_what_cannot_be_exported(gallery, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="expected .html"):
        export_page(tmp_path / "page.txt", gallery)
    monkeypatch.setattr("sparsenet.serve.running.MAX_EXPORTED", 11)
    with pytest.raises(ValueError, match="12 shapes do not fit into one file, expected at most 11"):
        export_page(tmp_path / "page.html", gallery)
    assert not list(tmp_path.iterdir())


def test_each_status_has_its_words():
    text = Path(app.__file__).read_text("utf-8")
    assert {int(code) for code in re.findall(r"Refused\((\d+)", text)} <= set(app.STATUS)
