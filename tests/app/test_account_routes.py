"""Signing in, locking, changing and managing, over HTTP and without Gradio; and ways to get around it."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest
from argon2 import PasswordHasher
from pydicom.data import get_testdata_file
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import HTMLResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from app.accounts.passwords import Passwords
from app.accounts.people import People
from app.ui.guard import Guard
from app.ui.headers import own_page_policy
from app.ui.identity import Accounts
from app.ui.rates import RATES, Rates
from app.web import routes
from tests.app.accounts.provider import CLIENT, SECRET, TestProvider

PASSWORD, OTHER = "four words make sense", "another good sentence"
BASE = "http://127.0.0.1:7860"
NAME = "bimedix2-session"


class Site:
    """The application as several browsers meet it."""

    def __init__(self, workspace, **changes):
        self.settings = replace(workspace.settings, ownership="users", **changes)
        workspace.settings = self.settings
        cheap = Passwords(PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))
        self.people = People.open(self.settings, workspace.history, cheap)
        guard = Middleware(
            Guard,
            settings=self.settings,
            port=7860,
            head=b"",
            identities=Accounts(self.settings, self.people.sign_ins),
            rates=Rates(lambda: 0.0),  # the buckets' clock stands still
        )

        async def page(_request):
            return HTMLResponse("<html><head></head>the workstation</html>")

        self.app = Starlette(routes=[*routes(workspace, self.people), Route("/", page)], middleware=[guard])
        add = self.people.accounts.add
        for name in ("amal", "badr"):
            add(name, "clinician", PASSWORD, must_change=False)
        add("root", "administrator", PASSWORD, must_change=False)

    def browser(self, name=None, password=PASSWORD, base=BASE, client="10.0.0.1"):
        one = TestClient(
            self.app, base_url=base, raise_server_exceptions=False, follow_redirects=False, client=(client, 5)
        )
        if name is not None:
            answer = one.post("/account/sign-in", data={"name": name, "password": password})
            assert answer.status_code == 303, answer.text
        return one


@pytest.fixture
def site(workspace):
    return Site(workspace)


def token_of(browser):
    return browser.cookies[NAME]


# --- in and out ---------------------------------------------------------------------------------------


def test_the_page_is_behind_the_sign_in(site):
    """Nothing of the workstation answers before; afterwards it does, until signed out."""
    browser = site.browser()
    assert browser.get("/").headers["location"] == "account/sign-in"
    assert browser.get("/history/threads").status_code == 401
    assert set(browser.get("/history/threads").json()["error"]) == {"en", "ar"}
    assert browser.post("/account/sign-in", data={"name": "amal", "password": "x"}).status_code == 401
    answer = browser.post("/account/sign-in", data={"name": "Amal", "password": PASSWORD})
    assert (answer.status_code, answer.headers["location"]) == (303, "../")
    assert "the workstation" in browser.get("/").text
    token = token_of(browser)
    assert browser.post("/account/sign-out").headers["location"] == "sign-in"
    browser.cookies.set(NAME, token)
    assert browser.get("/history/threads").status_code == 401  # the token itself is worth nothing any more


def test_failures_say_one_thing(site):
    """Wrong, unknown and disabled look alike, down to the bytes, and keep the name typed; too many wait."""
    site.people.accounts.set_disabled("badr", disabled=True)
    browser = site.browser()
    answers = {
        browser.post("/account/sign-in", data={"name": name, "password": PASSWORD + extra}).text.replace(
            f'value="{name}"', "the name"
        )
        for name, extra in (("amal", "x"), ("badr", ""), ("nobody", ""))
    }
    assert len(answers) == 1
    assert "the name" in answers.pop()
    hostile = browser.post("/account/sign-in", data={"name": '"><script>', "password": "x"}).text
    assert 'value="&quot;&gt;&lt;script&gt;"' in hostile
    for _ in range(5):
        browser.post("/account/sign-in", data={"name": "nobody", "password": "x"})
    assert browser.post("/account/sign-in", data={"name": "nobody", "password": "x"}).status_code == 429


def test_a_planted_token_is_never_taken_over(site):
    """Session fixation: whatever a browser had before signing in, it has another one afterwards."""
    for planted in ("p" * 43, token_of(site.browser("badr"))):
        browser = site.browser()
        browser.cookies.set(NAME, planted, domain="127.0.0.1", path="/")
        answer = browser.post("/account/sign-in", data={"name": "amal", "password": PASSWORD})
        given = answer.headers["set-cookie"].split("=")[1].split(";")[0]
        assert given != planted
        thief = site.browser()
        assert thief.get("/history/threads", headers={"cookie": f"{NAME}={planted}"}).status_code == 401
        assert thief.get("/history/threads", headers={"cookie": f"{NAME}={given}"}).status_code == 200


def test_two_tokens_at_once_are_none(site):
    """Cookie tossing: another host of the domain sets its own beside the right one."""
    right, thiefs = token_of(site.browser("amal")), token_of(site.browser("badr"))
    browser = site.browser()
    for header in (f"{NAME}={right}; {NAME}={thiefs}", f"{NAME}={thiefs}; {NAME}={right}"):
        assert browser.get("/history/threads", headers={"cookie": header}).status_code == 401
    listed = [("cookie", f"{NAME}={thiefs}"), ("cookie", f"{NAME}={right}")]
    assert httpx.Headers(listed)
    assert browser.get("/history/threads", headers=listed).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://elsewhere.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_another_site_signs_nobody_in_or_out(site, headers):
    """A form elsewhere that signs a victim in as the attacker, or out, is refused."""
    browser = site.browser("amal")
    for path in ("sign-in", "sign-out", "lock", "password"):
        answer = browser.post(
            f"/account/{path}", data={"name": "badr", "password": PASSWORD}, headers=headers
        )
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers
    assert browser.get("/account/state").json()["name"] == "amal"


@pytest.mark.parametrize(
    "form",
    [
        b"name=amal&name=badr&password=four+words+make+sense",
        b"name=amal",
        b"",
        b"\xff\xfe=%ff",
        b"&".join(b"x=1" for _ in range(50)),
        b"name=amal&password=" + b"x" * 20_000,
        b'{"name": "amal", "password": "four words make sense"}',
        b"name=amal%00&password=four+words+make+sense%00",
        b"name=amal'--&password=x",
    ],
)
def test_forms_that_are_none(site, form):
    """Fields given twice, too many, too long, not text: refused, never a traceback."""
    answer = site.browser().post("/account/sign-in", content=form)
    assert answer.status_code in (401, 413, 422), answer.text
    assert "Traceback" not in answer.text


def test_rates_of_an_address(site):
    """Guessing names from one address ends, whatever the names; asking with many is asked to wait."""
    browser = site.browser()
    answers = [
        browser.post("/account/sign-in", data={"name": f"n{number}", "password": "x"})
        for number in range(int(RATES["sign_in"].burst) + 1)
    ]
    assert answers[-1].status_code == 429
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert site.browser(client="10.0.0.2").get("/account/sign-in").status_code == 200


# --- the lock -----------------------------------------------------------------------------------------


def test_a_locked_page_gets_nothing_until_the_password(site):
    """The cover signs in again as the same person, with another token; the old one is gone."""
    browser = site.browser("amal")
    before = token_of(browser)
    assert browser.post("/account/lock").status_code == 204
    assert browser.get("/account/state").json()["state"] == "locked"
    for path in ("/history/threads", "/account/sign-ins", "/account/users"):
        assert browser.get(path).status_code == 401
    assert browser.post("/account/here").status_code == 401
    assert browser.get("/").headers["location"] == "account/sign-in"
    wanted = {"accept": "application/json"}
    wrong = browser.post("/account/sign-in", data={"name": "amal", "password": "x"}, headers=wanted)
    assert (wrong.status_code, set(wrong.json()["error"])) == (401, {"en", "ar"})
    right = browser.post("/account/sign-in", data={"name": "amal", "password": PASSWORD}, headers=wanted)
    assert right.json()["owner"].startswith("user-")
    assert token_of(browser) != before
    assert browser.get("/history/threads").status_code == 200
    old = site.browser()
    old.cookies.set(NAME, before)
    assert old.get("/account/state").json() == {"state": "out"}


def test_state_tells_nothing_to_strangers(site):
    """Who is signed in is told to that browser alone."""
    assert site.browser().get("/account/state").json() == {"state": "out"}
    state = site.browser("amal").get("/account/state").json()
    assert (state["name"], state["role"], state["lockAfter"]) == ("amal", "clinician", 600)


# --- one's own account --------------------------------------------------------------------------------


def test_a_password_set_by_somebody_else_opens_only_its_change(site):
    """Everything leads to the account page until it is changed; then other browsers are out."""
    site.people.accounts.reset("amal", OTHER)
    browser, second = site.browser("amal", OTHER), site.browser("amal", OTHER)
    assert browser.get("/").headers["location"] == "account"
    assert browser.get("/history/threads").status_code == 403
    page = browser.get("/account").text
    assert "set by somebody else" in page
    assert "page/js" in page
    form = {"old": OTHER, "new": "a third good sentence", "again": "a third good sentence"}
    assert browser.post("/account/password", data={**form, "again": "x"}).status_code == 422
    assert browser.post("/account/password", data={**form, "old": "x"}).status_code == 422
    assert (
        browser.post("/account/password", data={**form, "new": "short", "again": "short"}).status_code == 422
    )
    before = token_of(browser)
    assert browser.post("/account/password", data=form).status_code == 303
    assert token_of(browser) != before
    assert browser.get("/").status_code == 200
    assert second.get("/account").headers["location"] == "account/sign-in"


def test_ones_sign_ins(site):
    """Listed with browser and system, ended one by one, nobody else's."""
    first = site.browser()
    first.headers["user-agent"] = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
    first.post("/account/sign-in", data={"name": "amal", "password": PASSWORD})
    second, other = site.browser("amal"), site.browser("badr")
    listed = first.get("/account/sign-ins").json()["signIns"]
    assert sorted(one["here"] for one in listed) == [False, True]
    assert next(one["program"] for one in listed if one["here"]) == "Firefox, Linux"
    elsewhere = next(one["id"] for one in listed if not one["here"])
    assert other.post(f"/account/sign-ins/{elsewhere}/end").status_code == 404
    assert second.get("/history/threads").status_code == 200
    assert first.post(f"/account/sign-ins/{elsewhere}/end").status_code == 204
    assert second.get("/history/threads").status_code == 401


