"""The search page over real connections: twenty uploads at once, and clients that mean no good."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import socket
import struct
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection

import numpy as np
import pytest
from command_line import ENVIRONMENT, words
from mesh_files import mesh_of, write_off

from sparsenet.serve import Limits
from sparsenet.serve.running import started
from sparsenet.serve.server import Server

pytestmark = pytest.mark.extra("serve")

LIMITS = Limits(upload=4 * 2**20, unpacked=2**22, faces=20_000, seconds=8, upload_seconds=1.5)


@pytest.fixture(scope="module")
def server(gallery):
    with started(gallery, limits=LIMITS) as server:
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        yield server
        server.close()
        thread.join(10)
        assert not thread.is_alive()


def ask(server, path, body=None, **headers):
    """(status, headers, body), on a connection of its own."""
    with closing(HTTPConnection("127.0.0.1", server.port, timeout=60)) as connection:
        own = {} if body is None else {"Origin": f"http://127.0.0.1:{server.port}",
                                       "Content-Type": "application/octet-stream"}
        connection.request("GET" if body is None else "POST", path, body, {**own, **headers})
        response = connection.getresponse()
        return response.status, response.headers, response.read()


def raw(server, *parts, wait=0.0, timeout=5.0):
    """The server's answer to bytes, sent with pauses between them, until it closes."""
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=timeout)) as client:
        answer = b""
        try:
            for part in parts:
                client.sendall(part)
                time.sleep(wait)
        except (BrokenPipeError, ConnectionResetError):
            pass
        try:
            while piece := client.recv(65_536):
                answer += piece
        except (ConnectionResetError, TimeoutError):
            pass
        return answer


def head(server, *lines, method="POST", path="/api/search"):
    named = (f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{server.port}", f"Origin: http://127.0.0.1:{server.port}",
             "Content-Type: application/octet-stream", *lines)
    return ("\r\n".join(named) + "\r\n\r\n").encode()


def test_it_answers_without_saying_who_it_is(server):
    status, headers, body = ask(server, "/")
    assert status == 200 and body.startswith(b"<!DOCTYPE html>") and headers["Server"] is None
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert ask(server, "/", Host="evil.example")[0] == 403
    assert ask(server, "/api/gallery", Origin="http://evil.example")[0] == 403


def found(body):
    """An answer without the key of its mesh, which is another one each time."""
    return {name: value for name, value in json.loads(body).items() if name != "inspect"}


def test_twenty_uploads_at_once_get_their_own_answers(server, tmp_path):
    names = ("chair", "lamp", "table", "bottle") * 5
    bodies = [write_off(tmp_path / f"{k}.off", mesh_of(name, 50 + k)).read_bytes() for k, name in enumerate(names)]
    alone = [found(ask(server, "/api/search", body)[2]) for body in bodies]
    start = threading.Barrier(len(bodies))

    def send(body):
        start.wait()
        return ask(server, "/api/search", body)

    with ThreadPoolExecutor(len(bodies)) as threads:
        answers = list(threads.map(send, bodies))
    assert [status for status, _, _ in answers] == [200] * 20
    assert [found(body) for _, _, body in answers] == alone
    keys = {json.loads(body)["inspect"] for _, _, body in answers}
    assert keys == {None} or len(keys) == 20  # without the inspector there is none
    assert len({answer["voxels"]["bits"] for answer in alone}) == 20


def test_bad_ones_among_them_spoil_nothing(server, query):
    bad = [gzip.compress(bytes(2**26), 1), b"OFF\n999999999 9 0\n", b"PK\x03\x04", os.urandom(100_000),
           b"solid x\nfacet\n" * 10_000, b"v 1 2 3\n" * 50_000 + b"f 1 2 3\n" * 30_000]
    expected = found(ask(server, "/api/search", query)[2])
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda body: ask(server, "/api/search", body), [*bad, query] * 3))
    for number, (status, _, body) in enumerate(answers):
        if number % 7 == 6:
            assert status == 200 and found(body) == expected
        else:
            assert status == 422 and json.loads(body)["error"], number


