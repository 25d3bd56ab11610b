"""Who may ask, and the headers of every answer."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

# Nothing from elsewhere, no inline script or style, no frame, no form, no text that becomes markup
PAGE_POLICY = ("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
               "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
               "trusted-types 'none'")
# The inspector is one file with its scripts in it: it runs in an origin of its own, without any access to this server
INSPECTOR_POLICY = ("sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval' blob:; "
                    "style-src 'unsafe-inline'; img-src data: blob:; connect-src data: blob:; worker-src blob:; "
                    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
HEADERS = (
    ("X-Content-Type-Options", "nosniff"), ("Referrer-Policy", "no-referrer"), ("X-Frame-Options", "DENY"),
    ("Cross-Origin-Opener-Policy", "same-origin"), ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    ("Cache-Control", "no-store"))


def host_names(address: str, port: int, more: Iterable[str] = ()) -> frozenset[str]:
    """The values of the Host header under which a server at an address is asked for.

    more : names that lead to it, without a port

    Raises ValueError for an address that is not one of IP, or one of all interfaces without a name.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        raise ValueError(f"host is {address!r}, expected an IP address such as 127.0.0.1") from None
    names = [name.lower() for name in more]
    if parsed.is_unspecified and not names:
        raise ValueError(f"{address} is every address of this machine: say by which names it may be asked for, "
                         "--allow-host NAME")
    if not parsed.is_unspecified:
        names.append(f"[{parsed}]" if parsed.version == 6 else str(parsed))
    if parsed.is_loopback:
        names.append("localhost")
    return frozenset(f"{name}:{port}" for name in names) | (frozenset(names) if port == 80 else frozenset())


def refusal(request: Mapping[str, Any], hosts: frozenset[str]) -> str:
    """Why a request is refused, "" if it is not.

    request : of WSGI
    hosts : see `host_names`.  Another Host means that a web page elsewhere has made its own name lead here (DNS
        rebinding); another Origin, or a fetch from another site, that it asks in its user's name.
    """
    host = request.get("HTTP_HOST", "").lower()
    if host not in hosts:
        return "this server does not answer to that name"
    origin = request.get("HTTP_ORIGIN")
    if origin is not None and origin.lower() != f"http://{host}":
        return "requests from other pages are not answered"
    if origin is None and request["REQUEST_METHOD"] not in ("GET", "HEAD"):
        return "a request that sends something must come from the page"
    if request.get("HTTP_SEC_FETCH_SITE", "none") not in ("none", "same-origin") and request["PATH_INFO"] != "/":
        return "requests from other pages are not answered"
    return ""
