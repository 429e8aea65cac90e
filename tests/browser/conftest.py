"""A real server as a process of its own, Debian's Chromium, and a page that reports what goes wrong."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from playwright.sync_api import Error, Page, Route, expect, sync_playwright
from pydicom.data import get_testdata_file

from app.accounts.store import AccountStore
from app.history.database import Database
from i18n.catalogue import Catalogue
from tests.browser.made import series

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PASSWORD = "four words make sense"  # noqa: S105 - of accounts made here
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
expect.set_options(timeout=15_000)


def pytest_collection_modifyitems(items):
    """Mark everything below this folder."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("browser")


@dataclass
class Server:
    """A running server."""

    url: str
    process: subprocess.Popen
    folder: Path

    @property
    def reached(self) -> set[str]:
        """Hosts the process looked up or connected to."""
        log = self.folder / "reached"
        return set(log.read_text(encoding="utf-8").split("\n")) - {""} if log.exists() else set()

    def stop(self) -> None:
        """End it as a service manager would."""
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start_server(folder: Path, **settings: str) -> Server:
    """Start a server on a free port and wait until it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BIMEDIX2_")}
    chosen = {"PORT": str(port), "DATA_FOLDER": str(folder / "data"), "BACKEND": "scripted", **settings}
    environment |= {f"BIMEDIX2_{name}": value for name, value in chosen.items()}
    environment["GRADIO_TEMP_DIR"] = str(folder / "gradio")
    with (folder / "log").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.browser.watched", str(folder / "reached")],
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    server = Server(f"http://127.0.0.1:{port}", process, folder)
    began = time.monotonic()
    while time.monotonic() - began < 120:
        if process.poll() is not None:
            break
        try:
            httpx.get(f"{server.url}/healthz", timeout=2)
        except httpx.TransportError:
            time.sleep(0.2)
        else:
            return server
    process.kill()
    process.wait()
    pytest.fail(f"the server did not start:\n{(folder / 'log').read_text()}")


@pytest.fixture(scope="package")
def server(tmp_path_factory):
    """One server for all tests that do not restart it; each browser context is a visitor of its own."""
    started = start_server(tmp_path_factory.mktemp("server"), OWNERSHIP="visitor")
    yield started
    started.stop()


@pytest.fixture(scope="module")
def users_server(tmp_path_factory):
    """Serve the page to people who sign in: two clinicians, a reviewer, an administrator."""
    folder = tmp_path_factory.mktemp("users")
    with closing(Database.open(folder / "data" / "history.sqlite3")) as database:
        roles = {"amal": "clinician", "badr": "clinician", "rita": "reviewer", "root": "administrator"}
        for name, role in roles.items():
            AccountStore(database).add(name, role, PASSWORD, must_change=False)
    started = start_server(folder, OWNERSHIP="users")
    yield started
    started.stop()


@pytest.fixture(scope="package")
def chromium():
    """Debian's Chromium; a missing one is an error, because an untested page is one."""
    path = shutil.which("chromium")
    if path is None:
        pytest.fail("Chromium is missing; install it: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium, server):
    """Open the page as a new visitor; afterwards nothing may have failed or gone elsewhere."""
    contexts = []
    seen: list[str] = []

    def watch(page: Page, url: str) -> None:
        page.on("request", lambda one: seen.append(f"outside: {one.url}") if outside(one.url, url) else None)
        page.on("console", lambda one: seen.append(f"console: {one.text}") if complains(one) else None)
        page.on("pageerror", lambda one: seen.append(f"error: {one}"))

    def open_one(locale="en-GB", size=(1400, 900), scheme="light", url=None, script=None) -> Page:
        url = url or server.url
        context = chromium.new_context(
            locale=locale,
            viewport={"width": size[0], "height": size[1]},
            color_scheme=scheme,
            reduced_motion="reduce",
        )
        contexts.append(context)
        page = context.new_page()
        watch(page, url)
        if script:
            page.add_init_script(script)
        page.goto(url)
        expect(page.locator("#chat .question")).to_be_visible()
        return page

    open_one.seen = seen
    yield open_one
    for context in contexts:
        context.close()
    assert seen == []


def complains(message) -> bool:
    """Whether a console message is an error; Gradio reports a stream that a reload cuts off as one."""
    cut_off = "AbortError" in message.text or "Connection errored out" in message.text
    return message.type == "error" and not cut_off


def outside(url: str, own: str) -> bool:
    """Whether a request leaves the server under test."""
    return not url.startswith((own, "data:", "blob:"))


@pytest.fixture(scope="session")
def ct_file() -> str:
    """Pydicom's CT slice of 128 x 128 pixels."""
    return get_testdata_file("CT_small.dcm", download=False)


@pytest.fixture(scope="package")
def two_series(tmp_path_factory) -> Path:
    """Write a study of two series into a folder."""
    root = tmp_path_factory.mktemp("study")
    study = series(root / "1", number=1)
    series(root / "2", number=2, study=study, count=4)
    return root


@contextmanager
def held(page: Page, pattern: str) -> Iterator[list[Route]]:
    """Hold requests back as a slow connection does; those still held are given up at the end.

    A route nobody answers would stay behind as a task without an end.
    """
    routes: list[Route] = []

    def hold(route: Route) -> None:
        routes.append(route)

    page.route(pattern, hold)
    yield routes
    for route in routes:
        with suppress(Error):  # the page has given it up itself
            route.abort()
    page.unroute(pattern, hold)


def upload(page: Page, *files: str) -> None:
    """Open files by the button and wait until the last is on screen."""
    page.set_input_files("#viewer .file", list(files))
    expect(page.locator("#viewer .corner.end")).to_contain_text("%")


def ask(page: Page, question: str, *, wait: bool = True) -> None:
    """Type a question and press Enter; wait for the end of its answer."""
    answers = page.locator("#chat .answer")
    before = answers.count()
    page.locator("#chat .question").fill(question)
    page.locator("#chat .question").press("Enter")
    expect(answers).to_have_count(before + 1)
    if wait:
        expect(page.locator("#chat .answer[data-state=streaming]")).to_have_count(0)


def from_menu(page: Page, key: str, locale: str = "en", *, at: int = 0) -> None:
    """Choose an entry of a conversation's menu; ``at`` counts from the top of the list."""
    page.locator("#history .thread").nth(at).hover()
    page.locator("#history .thread-tools .tool").nth(at).click()
    page.get_by_role("menuitem", name=Catalogue().text(key, locale), exact=True).click()
