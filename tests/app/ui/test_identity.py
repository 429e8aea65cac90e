"""Cookies: what counts as one, and how they are set."""

# ruff: noqa: E501 - tables of requests, one a line

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from app.settings import Settings
from app.ui.identity import COOKIE, Single, Visitors, _cookie, session_cookie

TOKEN, PLANTED = "a" * 43, "b" * 43


@pytest.mark.parametrize(
    "header",
    [
        f"x={TOKEN}; x={PLANTED}",
        f"x={PLANTED}; y=1; x={TOKEN}",
        f'x="{TOKEN}"',
        f"x={TOKEN}a",
        "x=",
        "",
        f"X={TOKEN}",
        f" x ={TOKEN}",
        f"y={TOKEN}; x",
        f"x={TOKEN}; " + "z" * 9000,
        f"x={TOKEN[:-1]}\u0131",
        f"x={TOKEN}\n",
    ],
)
def test_planted_or_misshapen_cookies_count_for_nothing(header):
    """Two values of one name, quotes, other lengths and letters, endless headers."""
    if header.endswith("\n"):
        assert _cookie(header, "x") == TOKEN  # white space around a pair is no part of it
    else:
        assert _cookie(header, "x") is None


def test_one_value_counts_even_twice():
    """A browser may send the same cookie for two paths."""
    assert _cookie(f"a=1; x={TOKEN}; x={TOKEN}", "x") == TOKEN


def identify(identities, path="/", cookies="", method="GET"):
    return asyncio.run(identities.identify({"path": path, "method": method}, cookies))


def test_visitors_are_told_apart_and_begin_at_the_page_only():
    """A first look makes an owner; anything else without a cookie has none."""
    visitors = Visitors(Settings(ownership="visitor"))
    first, second = identify(visitors), identify(visitors)
    assert first.owner != second.owner
    token = first.set_cookie.decode().split(";")[0].removeprefix(f"{COOKIE}=")
    assert identify(visitors, "/upload", f"{COOKIE}={token}").owner == first.owner
    assert token not in first.owner
    assert identify(visitors, "/upload").owner is None
    assert identify(visitors, method="POST").set_cookie is None
    assert identify(Single(), "/upload").owner == "local"


@pytest.mark.parametrize(
    ("changes", "named", "attributes"),
    [
        ({}, "bimedix2-session", {"HttpOnly", "SameSite=Lax", "Path=/"}),
        ({"tls_cert": Path("x.pem")}, "__Host-bimedix2-session", {"HttpOnly", "SameSite=Lax", "Path=/", "Secure"}),
        ({"public_url": "https://a.example/b"}, "__Host-bimedix2-session", {"HttpOnly", "SameSite=Lax", "Path=/", "Secure"}),
        ({"secure_cookies": True}, "__Host-bimedix2-session", {"HttpOnly", "SameSite=None", "Secure", "Partitioned", "Path=/"}),
    ],
)  # fmt: skip
def test_session_cookies(changes, named, attributes):
    """No script reads it, no other site's post carries it; over https no other host can set it."""
    first, *rest = session_cookie(Settings(ownership="users", **changes), TOKEN).split("; ")
    assert first == f"{named}={TOKEN}"
    assert set(rest) == attributes
    gone = session_cookie(Settings(ownership="users", **changes), None)
    assert gone.startswith(f"{named}=; ")
    assert "Max-Age=0" in gone
