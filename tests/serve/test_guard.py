"""Who is answered: the name that was asked for, and the page that asks."""

from __future__ import annotations

import pytest

from sparsenet.serve.guard import host_names, refusal

HOSTS = host_names("127.0.0.1", 8000)


def request(method="GET", path="/api/gallery", host="127.0.0.1:8000", **headers):
    named = {f"HTTP_{name.upper()}": value for name, value in headers.items()}
    return {"REQUEST_METHOD": method, "PATH_INFO": path, **({"HTTP_HOST": host} if host is not None else {}), **named}


@pytest.mark.parametrize(("address", "port", "more", "expected"), [
    ("127.0.0.1", 8000, (), {"127.0.0.1:8000", "localhost:8000"}),
    ("127.0.0.1", 80, (), {"127.0.0.1:80", "localhost:80", "127.0.0.1", "localhost"}),
    ("::1", 9, (), {"[::1]:9", "localhost:9"}),
    ("192.168.1.5", 8000, ["Desk.local"], {"192.168.1.5:8000", "desk.local:8000"}),
    ("0.0.0.0", 8000, ["desk.local"], {"desk.local:8000"}),
])
def test_the_names_of_an_address(address, port, more, expected):
    assert host_names(address, port, more) == expected


@pytest.mark.parametrize(("address", "message"), [("localhost", "expected an IP address"), ("", "expected an IP"),
                                                  ("0.0.0.0", "say by which names"), ("::", "--allow-host")])
def test_an_address_that_has_none(address, message):
    with pytest.raises(ValueError, match=message):
        host_names(address, 8000)


@pytest.mark.parametrize("asked", [
    request(), request(host="LOCALHOST:8000"), request(origin="http://127.0.0.1:8000"),
    request("POST", origin="http://localhost:8000", host="localhost:8000", sec_fetch_site="same-origin"),
    request(path="/", sec_fetch_site="cross-site"),  # a link from elsewhere may lead to the page
    request(path="/inspect/3", sec_fetch_site="same-origin")])
def test_the_page_and_its_user_are_answered(asked):
    assert refusal(asked, HOSTS) == ""


@pytest.mark.parametrize(("asked", "reason"), [
    (request(host=None), "that name"), (request(host="evil.example:8000"), "that name"),
    (request(host="127.0.0.1"), "that name"), (request(host="127.0.0.1:8001"), "that name"),
    (request(host="127.0.0.1:8000.evil.example"), "that name"),
    (request(origin="http://evil.example"), "other pages"), (request(origin="null"), "other pages"),
    (request(origin="https://127.0.0.1:8000"), "other pages"),
    (request(origin="http://localhost:8000"), "other pages"),  # another origin than the host that it asks
    (request("POST"), "must come from the page"), (request("DELETE"), "must come from the page"),
    (request("POST", origin="http://127.0.0.1:8000.evil.example"), "other pages"),
    (request("POST", origin="http://127.0.0.1:8000", sec_fetch_site="cross-site"), "other pages"),
    (request(sec_fetch_site="cross-site"), "other pages"), (request(sec_fetch_site="same-site"), "other pages"),
    (request(path="/inspect/3", sec_fetch_site="cross-site"), "other pages")])
def test_others_are_refused(asked, reason):
    assert reason in refusal(asked, HOSTS)
