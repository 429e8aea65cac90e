"""Routes and guard, driven over HTTP without a browser and without Gradio."""

from __future__ import annotations

import io
import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image as Pillow
from pydicom.data import get_testdata_file
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from app.ui.guard import COOKIE, Guard, content_security_policy
from app.ui.page_head import page_head
from app.web import routes
from i18n.catalogue import LOCALES, Catalogue
from viewers.view import View, render
from viewers.window import build_lut

if TYPE_CHECKING:
    from app.session import Workspace

PORT = 7860
BASE = f"http://127.0.0.1:{PORT}"
PAGE = '<!doctype html><html><head><meta property="og:url" content="https://gradio.app/" /></head></html>'


async def page(_request):
    return HTMLResponse(PAGE)


async def other(request):
    return PlainTextResponse(request.url.path, 404)


def make_client(workspace: Workspace, **changes) -> TestClient:
    workspace.settings = replace(workspace.settings, **changes)
    app = Starlette(
        routes=[*routes(workspace), Route("/", page, methods=["GET", "POST"]), Route("/{path:path}", other)],
        middleware=[Middleware(Guard, settings=workspace.settings, port=PORT, head=b"<script>1</script>")],
    )
    return TestClient(app, base_url=BASE, raise_server_exceptions=False)


@pytest.fixture
def client(workspace):
    return make_client(workspace)


@pytest.fixture
def visitors(workspace):
    """Two browsers that have opened the page."""
    first = make_client(workspace, ownership="visitor")
    second = TestClient(first.app, base_url=BASE, raise_server_exceptions=False)
    for one in (first, second):
        assert one.get("/").status_code == 200
    assert first.cookies[COOKIE] != second.cookies[COOKIE]
    return first, second


@pytest.fixture(scope="module")
def ct():
    return Path(get_testdata_file("CT_small.dcm", download=False)).read_bytes()


def upload(client, content):
    answer = client.post("/upload", content=content)
    assert answer.status_code == 200, answer.text
    return answer.json()["image"]


def read_frame(body):
    length = struct.unpack_from("<I", body)[0]
    return json.loads(body[4 : 4 + length]), body[4 + length :]


def test_upload_answers_with_what_the_viewer_needs(client, workspace, ct):
    """One file in, its digest, size and first view out; the file itself is not kept."""
    image = upload(client, ct)
    assert (image["modality"], image["columns"], image["rows"], image["frames"]) == ("CT", 128, 128, 1)
    assert View.from_json(image["default_view"]).image == image["digest"]
    assert set(image["findings"][0]) == {"en", "ar"} if image["findings"] else True
    assert list(workspace.settings.uploads_folder.iterdir()) == []


def test_frame_carries_description_and_codes(client, workspace, ct):
    """A frame's codes through the table its description leads to are the rendered pixels."""
    image = upload(client, ct)
    answer = client.get(f"/images/{image['digest']}/frames/0")
    meta, payload = read_frame(answer.content)
    assert answer.headers["cache-control"] == "no-store"
    codes = np.frombuffer(payload, "<u2").reshape(meta["height"], meta["width"])
    opened = workspace.image("local", image["digest"])
    view = View.from_json(image["default_view"])
    table = build_lut(opened.frame(0).code_map, view.window)
    assert np.array_equal(table[codes], render(opened, view)[:, :, 0])


def test_render_is_exactly_the_view(client, workspace, ct):
    """The picture of a view holds the bytes the model is given; a thumbnail is no larger than asked."""
    image = upload(client, ct)
    view = {
        **image["default_view"],
        "region": {"x": 10, "y": 20, "width": 40, "height": 32},
        "inverted": True,
    }
    query = {"view": json.dumps(view)}
    picture = Pillow.open(io.BytesIO(client.get("/shown/render", params=query).content))
    expected = render(workspace.image("local", image["digest"]), View.from_json(view))
    assert np.array_equal(np.asarray(picture), expected)
    small = client.get("/shown/render", params={**query, "side": "16"})
    assert max(Pillow.open(io.BytesIO(small.content)).size) == 16