def test_a_mesh_that_takes_too_long_is_given_up(gallery, query):
    rows = np.arange(60_000)
    slow = b"".join(b"v %d %d %d\n" % (row % 7, row % 11, row % 13) for row in rows.tolist())
    slow += b"".join(b"f %d %d %d\n" % (row + 1, row + 2, row + 3) for row in rows[:-3].tolist())
    with started(gallery, limits=Limits(seconds=0.15), workers=1) as server:
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        status, _, body = ask(server, "/api/search", slow)
        assert status == 504 and "longer than 0.15 seconds" in json.loads(body)["error"]
        assert ask(server, "/api/search", b"OFF\n")[0] == 422  # another process has taken over
        server.close()
        thread.join(10)


def test_a_body_that_is_too_large_is_refused_at_its_header(server):
    size = LIMITS.upload + 1
    answer = raw(server, head(server, f"Content-Length: {size}"))
    assert answer.startswith(b"HTTP/1.1 413 ") and b"\r\nContent-Security-Policy: default-src 'none'" in answer
    assert b"\r\nX-Content-Type-Options: nosniff\r\n" in answer and b"waitress" not in answer
    assert raw(server, head(server, "Content-Length: 99999999999999999999")).startswith(b"HTTP/1.1 413 ")
    assert raw(server, head(server, "Content-Length: -5")).startswith(b"HTTP/1.1 400 ")


def test_an_endless_body_ends(server):
    chunk = b"10000\r\n" + bytes(2**16) + b"\r\n"
    answer = raw(server, head(server, "Transfer-Encoding: chunked"), *[chunk] * (LIMITS.upload // 2**16 + 20))
    assert answer.startswith(b"HTTP/1.1 413 ") or not answer  # refused, or cut off while it was sending


def test_slow_clients_are_cut_off(server, query):
    beginnings = [head(server, "Content-Length: 1000"), b"GET / HTTP/1.1\r\n",
                  head(server, "Transfer-Encoding: chunked")]
    drips = [[b"x"] * 14, [b"x"] * 14, [b"1\r\nx\r\n"] * 14]
    with ThreadPoolExecutor(3) as threads:
        slow = [threads.submit(raw, server, first, *more, wait=0.15)
                for first, more in zip(beginnings, drips, strict=True)]
        assert ask(server, "/api/gallery")[0] == 200  # others are answered meanwhile
        for answer in slow:
            assert re.match(rb"HTTP/1\.[01] 408 ", answer.result())
    assert ask(server, "/api/search", query)[0] == 200


@pytest.mark.parametrize("request_", [
    b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 20_000 + b"\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00",
    b"GET /\r\n\r\n", b"GET /\x00 HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    struct.pack("<I", 5) * 9 + b"\r\n\r\n",
    b"POST /api/search HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
    b"POST /api/search HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
    b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n"])
def test_what_is_no_request_is_no_trouble(server, request_):
    answer = raw(server, request_, timeout=0.5)
    assert not answer or re.match(rb"HTTP/1\.[01] [45]\d\d ", answer)
    assert ask(server, "/page.css")[0] == 200


def test_a_client_that_leaves_is_forgotten(server, query):
    for _ in range(30):
        with closing(socket.create_connection(("127.0.0.1", server.port))) as client:
            client.sendall(head(server, f"Content-Length: {len(query)}") + query[:len(query) // 2])
    assert ask(server, "/api/search", query)[0] == 200


def test_a_port_in_use_is_told(server):
    with pytest.raises(OSError, match=f"cannot listen at 127.0.0.1, port {server.port}: .*--port"):
        Server(None.__class__, LIMITS, "127.0.0.1", server.port)


@pytest.mark.skipif(os.name != "posix", reason="sends signals to processes")
def test_the_command_serves_until_it_is_stopped(meshes):
    environment = {**ENVIRONMENT, "SPARSENET_CACHE": str(meshes.parent / "cache"), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(words("serve", meshes, "--port", 0, "--workers", 1), env=environment, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            lines = [process.stdout.readline(), process.stdout.readline()]
            address = re.fullmatch(r"Open http://127\.0\.0\.1:(\d+)/ in a browser\.  Ctrl-C stops the server\.\n",
                                   lines[1])
            assert "12 shapes" in lines[0] and address, lines
            with closing(HTTPConnection("127.0.0.1", int(address[1]), timeout=30)) as connection:
                connection.request("GET", "/api/gallery")
                assert json.loads(connection.getresponse().read())["title"] == "shapes"
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 130
        finally:
            process.kill()
        told = process.stderr.read()
        assert told.endswith("sparsenet serve: interrupted\n") and "Traceback" not in told
