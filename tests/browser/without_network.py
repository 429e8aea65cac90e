"""A whole session of server and browser where there is no network but this machine's own; run as a program.

Usage: ``unshare -rn python -m tests.browser.without_network FOLDER``. What either of them tried to reach is
written to ``FOLDER/result.json``; a connection elsewhere would not only be seen, it could not succeed.
"""

from __future__ import annotations

import array
import fcntl
import json
import os
import re
import shutil
import socket
import struct
import sys
from pathlib import Path

from playwright.sync_api import expect, sync_playwright
from pydicom.data import get_testdata_file

from tests.browser.conftest import FLAGS, ask, start_server, upload

_SIOCSIFFLAGS, _UP_AND_RUNNING = 0x8914, 0x41
_IN_EVERY_PYTHON = """
import os, sys

def hook(event, arguments, log=os.environ["REACHED_LOG"]):
    if event in ("socket.connect", "socket.getaddrinfo"):
        target = arguments[1] if event == "socket.connect" else arguments[0]
        with open(log, "a") as file:
            file.write(f"{target[0] if isinstance(target, tuple) else target}\\n")

sys.addaudithook(hook)
"""
"""Also in the processes the server starts: the one that reads uploads and the model's."""


def raise_loopback() -> None:
    """Bring up the new namespace's only interface; it has no other, and no route."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        fcntl.ioctl(one, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _UP_AND_RUNNING))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        names = array.array("B", b"\0" * 4096)
        found = fcntl.ioctl(one, 0x8912, struct.pack("iL", len(names), names.buffer_info()[0]))
        listed = struct.unpack("iL", found)[0] // 40
    assert listed == 1, "there is another network interface"


def session(folder: Path) -> dict[str, object]:
    """Open the page, upload, ask, switch the language, search, reload, read the help."""
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(_IN_EVERY_PYTHON)
    os.environ |= {"PYTHONPATH": str(folder / "site"), "REACHED_LOG": str(folder / "all-reached")}
    server = start_server(folder, OWNERSHIP="visitor", BACKEND="local", MODEL_PROCESS="true")
    seen: set[str] = set()
    failed: list[str] = []
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"),
                args=[*FLAGS, f"--log-net-log={folder / 'net.json'}"],
            )
            page = browser.new_page(locale="en-GB")
            page.on("request", lambda one: seen.add(one.url.split("/")[2] if "//" in one.url else ""))
            page.on("requestfailed", lambda one: failed.append(f"{one.url} {one.failure}"))
            page.goto(server.url)
            upload(page, get_testdata_file("CT_small.dcm", download=False))
            ask(page, "Where do you call? ![x](https://elsewhere.example/a.png)", wait=False)
            expect(page.locator("#chat .answer[data-state=streaming]")).to_have_count(0, timeout=120_000)
            page.locator("#header .language").click()
            expect(page.locator("html")).to_have_attribute("dir", "rtl")
            page.reload()
            expect(page.locator("#chat .answer")).to_have_count(1)
            ended = page.locator("#chat .answer").get_attribute("data-state")
            browser.close()
    finally:
        server.stop()
    return {
        "hosts": sorted(seen - {""}),
        "failed": [one for one in failed if "ERR_ABORTED" not in one],
        "ended": ended,
        "server": sorted(server.reached),
        "processes": sorted(set((folder / "all-reached").read_text().split()) - {""}),
        "browser": sorted(addresses(folder / "net.json")),
        "port": server.url.rsplit(":", 1)[1],
    }


def addresses(log: Path) -> set[str]:
    """Hosts Chromium looked up and addresses it connected to, from its own record."""
    text = log.read_text(encoding="utf-8", errors="replace")
    named = re.findall(r'"(?:host|address|remote_address)":\s*"([^"]+)"', text)
    listed = re.findall(r'"address_list":\s*\[([^\]]*)\]', text)
    return set(named) | {one for part in listed for one in re.findall(r'"([^"]+)"', part)}


if __name__ == "__main__":
    raise_loopback()
    place = Path(sys.argv[1])
    (place / "result.json").write_text(json.dumps(session(place)), encoding="utf-8")