def test_a_view_nested_too_deep_is_refused(client):
    """Of a thousand brackets nothing is parsed, and nothing fails."""
    assert client.get("/shown/render", params={"view": "[" * 5000}).status_code == 422


@pytest.mark.parametrize("view", ["", "null", "{}", "[1]", "nonsense", '{"image": 3}'])
def test_render_refuses_what_is_no_view(client, ct, view):
    """A view that was tampered with is answered with a sentence, never with a traceback."""
    upload(client, ct)
    answer = client.get("/shown/render", params={"view": view})
    assert answer.status_code == 422
    assert set(answer.json()["error"]) == {"en", "ar"}
    assert "Traceback" not in answer.text


@pytest.mark.parametrize("path", ["/images/{0}", "/images/{0}/frames/0", "/shown/render?view={1}"])
def test_another_visitors_image_is_not_there(visitors, ct, path):
    """On every route of an image the wrong visitor gets what a missing image gets."""
    mine, theirs = visitors
    image = upload(mine, ct)
    target = path.format(image["digest"], json.dumps(image["default_view"]))
    missing = path.format("0" * 64, json.dumps({**image["default_view"], "image": "0" * 64}))
    assert theirs.get(target).status_code == 404
    assert theirs.get(target).json() == theirs.get(missing).json()


def test_both_visitors_may_hold_the_same_pixels(visitors, ct):
    """The same file opened by two visitors is each one's own, until one of them never opened it."""
    mine, theirs = visitors
    image = upload(mine, ct)
    assert upload(theirs, ct)["digest"] == image["digest"]
    assert theirs.get(f"/images/{image['digest']}").status_code == 200


@pytest.mark.parametrize("path", ["/gradio_api/queue/data?session_hash=abc", "/gradio_api/heartbeat/abc"])
def test_a_session_belongs_to_who_used_it_first(visitors, path):
    """Knowing another visitor's session shows nothing of its answers."""
    mine, theirs = visitors
    assert mine.get(path).status_code == 404  # passed on; there is no Gradio behind this guard
    assert theirs.get(path).status_code == 403
    assert mine.get(path).status_code == 404


def test_first_visit_sets_a_cookie_scripts_cannot_read(workspace):
    """The visitor's cookie is HttpOnly and never sent with another site's posts."""
    cookie = make_client(workspace, ownership="visitor").get("/").headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Secure" not in cookie
    framed = make_client(workspace, ownership="visitor", secure_cookies=True).get("/").headers["set-cookie"]
    assert "SameSite=None; Secure; Partitioned" in framed


def test_single_ownership_sets_no_cookie(client):
    """On one's own machine there is nothing to tell visitors apart by."""
    assert "set-cookie" not in client.get("/").headers


def test_without_a_cookie_only_the_page_answers(workspace, ct):
    """A visitor who never opened the page can neither upload nor look."""
    client = make_client(workspace, ownership="visitor")
    assert client.post("/upload", content=ct).status_code == 401
    assert client.get(f"/images/{'0' * 64}").status_code == 401
    assert client.get("/healthz").status_code == 200
    client.cookies.set(COOKIE, "guessed")
    assert client.get(f"/images/{'0' * 64}").status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://elsewhere.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_other_sites_cannot_post(client, ct, headers):
    """A form or script of another site is refused before anything is read."""
    assert client.post("/upload", content=ct, headers=headers).status_code == 403
    assert client.post("/gradio_api/queue/join", json={}, headers=headers).status_code == 403


@pytest.mark.parametrize(
    ("method", "path", "headers", "key"),
    [
        ("POST", "/upload", {"origin": "https://elsewhere.example"}, "app.refused_site"),
        ("GET", "/adapters", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "cors"}, "app.refused_site"),
        ("GET", "/", {"host": "elsewhere.example"}, "app.refused_host"),
        ("GET", "/gradio_api/file=/etc/passwd", {}, "app.refused_route"),
        ("GET", "/?view=api", {}, "app.refused_route"),
        ("POST", "/gradio_api/queue/join", {}, "app.refused_event"),
        ("GET", "/images/0", {"cookie": ""}, "app.refused_visitor"),
    ],
)  # fmt: skip
def test_a_refusal_is_a_sentence_in_both_languages(workspace, method, path, headers, key):
    """Whatever the guard refuses, the page can say why and what to do, in the reader's language."""
    client = make_client(workspace, ownership="visitor")
    if key != "app.refused_visitor":
        client.get("/")
    answer = client.request(method, path, headers=headers)
    assert 400 <= answer.status_code < 500
    assert answer.json()["error"] == {locale: Catalogue().text(key, locale) for locale in LOCALES}