# --- managing -----------------------------------------------------------------------------------------


def test_an_administrator_manages_accounts(site):
    """Added, reset, disabled, enabled, given another role; each ends what was open, and is in the audit."""
    root = site.browser("root")
    assert root.get("/").headers["location"] == "account"
    new = {"name": "Carim", "password": PASSWORD, "role": "clinician"}
    assert root.post("/account/users", json=new).status_code == 204
    assert root.post("/account/users", json=new).status_code == 422
    carim = site.browser("carim")
    for task, body in (
        ("disable", {}),
        ("enable", {}),
        ("reset", {"password": OTHER}),
        ("role", {"role": "reviewer"}),
    ):
        answer = root.post("/account/users/change", json={"name": "carim", "task": task, **body})
        assert answer.status_code == 204, answer.text
        assert carim.get("/account/state").json() == {"state": "out"}
    listed = {one["name"]: one for one in root.get("/account/users").json()["users"]}
    assert listed["carim"]["role"] == "reviewer"
    assert root.post("/account/users/change", json={"name": "root", "task": "disable"}).status_code == 422
    assert root.post("/account/users/change", json={"name": "carim", "task": "erase"}).status_code == 422
    assert root.post("/account/users", json={**new, "name": "x", "role": "root"}).status_code == 422


def test_what_was_done_is_in_the_audit(site, workspace):
    """Signing in and managing, by owners that are no names."""
    site.browser("root").post("/account/users", json={"name": "x", "password": PASSWORD, "role": "clinician"})
    entries = [(one.action, one.owner) for one in workspace.history.audit()]
    owner = next(one.owner for one in site.people.accounts.list() if one.name == "root")
    assert entries[-2:] == [("signed_in", owner), ("managed", owner)]
    assert entries[0] == ("managed", "command line")


