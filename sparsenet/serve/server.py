"""Runs the search page with waitress."""

from __future__ import annotations

import logging
import math
import socket
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from sparsenet.serve.guard import HEADERS, PAGE_POLICY
from sparsenet.serve.limits import Limits

_THREADS = 40  # more than queries may wait: a thread that waits for a worker costs little
_CONNECTIONS = 200
_IDLE_SECONDS = 30
_HEADER_BYTES = 16_384


def require_waitress() -> None:
    """Raise RuntimeError if waitress is not installed."""
    if find_spec("waitress") is None:
        raise RuntimeError("the search page needs waitress, which is not installed: pip install 'sparsenet[serve]'")


class Server:
    """A server that listens from the moment it is made.

    app : of WSGI;  address : of IP;  port : 0 for any that is free, see `port`

    Bodies are received before a thread takes a request up, so that slow clients keep none; one that is larger than
    the limit is refused at its header, or where it gets there.

    Raises
    ------
    RuntimeError : waitress is not installed.
    OSError : the port is in use, or the address is not this machine's.
    """

    def __init__(self, app: Callable, limits: Limits, address: str, port: int):
        require_waitress()
        from waitress import create_server

        logging.getLogger("waitress").setLevel(logging.ERROR)  # its lines on queues tell a user nothing
        try:
            listening = socket.create_server((address, port), family=socket.AF_INET6 if ":" in address else
                                             socket.AF_INET)
        except OSError as error:
            raise OSError(f"cannot listen at {address}, port {port}: {error.strerror or error}: name another with "
                          "--port (0: any that is free)") from None
        self._server: Any = create_server(
            app, sockets=[listening], threads=_THREADS, connection_limit=_CONNECTIONS, ident=None, cleanup_interval=5,
            channel_timeout=math.ceil(min(_IDLE_SECONDS, limits.upload_seconds)), expose_tracebacks=False,
            max_request_header_size=_HEADER_BYTES, max_request_body_size=limits.upload + 1,
            clear_untrusted_proxy_headers=True)
        self._server.channel_class = _channel_class(limits.upload_seconds)
        self.port = int(self._server.effective_port)

    def run(self) -> None:
        """Answer until `close`, or until Ctrl-C or SIGTERM raises KeyboardInterrupt."""
        server = self._server
        try:
            server.asyncore.loop(timeout=server.adj.asyncore_loop_timeout, map=server._map,
                                 use_poll=server.adj.asyncore_use_poll)
        except OSError:  # the trigger was closed while the loop waited for it
            if server._map:
                raise
        finally:
            self.close()

    def close(self) -> None:
        """Stop listening and drop all connections; may be called from another thread."""
        server = self._server
        if server._map:
            server.task_dispatcher.shutdown(cancel_pending=True, timeout=1)
            server.asyncore.close_all(server._map, ignore_all=True)


def _channel_class(seconds: float) -> type:
    """Connections on which a request must arrive within some seconds, however slowly its bytes drip, and on which the
    server's own refusals have the headers of every answer."""
    from waitress.channel import HTTPChannel
    from waitress.parser import HTTPRequestParser
    from waitress.task import ErrorTask
    from waitress.utilities import BadRequest

    class Late(BadRequest):
        code, reason = 408, "Request Timeout"

    class Parser(HTTPRequestParser):
        completed: bool

        def __init__(self, adj: Any):
            super().__init__(adj)
            self.deadline = time.monotonic() + seconds

        def received(self, data: bytes) -> int:
            if not self.completed and time.monotonic() > self.deadline:
                if not self.headers_finished:
                    self.parse_header(b"GET / HTTP/1.0\r\n")
                self.error = Late(f"it must arrive within {seconds:g} seconds")
                self.connection_close = self.completed = True
                return len(data)
            return super().received(data)

    class Refusal(ErrorTask):
        def execute(self) -> None:
            self.response_headers.extend([*HEADERS, ("Content-Security-Policy", PAGE_POLICY)])
            super().execute()

    class Channel(HTTPChannel):
        parser_class, error_task_class = Parser, Refusal

    return Channel