def test_the_browsers_word_counts_behind_a_proxy(workspace, ct):
    """A proxy may rename the host; what the browser says of the request still holds."""
    client = make_client(workspace, host="0.0.0.0")  # noqa: S104 - a setting under test; nothing listens
    headers = {"origin": "https://public.example", "sec-fetch-site": "same-origin", "host": "inner:7860"}
    assert client.post("/upload", content=ct, headers=headers).status_code == 200
    headers["sec-fetch-site"] = "cross-site"
    assert client.post("/upload", content=ct, headers=headers).status_code == 403


def test_own_origin_may_post(client, ct):
    """The page's own requests pass."""
    headers = {"origin": BASE, "sec-fetch-site": "same-origin"}
    assert client.post("/upload", content=ct, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:7860", "127.0.0.1", "127.0.0.1:80", "10.0.0.1:7860"]
)
def test_loopback_answers_to_its_own_names_only(client, host):
    """A foreign name that resolves to this machine (DNS rebinding) gets nothing."""
    assert client.get("/", headers={"host": host}).status_code == 403
    assert client.get("/healthz", headers={"host": host}).status_code == 403


@pytest.mark.parametrize("host", [f"127.0.0.1:{PORT}", f"localhost:{PORT}", f"[::1]:{PORT}"])
def test_loopback_names(client, host):
    """All three ways to write this machine work."""
    assert client.get("/", headers={"host": host}).status_code == 200


def answered(settings, port, method="GET", **headers):
    """Status a guard gives to one request; what is behind it says yes to everything."""
    guard = Guard(PlainTextResponse("ok"), settings, port, b"")
    client = TestClient(guard, base_url="http://x")
    return client.request(method, "/prompts", headers={"sec-fetch-mode": "cors", **headers}).status_code


def test_a_port_that_goes_without_saying(workspace):
    """Browsers leave out the port of the scheme, and write names in lower case."""
    plain = workspace.settings
    assert answered(plain, 80, host="127.0.0.1") == 200
    assert answered(plain, 80, "POST", host="127.0.0.1", origin="http://127.0.0.1") == 200
    assert answered(plain, 443, host="127.0.0.1") == 403
    secure = replace(plain, tls_cert=Path("cert.pem"), tls_key=Path("key.pem"))
    assert answered(secure, 443, "POST", host="localhost", origin="https://localhost") == 200
    assert answered(secure, 80, host="127.0.0.1") == 403
    for public in ("https://viewer.example:443/x", "https://Viewer.Example/x", "https://viewer.example"):
        behind = replace(plain, public_url=public)
        said = {"host": "viewer.example", "origin": "https://viewer.example"}
        assert answered(behind, 7860, "POST", **said) == 200, public
        assert answered(behind, 7860, "POST", host="viewer.example:444") == 403


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "http://[",
        "http://127.0.0.1:99999999",
        f"http://user@127.0.0.1:{PORT}",
        "http://127.0.0.1",
        "",
    ],
)
def test_odd_origins_are_elsewhere(workspace, origin):
    """What is no address of this page is not its own, whatever it is."""
    assert answered(workspace.settings, PORT, "POST", host=f"127.0.0.1:{PORT}", origin=origin) == 403


