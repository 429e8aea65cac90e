"""A server for several people as it is really started: https, a proxy's prefix, and a log without names."""

from __future__ import annotations

import datetime as dt
import gc
import ipaddress
import logging
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from argon2 import PasswordHasher
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydicom.data import get_testdata_file

from app import web
from app.accounts.passwords import Passwords
from app.accounts.store import AccountStore
from app.cli import _configure_logging
from tests.app.test_two_users import World, make_workspace
from viewers.worker import Intake

# Gradio leaves event loops and sockets of its start to the garbage collector
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
PASSWORD = "four words make sense"  # noqa: S105 - of an account made here
SECRETS = ("SMITH", "Zanzibar", "amalthea", "four words", "CompressedSamples")


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate of this machine, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "key.pem").write_bytes(private)
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return folder / "cert.pem", folder / "key.pem"


@pytest.fixture
def served(tmp_path, intake, monkeypatch):
    """Start the page with more settings; returns its workspace, Blocks and address."""
    started = []
    cheap = Passwords(PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))
    monkeypatch.setattr("app.accounts.people.Passwords", lambda: cheap)

    def start(**changes):
        workspace = make_workspace(tmp_path / "data", intake, "users")
        workspace.settings = replace(workspace.settings, **changes)
        AccountStore(workspace.history.database, cheap).add(
            "amalthea", "clinician", PASSWORD, must_change=False
        )
        page, url = web.launch(workspace)
        started.append((workspace, page))
        return workspace, page, url

    yield start
    for workspace, page in started:
        page.close(verbose=False)
        workspace._intake = Intake()
        workspace.close()
    gc.collect()


def sign_in(client):
    answer = client.post("/account/sign-in", data={"name": "amalthea", "password": PASSWORD})
    assert answer.status_code == 303, answer.text
    return answer


def test_https(served, tmp_path):
    """The page and its events over TLS, with a Secure cookie; plain http gets nothing."""
    cert, key = make_certificate(tmp_path)
    _, _, url = served(tls_cert=cert, tls_key=key)
    assert url.startswith("https://")
    with httpx.Client(base_url=url, verify=str(cert), timeout=60) as client:
        given = sign_in(client).headers["set-cookie"]
        assert given.startswith("__Host-bimedix2-session=")
        assert "; Secure" in given
        page = client.get("/")
        assert page.status_code == 200
        assert "http://" not in page.text.replace("http://www.w3.org", "")
        assert "strict-transport-security" in page.headers
    with pytest.raises(httpx.HTTPError):
        httpx.get(url.replace("https", "http"))


def test_behind_a_proxy(served):
    """With the public address the page names itself by it, whatever a request claims the host to be."""
    _, _, url = served(public_url="https://viewer.example/bimedix2")
    headers = {"host": "viewer.example", "x-forwarded-host": "evil.example", "x-forwarded-proto": "http"}
    with httpx.Client(base_url=url, timeout=60, headers=headers) as client:
        token = sign_in(client).headers["set-cookie"].split("=", 1)[1].split(";")[0]
        signed = {"cookie": f"__Host-bimedix2-session={token}"}  # the proxy speaks http to us
        for path in ("/", "/bimedix2/"):
            text = client.get(path, headers=signed).text
            assert "https://viewer.example/bimedix2" in text
            assert "evil.example" not in text


@pytest.mark.parametrize("level", ["WARNING", "DEBUG"])
def test_the_log_names_nobody(served, caplog, tmp_path, level):
    """Names, passwords, questions, tokens, file headers: not at warnings, not at debug, not when it fails."""
    before = logging.getLogger("bimedix2").level
    _configure_logging(level)
    caplog.handler.setLevel(logging.DEBUG)
    try:
        workspace, page, url = served()
        with httpx.Client(base_url=url, timeout=60) as client:
            client.post("/account/sign-in", data={"name": "amalthea", "password": "four words or so"})
            sign_in(client)
            token = next(iter(client.cookies.jar)).value
            named = tmp_path / "SMITH_JOHN.dcm"
            named.write_bytes(Path(get_testdata_file("CT_small.dcm", download=False)).read_bytes())
            image = client.post("/upload", content=named.read_bytes()).json()["image"]
            world = World(workspace, page, url, [], None, client, {})
            payload = {
                "run": "r",
                "thread": None,
                "question": "Zanzibar SMITH",
                "views": [image["default_view"]],
            }
            assert "Zanzibar" in world.event(client, "ask", "s1", payload)
            client.get("/history/search?q=Zanzibar")
            workspace.curation.search = lambda *_, **__: 1 / 0
            failed = client.get("/history/search?q=Zanzibar")
            assert failed.status_code == 500
        text = caplog.text
        assert "ZeroDivisionError" in text  # the log is read aright
        assert not [word for word in (*SECRETS, token) if word in text]
    finally:
        logging.getLogger("bimedix2").setLevel(before)