# --- the organisation ---------------------------------------------------------------------------------


def test_signing_in_through_the_organisation(workspace, tmp_path):
    """The button, the provider, the way back: a clinician at work, under a random owner."""
    provider = TestProvider()
    (tmp_path / "secret").write_text(SECRET)
    try:
        site = Site(
            workspace,
            oidc_issuer=provider.issuer,
            oidc_client_id=CLIENT,
            oidc_secret_file=tmp_path / "secret",
            oidc_roles=("radiologists=clinician",),
            oidc_label="<b>Hospital</b>",
        )
        browser = site.browser()
        page = browser.get("/account/sign-in").text
        assert "&lt;b&gt;Hospital" in page
        assert "<b>Hospital" not in page
        leaving = browser.get("/account/organisation")
        assert leaving.status_code == 303
        assert "HttpOnly" in leaving.headers["set-cookie"]
        way = httpx.get(leaving.headers["location"]).headers["location"].removeprefix(BASE)
        stranger = site.browser().get(way)
        assert stranger.status_code == 401
        assert "set-cookie" not in stranger.headers
        way = httpx.get(browser.get("/account/organisation").headers["location"]).headers["location"]
        back = browser.get(
            way.removeprefix(BASE), headers={"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
        )
        assert back.headers["location"] == "../../", back.text
        assert browser.get("/").status_code == 200
        state = browser.get("/account/state").json()
        assert (state["name"], state["password"]) == ("amal-2", False)
        assert browser.get(way.removeprefix(BASE)).status_code == 401  # a second time it is nothing
    finally:
        provider.close()


# --- markup and headers -------------------------------------------------------------------------------


class Scripts(HTMLParser):
    """Collects what could run."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        if tag == "script" and "src" not in named and named.get("type") != "application/json":
            self.found.append(tag)
        self.found += [name for name in named if name.startswith("on")]
        self.found += [value for value in named.values() if (value or "").lower().startswith("javascript:")]


@pytest.mark.parametrize("path", ["/account/sign-in", "/account"])
def test_own_pages_run_only_files_of_this_server(site, path):
    """Their policy allows no inline script, and they hold none; right language without any script."""
    browser = site.browser("root")
    answer = browser.get(path, headers={"accept-language": "ar-SA,ar;q=0.9"})
    assert answer.headers["content-security-policy"] == own_page_policy()
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"
    parser = Scripts()
    parser.feed(answer.text)
    assert parser.found == []
    assert '<html lang="ar" dir="rtl">' in answer.text
    assert '<html lang="en" dir="ltr">' in browser.get(path).text
    assert "[[" not in answer.text


def test_https_has_its_own_cookie_and_says_so(workspace):
    """Secure, with the prefix no other host can set, and remembered by the browser."""
    site = Site(workspace, public_url="https://viewer.example/bimedix2", host="0.0.0.0")  # noqa: S104 - nothing listens
    browser = site.browser(base="https://viewer.example")
    answer = browser.post("/bimedix2/account/sign-in", data={"name": "amal", "password": PASSWORD})
    assert answer.headers["set-cookie"].startswith("__Host-bimedix2-session=")
    assert "; Secure" in answer.headers["set-cookie"]
    assert "max-age" in answer.headers["strict-transport-security"]
    # a cookie without the prefix is nobody's
    token = answer.headers["set-cookie"].split("=")[1].split(";")[0]
    assert browser.get("/history/threads", headers={"cookie": f"__Host-{NAME}={token}"}).status_code == 200
    plain = site.browser(base="https://viewer.example")
    assert plain.get("/history/threads", headers={"cookie": f"{NAME}={token}"}).status_code == 401


def test_a_proxys_prefix_is_taken_away_once(workspace):
    """With or without it the same route answers, and only that."""
    site = Site(workspace, public_url="https://viewer.example/bimedix2")
    browser = site.browser(base="https://viewer.example")
    for path, status in (
        ("/bimedix2/account/sign-in", 200),
        ("/account/sign-in", 200),
        ("/bimedix2/bimedix2/account/sign-in", 403),
        ("/bimedix2x/account/sign-in", 403),
        ("/bimedix2//account/sign-in", 403),
    ):
        assert browser.get(path).status_code == status, path
    other = site.browser(base="https://elsewhere.example")
    assert other.get("/account/sign-in").status_code == 403
    posted = browser.post("/account/sign-in", data={}, headers={"origin": "https://viewer.example"})
    assert posted.status_code == 401


def test_forwarded_headers_reach_nobody(site):
    """Neither Gradio nor a route sees them: whoever can send one is no proxy."""
    seen = []

    async def app(scope, _receive, send):
        seen.append({name for name, _ in scope["headers"]})
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    guard = Guard(app, replace(site.settings, ownership="single"), 7860, b"")
    headers = {
        "x-forwarded-host": "evil.example",
        "x-forwarded-proto": "https",
        "forwarded": "host=evil",
        "x-direct-url": "x",
    }
    TestClient(guard, base_url=BASE).get("/", headers=headers)
    assert not {name for name in seen[0] if b"forwarded" in name or b"direct" in name}


def test_websockets_are_closed(site):
    """The page uses none; a scope nobody checks would be a way around everything."""
    from starlette.websockets import WebSocketDisconnect

    browser = site.browser("amal")
    for path in ("/", "/gradio_api/queue/join", "/upload"):
        with pytest.raises(WebSocketDisconnect), browser.websocket_connect(path):
            pass


def test_a_quota_of_images(workspace):
    """More images or bytes than are kept for one owner: a sentence, and nothing stored; others go on."""
    ct = Path(get_testdata_file("CT_small.dcm", download=False)).read_bytes()
    mr = Path(get_testdata_file("MR_small.dcm", download=False)).read_bytes()
    site = Site(workspace, max_images=1)
    amal, badr = site.browser("amal"), site.browser("badr")
    first = amal.post("/upload", content=ct)
    assert first.status_code == 200, first.text
    full = amal.post("/upload", content=mr)
    assert (full.status_code, set(full.json()["error"])) == (413, {"en", "ar"})
    assert badr.post("/upload", content=mr).status_code == 200
    workspace.settings = replace(workspace.settings, max_images=0, max_image_bytes=1000)
    assert amal.post("/upload", content=mr).status_code == 413
    workspace.settings = replace(workspace.settings, max_image_bytes=1 << 30)
    assert amal.post("/upload", content=mr).status_code == 200