def test_any_host_when_listening_beyond_loopback(workspace):
    """Behind a proxy the name is the proxy's affair."""
    client = make_client(workspace, host="0.0.0.0")  # noqa: S104 - a setting under test; nothing listens
    assert client.get("/", headers={"host": "some-space.hf.space"}).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file/x",
        "/gradio_api/upload",
        "/gradio_api/deep_link?session_hash=x",
        "/gradio_api/stream/a/b/c/playlist.m3u8",
        "/gradio_api/proxy=https://elsewhere.example",
        "/gradio_api/component_server",
        "/gradio_api/info",
        "/gradio_api/runs",
        "/gradio_api/call/ask",
        "/monitoring",
        "/login",
        "/config",
        "/docs",
        "/openapi.json",
        "/?view=api",
        "/?view=settings",
        "/?deep_link=x",
    ],
)
def test_shut_routes(client, path):
    """What the page does not need does not answer."""
    assert client.get(path).status_code == 403
    assert client.post(path).status_code == 403


@pytest.mark.parametrize("path", ["/", "/healthz", "/page/js/boot.js", "/gradio_api/upload", "/images/x"])
def test_security_headers_on_every_answer(client, path):
    """Refusals, files, pixels and the page carry the same policy."""
    headers = client.get(path).headers
    assert headers["content-security-policy"] == content_security_policy()
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"


def test_policy_names_no_other_host_unless_told():
    """Only the sites of the setting may frame the page; nothing else is ever named."""
    assert "http" not in content_security_policy()
    assert content_security_policy(("https://huggingface.co",)).endswith("'self' https://huggingface.co")


def test_head_stands_first_and_foreign_tags_are_gone(client):
    """The boot script runs before anything is painted, and the page points nowhere else."""
    answer = client.get("/")
    assert "<head><script>1</script>" in answer.text
    assert "gradio.app" not in answer.text
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert answer.headers["cache-control"] == "no-store"


def test_head_holds_both_languages_and_cannot_be_broken_out_of():
    """A model's name with markup in it stays data."""
    head = page_head("</script><script>alert(1)</script>", is_demonstration=True).decode()
    data = head.split('id="bimedix2-page">')[1].split("</script>")[0]
    values = json.loads(data)
    assert values["model"] == {"name": "</script><script>alert(1)</script>", "demonstration": True}
    assert values["texts"]["ar"]["ui.ask"] != values["texts"]["en"]["ui.ask"]
    assert values["texts"]["ar"].keys() >= {"app.demo_notice", "ui.state.stopped", "preset.lung"}


def test_upload_larger_than_accepted(workspace):
    """413 with a sentence in both languages, whether the size was announced or not, and nothing kept."""
    client = make_client(workspace, max_upload_bytes=1000)
    announced = client.post("/upload", content=b"x" * 1001)
    streamed = client.post("/upload", content=(b"x" * 100 for _ in range(11)))
    for answer in (announced, streamed):
        assert answer.status_code == 413
        assert set(answer.json()["error"]) == {"en", "ar"}
    assert list(workspace.settings.uploads_folder.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"no image at all", b"%PDF-1.7"])
def test_upload_that_is_no_image(client, workspace, content):
    """Refused with the reason in both languages; nothing stays behind."""
    answer = client.post("/upload", content=content)
    assert answer.status_code == 422
    assert answer.json()["error"]["en"] != answer.json()["error"]["ar"]
    assert list(workspace.settings.uploads_folder.iterdir()) == []


def test_unexpected_error_is_logged_and_not_shown(client, workspace, monkeypatch, caplog):
    """The page gets a sentence; the log gets the traceback."""
    monkeypatch.setattr(workspace.curation, "tags", lambda *_: 1 / 0)
    answer = client.get("/history/tags")
    assert answer.status_code == 500
    assert "ZeroDivisionError" not in answer.text
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(
    "path", ["/page/css/page.css", "/page/js/page.js", "/page/icons/icons.svg", "/page/fonts/OFL.txt"]
)
def test_page_files(client, path):
    """Styles, scripts, icons and fonts are served from here."""
    assert client.get(path).status_code == 200


@pytest.mark.parametrize(
    "path", ["/page/demo-model/config.json", "/page/js/../__init__.py", "/page/js/%2e%2e/__init__.py"]
)
def test_nothing_else_of_the_assets_is_served(client, path):
    """The model and the code are not files of the page."""
    assert client.get(path).status_code in (403, 404)
